//! Making an OCSPRequest (RFC 6960 §4.1.1).

use crate::asn1::{tag, tlv};
use crate::ocsp::{IssuerHashes, Serial};

/// id-pkix-ocsp-nonce, content octets.
const NONCE: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x02];

/// The DER of a request for one certificate, unsigned. `nonce` are the octets inside the OCTET STRING; RFC 9654 §2.1 wants
/// at least 32 of new clients. The hash algorithm's parameters are NULL, as most clients send them.
pub fn request(issuer: &IssuerHashes, serial: &Serial, nonce: Option<&[u8]>) -> Vec<u8> {
    let algorithm = tlv(tag::SEQUENCE, &[tlv(tag::OID, issuer.algorithm.oid()), tlv(tag::NULL, &[])].concat());
    let mut number = Vec::new();
    serial.write_der_content(&mut number);
    let cert_id = [
        algorithm,
        tlv(tag::OCTET_STRING, issuer.name.as_bytes()),
        tlv(tag::OCTET_STRING, issuer.key.as_bytes()),
        tlv(tag::INTEGER, &number),
    ];
    let single = tlv(tag::SEQUENCE, &tlv(tag::SEQUENCE, &cert_id.concat()));
    let mut tbs = tlv(tag::SEQUENCE, &single);
    if let Some(nonce) = nonce {
        let value = tlv(tag::OCTET_STRING, &tlv(tag::OCTET_STRING, nonce));
        let extension = tlv(tag::SEQUENCE, &[tlv(tag::OID, NONCE), value].concat());
        tbs.extend(tlv(tag::context(2), &tlv(tag::SEQUENCE, &extension)));
    }
    tlv(tag::SEQUENCE, &tlv(tag::SEQUENCE, &tbs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocsp::{HashAlgorithm, Request};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_request_parser_reads_what_is_made(
            serial in proptest::collection::vec(any::<u8>(), 1..=20),
            hash in 0_u8..4,
            nonce in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..=128)),
        ) {
            let hash = HashAlgorithm::from_index(hash).unwrap();
            let issuer = IssuerHashes::new(hash, b"name", b"key");
            let serial = Serial::from_unsigned(&serial).unwrap();
            let der = request(&issuer, &serial, nonce.as_deref());
            let parsed = Request::parse(&der).unwrap();
            prop_assert_eq!(parsed.first.serial, serial);
            prop_assert_eq!(parsed.first.hash, Some(hash));
            prop_assert_eq!(parsed.first.key_hash, issuer.key.as_bytes());
            prop_assert_eq!(parsed.nonce_octets(), nonce.as_deref());
        }
    }
}
