//! Certificates that cannot be read because their file system hangs.

use super::*;

#[test]
fn certificates_on_a_mount_that_hangs_cost_their_own_issuers_and_come_back() {
    let place = Place::new();
    let path = place.directory.path();
    fs::create_dir(path.join("mount")).unwrap();
    let record = |id: &str, file: &str| {
        format!(
            r#"{{"id":"{id}","state":"active","certificate":"{file}","signer":{{"certificate":"s","key":"k"}},"status":{{"crl":"x"}}}}"#
        )
    };
    for id in ["b", "c"] {
        fs::rename(path.join(format!("{id}.pem")), path.join(format!("mount/{id}.pem"))).unwrap();
    }
    let records = [record("a", "a.pem"), record("b", "mount/b.pem"), record("c", "mount/c.pem")].join(",");
    place.write_text(&format!("{{\"generation\":1,\"issuers\":[{records}]}}"));
    let mount = crate::registry::files::tests::Mount::default();
    let mut watched = place.open();
    watched.follower.files = mount.files();
    let stopped = |generation: &Generation| -> Vec<(String, Option<Stopped>)> {
        generation.issuers.iter().map(|i| (i.id.to_string(), i.stopped)).collect()
    };
    let all = |stopped| vec![("a".to_owned(), None), ("b".to_owned(), stopped), ("c".to_owned(), stopped)];
    assert_eq!(stopped(&watched.taken(1)), all(None));

    mount.hang(&[&path.join("mount")]);
    let start = std::time::Instant::now();
    let generation = watched.taken(2);
    assert_eq!(stopped(&generation), all(Some(Stopped::Unusable(at(2)))), "served as before, and not renewed");
    let faults = generation.quarantined.iter().map(|q| q.faults[0].to_string()).collect::<Vec<_>>().join("; ");
    assert!(faults.contains("b.certificate") && faults.contains("c.certificate"), "{faults}");
    assert!(faults.contains("its file system does not answer"), "{faults}");
    (3..20).for_each(|now| watched.unchanged(now));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());

    mount.hang(&[]);
    let mut now = 20;
    while stopped(&watched.current()) != all(None) {
        assert!(now < 1_000, "{:?}", watched.current());
        std::thread::sleep(Duration::from_millis(10));
        watched.look(now).unwrap();
        now += 1;
    }
}
