//! Builds OCSPRequests octet by octet, well formed or not.
#![allow(dead_code, reason = "every test file uses its own part")]

use stillgood::ocsp::HashAlgorithm;

/// The dotted arcs, as content octets, of what occurs in requests.
pub const NONCE: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x30\x01\x02";
pub const ACCEPTABLE_RESPONSES: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x30\x01\x04";
pub const SERVICE_LOCATOR: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x30\x01\x07";
pub const PREFERRED_ALGORITHMS: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x30\x01\x08";
pub const BASIC: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x30\x01\x01";
/// 1.3.6.1.4.1.55555.1: nobody's extension.
pub const UNKNOWN: &[u8] = b"\x2b\x06\x01\x04\x01\x83\xb2\x03\x01";
/// 2.25 and a UUID: an arc of 128 bits (X.667).
pub const UUID: &[u8] = b"\x69\x83\xf1\x8d\xa4\xd9\xe7\xb6\xbb\xf4\xc3\xa3\xe1\xa3\xf2\xd1\xf3\xb4\x5a";
pub const ECDSA_SHA256: &[u8] = b"\x2a\x86\x48\xce\x3d\x04\x03\x02";
pub const RSA_SHA256: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b";

pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match content.len() {
        n @ 0..=0x7f => out.push(n as u8),
        n @ 0x80..=0xff => out.extend([0x81, n as u8]),
        n => out.extend([0x82, (n >> 8) as u8, n as u8]),
    }
    out.extend(content);
    out
}

pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

pub fn oid(content: &[u8]) -> Vec<u8> {
    tlv(0x06, &[content])
}

/// An AlgorithmIdentifier with these parameters' DER.
pub fn algorithm(id: &[u8], parameters: &[u8]) -> Vec<u8> {
    sequence(&[&oid(id), parameters])
}

/// A CertID with digests of the right length.
pub fn cert_id(hash: HashAlgorithm, parameters: &[u8], serial: &[u8]) -> Vec<u8> {
    let len = hash.output_len();
    raw_cert_id(&algorithm(hash.oid(), parameters), &vec![0x11; len], &vec![0x22; len], serial)
}

pub fn raw_cert_id(algorithm: &[u8], name_hash: &[u8], key_hash: &[u8], serial: &[u8]) -> Vec<u8> {
    sequence(&[algorithm, &tlv(0x04, &[name_hash]), &tlv(0x04, &[key_hash]), &tlv(0x02, &[serial])])
}

pub fn sha1_id(serial: &[u8]) -> Vec<u8> {
    cert_id(HashAlgorithm::Sha1, &[5, 0], serial)
}

pub fn extension(id: &[u8], critical: Option<u8>, value: &[u8]) -> Vec<u8> {
    let critical = critical.map_or(Vec::new(), |c| tlv(0x01, &[&[c]]));
    sequence(&[&oid(id), &critical, &tlv(0x04, &[value])])
}

/// A nonce of so many octets, as RFC 9654 has it.
pub fn nonce(len: usize) -> Vec<u8> {
    extension(NONCE, None, &tlv(0x04, &[&vec![0x5a; len]]))
}

/// The parts of an OCSPRequest.
#[derive(Clone, Default)]
pub struct Parts {
    /// What stands before requestList, tags included.
    pub before: Vec<u8>,
    /// Contents of the Requests.
    pub requests: Vec<Vec<u8>>,
    /// Content of requestExtensions.
    pub extensions: Option<Vec<u8>>,
    /// Content of the explicit optionalSignature tag.
    pub signature: Option<Vec<u8>>,
    /// What follows the OCSPRequest.
    pub after: Vec<u8>,
}

impl Parts {
    pub fn new(cert_ids: &[Vec<u8>]) -> Self {
        Parts { requests: cert_ids.to_vec(), ..Parts::default() }
    }

    /// For one certificate by SHA-1, with these extensions.
    pub fn with_extensions(extensions: &[Vec<u8>]) -> Self {
        Parts { extensions: Some(extensions.concat()), ..Parts::new(&[sha1_id(&[7])]) }
    }

    /// For one certificate by SHA-1, with these extensions at the single level.
    pub fn with_single_extensions(extensions: &[Vec<u8>]) -> Self {
        let single = tlv(0xa0, &[&sequence(&[&extensions.concat()])]);
        Parts::new(&[[sha1_id(&[7]), single].concat()])
    }

    pub fn der(&self) -> Vec<u8> {
        let list: Vec<u8> = self.requests.iter().flat_map(|r| sequence(&[r])).collect();
        let extensions = self.extensions.as_ref().map_or(Vec::new(), |e| tlv(0xa2, &[&sequence(&[e])]));
        let signature = self.signature.as_ref().map_or(Vec::new(), |s| tlv(0xa0, &[s]));
        let tbs = sequence(&[&self.before, &sequence(&[&list]), &extensions]);
        [sequence(&[&tbs, &signature]), self.after.clone()].concat()
    }
}
