//! Distinguished names (RFC 5280 §4.1.2.4).

use crate::asn1::{NotDer, Reader, put_tlv, tag, tlv, whole};
use crate::x509::{Certificate, oid};

/// The most characters of a commonName (RFC 5280 appendix A, ub-common-name).
const MAX_COMMON_NAME: usize = 64;

/// An attribute of a distinguished name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// countryName: two letters, a PrintableString.
    Country,
    /// organizationName, a UTF8String.
    Organization,
    /// commonName, a UTF8String.
    CommonName,
}

/// The DER of a Name of these attributes, in this order, one to each RelativeDistinguishedName.
pub fn name(attributes: &[(Attribute, &str)]) -> Vec<u8> {
    let mut rdns = Vec::new();
    for (attribute, value) in attributes {
        let (oid, string) = match attribute {
            Attribute::Country => (oid::COUNTRY, tag::PRINTABLE_STRING),
            Attribute::Organization => (oid::ORGANIZATION, tag::UTF8_STRING),
            Attribute::CommonName => (oid::COMMON_NAME, tag::UTF8_STRING),
        };
        let mut pair = tlv(tag::OID, oid);
        put_tlv(&mut pair, string, value.as_bytes());
        put_tlv(&mut rdns, tag::SET, &tlv(tag::SEQUENCE, &pair));
    }
    tlv(tag::SEQUENCE, &rdns)
}

/// The DER of the Name under which a signer is asked for: the CA's own, with a commonName that says what it is for. CAs may
/// give it another.
pub fn signer_name(ca: &Certificate) -> Vec<u8> {
    const SUFFIX: &str = " OCSP signer";
    let (mut rdns, common_name) = without_common_name(ca.subject_der()).unwrap_or_default();
    let kept: String = common_name.chars().take(MAX_COMMON_NAME - SUFFIX.len()).collect();
    let own = name(&[(Attribute::CommonName, format!("{kept}{SUFFIX}").trim_start())]);
    rdns.extend_from_slice(whole(&own, tag::SEQUENCE).unwrap_or_default());
    tlv(tag::SEQUENCE, &rdns)
}

/// The RelativeDistinguishedNames that hold no commonName, and the last commonName as far as it is UTF-8 or ASCII.
fn without_common_name(subject: &[u8]) -> Result<(Vec<u8>, String), NotDer> {
    let mut reader = Reader::new(whole(subject, tag::SEQUENCE)?);
    let (mut others, mut common_name) = (Vec::new(), String::new());
    while !reader.is_empty() {
        let rdn = reader.expect_tlv(tag::SET)?;
        let mut pair = Reader::new(Reader::new(rdn.content).expect(tag::SEQUENCE)?);
        if pair.expect(tag::OID)? == oid::COMMON_NAME {
            let value = pair.any()?;
            let is_text = matches!(value.tag, tag::UTF8_STRING | tag::PRINTABLE_STRING);
            common_name = std::str::from_utf8(value.content).ok().filter(|_| is_text).unwrap_or_default().to_owned();
        } else {
            others.extend_from_slice(rdn.der);
        }
    }
    Ok((others, common_name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocsp::Serial;
    use crate::signer::{KeyKind, SigningKey};
    use crate::time::Timestamp;
    use crate::x509::issue::CertificateSpec;

    fn ca(subject: Vec<u8>) -> Certificate {
        let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let (serial, now) = (Serial::from_unsigned(&[1]).unwrap(), Timestamp::from_unix(1_800_000_000));
        CertificateSpec::ca(subject, key.spki_der(), serial, now, now.plus(std::time::Duration::from_secs(60)))
            .issue(&key)
            .unwrap()
    }

    #[test]
    fn a_signer_is_named_after_its_ca() {
        let of = |cn: &str| {
            ca(name(&[(Attribute::Country, "DE"), (Attribute::CommonName, cn), (Attribute::Organization, "Lab")]))
        };
        let expected = |cn: &str| {
            name(&[(Attribute::Country, "DE"), (Attribute::Organization, "Lab"), (Attribute::CommonName, cn)])
        };
        assert_eq!(signer_name(&of("Issuing CA 1")), expected("Issuing CA 1 OCSP signer"));
        let long = "ä".repeat(64);
        assert_eq!(signer_name(&of(&long)), expected(&format!("{} OCSP signer", "ä".repeat(52))));
        assert_eq!(signer_name(&ca(name(&[]))), name(&[(Attribute::CommonName, "OCSP signer")]));
    }
}
