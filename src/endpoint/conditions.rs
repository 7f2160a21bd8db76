//! Conditional requests (RFC 9110 §13): when the client already has the answer.

use super::source::StatusKind;
use crate::time::{Timestamp, parse_http_date};

/// An entity-tag with its quotes.
pub(super) type ETag = [u8; 66];

/// The conditions of one request, borrowed from its header fields. Evaluated for GET and HEAD alone: the answer to a POST
/// is no selected representation (§13.2.1).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Conditions<'a> {
    none_match: [Option<&'a [u8]>; Conditions::MAX_LINES],
    modified_since: Option<&'a [u8]>,
    /// A second If-Modified-Since makes the field invalid (§13.1.3).
    modified_since_twice: bool,
}

impl<'a> Conditions<'a> {
    /// Lines of If-None-Match that are looked at. One not looked at costs a full answer, never a wrong one.
    const MAX_LINES: usize = 4;

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.none_match.iter().all(Option::is_none) && self.modified_since.is_none()
    }

    /// Takes the value of an If-None-Match line.
    pub(super) fn add_none_match(&mut self, value: &'a [u8]) {
        if let Some(free) = self.none_match.iter_mut().find(|line| line.is_none()) {
            *free = Some(value);
        }
    }

    /// Takes the value of an If-Modified-Since line.
    pub(super) fn add_modified_since(&mut self, value: &'a [u8]) {
        self.modified_since_twice |= self.modified_since.is_some();
        self.modified_since = Some(value);
    }

    /// Whether the client has this very answer, so that 304 is enough.
    ///
    /// If-Modified-Since holds only for the exact Last-Modified: thisUpdate is back-dated, so a revocation signed at once
    /// may carry an earlier thisUpdate than the good answer that a client holds, and must reach it all the same. It may carry the
    /// same one too, for a date of whole seconds is a weak validator (RFC 9110 §8.8.2.2): that a certificate is revoked is sent
    /// in full to whoever does not name its entity-tag.
    pub(super) fn not_modified(&self, etag: &ETag, last_modified: Timestamp, status: StatusKind) -> bool {
        if self.none_match.iter().any(Option::is_some) {
            return self.none_match.iter().flatten().any(|line| names(line, etag));
        }
        let is_told_by_date = status != StatusKind::Revoked && !self.modified_since_twice;
        is_told_by_date && self.modified_since.and_then(parse_http_date) == Some(last_modified)
    }
}

/// Whether a list of entity-tags names `etag` under weak comparison (RFC 9110 §8.8.3.2), or is `*`.
fn names(list: &[u8], etag: &ETag) -> bool {
    let mut rest = list;
    loop {
        rest = match rest {
            [b' ' | b'\t' | b',', after @ ..] => after,
            [b'*', ..] => return true,
            [b'"', content @ ..] | [b'W', b'/', b'"', content @ ..] => {
                let Some(end) = content.iter().position(|b| *b == b'"') else { return false };
                let (tag, after) = content.split_at(end);
                if etag.get(1..65) == Some(tag) {
                    return true;
                }
                after.get(1..).unwrap_or_default()
            }
            _ => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::format_http_date;

    const TAG: &ETag = b"\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"";
    const MODIFIED: Timestamp = Timestamp::from_unix(784_111_777);

    fn asked(lines: &[&str], since: &[&str]) -> bool {
        asked_of(StatusKind::Good, lines, since)
    }

    fn asked_of(status: StatusKind, lines: &[&str], since: &[&str]) -> bool {
        let mut conditions = Conditions::default();
        lines.iter().for_each(|l| conditions.add_none_match(l.as_bytes()));
        since.iter().for_each(|s| conditions.add_modified_since(s.as_bytes()));
        conditions.not_modified(TAG, MODIFIED, status)
    }

    #[test]
    fn an_entity_tag_is_found_in_any_list_and_weakly() {
        let tag = std::str::from_utf8(TAG).unwrap();
        assert!(asked(&[tag], &[]));
        assert!(asked(&["*"], &[]));
        assert!(asked(&[&format!("W/{tag}")], &[]));
        assert!(asked(&[&format!("\"x\",, W/\"a,b\" ,\t{tag}")], &[]));
        assert!(asked(&["\"x\"", tag], &[]));
        assert!(!asked(&["\"x\""], &[]));
        assert!(!asked(&[tag.trim_matches('"')], &[]));
        assert!(!asked(&[""], &[]));
        assert!(!asked(&["\"unterminated"], &[]));
    }

    #[test]
    fn if_modified_since_holds_for_the_exact_date_and_only_without_if_none_match() {
        let exact = String::from_utf8(format_http_date(MODIFIED).to_vec()).unwrap();
        assert!(asked(&[], &[&exact]));
        assert!(!asked(&[], &[&exact, &exact]));
        assert!(!asked(&[], &["Sun, 06 Nov 1994 08:49:38 GMT"]));
        assert!(!asked(&[], &["784111777"]));
        assert!(!asked(&["\"x\""], &[&exact]));
        assert!(!asked(&[], &[]));
    }

    #[test]
    fn that_a_certificate_is_revoked_is_confirmed_by_its_entity_tag_alone() {
        let exact = String::from_utf8(format_http_date(MODIFIED).to_vec()).unwrap();
        let of = |status| asked_of(status, &[], &[&exact]);
        assert_eq!(StatusKind::ALL.map(of), [true, false, true], "the client may hold a good answer of this date");
        assert!(asked_of(StatusKind::Revoked, &[std::str::from_utf8(TAG).unwrap()], &[&exact]));
    }
}
