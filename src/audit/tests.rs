use super::*;
use crate::time::{ManualClock, Timestamp};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

fn open(dir: &Path, file_size: u64, keep: usize) -> Trail {
    Trail::open(dir, TrailLimits { file_size, keep }, Arc::new(ManualClock::at(Timestamp::from_unix(1_000)))).unwrap()
}

fn event(at: i64, issuer: &str, text: &str) -> AuditEvent {
    AuditEvent::new(Timestamp::from_unix(at), "agent", What::Opened, About::Issuer(issuer.into())).saying(text)
}

fn last(limit: usize) -> Filter {
    Filter { limit, ..Filter::default() }
}

fn texts(history: &History) -> Vec<&str> {
    history.events.iter().map(|e| e.text.as_str()).collect()
}

#[test]
fn what_is_seen_is_read_back_with_the_newest_last() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("audit");
    let trail = open(&dir, 1 << 20, 3);
    for n in 0..5 {
        trail.saw(&event(n, "ca-1", &format!("{n}")));
    }
    let all = history(&dir, &last(10)).unwrap();
    assert_eq!((texts(&all), all.more, all.unreadable), (vec!["0", "1", "2", "3", "4"], false, 0));
    let two = history(&dir, &last(2)).unwrap();
    assert_eq!((texts(&two), two.more), (vec!["3", "4"], true));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir), mode(&dir.join("audit.jsonl"))), (0o700, 0o600));
}

#[test]
fn a_history_is_found_by_issuer_endpoint_and_time() {
    let tmp = tempfile::tempdir().unwrap();
    let trail = open(tmp.path(), 1 << 20, 3);
    trail.saw(&event(1, "ca-1", "a"));
    trail.saw(&AuditEvent { endpoint: Some("main".into()), ..event(2, "ca-2", "b") });
    trail.saw(&AuditEvent { about: About::All, ..event(3, "", "c") });
    trail.saw(&AuditEvent { about: About::Credential("main".into()), ..event(4, "", "d") });
    let of = |about, since| Filter { about, since, limit: 10 };
    let read = |filter| history(tmp.path(), &filter).unwrap();
    assert_eq!(texts(&read(of(Some(Whom::Issuer("ca-1".into())), None))), ["a", "c"]);
    assert_eq!(texts(&read(of(Some(Whom::Endpoint("main".into())), None))), ["b", "c", "d"]);
    assert_eq!(texts(&read(of(None, Some(Timestamp::from_unix(3))))), ["c", "d"]);
    assert_eq!(texts(&read(of(Some(Whom::Issuer("ca-9".into())), Some(Timestamp::from_unix(4))))), [""; 0]);
}

#[test]
fn a_full_file_is_put_aside_and_no_more_than_so_many_are_kept() {
    let tmp = tempfile::tempdir().unwrap();
    let trail = open(tmp.path(), 400, 2);
    for n in 0..40 {
        trail.saw(&event(n, "ca-1", &format!("{n}")));
    }
    assert_eq!(trail.lost(), 0);
    let mut names: Vec<_> = fs::read_dir(tmp.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names.len(), 3, "{names:?}");
    for entry in fs::read_dir(tmp.path()).unwrap() {
        assert!(entry.unwrap().metadata().unwrap().len() <= 400);
    }
    let read = history(tmp.path(), &last(100)).unwrap();
    let expected: Vec<String> = (40 - read.events.len()..40).map(|n| n.to_string()).collect();
    assert_eq!(texts(&read), expected, "the newest, without a gap between files");
    assert!((7..=12).contains(&read.events.len()), "{}", read.events.len());
    // Reading over the border of two files stops as soon as there are enough.
    let some = history(tmp.path(), &last(5)).unwrap();
    assert_eq!(texts(&some), ["35", "36", "37", "38", "39"]);
    assert!(some.more || read.events.len() == 5);
}

#[test]
fn a_line_cut_short_by_a_crash_costs_that_line_only() {
    let tmp = tempfile::tempdir().unwrap();
    open(tmp.path(), 1 << 20, 2).saw(&event(1, "ca-1", "before"));
    let file = tmp.path().join("audit.jsonl");
    let mut octets = fs::read(&file).unwrap();
    octets.extend_from_slice(br#"{"at":"2026-11-2"#);
    fs::write(&file, octets).unwrap();
    open(tmp.path(), 1 << 20, 2).saw(&event(2, "ca-1", "after"));
    let read = history(tmp.path(), &last(10)).unwrap();
    assert_eq!((texts(&read), read.unreadable), (vec!["before", "after"], 1));
}

#[test]
fn a_line_without_an_end_is_read_in_bounded_memory() {
    let tmp = tempfile::tempdir().unwrap();
    open(tmp.path(), 1 << 20, 2).saw(&event(1, "ca-1", "before"));
    let file = tmp.path().join("audit.jsonl");
    let mut octets = fs::read(&file).unwrap();
    octets.extend(vec![b'x'; 1 << 20]);
    octets.push(b'\n');
    fs::write(&file, octets).unwrap();
    open(tmp.path(), 4 << 20, 2).saw(&event(2, "ca-1", "after"));
    let read = history(tmp.path(), &last(10)).unwrap();
    assert_eq!((texts(&read), read.unreadable), (vec!["before", "after"], 1));
}

#[test]
fn what_cannot_be_written_is_counted_and_told_when_it_can_be() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("audit");
    let trail = open(&dir, 1 << 20, 2);
    trail.saw(&event(1, "ca-1", "first"));
    // The directory is gone and a file is in its place, as no permission stops a test that runs as root.
    fs::remove_dir_all(&dir).unwrap();
    fs::write(&dir, "in the way").unwrap();
    for _ in 0..3 {
        trail.saw(&event(2, "ca-1", "lost"));
    }
    assert_eq!(trail.lost(), 3);
    assert!(trail.fault().unwrap().contains("audit"), "{:?}", trail.fault());
    fs::remove_file(&dir).unwrap();
    fs::create_dir(&dir).unwrap();
    trail.saw(&event(3, "ca-1", "again"));
    let read = history(&dir, &last(10)).unwrap();
    assert_eq!((read.events.len(), trail.lost(), trail.fault()), (2, 3, None));
    assert!(read.events[0].alarm && read.events[0].text.starts_with("3 events before this could not be written"));
    assert_eq!(read.events[1].text, "again");
}

#[test]
fn a_full_disk_stops_nobody() {
    // Every write to it fails with ENOSPC.
    let tmp = tempfile::tempdir().unwrap();
    let trail = open(tmp.path(), 1 << 20, 2);
    fs::remove_file(tmp.path().join("audit.jsonl")).unwrap();
    std::os::unix::fs::symlink("/dev/full", tmp.path().join("audit.jsonl")).unwrap();
    for n in 0..5 {
        trail.saw(&event(n, "ca-1", "x"));
    }
    assert_eq!(trail.lost(), 5);
    assert!(trail.fault().unwrap().contains("No space left"), "{:?}", trail.fault());
}

#[test]
fn a_file_that_was_moved_away_is_begun_anew() {
    let tmp = tempfile::tempdir().unwrap();
    let trail = open(tmp.path(), 1 << 20, 2);
    trail.saw(&event(1, "ca-1", "old"));
    fs::rename(tmp.path().join("audit.jsonl"), tmp.path().join("archive")).unwrap();
    trail.saw(&event(2, "ca-1", "new"));
    assert_eq!(texts(&history(tmp.path(), &last(9)).unwrap()), ["new"]);
}

#[test]
fn long_words_are_cut() {
    let tmp = tempfile::tempdir().unwrap();
    open(tmp.path(), 1 << 20, 2).saw(&event(1, "ca-1", &"ä".repeat(5_000)));
    let read = history(tmp.path(), &last(1)).unwrap();
    assert!((1_990..=2_003).contains(&read.events[0].text.len()), "{}", read.events[0].text.len());
}

#[test]
fn many_threads_write_whole_lines() {
    let tmp = tempfile::tempdir().unwrap();
    let trail = open(tmp.path(), 8_000, 100);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let trail = &trail;
            scope.spawn(move || (0..50).for_each(|n| trail.saw(&event(n, &format!("ca-{thread}"), "x"))));
        }
    });
    let read = history(tmp.path(), &last(1_000)).unwrap();
    assert_eq!((read.events.len(), read.unreadable), (200, 0));
}

#[test]
fn a_trail_that_does_not_exist_is_empty() {
    let read = history(Path::new("/nonexistent/audit"), &last(1)).unwrap();
    assert_eq!(read, History::default());
}
