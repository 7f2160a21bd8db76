//! Certs-only PKCS#7: any octets are survived, nothing is made up, and what was read is read again from our own writing.

use crate::x509::{Certificate, pkcs7};

/// Reads a message and the certificates in it.
pub fn pkcs7(data: &[u8]) {
    let Ok(found) = pkcs7::certificates(data) else { return };
    assert!((1..=pkcs7::MAX_CERTIFICATES).contains(&found.len()));
    for der in &found {
        assert!(memchr::memmem::find(data, der).is_some(), "a certificate stands in the message as it is");
        let _ = Certificate::from_der(der);
    }
    let parts: Vec<&[u8]> = found.iter().map(Vec::as_slice).collect();
    let written = pkcs7::certs_only(&parts);
    // The frame may be longer than the one it came in.
    if written.len() <= pkcs7::MAX_LEN {
        assert_eq!(pkcs7::certificates(&written).as_ref(), Ok(&found));
    }
}
