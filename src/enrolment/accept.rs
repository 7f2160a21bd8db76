//! Picking the certificate that was ordered from what a CA sent. Pure.

use super::{Failure, Kind, Order, Scope};
use crate::x509::Certificate;

/// The certificate for the order's key, among what came back.
///
/// Nothing else is judged here: whether it may sign is for [`signer::check`](crate::signer::check()) to say, with the key. A
/// certificate beside it that cannot be read does no harm.
///
/// # Errors
/// [`Scope::Item`], [`Kind::Permanent`]: no certificate is for this key, so asking again with the same key gives the same.
pub fn accept(order: &Order, certificates: &[Vec<u8>]) -> Result<Certificate, Failure> {
    let mut others = Vec::new();
    for der in certificates {
        match Certificate::from_der(der) {
            Ok(certificate) if certificate.spki_der() == order.spki_der => return Ok(certificate),
            Ok(certificate) => others.push(format!("{} (serial {})", certificate.subject(), certificate.serial())),
            Err(e) => others.push(e.to_string()),
        }
    }
    let came = match others.as_slice() {
        [] => "nothing".to_owned(),
        others => others.join(", "),
    };
    let text = format!(
        "order {} for {}: the CA sent no certificate for the key that was ordered; it sent {came}. The signer in use stays; ask the CA what it did with the request",
        order.id, order.issuer
    );
    Err(Failure::new(Scope::Item, Kind::Permanent, text))
}

/// Puts the certificate for the order's key first, if there is one; the others keep their order.
pub(super) fn ours_first(order: &Order, mut certificates: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let is_ours = |der: &Vec<u8>| Certificate::from_der(der).is_ok_and(|c| c.spki_der() == order.spki_der);
    if let Some(at) = certificates.iter().position(is_ours) {
        let ours = certificates.remove(at);
        certificates.insert(0, ours);
    }
    certificates
}

#[cfg(test)]
mod tests {
    use super::super::local::tests::{ca, order_for};
    use super::*;
    use crate::signer::{KeyKind, SigningKey};
    use crate::time::Timestamp;

    #[test]
    fn the_certificate_for_the_ordered_key_is_found_wherever_it_stands() {
        let (ca_key, ca) = ca("Lab");
        let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let order = order_for(&key, &ca);
        let serial = crate::ocsp::Serial::from_unsigned(&[7]).unwrap();
        let now = Timestamp::from_unix(1_800_000_000);
        let validity = super::super::local::Validity::default();
        let ours = super::super::sign(&order, &ca, &ca_key, serial, now, validity).unwrap();
        let all = vec![ca.der().to_vec(), b"garbage".to_vec(), ours.clone()];
        assert_eq!(accept(&order, &all).unwrap().der(), ours);
        assert_eq!(ours_first(&order, all.clone()), [all[2].clone(), all[0].clone(), all[1].clone()]);

        let failure = accept(&order, &all[..2]).unwrap_err();
        assert_eq!((failure.scope, failure.kind), (Scope::Item, Kind::Permanent));
        assert!(failure.message().contains("CN=Lab"), "{failure}");
        assert!(accept(&order, &[]).unwrap_err().message().contains("it sent nothing"));
    }
}
