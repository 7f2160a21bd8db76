//! Distinguished names (RFC 5280 §4.1.2.4).

use crate::asn1::{put_tlv, tag, tlv};
use crate::x509::oid;

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
