//! Names of things in renewal, and the hash by which they are spread. The hash never changes: a place that has been printed
//! holds across versions.

use crate::ocsp::Serial;
use crate::registry::IssuerId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A CA service that issuers share: a name in `[enrolment.*]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(Arc<str>);

impl EndpointId {
    /// The endpoint with this name; the same rule as for issuers: 1 to 128 letters, digits, `.`, `_` or `-`.
    pub fn new(text: &str) -> Result<Self, String> {
        crate::config::plain_name(text).map(|()| EndpointId(text.into()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for EndpointId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EndpointId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        EndpointId::new(&text).map_err(serde::de::Error::custom)
    }
}

/// One certificate that has to be kept fresh. A credential sorts before every signer: it is item zero.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotId {
    /// The client certificate by which we prove ourselves to this endpoint.
    Credential(EndpointId),
    /// The signer of this issuer.
    Signer(IssuerId),
}

/// The issuer's id, or `credential of NAME`.
impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SlotId::Credential(endpoint) => write!(f, "credential of {endpoint}"),
            SlotId::Signer(issuer) => write!(f, "{issuer}"),
        }
    }
}

/// This node: its name decides its places in the schedule and its jitter, so that several nodes do not act together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId(u64);

impl NodeId {
    /// The node of this name. It must not change between restarts, or all places move.
    pub fn named(name: &str) -> Self {
        NodeId(Mix::new(0).octets(name.as_bytes()).finish())
    }

    /// A hash that starts from this node, apart for each purpose.
    pub(super) fn mix(self, purpose: &str) -> Mix {
        Mix::new(self.0).octets(purpose.as_bytes())
    }
}

/// One order: one key, one CSR, one certificate at most. Unique over slots, time and restarts; 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(u64);

impl OrderId {
    /// The id with this number; the core makes its own, others only read them back.
    pub const fn from_number(number: u64) -> Self {
        OrderId(number)
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for OrderId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OrderId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        match u64::from_str_radix(&text, 16) {
            Ok(number) if text.len() == 16 => Ok(OrderId(number)),
            _ => Err(serde::de::Error::custom(format!("\"{text}\" is not an order id of 16 hexadecimal digits"))),
        }
    }
}

/// A 64-bit hash of a sequence of fields. Fields are delimited by their length, so that they cannot run into each other.
#[derive(Clone, Copy)]
pub(super) struct Mix(u64);

impl Mix {
    pub(super) const fn new(seed: u64) -> Self {
        Mix(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub(super) fn octets(mut self, octets: &[u8]) -> Self {
        for chunk in octets.chunks(8) {
            let mut word = [0_u8; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            self = self.number(u64::from_le_bytes(word));
        }
        self.number(octets.len() as u64)
    }

    pub(super) fn number(self, number: u64) -> Self {
        Mix(avalanche(self.0.rotate_left(23) ^ avalanche(number.wrapping_add(0xd1b5_4a32_d192_ed03))))
    }

    pub(super) fn slot(self, slot: &SlotId) -> Self {
        match slot {
            SlotId::Credential(endpoint) => self.number(0).octets(endpoint.as_str().as_bytes()),
            SlotId::Signer(issuer) => self.number(1).octets(issuer.as_str().as_bytes()),
        }
    }

    pub(super) fn serial(self, serial: &Serial) -> Self {
        self.number(u64::from(serial.is_negative())).octets(serial.magnitude())
    }

    pub(super) fn finish(self) -> u64 {
        avalanche(self.0)
    }

    /// A number from 0 up to and without 1, in steps of 2⁻⁵³.
    pub(super) fn fraction(self) -> f64 {
        (self.finish() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number from 0 to `limit`, both included.
    pub(super) fn up_to(self, limit: u64) -> u64 {
        // The high half of the product is uniform but for a bias of 2⁻⁶⁴.
        ((u128::from(self.finish()) * (u128::from(limit) + 1)) >> 64) as u64
    }

    pub(super) fn order(self) -> OrderId {
        OrderId(self.finish())
    }
}

/// Each bit of the number decides about each bit of the result; a bijection.
const fn avalanche(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_does_not_change_between_versions() {
        let node = NodeId::named("node-1");
        let slot = SlotId::Signer(IssuerId::new("issuing-ca-1").unwrap());
        let serial = Serial::from_hex("0102030405060708").unwrap();
        assert_eq!(node.mix("place").slot(&slot).serial(&serial).finish(), 0xb8c0_5b8f_ad8e_5ad5);
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let mix = |parts: [&str; 2]| parts.iter().fold(Mix::new(0), |m, p| m.octets(p.as_bytes())).finish();
        assert_ne!(mix(["ab", "c"]), mix(["a", "bc"]));
        assert_ne!(mix(["a", ""]), mix(["", "a"]));
        assert_ne!(mix(["a\0", ""]), mix(["a", ""]));
    }

    #[test]
    fn a_bounded_number_reaches_both_ends() {
        let seen: std::collections::BTreeSet<u64> = (0..200).map(|n| Mix::new(n).up_to(3)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(Mix::new(7).up_to(0), 0);
    }

    #[test]
    fn ids_are_read_back_as_they_are_written() {
        let order = OrderId::from_number(0xab);
        let text = serde_json::to_string(&(order, SlotId::Credential(EndpointId::new("main").unwrap()))).unwrap();
        assert_eq!(text, r#"["00000000000000ab",{"credential":"main"}]"#);
        let back: (OrderId, SlotId) = serde_json::from_str(&text).unwrap();
        assert_eq!(back.0, order);
        assert!(serde_json::from_str::<OrderId>("\"ab\"").is_err());
        assert!(serde_json::from_str::<EndpointId>("\"../x\"").is_err());
    }
}
