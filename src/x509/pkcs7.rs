//! Certs-only PKCS#7: how EST and others hand over certificates (RFC 7030 §4.2.3, RFC 5652 §5, RFC 8951 §3.2).
//!
//! Only the bag of certificates is read; such a message is signed by nobody, so there is nothing to verify. The frame
//! around the certificates may be BER with indefinite lengths, which widespread CA software writes; each certificate must
//! be the DER that its issuer signed.

use crate::asn1::{put_header, put_tlv, tag, tlv};

/// The largest message that is read, in octets: a signer and a chain of large certificates fit many times over.
pub const MAX_LEN: usize = 256 * 1024;
/// The most certificates that are taken from one message.
pub const MAX_CERTIFICATES: usize = 32;

/// 1.2.840.113549.1.7.2, id-signedData.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// 1.2.840.113549.1.7.1, id-data.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// The octet that begins an indefinite length (X.690 §8.1.3.6).
const INDEFINITE: u8 = 0x80;
/// SignedData's certificates, `[0] IMPLICIT`; also the explicit `[0]` of a ContentInfo.
const BAG: u8 = tag::context(0);

/// Why a message yields no certificates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Pkcs7Error {
    /// Larger than [`MAX_LEN`].
    #[error("the PKCS#7 message has {0} octets; at most {MAX_LEN} are read")]
    TooLarge(usize),
    /// Not a ContentInfo at all.
    #[error("not a PKCS#7 message")]
    NotPkcs7,
    /// A ContentInfo, but not of signed data.
    #[error("a PKCS#7 message, but not a certs-only one (signedData)")]
    NotSignedData,
    /// It breaks off, or something in it is not what RFC 5652 §5.1 says.
    #[error("the PKCS#7 message is damaged at its {0}")]
    Damaged(&'static str),
    /// The bag is empty or missing.
    #[error("the PKCS#7 message holds no certificate")]
    Empty,
    /// More than [`MAX_CERTIFICATES`].
    #[error("the PKCS#7 message holds more than {MAX_CERTIFICATES} certificates")]
    TooMany,
}

/// The DER of the certificates in a message, in its order; at least one. They are not looked into.
pub fn certificates(message: &[u8]) -> Result<Vec<Vec<u8>>, Pkcs7Error> {
    if message.len() > MAX_LEN {
        return Err(Pkcs7Error::TooLarge(message.len()));
    }
    let (content_info, _) = take(message, tag::SEQUENCE).ok_or(Pkcs7Error::NotPkcs7)?;
    let (kind, rest) = take(content_info, tag::OID).ok_or(Pkcs7Error::NotPkcs7)?;
    if kind != SIGNED_DATA {
        return Err(Pkcs7Error::NotSignedData);
    }
    let (content, _) = take(rest, BAG).ok_or(Pkcs7Error::Damaged("content"))?;
    let (signed_data, _) = take(content, tag::SEQUENCE).ok_or(Pkcs7Error::Damaged("SignedData"))?;
    let (_, rest) = take(signed_data, tag::INTEGER).ok_or(Pkcs7Error::Damaged("version"))?;
    let (_, rest) = take(rest, tag::SET).ok_or(Pkcs7Error::Damaged("digestAlgorithms"))?;
    let (_, rest) = take(rest, tag::SEQUENCE).ok_or(Pkcs7Error::Damaged("encapContentInfo"))?;
    if rest.first() != Some(&BAG) {
        return Err(Pkcs7Error::Empty);
    }
    let (mut bag, _) = take(rest, BAG).ok_or(Pkcs7Error::Damaged("certificates"))?;
    let mut found = Vec::new();
    while !bag.is_empty() {
        let element = element(bag).ok_or(Pkcs7Error::Damaged("certificates"))?;
        // Other choices of CertificateChoices are attribute certificates and obsolete forms, all context-tagged.
        if element.tag == tag::SEQUENCE {
            if found.len() == MAX_CERTIFICATES {
                return Err(Pkcs7Error::TooMany);
            }
            found.push(element.whole.to_vec());
        }
        bag = element.rest;
    }
    if found.is_empty() { Err(Pkcs7Error::Empty) } else { Ok(found) }
}

/// A certs-only message of these certificates, each in DER: what an EST server answers (RFC 5652 §5.2: no content, no
/// signers, version 1).
pub fn certs_only(certificates: &[&[u8]]) -> Vec<u8> {
    let mut signed_data = tlv(tag::INTEGER, &[1]);
    put_tlv(&mut signed_data, tag::SET, &[]);
    put_tlv(&mut signed_data, tag::SEQUENCE, &tlv(tag::OID, DATA));
    put_header(&mut signed_data, BAG, certificates.iter().map(|c| c.len()).sum());
    certificates.iter().for_each(|c| signed_data.extend_from_slice(c));
    put_tlv(&mut signed_data, tag::SET, &[]);
    let mut content_info = tlv(tag::OID, SIGNED_DATA);
    put_tlv(&mut content_info, BAG, &tlv(tag::SEQUENCE, &signed_data));
    tlv(tag::SEQUENCE, &content_info)
}

struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
    rest: &'a [u8],
}

/// The content of the first element, which must have this tag, and what follows it.
fn take(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    element(input).filter(|e| e.tag == tag).map(|e| (e.content, e.rest))
}

/// The first element of BER.
fn element(input: &[u8]) -> Option<Element<'_>> {
    let header = header(input)?;
    let after = input.get(header.len..)?;
    let (content_len, end_len) = match header.content {
        Some(len) => (len, 0),
        None => (indefinite_len(after)?, 2),
    };
    let end = header.len.checked_add(content_len)?.checked_add(end_len)?;
    Some(Element {
        tag: header.tag,
        content: after.get(..content_len)?,
        whole: input.get(..end)?,
        rest: input.get(end..)?,
    })
}

/// Octets before the end-of-contents that closes an indefinite length. One pass and no recursion, however deep it goes.
fn indefinite_len(input: &[u8]) -> Option<usize> {
    let mut at = 0_usize;
    let mut open = 1_usize;
    loop {
        let rest = input.get(at..)?;
        if rest.starts_with(&[0, 0]) {
            open -= 1;
            if open == 0 {
                return Some(at);
            }
            at = at.checked_add(2)?;
            continue;
        }
        let header = header(rest)?;
        at = at.checked_add(header.len)?;
        match header.content {
            Some(len) => at = at.checked_add(len)?,
            None => open += 1,
        }
    }
}

struct Header {
    tag: u8,
    /// Octets of tag and length.
    len: usize,
    /// Octets of the content; `None` when indefinite.
    content: Option<usize>,
}

/// Tag and length. Tags of several octets occur nowhere in these messages.
fn header(input: &[u8]) -> Option<Header> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if tag & 0x1f == 0x1f {
        return None;
    }
    const CONSTRUCTED: u8 = 0x20;
    match first {
        0..=0x7f => Some(Header { tag, len: 2, content: Some(usize::from(first)) }),
        INDEFINITE => (tag & CONSTRUCTED != 0).then_some(Header { tag, len: 2, content: None }),
        _ => {
            let octets = rest.get(..usize::from(first & 0x7f)).filter(|o| o.len() <= 4)?;
            let content = octets.iter().fold(0_usize, |n, octet| n << 8 | usize::from(*octet));
            Some(Header { tag, len: 2 + octets.len(), content: Some(content) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Stand-ins for certificates: the walk does not look inside.
    fn some(n: u8) -> Vec<Vec<u8>> {
        (0..n).map(|i| tlv(tag::SEQUENCE, &[i; 200])).collect()
    }

    fn message(certificates: &[Vec<u8>]) -> Vec<u8> {
        certs_only(&certificates.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    fn indefinite(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, INDEFINITE], content, &[0, 0]].concat()
    }

    #[test]
    fn all_certificates_are_taken_in_their_order() {
        for n in [1, 2, 32] {
            assert_eq!(certificates(&message(&some(n))), Ok(some(n)));
        }
        assert_eq!(certificates(&message(&some(33))), Err(Pkcs7Error::TooMany));
        assert_eq!(certificates(&message(&[])), Err(Pkcs7Error::Empty));
    }

    #[test]
    fn a_frame_of_indefinite_lengths_is_read() {
        let parts = [
            tlv(tag::INTEGER, &[1]),
            tlv(tag::SET, &[]),
            indefinite(tag::SEQUENCE, &tlv(tag::OID, DATA)),
            indefinite(BAG, &some(3).concat()),
            tlv(tag::SET, &[]),
        ];
        let content = indefinite(BAG, &indefinite(tag::SEQUENCE, &parts.concat()));
        let ber = indefinite(tag::SEQUENCE, &[tlv(tag::OID, SIGNED_DATA), content].concat());
        assert_eq!(certificates(&ber), Ok(some(3)));
        for len in 0..ber.len() - 6 {
            assert!(certificates(&ber[..len]).is_err(), "{len} octets of {}", ber.len());
        }
    }

    #[test]
    fn other_messages_are_named() {
        assert_eq!(certificates(b"<html>"), Err(Pkcs7Error::NotPkcs7));
        assert_eq!(certificates(&some(1)[0]), Err(Pkcs7Error::NotPkcs7));
        let data = tlv(tag::SEQUENCE, &tlv(tag::OID, DATA));
        assert_eq!(certificates(&data), Err(Pkcs7Error::NotSignedData));
        assert_eq!(certificates(&vec![0; MAX_LEN + 1]), Err(Pkcs7Error::TooLarge(MAX_LEN + 1)));
    }

    #[test]
    fn hostile_nesting_costs_nothing() {
        let deep = [0x30, INDEFINITE].repeat(MAX_LEN / 2);
        assert_eq!(certificates(&deep), Err(Pkcs7Error::NotPkcs7));
    }

    proptest! {
        #[test]
        fn any_damage_is_survived_and_any_cut_is_noticed(at: usize, octet: u8) {
            let mut bytes = message(&some(3));
            let cut = at % bytes.len();
            prop_assert!(certificates(&bytes[..cut]).is_err());
            bytes[cut] = octet;
            let _ = certificates(&bytes);
        }

        #[test]
        fn any_octets_are_survived(bytes: Vec<u8>) {
            let _ = certificates(&bytes);
        }
    }
}
