//! The certificate extensions that decide what a certificate may do (RFC 5280 §4.2, RFC 6960 §4.2.2.2.1).

use crate::asn1::{NotDer, Reader, tag, whole};

/// One extension, borrowed from its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// The content octets of its OBJECT IDENTIFIER.
    pub oid: &'a [u8],
    /// Whether it is marked critical.
    pub critical: bool,
    /// The octets inside extnValue.
    pub value: &'a [u8],
}

impl Extension<'_> {
    /// A name for people: `keyUsage`, or the OBJECT IDENTIFIER in dots.
    pub fn name(&self) -> String {
        super::oid::extension_name(self.oid)
    }
}

/// The keyUsage bits (RFC 5280 §4.2.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUsage(u16);

impl KeyUsage {
    /// digitalSignature (0).
    pub const DIGITAL_SIGNATURE: KeyUsage = KeyUsage(1 << 15);
    /// keyCertSign (5).
    pub const KEY_CERT_SIGN: KeyUsage = KeyUsage(1 << 10);
    /// cRLSign (6).
    pub const CRL_SIGN: KeyUsage = KeyUsage(1 << 9);

    /// Both together.
    pub const fn and(self, other: KeyUsage) -> KeyUsage {
        KeyUsage(self.0 | other.0)
    }

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: KeyUsage) -> bool {
        self.0 & other.0 == other.0
    }

    /// The first two octets of the named bits, bit 0 first.
    pub(crate) const fn octets(self) -> [u8; 2] {
        self.0.to_be_bytes()
    }

    pub(super) fn read(value: &[u8]) -> Result<Self, NotDer> {
        match *whole(value, tag::BIT_STRING)? {
            [unused @ 0..=7, a] if a.trailing_zeros() >= u32::from(unused) => Ok(KeyUsage(u16::from_be_bytes([a, 0]))),
            [unused @ 0..=7, a, b] if b.trailing_zeros() >= u32::from(unused) => {
                Ok(KeyUsage(u16::from_be_bytes([a, b])))
            }
            [0] => Ok(KeyUsage(0)),
            _ => Err(NotDer),
        }
    }
}

/// basicConstraints (RFC 5280 §4.2.1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BasicConstraints {
    /// Whether this is a CA.
    pub ca: bool,
    /// The most intermediate certificates below it; [`u32::MAX`] stands for more than fits.
    pub path_len: Option<u32>,
}

impl BasicConstraints {
    pub(super) fn read(value: &[u8]) -> Result<Self, NotDer> {
        let mut fields = Reader::new(whole(value, tag::SEQUENCE)?);
        // FALSE is the default and must not be written, but certificates exist that do.
        let ca = match fields.optional(tag::BOOLEAN)? {
            None | Some([0]) => false,
            Some([0xff]) => true,
            Some(_) => return Err(NotDer),
        };
        let path_len = match fields.optional(tag::INTEGER)? {
            None => None,
            Some([] | [0x80..=0xff, ..]) => return Err(NotDer),
            Some(n) => Some(
                n.iter().try_fold(0_u32, |sum, b| sum.checked_mul(256)?.checked_add(u32::from(*b))).unwrap_or(u32::MAX),
            ),
        };
        fields.end()?;
        Ok(BasicConstraints { ca, path_len })
    }
}

/// id-pkix-ocsp-nocheck (RFC 6960 §4.2.2.2.1): do not ask whether this responder's certificate is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCheck {
    /// It should not be.
    pub critical: bool,
    /// Whether the value is exactly NULL, `05 00`, as it shall be.
    pub is_null: bool,
}

/// The keyIdentifier of an authorityKeyIdentifier (RFC 5280 §4.2.1.1), if it has one.
pub(super) fn authority_key_id(value: &[u8]) -> Result<Option<&[u8]>, NotDer> {
    Reader::new(whole(value, tag::SEQUENCE)?).optional(tag::context_primitive(0))
}

/// The purposes of an extKeyUsage, each the content octets of its OBJECT IDENTIFIER; at least one.
pub(super) fn purposes(value: &[u8]) -> Result<Vec<&[u8]>, NotDer> {
    let mut list = Reader::new(whole(value, tag::SEQUENCE)?);
    let mut found = vec![list.expect(tag::OID)?];
    while !list.is_empty() {
        found.push(list.expect(tag::OID)?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_usage_is_read_bit_by_bit() {
        let both = KeyUsage::KEY_CERT_SIGN.and(KeyUsage::CRL_SIGN);
        assert_eq!(KeyUsage::read(&[3, 2, 1, 0x06]), Ok(both));
        assert_eq!(KeyUsage::read(&[3, 2, 7, 0x80]), Ok(KeyUsage::DIGITAL_SIGNATURE));
        assert!(!both.contains(KeyUsage::DIGITAL_SIGNATURE));
        assert_eq!(KeyUsage::read(&[3, 3, 7, 0x80, 0x80]), Ok(KeyUsage(0x8080)));
        for bad in [&[3, 2, 8, 0x80][..], &[3, 2, 7, 0xc0], &[3, 0], &[4, 2, 7, 0x80], &[3, 4, 0, 0, 0, 0]] {
            assert_eq!(KeyUsage::read(bad), Err(NotDer), "{bad:02x?}");
        }
    }

    #[test]
    fn basic_constraints_are_read() {
        assert_eq!(BasicConstraints::read(&[0x30, 0]), Ok(BasicConstraints { ca: false, path_len: None }));
        assert_eq!(
            BasicConstraints::read(&[0x30, 6, 1, 1, 0xff, 2, 1, 3]),
            Ok(BasicConstraints { ca: true, path_len: Some(3) })
        );
        let path_len = |content: &[u8]| {
            let integer = [&[2, u8::try_from(content.len()).unwrap()][..], content].concat();
            let value = [&[0x30, u8::try_from(integer.len()).unwrap()][..], &integer].concat();
            BasicConstraints::read(&value).map(|b| b.path_len)
        };
        assert_eq!(path_len(&[0, 0x80]), Ok(Some(128)));
        assert_eq!(path_len(&[0x7f, 0xff, 0xff, 0xff]), Ok(Some(0x7fff_ffff)));
        assert_eq!(path_len(&[0x7f, 0xff, 0xff, 0xff, 0xff]), Ok(Some(u32::MAX)));
        assert_eq!((path_len(&[]), path_len(&[0xff])), (Err(NotDer), Err(NotDer)));
        assert_eq!(BasicConstraints::read(&[0x30, 3, 1, 1, 7]), Err(NotDer));
    }
}
