//! Which part of a request target is the OCSP request.

use crate::ocsp::{MountPrefixError, mount_prefix};

/// The prefixes under which the responder answers, longest first.
///
/// A target is taken as it came: no `//` is merged and no dot-segment resolved, because `/` is a character of base64.
/// The empty prefix always answers too, so an AIA URL of `http://ocsp.example` and one of `http://ocsp.example/ca1` can
/// end at the same responder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts(Vec<Vec<u8>>);

/// A mount prefix that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// It is not one.
    #[error(transparent)]
    Prefix(#[from] MountPrefixError),
    /// More than [`Mounts::MAX_COUNT`].
    #[error("{0} mount prefixes are more than the {max} allowed", max = Mounts::MAX_COUNT)]
    TooMany(usize),
}

impl Mounts {
    /// The most prefixes.
    pub const MAX_COUNT: usize = 1_024;

    /// Reads prefixes such as `/ocsp` or `ca1/ocsp`; slashes around them make no difference.
    pub fn new<S: AsRef<str>>(prefixes: impl IntoIterator<Item = S>) -> Result<Self, MountError> {
        let mut mounts = Vec::new();
        for prefix in prefixes {
            let trimmed = mount_prefix(prefix.as_ref())?;
            if !trimmed.is_empty() {
                mounts.push(trimmed.as_bytes().to_vec());
            }
        }
        if mounts.len() > Self::MAX_COUNT {
            return Err(MountError::TooMany(mounts.len()));
        }
        mounts.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        mounts.dedup();
        Ok(Mounts(mounts))
    }

    /// What follows the longest prefix that `path` has, without leading slashes. `path` is raw and without a query.
    pub(super) fn strip<'a>(&self, path: &'a [u8]) -> &'a [u8] {
        let path = trim_slashes(path);
        self.0
            .iter()
            .find_map(|mount| match path.strip_prefix(mount.as_slice()) {
                Some([]) => Some(&[][..]),
                Some(rest @ [b'/', ..]) => Some(trim_slashes(rest)),
                _ => None,
            })
            .unwrap_or(path)
    }
}

/// The path of a raw target in origin form: what comes before the query.
pub(super) fn path_of(target: &[u8]) -> &[u8] {
    let end = memchr::memchr2(b'?', b'#', target).unwrap_or(target.len());
    target.get(..end).unwrap_or_default()
}

fn trim_slashes(mut path: &[u8]) -> &[u8] {
    while let [b'/', rest @ ..] = path {
        path = rest;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_is_taken_off_and_only_at_a_segment_boundary() {
        let mounts = Mounts::new(["/ocsp", "/ocsp/ca1/", "", "/"]).unwrap();
        for (path, rest) in [
            ("/ocsp/MEow", "MEow"),
            ("/ocsp/ca1/MEow", "MEow"),
            ("//ocsp//MEow", "MEow"),
            ("/ocsp/ca1//ME//w", "ME//w"),
            ("/ocsp", ""),
            ("/ocsp/", ""),
            ("/ocspMEow", "ocspMEow"),
            ("/ocsp/ca12/MEow", "ca12/MEow"),
            ("/MEow", "MEow"),
            ("//", ""),
            ("", ""),
            ("/a/../ocsp/MEow", "a/../ocsp/MEow"),
        ] {
            assert_eq!(mounts.strip(path.as_bytes()), rest.as_bytes(), "{path}");
        }
    }

    #[test]
    fn the_query_is_no_part_of_the_path() {
        assert_eq!(path_of(b"/MEow?x=/y"), b"/MEow");
        assert_eq!(path_of(b"?x"), b"");
        assert_eq!(path_of(b"/a//b"), b"/a//b");
    }

    #[test]
    fn a_prefix_that_is_not_a_plain_path_is_refused_by_name() {
        for bad in ["http://host/ocsp", "/ocsp?x", "/oc sp", "/%6f"] {
            assert!(Mounts::new([bad]).unwrap_err().to_string().contains(bad), "{bad}");
        }
        assert!(Mounts::new(["a".repeat(257)]).is_err());
    }
}
