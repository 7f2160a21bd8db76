//! CRLs: any octets are survived; where another decoder reads a list as well, both read the same.

use crate::ocsp::Serial;
use crate::time::Timestamp;
use crate::x509::crl::{Crl, EntryFault, RevokedEntry};
use der::Decode;
use x509_cert::crl::CertificateList;
use x509_cert::name::Name;

/// Reads a CRL and all its entries.
pub fn crl(data: &[u8]) {
    let Ok(crl) = Crl::parse(data) else { return };
    assert!(crl.entries_hint() <= data.len());
    let entries: Vec<_> = crl.entries().collect();
    assert!(entries.len() <= data.len() / 2 + 1, "an entry takes two octets at least");
    for (number, entry) in (1..).zip(&entries) {
        if let Err(error) = entry {
            assert_eq!(error.number, number);
            let is_last = entries.len() as u64 == number;
            assert!(error.fault != EntryFault::Broken || is_last, "nothing can be read behind a break");
            assert!(error.revoked_at.is_none() || error.serial.is_some());
        }
    }
    if let Ok(other) = CertificateList::from_der(data) {
        compare(&crl, &entries, &other);
    }
}

fn compare(crl: &Crl<'_>, entries: &[Result<RevokedEntry, crate::x509::crl::EntryError>], other: &CertificateList) {
    let tbs = &other.tbs_cert_list;
    // Decoded, since that decoder takes the members of an RDN in any order and writes them in DER's.
    assert_eq!(Name::from_der(crl.issuer_der).ok().as_ref(), Some(&tbs.issuer));
    assert_eq!(crl.this_update, timestamp(&tbs.this_update));
    assert_eq!(crl.next_update, tbs.next_update.as_ref().map(timestamp));
    let others = tbs.revoked_certificates.as_deref().unwrap_or_default();
    assert_eq!(entries.len(), others.len());
    for (entry, other) in entries.iter().zip(others) {
        if let Ok(entry) = entry {
            assert_eq!(Serial::from_der_content(other.serial_number.as_bytes()), Ok(entry.serial));
            assert_eq!(timestamp(&other.revocation_date), entry.at);
        }
    }
}

fn timestamp(time: &x509_cert::time::Time) -> Timestamp {
    Timestamp::from_unix(i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX))
}
