use crate::ocsp::{MAX_PATH_LEN, Request, decode_get_path, strip_mount};

/// A path decodes to bounded octets, deterministically, and those octets spelt plainly decode to themselves.
pub fn get_path(data: &[u8]) {
    let mut out = Vec::new();
    if let Some((_, rest)) = strip_mount(data, &["/", "/ocsp", "/ca/a"]) {
        assert!(data.ends_with(rest), "what is left of the mount is not a tail of the path");
    }
    if decode_get_path(data, &mut out).is_err() {
        assert!(out.is_empty(), "octets are left after an error");
        return;
    }
    assert!(data.len() <= MAX_PATH_LEN && out.len() <= Request::MAX_LEN, "a limit is not kept");

    let mut again = vec![0xee; 3];
    let standard = data_encoding::BASE64.encode(&out);
    let url_safe = data_encoding::BASE64URL_NOPAD.encode(&out);
    let escaped = standard.replace('%', "%25").replace('+', "%2B").replace('/', "%2f").replace('=', "%3D");
    let twice = escaped.replace('%', "%25");
    for path in [format!("/{standard}"), format!("//{url_safe}/"), format!("/{escaped}?x"), twice] {
        assert_eq!(decode_get_path(path.as_bytes(), &mut again), Ok(()), "{path}");
        assert_eq!(again, out, "{path}");
    }
    super::request(&out);
}
