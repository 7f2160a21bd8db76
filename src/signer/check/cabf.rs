//! What the CA/B Forum's TLS Baseline Requirements §7.1.2.8 want of a delegated signer's certificate, with Mozilla's and
//! Microsoft's programmes on top.

use super::{Findings, SignerFault};
use crate::asn1::{NotDer, Reader, tag, whole};
use crate::ocsp::{Serial, SignatureAlgorithm};
use crate::x509::{Certificate, KeyUsage, PublicKeyKind, oid};

pub(super) fn delegated(issuer: &Certificate, certificate: &Certificate, findings: &mut Findings) {
    findings.fault_if(certificate.version() != 3, SignerFault::Version(certificate.version()));
    findings.fault_if(!serial_allowed(certificate.serial()), SignerFault::SerialNumber);
    let kind = issuer.key_kind();
    findings.fault_if(
        !identifier_allowed(certificate.signature_algorithm_der(), kind),
        SignerFault::AlgorithmIdentifier(kind.to_string()),
    );
    usages(certificate, findings);
    extensions(certificate, findings);
    for (attribute, name) in
        [(oid::COUNTRY, "countryName"), (oid::ORGANIZATION, "organizationName"), (oid::COMMON_NAME, "commonName")]
    {
        let present = has_attribute(certificate.subject_der(), attribute).unwrap_or(false);
        findings.fault_if(!present, SignerFault::SubjectLacks(name));
    }
}

/// Both MUST be there and MUST say this one thing (§7.1.2.8.5, §7.1.2.8.7).
fn usages(certificate: &Certificate, findings: &mut Findings) {
    let purposes = certificate.extended_key_usage().unwrap_or_default();
    findings.fault_if(certificate.is_ocsp_signer() && purposes != [oid::KP_OCSP_SIGNING], SignerFault::OtherPurposes);
    match certificate.key_usage() {
        None => findings.faults.push(SignerFault::Missing("keyUsage")),
        Some(usage) => {
            let other = usage.contains(KeyUsage::DIGITAL_SIGNATURE) && usage != KeyUsage::DIGITAL_SIGNATURE;
            findings.fault_if(other, SignerFault::OtherKeyUsages);
            let critical = certificate.extension(oid::KEY_USAGE).is_some_and(|e| e.critical);
            findings.fault_if(!critical, SignerFault::KeyUsageNotCritical);
        }
    }
}

/// The table of §7.1.2.8.2, but for keyUsage, extKeyUsage and nocheck.
fn extensions(certificate: &Certificate, findings: &mut Findings) {
    findings.fault_if(certificate.authority_key_id().is_none(), SignerFault::Missing("authorityKeyIdentifier"));
    findings.warn_if(certificate.subject_key_id().is_none(), SignerFault::Missing("subjectKeyIdentifier"));
    for e in certificate.extensions() {
        match e.oid {
            oid::KEY_USAGE | oid::EXTENDED_KEY_USAGE | oid::OCSP_NOCHECK => {}
            oid::SUBJECT_KEY_IDENTIFIER | oid::SCT_LIST => {}
            oid::AUTHORITY_KEY_IDENTIFIER => findings.fault_if(e.critical, SignerFault::AuthorityKeyIdCritical),
            // A CA's is reported as such already.
            oid::BASIC_CONSTRAINTS => {
                let is_ca = certificate.basic_constraints().is_some_and(|b| b.ca);
                findings.fault_if(!is_ca && e.value != [0x30, 0], SignerFault::BasicConstraintsNotEmpty);
            }
            oid::SUBJECT_ALT_NAME | oid::NAME_CONSTRAINTS | oid::CRL_DISTRIBUTION_POINTS => {
                findings.faults.push(SignerFault::Forbidden(e.name()));
            }
            oid::AUTHORITY_INFO_ACCESS if !only_ocsp_access(e.value) => {
                findings.faults.push(SignerFault::Forbidden(format!("{} with another method than OCSP", e.name())));
            }
            _ => findings.warnings.push(SignerFault::NotRecommended(e.name())),
        }
    }
}

/// Greater than 0 and less than 2^159 (§7.1.2.8).
fn serial_allowed(serial: Serial) -> bool {
    match serial.magnitude() {
        [0] => false,
        [first, rest @ ..] => !serial.is_negative() && (rest.len() < 19 || *first < 0x80),
        [] => false,
    }
}

/// The byte-exact tables of §7.1.3.2.1 and §7.1.3.2.2 for a signature by a key of this kind.
fn identifier_allowed(identifier: &[u8], key: &PublicKeyKind) -> bool {
    let modulus_len = 0; // of no matter to the identifier
    let pkcs1 = SignatureAlgorithm::RsaPkcs1Sha256 { modulus_len }.identifier_der();
    let pss = SignatureAlgorithm::RsaPssSha256 { modulus_len }.identifier_der();
    match key {
        PublicKeyKind::P256 => identifier == SignatureAlgorithm::EcdsaP256Sha256.identifier_der(),
        PublicKeyKind::P384 => identifier == SignatureAlgorithm::EcdsaP384Sha384.identifier_der(),
        PublicKeyKind::Rsa { pss_only: false, .. } => {
            [(1, 32), (2, 48), (3, 64)].into_iter().any(|(hash, salt_len)| {
                identifier == with_pkcs1_hash(pkcs1, hash) || identifier == with_pss_hash(pss, hash, salt_len)
            })
        }
        // P-521 is allowed, but its signatures are not verified here and have been refused before.
        _ => false,
    }
}

/// sha256, sha384 and sha512WithRSAEncryption end in 11, 12 and 13, before the NULL.
fn with_pkcs1_hash(sha256: &[u8], hash: u8) -> Vec<u8> {
    let mut identifier = sha256.to_vec();
    if let [.., last_arc, tag::NULL, 0] = identifier.as_mut_slice() {
        *last_arc = 0x0a + hash;
    }
    identifier
}

/// The three PSS identifiers differ in the last arc of the hash, which occurs twice, and in the length of the salt.
fn with_pss_hash(sha256: &[u8], hash: u8, salt_len: u8) -> Vec<u8> {
    const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
    let mut identifier = sha256.to_vec();
    let places: Vec<usize> = memchr::memmem::find_iter(sha256, SHA2).map(|at| at + SHA2.len()).collect();
    for place in places {
        if let Some(arc) = identifier.get_mut(place) {
            *arc = hash;
        }
    }
    if let Some(last) = identifier.last_mut() {
        *last = salt_len;
    }
    identifier
}

/// Whether every AccessDescription is id-ad-ocsp (§7.1.2.8.3).
fn only_ocsp_access(value: &[u8]) -> bool {
    let all = || -> Result<bool, NotDer> {
        let mut list = Reader::new(whole(value, tag::SEQUENCE)?);
        while !list.is_empty() {
            if Reader::new(list.expect(tag::SEQUENCE)?).expect(tag::OID)? != oid::AD_OCSP {
                return Ok(false);
            }
        }
        Ok(true)
    };
    all().unwrap_or(false)
}

/// Whether a Name has an attribute that is not empty.
fn has_attribute(name_der: &[u8], attribute: &[u8]) -> Result<bool, NotDer> {
    let mut rdns = Reader::new(whole(name_der, tag::SEQUENCE)?);
    while !rdns.is_empty() {
        let mut pairs = Reader::new(rdns.expect(tag::SET)?);
        while !pairs.is_empty() {
            let mut pair = Reader::new(pairs.expect(tag::SEQUENCE)?);
            if pair.expect(tag::OID)? == attribute && !pair.any()?.content.is_empty() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    /// As BR §7.1.3.2.1 prints them.
    const RSA: [&str; 6] = [
        "300d06092a864886f70d01010b0500",
        "300d06092a864886f70d01010c0500",
        "300d06092a864886f70d01010d0500",
        "304106092a864886f70d01010a3034a00f300d0609608648016503040201\
         0500a11c301a06092a864886f70d010108300d0609608648016503040201\
         0500a203020120",
        "304106092a864886f70d01010a3034a00f300d0609608648016503040202\
         0500a11c301a06092a864886f70d010108300d0609608648016503040202\
         0500a203020130",
        "304106092a864886f70d01010a3034a00f300d0609608648016503040203\
         0500a11c301a06092a864886f70d010108300d0609608648016503040203\
         0500a203020140",
    ];

    #[test]
    fn the_identifiers_of_the_requirements_are_allowed_for_their_keys_only() {
        let rsa = PublicKeyKind::Rsa { bits: 2048, pss_only: false };
        for text in RSA {
            let identifier = HEXLOWER.decode(text.as_bytes()).unwrap();
            assert!(identifier_allowed(&identifier, &rsa), "{text}");
            assert!(!identifier_allowed(&identifier, &PublicKeyKind::P256), "{text}");
            for at in 0..identifier.len() {
                let mut changed = identifier.clone();
                changed[at] ^= 0x80;
                assert!(!identifier_allowed(&changed, &rsa), "{text}, octet {at}");
            }
        }
        let ecdsa_256 = SignatureAlgorithm::EcdsaP256Sha256.identifier_der();
        assert!(identifier_allowed(ecdsa_256, &PublicKeyKind::P256));
        assert!(!identifier_allowed(ecdsa_256, &PublicKeyKind::P384));
        assert!(!identifier_allowed(ecdsa_256, &rsa));
    }
}
