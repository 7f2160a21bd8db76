//! The path prefixes under which a responder may be mounted, as they stand in AIA URLs.

/// The most octets of a prefix, the slashes around it not counted.
pub const MAX_MOUNT_LEN: usize = 256;

/// A mount prefix that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountPrefixError {
    /// A character that a path segment cannot have, or that could be taken for part of a request.
    #[error(
        "mount prefix {0:?} may hold only letters, digits and -._~/ ; write it as in the AIA URL, without host or query"
    )]
    Character(String),
    /// Longer than [`MAX_MOUNT_LEN`].
    #[error("mount prefix {0:?} is longer than {MAX_MOUNT_LEN} octets")]
    TooLong(String),
}

/// Reads a prefix such as `/ocsp` or `ca1/ocsp`; slashes around it make no difference and are taken off.
pub fn mount_prefix(text: &str) -> Result<&str, MountPrefixError> {
    let prefix = text.trim_matches('/');
    if prefix.len() > MAX_MOUNT_LEN {
        return Err(MountPrefixError::TooLong(text.to_owned()));
    }
    if !prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~/".contains(&b)) {
        return Err(MountPrefixError::Character(text.to_owned()));
    }
    Ok(prefix)
}
