//! The hash that spreads serial numbers over slices and buckets. Part of the file format: it never changes.

use crate::ocsp::Serial;

const K0: u64 = 0x9e37_79b9_7f4a_7c15;
const K1: u64 = 0xd1b5_4a32_d192_ed03;
const K2: u64 = 0xaef1_7502_108e_f2d9;
const K3: u64 = 0xf135_7aea_2e62_a9c5;

/// 64 well-mixed bits of a serial number, the same on every machine and in every version.
///
/// Sequential and random serials spread alike. It need not resist collisions on purpose: whoever could choose serials that
/// collide already runs the CA, and a full bucket costs time, never a wrong answer.
#[inline]
pub fn hash(serial: &Serial) -> u64 {
    let [a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7, c0, c1, c2, c3] = *serial.padded();
    let a = u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
    let b = u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]);
    let c = u64::from(u32::from_le_bytes([c0, c1, c2, c3]));
    let kind = (serial.magnitude().len() as u64) << 1 | u64::from(serial.is_negative());
    let h = fold(a ^ K0, b ^ K1);
    fold(h ^ c ^ K2, K3 ^ kind)
}

/// Both halves of the 128-bit product.
#[inline]
const fn fold(x: u64, y: u64) -> u64 {
    let product = (x as u128).wrapping_mul(y as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_part_of_the_format_and_does_not_change() {
        let serial = Serial::from_hex("0102030405060708090A0B0C0D0E0F10").unwrap();
        assert_eq!(hash(&serial), 0x983d_f749_fa7e_5a58, "{:#x}", hash(&serial));
    }

    #[test]
    fn sequential_serials_spread_evenly_over_both_halves() {
        let (mut high, mut low) = ([0_u32; 256], [0_u32; 256]);
        let n: u32 = 256 * 200;
        for i in 1..=n {
            let h = hash(&Serial::from_unsigned(&i.to_be_bytes()).unwrap());
            high[(h >> 56) as usize] += 1;
            low[(h as u32 >> 24) as usize] += 1;
        }
        for count in high.iter().chain(&low) {
            assert!((120..=290).contains(count), "{count} of an expected 200");
        }
    }
}
