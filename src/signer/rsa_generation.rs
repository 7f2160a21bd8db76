//! Making RSA keys (FIPS 186-5 §A.1): ring signs with them and checks them, but makes none.
//!
//! Primes are found by crypto-primes, and what follows from them is computed here: the `rsa` crate would do both, but it
//! stands under an advisory about the timing of its private-key operations (RUSTSEC-2023-0071), none of which are wanted.
//! ring signs, and verifies first that the parts of the key belong together.

use super::key::KeyError;
use crate::asn1::{put_tlv, tag, tlv};
use crate::x509::oid;
use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use crypto_bigint::{BoxedUint, ConcatenatingMul, Gcd, NonZero, Resize};
use crypto_primes::hazmat::{SetBits, SmallFactorsSieveFactory};
use crypto_primes::{Flavor, is_prime, sieve_and_find};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// The public exponent that everyone uses and BR §6.1.6 wants.
const PUBLIC_EXPONENT: u32 = 65_537;
/// Primes that do not go together are rarer than failures of the machine.
const ATTEMPTS: u32 = 8;

type Number = Zeroizing<BoxedUint>;

/// The PKCS#8 document of a new key with a modulus of so many bits, a multiple of 16. Takes up to seconds.
pub(super) fn generate(bits: u32) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    // Of the same strength as the system's randomness that it starts from, and cannot fail half-way.
    let mut seed = Zeroizing::new([0_u8; 32]);
    SystemRandom::new().fill(&mut *seed).map_err(|_| KeyError::NoRandomness)?;
    let mut random = ChaCha20Rng::from_seed(*seed);
    for _ in 0..ATTEMPTS {
        if let (Some(p), Some(q)) = (prime(&mut random, bits / 2), prime(&mut random, bits / 2))
            && let Some(key) = private_key(bits, p, q)
        {
            return Ok(pkcs8(&key));
        }
    }
    Err(KeyError::NoRandomness)
}

/// A random prime whose highest two bits are set, so that the product of two has the full length.
fn prime(random: &mut ChaCha20Rng, bits: u32) -> Option<Number> {
    let candidates = SmallFactorsSieveFactory::new(Flavor::Any, bits, SetBits::TwoMsb).ok()?;
    let found = sieve_and_find(random, candidates, |_, candidate: &BoxedUint| is_prime(Flavor::Any, candidate));
    found.ok().flatten().map(Zeroizing::new)
}

/// RSAPrivateKey (RFC 8017 App. A.1.2), unless the primes do not go together.
fn private_key(bits: u32, a: Number, b: Number) -> Option<Zeroizing<Vec<u8>>> {
    let (p, q) = if *a > *b { (a, b) } else { (b, a) };
    // FIPS 186-5 §A.1.3 step 5.4: primes so near each other would be found by Fermat's method.
    if p.wrapping_sub(&*q).bits() <= bits / 2 - 100 {
        return None;
    }
    let one = BoxedUint::one();
    let minus_one = |prime: &Number| Zeroizing::new(prime.wrapping_sub(&one));
    let (p1, q1) = (minus_one(&p), minus_one(&q));
    let n = p.concatenating_mul(&*q);
    let gcd = NonZero::new(p1.gcd(&*q1)).into_option()?;
    let lambda = Zeroizing::new((&*p1 / gcd).concatenating_mul(&*q1));
    let e = BoxedUint::from(PUBLIC_EXPONENT);
    let wide = (&e).resize(lambda.bits_precision());
    let d = Zeroizing::new(wide.invert_mod(&NonZero::new((*lambda).clone()).into_option()?).into_option()?);
    // FIPS 186-5 §A.1.1: a small private exponent can be found.
    if n.bits() != bits || d.bits() <= bits / 2 {
        return None;
    }
    let modulo = |m: &Number| Some(Zeroizing::new(d.rem(&NonZero::new((**m).clone()).into_option()?)));
    let (dp, dq) = (modulo(&p1)?, modulo(&q1)?);
    let q_inverse = Zeroizing::new(q.invert_mod(&NonZero::new((*p).clone()).into_option()?).into_option()?);
    // Room for nine numbers of at most the modulus, so that nothing is left behind by a vector that grows.
    let mut content = Zeroizing::new(Vec::with_capacity(9 * (bits as usize / 8 + 8)));
    for number in [&BoxedUint::zero(), &n, &e, &d, &p, &q, &dp, &dq, &q_inverse] {
        put_integer(&mut content, number);
    }
    Some(Zeroizing::new(tlv(tag::SEQUENCE, &content)))
}

/// An INTEGER that is not negative, in its shortest form.
fn put_integer(out: &mut Vec<u8>, number: &BoxedUint) {
    let octets = Zeroizing::new(number.to_be_bytes());
    let magnitude = octets.iter().position(|octet| *octet != 0).map_or(&[][..], |at| octets.get(at..).unwrap_or(&[]));
    let mut content = Zeroizing::new(Vec::with_capacity(magnitude.len() + 1));
    if magnitude.first().is_none_or(|octet| *octet >= 0x80) {
        content.push(0);
    }
    content.extend_from_slice(magnitude);
    put_tlv(out, tag::INTEGER, &content);
}

/// PrivateKeyInfo (RFC 5958 §2, RFC 8017 App. A.1).
fn pkcs8(key: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut algorithm = tlv(tag::OID, oid::RSA_ENCRYPTION);
    put_tlv(&mut algorithm, tag::NULL, &[]);
    let mut content = Zeroizing::new(Vec::with_capacity(key.len() + 64));
    put_tlv(&mut content, tag::INTEGER, &[0]);
    put_tlv(&mut content, tag::SEQUENCE, &algorithm);
    put_tlv(&mut content, tag::OCTET_STRING, key);
    Zeroizing::new(tlv(tag::SEQUENCE, &content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::{KeyKind, RsaPadding, SigningKey};
    use crate::x509::{Signer, verify};

    #[test]
    fn rsa_keys_are_of_their_size_sign_in_both_ways_and_differ() {
        let mut moduli = Vec::new();
        for (kind, bits) in [(KeyKind::Rsa2048, 2048), (KeyKind::Rsa2048, 2048), (KeyKind::Rsa3072, 3072)] {
            let (key, pkcs8) = SigningKey::generate(kind).unwrap();
            assert_eq!(key.raw_len() * 8, bits);
            let loaded = SigningKey::load(&pkcs8, RsaPadding::Pkcs1).unwrap();
            assert_eq!(loaded.public_key_bits(), key.public_key_bits());
            for key in [key.with_padding(RsaPadding::Pss), loaded] {
                let mut signature = Vec::new();
                key.sign_raw(b"message", &mut signature).unwrap();
                verify(&key.spki_der(), key.algorithm().identifier_der(), b"message", &signature).unwrap();
            }
            moduli.push(key.public_key_bits().to_vec());
        }
        assert_ne!(moduli[0], moduli[1]);
    }

    #[test]
    fn numbers_are_written_in_their_shortest_form() {
        for (number, der) in
            [(0_u32, &[2, 1, 0][..]), (127, &[2, 1, 127]), (128, &[2, 2, 0, 128]), (256, &[2, 2, 1, 0])]
        {
            let mut out = Vec::new();
            put_integer(&mut out, &BoxedUint::from(number));
            assert_eq!(out, der);
        }
    }

    #[test]
    fn primes_that_do_not_go_together_are_refused() {
        let mut random = ChaCha20Rng::from_seed([7; 32]);
        let p = prime(&mut random, 1024).unwrap();
        assert!(private_key(2048, p.clone(), p).is_none(), "the same twice");
    }
}
