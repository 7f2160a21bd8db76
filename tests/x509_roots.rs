//! Certificates from the world: every root that this machine trusts is read as another library reads it.

#[path = "common/skip.rs"]
mod skip;

use der::{Decode, Encode};
use stillgood::x509::{Certificate, VerifyError, pem};

#[test]
fn every_root_of_this_machine_is_read_and_verifies_itself() {
    const STORES: [&str; 3] =
        ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
    let Some(store) = STORES.iter().find_map(|path| std::fs::read(path).ok()) else {
        skip::skipped("roots of this machine", &format!("none of {STORES:?}"));
        return;
    };
    let roots = pem::decode(&store, &["CERTIFICATE"]).unwrap();
    for der in &roots {
        let ours = Certificate::from_der(der).unwrap();
        let theirs = x509_cert::Certificate::from_der(der).unwrap();
        let tbs = theirs.tbs_certificate();
        let spki = tbs.subject_public_key_info();
        assert_eq!(ours.subject_der(), tbs.subject().to_der().unwrap(), "{ours:?}");
        assert_eq!(ours.issuer_der(), tbs.issuer().to_der().unwrap(), "{ours:?}");
        assert_eq!(ours.spki_der(), spki.to_der().unwrap(), "{ours:?}");
        assert_eq!(ours.key_bits(), spki.subject_public_key.raw_bytes(), "{ours:?}");
        assert_eq!(ours.not_before().unix(), seconds(&tbs.validity().not_before), "{ours:?}");
        assert_eq!(ours.not_after().unix(), seconds(&tbs.validity().not_after), "{ours:?}");
        assert_eq!(ours.extensions().count(), tbs.extensions().map_or(0, std::vec::Vec::len), "{ours:?}");
        let mut serial = Vec::new();
        ours.serial().write_der_content(&mut serial);
        assert_eq!(serial, tbs.serial_number().to_der().unwrap()[2..], "{ours:?}");
        match ours.verify_signed_by(&ours) {
            Ok(()) | Err(VerifyError::Sha1 | VerifyError::UnsupportedKey(_) | VerifyError::UnsupportedSignature(_)) => {
            }
            Err(e) => panic!("{ours:?}: {e}"),
        }
    }
}

fn seconds(time: &x509_cert::time::Time) -> i64 {
    i64::try_from(time.to_unix_duration().as_secs()).unwrap()
}
