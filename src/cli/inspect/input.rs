//! Finding the DER in whatever was given.

use crate::ocsp::decode_get_path;
use crate::x509::{Certificate, pem};

/// DER, and the form it came in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) der: Vec<u8>,
    pub(super) form: &'static str,
}

/// Finds the DER; the error says what was tried.
pub(super) fn der(input: &[u8]) -> Result<Found, String> {
    // Base64 of DER begins with "M", so that a "0" in front, which is the tag 30, is not text of that kind.
    if input.first() == Some(&0x30) {
        return Ok(Found { der: input.to_vec(), form: "DER" });
    }
    let text = std::str::from_utf8(input).map_err(|e| {
        format!("neither DER (it does not begin with 30) nor text (octet {} is not UTF-8)", e.valid_up_to())
    })?;
    let text = text.trim();
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.contains("-----BEGIN ") {
        let blocks = pem::blocks(input).map_err(|e| e.to_string())?;
        let block = blocks.into_iter().next().ok_or("the PEM holds nothing")?;
        if !block.label.contains("OCSP") {
            return Err(format!("PEM of \"{}\", and no OCSP request or response", block.label.escape_debug()));
        }
        return Ok(Found { der: block.der.to_vec(), form: "PEM" });
    }
    if let Some(der) = base64(text) {
        return Ok(Found { der, form: "base64" });
    }
    get_path(text).map(|der| Found { der, form: "GET path" }).ok_or_else(|| {
        "neither DER, PEM, base64 nor the URL of a GET request: no OCSP request or response is found in it".to_owned()
    })
}

/// What people mistake for one of the two is called by its name.
pub(super) fn is_ocsp(der: &[u8]) -> Result<(), String> {
    match Certificate::from_der(der) {
        Ok(certificate) => {
            Err(format!("the certificate of {}, and no OCSP request or response", certificate.subject()))
        }
        Err(_) => Ok(()),
    }
}

/// An OCSPResponse begins with an ENUMERATED, an OCSPRequest with a SEQUENCE.
pub(super) fn is_response(der: &[u8]) -> bool {
    crate::asn1::Reader::new(der).any().is_ok_and(|outer| outer.content.first() == Some(&0x0a))
        || matches!(der, [0x30, 0x00..=0x7f, 0x0a, ..] | [0x30, 0x81, _, 0x0a, ..] | [0x30, 0x82, _, _, 0x0a, ..])
}

/// Whether there is as much as the outermost length says; the commonest fault deserves its own words.
pub(super) fn whole(der: &[u8]) -> Result<(), String> {
    let (content, header) = match *der {
        [_, len @ 0..=0x7f, ..] => (usize::from(len), 2),
        [_, 0x81, len, ..] => (usize::from(len), 3),
        [_, 0x82, a, b, ..] => (usize::from(u16::from_be_bytes([a, b])), 4),
        [_, 0x83, a, b, c, ..] => (u32::from_be_bytes([0, a, b, c]) as usize, 5),
        _ => return Ok(()), // the parser says what is wrong
    };
    match der.len().cmp(&(header + content)) {
        std::cmp::Ordering::Less => {
            Err(format!("cut short: its header promises {} octets, and there are {}", header + content, der.len()))
        }
        _ => Ok(()),
    }
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let symbols: Vec<u8> = text
        .bytes()
        .filter(|b| !b.is_ascii_whitespace() && *b != b'=')
        .map(|b| match b {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        })
        .collect();
    let der = data_encoding::BASE64_NOPAD.decode(&symbols).ok()?;
    (der.first() == Some(&0x30)).then_some(der)
}

/// The request in a URL or path, whatever the mount: the first tail that begins like one.
fn get_path(text: &str) -> Option<Vec<u8>> {
    let path = match text.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map(|(_, path)| path)?,
        None => text,
    };
    let starts = std::iter::once(0).chain(path.bytes().enumerate().filter(|(_, b)| *b == b'/').map(|(i, _)| i + 1));
    let mut der = Vec::new();
    starts
        .filter_map(|start| path.get(start..))
        .find(|tail| decode_get_path(tail.as_bytes(), &mut der).is_ok() && der.first() == Some(&0x30))?;
    Some(der)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DER: &[u8] = &[0x30, 0x03, 0x0a, 0x01, 0x06];

    #[test]
    fn every_form_is_found_out() {
        let request = crate::client::request(
            &crate::ocsp::IssuerHashes::new(crate::ocsp::HashAlgorithm::Sha1, b"n", b"k"),
            &crate::ocsp::Serial::from_unsigned(&[7]).unwrap(),
            None,
        );
        let text = data_encoding::BASE64.encode(&request);
        let escaped = text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let safe = data_encoding::BASE64URL_NOPAD.encode(&request);
        let wrapped =
            text.as_bytes().chunks(20).map(|c| format!("{}\r\n", String::from_utf8_lossy(c))).collect::<String>();
        for (input, form) in [
            (text.clone(), "base64"),
            (safe, "base64"),
            (wrapped, "base64"),
            (pem::encode("OCSP REQUEST", &request), "PEM"),
            (format!("http://ocsp.example:80/{escaped}"), "GET path"),
            (format!("http://ocsp.example/mounted/at/{escaped}"), "GET path"),
            (format!("//ocsp//{text}"), "GET path"),
            (format!("/{escaped}\n"), "GET path"),
        ] {
            let found = der(input.as_bytes());
            assert_eq!(found, Ok(Found { der: request.clone(), form }), "{input}");
        }
        assert_eq!(der(DER), Ok(Found { der: DER.to_vec(), form: "DER" }));
        assert!(is_response(DER) && !is_response(&request));
    }

    #[test]
    fn what_is_something_else_is_called_by_its_name() {
        let text = der(pem::encode("CERTIFICATE", &[0x30, 0]).as_bytes()).unwrap_err();
        assert_eq!(text, "PEM of \"CERTIFICATE\", and no OCSP request or response");
        let (key, _) = crate::signer::SigningKey::generate(crate::signer::KeyKind::EcdsaP256).unwrap();
        let name = crate::x509::issue::name(&[(crate::x509::issue::Attribute::CommonName, "A CA")]);
        let (from, to) = (crate::time::Timestamp::from_unix(0), crate::time::Timestamp::from_unix(86_400));
        let serial = crate::ocsp::Serial::from_unsigned(&[1]).unwrap();
        let ca = crate::x509::issue::CertificateSpec::ca(name, key.spki_der(), serial, from, to).issue(&key).unwrap();
        let text = is_ocsp(ca.der()).unwrap_err();
        assert!(text.contains("A CA, and no OCSP request"), "{text}");
        assert_eq!(is_ocsp(DER), Ok(()));
    }

    #[test]
    fn what_is_nothing_is_said_to_be_nothing() {
        for input in ["", "  \n", "hello", "http://ocsp.example/", "-----BEGIN X-----", "AAAA"] {
            assert!(der(input.as_bytes()).is_err(), "{input}");
        }
        assert!(der(b"\xff\xfe").unwrap_err().contains("octet 0 is not UTF-8"));
    }
}
