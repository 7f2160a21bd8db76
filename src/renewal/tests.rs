//! Rules, each a test of its own, and sequences of anything.

mod control;
mod denied;
mod outage;
mod rules;
mod service;
mod staged;
mod trouble;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_in_whatever_order_the_limits_hold(octets in proptest::collection::vec(any::<u8>(), 0..600)) {
        crate::fuzzing::renewal(&octets);
    }
}
