//! A certificate serial number, by value.

use std::fmt;

/// A serial number of at most 20 octets of magnitude (RFC 5280 §4.1.2.2), compared by value.
///
/// Held inline, without allocation. DER content octets that differ only by a needless leading zero cannot occur: the
/// constructor refuses them. Zero and negative serials violate RFC 5280 but exist; they are kept apart from positive ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial {
    negative: bool,
    len: u8,
    octets: [u8; Serial::MAX_LEN],
}

/// Why octets are not a usable serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    /// An INTEGER has at least one content octet.
    #[error("the serial number is empty")]
    Empty,
    /// DER wants the shortest form (X.690 §8.3.2).
    #[error("the serial number is not in its shortest form")]
    NotMinimal,
    /// Longer than [`Serial::MAX_LEN`] octets.
    #[error("the serial number is longer than 20 octets")]
    TooLong,
    /// Hexadecimal text was expected.
    #[error("the serial number is not hexadecimal")]
    NotHex,
}

impl Serial {
    /// The most octets of magnitude a serial number may have.
    pub const MAX_LEN: usize = 20;

    /// From the content octets of a DER INTEGER.
    #[inline(always)]
    pub fn from_der_content(content: &[u8]) -> Result<Self, SerialError> {
        match content {
            [] => Err(SerialError::Empty),
            [0x00, next, ..] if *next < 0x80 => Err(SerialError::NotMinimal),
            [0xff, next, ..] if *next >= 0x80 => Err(SerialError::NotMinimal),
            [0x00, magnitude @ ..] if !magnitude.is_empty() => Self::from_parts(false, magnitude),
            [first, ..] => Self::from_parts(*first >= 0x80, content),
        }
    }

    /// From a big-endian unsigned number; leading zeros are dropped.
    pub fn from_unsigned(mut magnitude: &[u8]) -> Result<Self, SerialError> {
        if magnitude.is_empty() {
            return Err(SerialError::Empty);
        }
        while let [0, rest @ ..] = magnitude
            && !rest.is_empty()
        {
            magnitude = rest;
        }
        Self::from_parts(false, magnitude)
    }

    /// From hexadecimal text as certificates and `index.txt` print it (`0A1B…`, `0x…`, `0A:1B:…`), a leading `-` for a
    /// negative number.
    pub fn from_hex(text: &str) -> Result<Self, SerialError> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let text = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
        let digits = text.bytes().filter(|b| *b != b':').count();
        // One more octet than allowed is enough to tell "too long" from leading zeros.
        let mut octets = [0_u8; Self::MAX_LEN + 1];
        let mut filled = digits % 2;
        let mut significant = false;
        for b in text.bytes().filter(|b| *b != b':') {
            let nibble = (b as char).to_digit(16).ok_or(SerialError::NotHex)?;
            if !significant && nibble == 0 {
                filled = usize::from(filled == 0);
                continue;
            }
            if !significant {
                significant = true;
                filled %= 2;
            }
            let slot = octets.get_mut(filled / 2).ok_or(SerialError::TooLong)?;
            *slot = (*slot << 4) | u8::try_from(nibble).map_err(|_| SerialError::NotHex)?;
            filled += 1;
        }
        if digits == 0 {
            return Err(SerialError::Empty);
        }
        let magnitude = octets.get(..filled.div_ceil(2)).unwrap_or_default();
        match (significant, negative) {
            (false, _) => Self::from_parts(false, &[0]),
            (true, false) => Self::from_parts(false, magnitude),
            (true, true) => Self::negated(magnitude),
        }
    }

    /// Two's complement of a non-zero magnitude, in its shortest form.
    fn negated(magnitude: &[u8]) -> Result<Self, SerialError> {
        let mut wide = [0xff_u8; Self::MAX_LEN + 2];
        let mut carry = true;
        for (to, from) in wide.iter_mut().rev().zip(magnitude.iter().rev()) {
            (*to, carry) = (!from).overflowing_add(u8::from(carry));
        }
        let mut content = wide.as_slice();
        while let [0xff, rest @ ..] = content
            && rest.first().is_some_and(|next| *next >= 0x80)
        {
            content = rest;
        }
        Self::from_parts(true, content)
    }

    #[inline(always)]
    fn from_parts(negative: bool, magnitude: &[u8]) -> Result<Self, SerialError> {
        let octets = padded(magnitude).ok_or(SerialError::TooLong)?;
        Ok(Serial { negative, len: magnitude.len() as u8, octets })
    }

    /// The magnitude without the sign octet; for a negative serial its two's complement content octets.
    /// 1 to 20 octets.
    pub fn magnitude(&self) -> &[u8] {
        self.octets.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Whether the DER INTEGER is negative (RFC 5280 forbids it; some certificates have it).
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// Rebuilds a serial from [`Serial::magnitude`] and [`Serial::is_negative`]; used by the store.
    pub(crate) fn from_stored(negative: bool, magnitude: &[u8]) -> Result<Self, SerialError> {
        if magnitude.is_empty() {
            return Err(SerialError::Empty);
        }
        Self::from_parts(negative, magnitude)
    }

    /// How many content octets [`Serial::write_der_content`] writes: 1 to 21.
    pub fn der_content_len(&self) -> usize {
        usize::from(self.len) + usize::from(self.needs_sign_octet())
    }

    /// Appends the content octets of the DER INTEGER.
    pub fn write_der_content(&self, out: &mut Vec<u8>) {
        if self.needs_sign_octet() {
            out.push(0);
        }
        out.extend_from_slice(self.magnitude());
    }

    fn needs_sign_octet(&self) -> bool {
        let [first, ..] = self.octets;
        !self.negative && first >= 0x80
    }

    /// All 20 octets, zero-padded at the end: a fixed-size key for hashing.
    pub(crate) fn padded(&self) -> &[u8; Self::MAX_LEN] {
        &self.octets
    }
}

/// At most 20 octets with zeros after them.
///
/// Every request does this. It is made of loads of fixed sizes (the first and the last N octets, which may overlap) and
/// shifts, because a copy of variable length into memory that is moved right after costs more than the rest of parsing.
#[inline(always)]
fn padded(octets: &[u8]) -> Option<[u8; Serial::MAX_LEN]> {
    fn first<const N: usize>(octets: &[u8]) -> Option<[u8; N]> {
        octets.first_chunk().copied()
    }
    fn last<const N: usize>(octets: &[u8]) -> Option<[u8; N]> {
        octets.last_chunk().copied()
    }
    let (low, high) = match octets.len() {
        n @ 16..=20 => {
            let tail = u64::from(u32::from_le_bytes(last(octets)?)) >> (8 * (20 - n));
            (u128::from_le_bytes(first(octets)?), tail as u32)
        }
        n @ 8..=15 => {
            let tail = u128::from(u64::from_le_bytes(last(octets)?)) >> (8 * (16 - n));
            (u128::from(u64::from_le_bytes(first(octets)?)) | tail << 64, 0)
        }
        n @ 4..=7 => {
            let tail = u64::from(u32::from_le_bytes(last(octets)?)) >> (8 * (8 - n));
            (u128::from(u64::from(u32::from_le_bytes(first(octets)?)) | tail << 32), 0)
        }
        0..=3 => (octets.iter().rev().fold(0, |low, octet| low << 8 | u128::from(*octet)), 0),
        _ => return None,
    };
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = low.to_le_bytes();
    let [q, r, s, t] = high.to_le_bytes();
    Some([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t])
}

/// Upper-case hexadecimal of the magnitude, as `openssl x509 -serial` prints it; `-` in front of a negative number.
impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.negative {
            return self.magnitude().iter().try_for_each(|b| write!(f, "{b:02X}"));
        }
        let mut magnitude = [0_u8; Self::MAX_LEN];
        let mut carry = true;
        for (to, from) in magnitude.iter_mut().take(usize::from(self.len)).rev().zip(self.magnitude().iter().rev()) {
            (*to, carry) = (!from).overflowing_add(u8::from(carry));
        }
        f.write_str("-")?;
        magnitude.iter().take(usize::from(self.len)).try_for_each(|b| write!(f, "{b:02X}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

/// As text, in hexadecimal.
impl serde::Serialize for Serial {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Serial {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Serial::from_hex(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content(s: &Serial) -> Vec<u8> {
        let mut out = Vec::new();
        s.write_der_content(&mut out);
        assert_eq!(out.len(), s.der_content_len());
        out
    }

    #[test]
    fn serials_are_compared_by_value() {
        let a = Serial::from_der_content(&[0x00, 0x80]).unwrap();
        assert_eq!(a, Serial::from_unsigned(&[0, 0, 0x80]).unwrap());
        assert_eq!(a, Serial::from_hex("0x00080").unwrap());
        assert_ne!(a, Serial::from_der_content(&[0x80]).unwrap());
        assert_eq!(Serial::from_hex("-80").unwrap(), Serial::from_der_content(&[0x80]).unwrap());
        assert_eq!(Serial::from_hex("-1").unwrap(), Serial::from_der_content(&[0xff]).unwrap());
        assert_eq!(Serial::from_hex("0").unwrap(), Serial::from_der_content(&[0]).unwrap());
        assert_eq!(Serial::from_hex("ab:C").unwrap().to_string(), "0ABC");
    }

    #[test]
    fn what_is_not_a_serial_is_refused() {
        assert_eq!(Serial::from_der_content(&[]), Err(SerialError::Empty));
        assert_eq!(Serial::from_der_content(&[0, 1]), Err(SerialError::NotMinimal));
        assert_eq!(Serial::from_der_content(&[0xff, 0x80]), Err(SerialError::NotMinimal));
        assert_eq!(Serial::from_der_content(&[1; 21]), Err(SerialError::TooLong));
        assert_eq!(Serial::from_hex("xyz"), Err(SerialError::NotHex));
        assert_eq!(Serial::from_hex(""), Err(SerialError::Empty));
        assert_eq!(Serial::from_hex(&"1".repeat(41)), Err(SerialError::TooLong));
        assert!(Serial::from_hex(&format!("{}{}", "0".repeat(60), "f".repeat(40))).is_ok());
    }

    proptest! {
        #[test]
        fn der_content_and_text_round_trip(bytes in proptest::collection::vec(any::<u8>(), 1..=20)) {
            if let Ok(s) = Serial::from_der_content(&bytes) {
                prop_assert_eq!(content(&s), bytes);
                prop_assert_eq!(Serial::from_hex(&s.to_string()).unwrap(), s);
                prop_assert_eq!(Serial::from_stored(s.is_negative(), s.magnitude()).unwrap(), s);
            }
        }
    }
}
