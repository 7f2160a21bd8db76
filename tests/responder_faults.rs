//! One of an issuer's sources cannot be used: the others are followed all the same, and nothing that is revoked becomes good.

mod common;

use common::site::{LIMIT, Said, Site, read, site, write_crl, write_index};
use common::{DAY, eventually, long_serial};
use stillgood::endpoint::{Server, Settings};
use stillgood::ocsp::HashAlgorithm;
use stillgood::presign::{DemandSettings, IssuerSettings};
use stillgood::responder::{IssuerSpec, Responder, ResponderSettings};
use stillgood::time::{Clock, SystemClock};
use stillgood::x509::issue::{CrlEntry, CrlSpec};

const SHA1: HashAlgorithm = HashAlgorithm::Sha1;
const SHA256: HashAlgorithm = HashAlgorithm::Sha256;

fn both() -> Site {
    let site = site(&["index", "crl"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(SHA1, 5) == Said::Good);
    site
}

fn put(site: &Site, file: &str, content: impl AsRef<[u8]>) {
    std::fs::write(site.dir.path().join("aside"), content).unwrap();
    std::fs::rename(site.dir.path().join("aside"), site.dir.path().join(file)).unwrap();
}

fn fault(site: &Site) -> Option<String> {
    site.responder.reports()[0].status_fault.clone()
}

fn is_told(site: &Site, what: &str) {
    eventually(LIMIT, what, || fault(site).is_some_and(|fault| fault.contains(what)));
}

fn is_mended(site: &Site) {
    eventually(LIMIT, "nothing is wrong any more", || fault(site).is_none());
}

#[test]
fn a_crl_cut_short_keeps_no_revocation_of_the_index_back_and_takes_none_back() {
    let site = both();
    let whole = std::fs::read(site.dir.path().join("ca.crl")).unwrap();
    put(&site, "ca.crl", &whole[..whole.len() / 2]);
    is_told(&site, "ca.crl");

    write_index(site.dir.path(), 501, &[3, 5]);
    eventually(LIMIT, "revoked by the index", || site.said(SHA1, 5) == Said::Revoked);
    assert_eq!(site.said(SHA1, 9), Said::Revoked, "by the CRL as it was last read");
    eventually(LIMIT, "issued", || site.said(SHA1, 500) == Said::Good);
    assert_eq!(site.said(SHA1, 4711), Said::Error(6), "not issued: unauthorized");

    // The CRL may say otherwise of what the index does not revoke any more.
    write_index(site.dir.path(), 502, &[5]);
    eventually(LIMIT, "read", || site.said(SHA1, 501) == Said::Good);
    assert_eq!((site.said(SHA1, 3), site.said(SHA1, 9)), (Said::Revoked, Said::Revoked));
    let reports = site.responder.reports();
    assert_eq!(reports[0].sources.iter().map(|source| source.entries).collect::<Vec<_>>(), [502, 1]);
    assert_eq!(reports[0].cannot_answer(SystemClock.now()), None);
    is_told(&site, "ca.crl");

    put(&site, "ca.crl", &whole);
    is_mended(&site);
    eventually(LIMIT, "off hold", || site.said(SHA1, 3) == Said::Good);
    assert_eq!((site.said(SHA1, 5), site.said(SHA1, 9)), (Said::Revoked, Said::Revoked));
}

#[test]
fn an_index_that_is_gone_or_cut_short_keeps_no_revocation_of_the_crl_back() {
    let site = both();
    std::fs::remove_file(site.dir.path().join("index.txt")).unwrap();
    is_told(&site, "index.txt");
    write_crl(site.dir.path(), &site.lab, &[7, 9], DAY);
    eventually(LIMIT, "revoked by the CRL", || site.said(SHA1, 7) == Said::Revoked);
    assert_eq!((site.said(SHA1, 3), site.said(SHA1, 5)), (Said::Revoked, Said::Good));
    assert_eq!(site.said(SHA1, 4711), Said::Error(6), "the index did not list it");

    // Of the lines that are there it is believed who is revoked.
    write_index(site.dir.path(), 100, &[3, 50]);
    is_told(&site, "cut short");
    eventually(LIMIT, "revoked by what is left", || site.said(SHA1, 50) == Said::Revoked);
    assert_eq!((site.said(SHA1, 7), site.said(SHA1, 499)), (Said::Revoked, Said::Good));
    write_index(site.dir.path(), 500, &[3]);
    is_mended(&site);
    eventually(LIMIT, "read", || site.said(SHA1, 50) == Said::Good);
    assert_eq!((site.said(SHA1, 7), site.said(SHA1, 9)), (Said::Revoked, Said::Revoked));
}

#[test]
fn an_old_crl_put_back_keeps_no_revocation_of_the_index_back() {
    let site = both();
    let now = SystemClock.now();
    let old = CrlSpec {
        issuer: site.lab.ca.subject_der().to_vec(),
        this_update: now.minus(DAY),
        next_update: Some(now.plus(DAY)),
        entries: vec![CrlEntry { serial: long_serial(4), revoked_at: now.minus(2 * DAY), reason: None }],
        extensions: vec![CrlSpec::number(1)],
    };
    put(&site, "ca.crl", old.sign(&site.lab.ca_key).unwrap());
    is_told(&site, "put back");
    write_index(site.dir.path(), 500, &[3, 5]);
    eventually(LIMIT, "revoked by the index", || site.said(SHA1, 5) == Said::Revoked);
    assert_eq!((site.said(SHA1, 9), site.said(SHA1, 4)), (Said::Revoked, Said::Good), "the old one is not used");
}

#[test]
fn at_a_start_with_a_bad_crl_what_the_index_revokes_is_revoked_and_nothing_new_is_called_good() {
    for is_warm in [true, false] {
        let first = both();
        let path = |file: &str| first.dir.path().join(file);
        let start = || {
            let responder = Responder::start(ResponderSettings {
                state_dir: is_warm.then(|| path("state")),
                ..ResponderSettings::default()
            });
            let spec = IssuerSpec::from_files("ca", &path("ca.pem")).unwrap();
            let spec = spec.with_signer(path("ocsp.pem"), path("ocsp.key"));
            responder.set_issuers(vec![spec.with_index(path("index.txt")).with_crl(path("ca.crl"))]);
            responder
        };
        let before = start();
        eventually(LIMIT, "signed", || {
            before.poll();
            before.reports()[0].is_complete
        });
        drop(before);

        let whole = std::fs::read(path("ca.crl")).unwrap();
        put(&first, "ca.crl", "half a CRL");
        write_index(first.dir.path(), 500, &[3, 5]);
        let responder = start();
        let listen = Settings { listen: vec!["127.0.0.1:0".parse().unwrap()], workers: 1, ..Settings::default() };
        let handle = Server::start(&responder.service(), listen).unwrap();
        let said = |algorithm, n| {
            let request = common::request(&first.lab.hashes(algorithm), &[long_serial(n)], None);
            read(&common::site::post(handle.addresses()[0], &request).1).remove(0)
        };
        eventually(LIMIT, "revoked since", || said(SHA1, 5) == Said::Revoked);
        assert_eq!((said(SHA1, 3), said(SHA256, 5)), (Said::Revoked, Said::Revoked));
        assert_eq!(said(SHA1, 6), if is_warm { Said::Good } else { Said::Error(3) }, "what was signed lasts");
        assert_eq!(said(SHA1, 9), if is_warm { Said::Revoked } else { Said::Error(3) }, "only the CRL knows");
        assert_eq!(said(SHA256, 6), Said::Error(3), "the CRL may revoke it");
        assert_eq!(said(SHA1, 4711), Said::Error(3), "it may have been issued");
        let report = || responder.reports()[0].clone();
        assert!(report().cannot_answer(SystemClock.now()).is_some_and(|why| why.contains("ca.crl")));

        put(&first, "ca.crl", &whole);
        eventually(LIMIT, "all is well", || {
            responder.poll();
            report().status_fault.is_none() && report().cannot_answer(SystemClock.now()).is_none()
        });
        assert_eq!((said(SHA1, 6), said(SHA256, 6), said(SHA1, 4711)), (Said::Good, Said::Good, Said::Error(6)));
        assert_eq!((said(SHA1, 5), said(SHA1, 9)), (Said::Revoked, Said::Revoked));
    }
}
