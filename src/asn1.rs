//! DER on plain slices: the few lines that the request parser, the CRL walk and the response template share.
//!
//! Reading is strict (X.690 §10): definite lengths in their shortest form, single-octet tags. Nothing is copied and
//! nothing recurses, so hostile nesting costs nothing.

/// Tag octets met in OCSP, certificates and CRLs.
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const ENUMERATED: u8 = 0x0a;
    pub(crate) const UTF8_STRING: u8 = 0x0c;
    pub(crate) const PRINTABLE_STRING: u8 = 0x13;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;

    /// Constructed, context-specific `[n]`, n < 31.
    pub(crate) const fn context(n: u8) -> u8 {
        0xa0 | n
    }

    /// Primitive, context-specific `[n]`, n < 31.
    pub(crate) const fn context_primitive(n: u8) -> u8 {
        0x80 | n
    }
}

/// The input is not the DER that was expected at this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the expected DER")]
pub(crate) struct NotDer;

/// One element: its tag, its content, and the whole of its octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tlv<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) der: &'a [u8],
}

/// Reads elements from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(input: &'a [u8]) -> Self {
        Reader { rest: input }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read yet.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next tag, without reading it.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element, whatever its tag.
    #[inline]
    pub(crate) fn any(&mut self) -> Result<Tlv<'a>, NotDer> {
        let whole = self.rest;
        let (tag, len, header) = match *whole {
            [tag, len @ 0..=0x7f, ..] => (tag, usize::from(len), 2),
            [tag, 0x81, len @ 0x80..=0xff, ..] => (tag, usize::from(len), 3),
            [tag, 0x82, a @ 1..=0xff, b, ..] => (tag, usize::from(u16::from_be_bytes([a, b])), 4),
            [tag, 0x83, a @ 1..=0xff, b, c, ..] => (tag, u32::from_be_bytes([0, a, b, c]) as usize, 5),
            [tag, 0x84, a @ 1..=0xff, b, c, d, ..] => (tag, u32::from_be_bytes([a, b, c, d]) as usize, 6),
            _ => return Err(NotDer),
        };
        if tag & 0x1f == 0x1f {
            return Err(NotDer); // multi-octet tags occur nowhere in these formats
        }
        let end = header + len;
        let der = whole.get(..end).ok_or(NotDer)?;
        let content = whole.get(header..end).ok_or(NotDer)?;
        self.rest = whole.get(end..).ok_or(NotDer)?;
        Ok(Tlv { tag, content, der })
    }

    /// The content of the next element, which must have this tag.
    #[inline]
    pub(crate) fn expect(&mut self, tag: u8) -> Result<&'a [u8], NotDer> {
        self.expect_tlv(tag).map(|tlv| tlv.content)
    }

    /// The next element, which must have this tag.
    #[inline]
    pub(crate) fn expect_tlv(&mut self, tag: u8) -> Result<Tlv<'a>, NotDer> {
        if self.peek() != Some(tag) {
            return Err(NotDer);
        }
        self.any()
    }

    /// The content of the next element if it has this tag; nothing is read otherwise.
    #[inline]
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, NotDer> {
        if self.peek() == Some(tag) { self.any().map(|tlv| Some(tlv.content)) } else { Ok(None) }
    }

    /// Nothing may follow.
    #[inline]
    pub(crate) fn end(&self) -> Result<(), NotDer> {
        if self.rest.is_empty() { Ok(()) } else { Err(NotDer) }
    }
}

/// Reads one element with this tag that fills the whole input.
pub(crate) fn whole(input: &[u8], tag: u8) -> Result<&[u8], NotDer> {
    let mut reader = Reader::new(input);
    let content = reader.expect(tag)?;
    reader.end()?;
    Ok(content)
}

/// Octets that [`put_header`] writes for a content of `len` octets.
#[inline]
pub(crate) const fn header_len(len: usize) -> usize {
    match len {
        0..=0x7f => 2,
        0x80..=0xff => 3,
        0x100..=0xffff => 4,
        0x1_0000..=0xff_ffff => 5,
        _ => 6,
    }
}

/// Octets of a whole element with a content of `len` octets.
#[inline]
pub(crate) const fn tlv_len(len: usize) -> usize {
    header_len(len) + len
}

/// Appends tag and length. Contents beyond 4 GiB do not occur: everything written here is bounded far below.
#[inline]
pub(crate) fn put_header(out: &mut Vec<u8>, tag: u8, len: usize) {
    let [.., a, b, c, d] = len.to_be_bytes();
    match header_len(len) {
        2 => out.extend_from_slice(&[tag, d]),
        3 => out.extend_from_slice(&[tag, 0x81, d]),
        4 => out.extend_from_slice(&[tag, 0x82, c, d]),
        5 => out.extend_from_slice(&[tag, 0x83, b, c, d]),
        _ => out.extend_from_slice(&[tag, 0x84, a, b, c, d]),
    }
}

/// Appends a whole element.
#[inline]
pub(crate) fn put_tlv(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    put_header(out, tag, content.len());
    out.extend_from_slice(content);
}

/// A whole element on its own.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(tlv_len(content.len()));
    put_tlv(&mut out, tag, content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_must_be_in_their_shortest_form() {
        for bad in [
            &[0x30, 0x81, 0x01, 0][..],
            &[0x30, 0x82, 0, 0x80],
            &[0x30, 0x80, 0, 0],
            &[0x30],
            &[0x30, 2, 0],
            &[0x1f, 1, 0],
            &[],
        ] {
            assert_eq!(Reader::new(bad).any(), Err(NotDer), "{bad:02x?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(len in 0_usize..70_000, tag in 0_u8..31) {
            let content = vec![0x5a; len];
            let der = tlv(tag, &content);
            prop_assert_eq!(der.len(), tlv_len(len));
            prop_assert_eq!(whole(&der, tag), Ok(&content[..]));
        }
    }
}
