//! One request as clients really spell it in a GET path (RFC 6960 App. A.1, RFC 9919 §6): all find the same octets.

use std::collections::BTreeSet;
use stillgood::ocsp::{GetError, Request, Serial, decode_get_path};

/// Made for testing unescaped slashes: the base64 holds `//` and needs padding. Serial 03FFFC.
const SLASHES: &str =
    "MEQwQjBAMD4wPDAJBgUrDgMCGgUABBQAAAAAAAAAAAAAAAAAAAAAAAAAAAQUAAAAAAAAAAAAAAAAAAAAAAAAAAACAwP//A==";
/// The same for an unescaped plus. Serial 03FEFC.
const PLUS: &str = "MEQwQjBAMD4wPDAJBgUrDgMCGgUABBQAAAAAAAAAAAAAAAAAAAAAAAAAAAQUAAAAAAAAAAAAAAAAAAAAAAAAAAACAwP+/A==";

fn decoded(path: &str) -> Result<Vec<u8>, GetError> {
    let mut out = Vec::new();
    decode_get_path(path.as_bytes(), &mut out).map(|()| out)
}

fn serial(path: &str) -> Serial {
    let der = decoded(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    Request::parse(&der).unwrap_or_else(|e| panic!("{path}: {e}")).first.serial
}

/// Every character as an escape.
fn escape_all(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

/// What is not a letter or digit as an escape, as `encodeURIComponent` and its kin do.
fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

#[test]
fn unescaped_slashes_and_pluses_are_data() {
    assert_eq!(serial(&format!("/{SLASHES}")).to_string(), "03FFFC");
    assert_eq!(serial(&format!("/{PLUS}")).to_string(), "03FEFC");
    assert_eq!(serial(&format!("/{}", PLUS.replace('+', " "))).to_string(), "03FEFC");
    assert_eq!(serial(&format!("/{}", PLUS.replace('+', "%20"))).to_string(), "03FEFC");
    assert_eq!(serial(&format!("/{}", SLASHES.replace('/', "%252F"))).to_string(), "03FFFC");
    assert_eq!(serial(&format!("/{}", SLASHES.replace("//", "/%2f"))).to_string(), "03FFFC");
    // What merging slashes upstream makes of it is another request, or none; it must not be guessed at.
    assert_ne!(decoded(&format!("/{}", SLASHES.replace("//", "/"))), decoded(&format!("/{SLASHES}")));
}

#[test]
fn all_spellings_of_one_request_decode_to_the_same_octets() {
    for plain in [SLASHES, PLUS] {
        let unpadded = plain.trim_end_matches('=');
        let url_safe = plain.replace('/', "_").replace('+', "-");
        let spaced = plain.replace('+', " ");
        let lower = escape(plain).replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d");
        let folded = format!("{}\r\n{}\r\n{}", &plain[..64], &plain[64..80], &plain[80..]);
        let spellings = [
            plain.to_owned(),
            format!("/{plain}"),
            format!("//{plain}"),
            format!("////{plain}"),
            format!("%2F{plain}"),
            format!("/%2f/{plain}"),
            format!("/ {plain}"),
            format!("/{plain}/"),
            format!("/{plain}//"),
            format!("/{plain}%2F"),
            format!("/{plain} "),
            format!("/{plain}%20"),
            format!("/{plain}\r\n"),
            format!("/{plain}%0D%0A"),
            format!("/{plain}/ \n"),
            format!("/{plain}?"),
            format!("/{plain}?cache=no%zz"),
            format!("/{plain}/?a=b"),
            format!("/{unpadded}"),
            format!("/{unpadded}="),
            format!("/{unpadded}==="),
            format!("/{unpadded}/"),
            format!("/{unpadded}%2F"),
            format!("/{unpadded}%20"),
            format!("/{unpadded}?q"),
            format!("/{url_safe}"),
            format!("/{}", url_safe.trim_end_matches('=')),
            format!("//{}/", url_safe.trim_end_matches('=')),
            format!("/{spaced}"),
            format!("/{}", spaced.replace(' ', "%20")),
            format!("/{}", spaced.replace(' ', "%2520")),
            format!("/{}", escape(plain)),
            format!("/{lower}"),
            format!("/{}", escape(&escape(plain))),
            format!("/{}", escape(&lower)),
            format!("/{}", escape_all(plain)),
            format!("/{}", escape_all(&escape(plain))),
            format!("/{}", plain.replace("==", "=%3D")),
            format!("/{folded}"),
            format!("/{}", folded.replace("\r\n", "%0a")),
        ];
        let different: BTreeSet<&String> = spellings.iter().collect();
        assert!(different.len() >= 36, "{} spellings", different.len());
        let expected = data_encoding::BASE64.decode(plain.as_bytes()).unwrap();
        for path in &spellings {
            assert_eq!(decoded(path).as_ref(), Ok(&expected), "{path:?}");
            stillgood::fuzzing::get_path(path.as_bytes());
        }
    }
}

#[test]
fn a_slash_at_the_end_is_data_where_the_request_needs_it() {
    // Whatever the number of octets, and whatever the last of them, slashes behind the data are told from data.
    for len in 60_u8..=63 {
        for last in [0x00, 0x3f, 0xbf, 0xff, 0xfe, 0xfb] {
            let mut der = vec![0x30, len];
            der.resize(usize::from(len) + 1, 0xff);
            der.push(last);
            for encoding in [data_encoding::BASE64, data_encoding::BASE64_NOPAD, data_encoding::BASE64URL_NOPAD] {
                let plain = encoding.encode(&der);
                for after in ["", "/", "//", "///", "////", "/////", " ", "+", "_"] {
                    assert_eq!(decoded(&format!("/{plain}{after}")).as_ref(), Ok(&der), "{plain}{after}");
                }
                let cut = &plain.trim_end_matches('=')[..plain.trim_end_matches('=').len() - 2];
                assert_eq!(decoded(&format!("/{cut}")), Err(GetError::CutShort));
            }
        }
    }
}

#[test]
fn long_requests_are_decoded_up_to_the_limit() {
    let of_len = |len: usize| {
        let [.., a, b] = (len - 4).to_be_bytes();
        let mut der = vec![0x30, 0x82, a, b];
        der.resize(len, 0xff);
        der
    };
    for len in [300, 4_000, Request::MAX_LEN] {
        let der = of_len(len);
        let plain = data_encoding::BASE64.encode(&der);
        assert_eq!(decoded(&format!("/{plain}")).as_ref(), Ok(&der));
        let twice = escape(&escape(&plain));
        assert_eq!(decoded(&twice).as_ref(), Ok(&der));
    }
    let too_long = data_encoding::BASE64.encode(&of_len(Request::MAX_LEN + 1));
    assert_eq!(decoded(&format!("/{too_long}")), Err(GetError::TooLong));
}

#[test]
fn the_buffer_is_reused_and_grows_no_further_than_the_request() {
    let mut out = Vec::with_capacity(128);
    let before = out.as_ptr();
    for path in [SLASHES, "/favicon.ico", PLUS, "%", SLASHES] {
        let _ = decode_get_path(path.as_bytes(), &mut out);
        assert_eq!((out.as_ptr(), out.capacity()), (before, 128));
    }
    assert_eq!(out.len(), 70);
    // A header that promises much does not reserve more than a request may have.
    let _ = decode_get_path(b"/MIInEAAAAAAA", &mut out);
    assert!(out.capacity() <= Request::MAX_LEN);
}
