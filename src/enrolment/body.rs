//! Certificates in whatever form a CA hands them over. Pure.

use super::failure::excerpt;
use crate::x509::{pem, pkcs7};
use data_encoding::BASE64;

/// The largest answer that is read, in octets: base64 of the largest PKCS#7 message fits.
pub(super) const MAX_LEN: usize = 512 * 1024;
/// Octets of a foreign answer that are shown in a message.
pub(super) const SHOWN: usize = 160;

/// The certificates in PEM (certificates or PKCS#7), in DER (one certificate or certs-only PKCS#7), or in base64 of the latter
/// two: RFC 7030 §4.2.3 has base64 of PKCS#7; RFC 8951 §3.1 has clients not look at Content-Transfer-Encoding, and lines of
/// base64 end in any way.
pub(super) fn certificates(body: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let trimmed = body.trim_ascii();
    if trimmed.is_empty() {
        return Err("it is empty".to_owned());
    }
    if trimmed.first() == Some(&b'<') {
        return Err(format!(
            "it is a page for people (HTML or XML), not certificates: \"{}\"",
            excerpt(trimmed, SHOWN)
        ));
    }
    if memchr::memmem::find(trimmed, b"-----BEGIN ").is_some() {
        return from_pem(trimmed);
    }
    // DER ends as it ends: trimming could cut an octet that looks like a blank.
    if body.first() == Some(&0x30) && body.get(1).is_some_and(|b| *b >= 0x80) {
        return from_der(body);
    }
    let mut text = trimmed.to_vec();
    text.retain(|b| !b.is_ascii_whitespace());
    match BASE64.decode(&text) {
        // Short words happen to be base64 too.
        Ok(der) if der.first() == Some(&0x30) => from_der(&der),
        _ => Err(format!("it is neither PEM nor DER nor base64; it begins \"{}\"", excerpt(trimmed, SHOWN))),
    }
}

fn from_pem(text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let blocks = pem::blocks(text).map_err(|e| e.to_string())?;
    let mut found = Vec::new();
    for block in &blocks {
        match block.label.as_str() {
            "CERTIFICATE" | "X509 CERTIFICATE" => found.push(block.der.to_vec()),
            "PKCS7" | "CMS" => found.extend(pkcs7::certificates(&block.der).map_err(|e| e.to_string())?),
            _ => {}
        }
        if found.len() > pkcs7::MAX_CERTIFICATES {
            return Err(format!("it holds more than {} certificates", pkcs7::MAX_CERTIFICATES));
        }
    }
    match blocks.first() {
        Some(first) if found.is_empty() => {
            Err(format!("it holds no CERTIFICATE block, only {}", excerpt(first.label.as_bytes(), 64)))
        }
        _ => Ok(found),
    }
}

fn from_der(der: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    match pkcs7::certificates(der) {
        Ok(found) => Ok(found),
        // A bare certificate begins as a PKCS#7 message does; what is in it is looked at by whoever takes it.
        Err(pkcs7::Pkcs7Error::NotPkcs7) if pem::is_der(der) => Ok(vec![der.to_vec()]),
        Err(e) => Err(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn der(octet: u8, len: usize) -> Vec<u8> {
        let mut der = vec![0x30, 0x82, (len >> 8) as u8, len as u8];
        der.resize(len + 4, octet);
        der
    }

    #[test]
    fn every_form_that_cas_use_is_read() {
        let (a, b) = (der(b'\n', 300), der(2, 301));
        let bag = pkcs7::certs_only(&[&a, &b]);
        let both = Ok(vec![a.clone(), b.clone()]);
        assert_eq!(certificates(&bag), both);
        let base64 = BASE64.encode(&bag);
        assert_eq!(certificates(base64.as_bytes()), both);
        for end in ["\n", "\r\n", " \r\n\t"] {
            let lines: Vec<_> = base64.as_bytes().chunks(64).map(|l| str::from_utf8(l).unwrap()).collect();
            assert_eq!(certificates((lines.join(end) + end).as_bytes()), both);
        }
        assert_eq!(certificates(pem::encode("PKCS7", &bag).as_bytes()), both);
        let chain = pem::encode("CERTIFICATE", &a) + "text\n" + &pem::encode("CERTIFICATE", &b);
        assert_eq!(certificates(chain.as_bytes()), both);
        assert_eq!(certificates(&a), Ok(vec![a.clone()]));
        assert_eq!(certificates(BASE64.encode(&a).as_bytes()), Ok(vec![a]));
    }

    #[test]
    fn what_is_no_certificate_is_named() {
        let said = |body: &[u8]| certificates(body).unwrap_err();
        assert_eq!(said(b" \r\n"), "it is empty");
        assert!(said(b"\n<!DOCTYPE html><title>Log in</title>").contains("page for people"));
        assert!(said(b"no such profile").contains("it begins \"no such profile\""));
        assert!(said(pem::encode("X509 CRL", &[0x30, 0]).as_bytes()).contains("only X509 CRL"));
        assert!(said(b"MAAA").contains("not a PKCS#7 message"));
        assert!(said(b"done").contains("it begins \"done\""));
        let many = pem::encode("CERTIFICATE", &der(1, 256)).repeat(33);
        assert!(said(many.as_bytes()).contains("more than 32"));
    }

    proptest! {
        #[test]
        fn any_octets_are_survived(bytes: Vec<u8>) {
            let _ = certificates(&bytes);
        }
    }
}
