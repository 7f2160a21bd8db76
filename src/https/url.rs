//! The URL of a service. Pure.

/// `https://host[:port][/path]` or `http://…`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether TLS is spoken.
    pub secure: bool,
    /// The host; an IPv6 address without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Host and port as written, for the Host field.
    pub authority: String,
    /// The path without a `/` at its end; may be empty.
    pub path: String,
}

/// Why text is not a URL that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a URL this can use; write https://host:port, without user, query or fragment")]
pub struct UrlError(String);

impl std::str::FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        parse(text).ok_or_else(|| UrlError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Url> {
    if !text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'?' | b'@')) {
        return None;
    }
    let (secure, rest) = match text.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix("http://")?),
    };
    let (authority, path) = rest.find('/').and_then(|slash| rest.split_at_checked(slash)).unwrap_or((rest, ""));
    let (host, after) = match authority.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?,
        None => authority.find(':').and_then(|colon| authority.split_at_checked(colon)).unwrap_or((authority, "")),
    };
    let port = match after {
        "" if secure => 443,
        "" => 80,
        colon => colon.strip_prefix(':')?.parse().ok()?,
    };
    if host.is_empty() || port == 0 {
        return None;
    }
    let path = path.trim_end_matches('/').to_owned();
    Some(Url { secure, host: host.to_owned(), port, authority: authority.to_owned(), path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = |text: &str| text.parse::<Url>().map(|u| (u.secure, u.host, u.port, u.path));
        assert_eq!(url("https://ca.example"), Ok((true, "ca.example".into(), 443, "".into())));
        assert_eq!(url("http://ca.example:8888/a/b/"), Ok((false, "ca.example".into(), 8888, "/a/b".into())));
        assert_eq!(url("https://[::1]:8443/"), Ok((true, "::1".into(), 8443, "".into())));
        for bad in [
            "ca.example",
            "ftp://h",
            "https://",
            "https://h:x",
            "https://h:0",
            "https://u@h",
            "https://[::1",
            "https://h/?q",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }
}
