//! Clients that mean harm, against the program itself on loopback: memory stays bounded, and honest clients get the right
//! answers all the while. Everything here is bounded in number and time.
//!
//! ```sh
//! cargo test --test abuse -- --nocapture        # prints a line of figures for each attack
//! ```
//!
//! `STILLGOOD_UNDER_TEST=path` takes another binary, one of `cargo build --release`: of that one the times are bounded too.
//! docs/PERFORMANCE.md says what its figures come from.

mod abuse_support;
mod common;

use abuse_support::*;
use common::serving::asking;
use common::{eventually, request, serial};
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use stillgood::ocsp::HashAlgorithm;

#[test]
fn slow_heads_take_no_place_from_honest_clients() {
    let (_turn, target) = (turn(), target());
    let page = target.under("slowloris: a head, one octet at a time", 2, |_, over| {
        crowd(target.endpoint(), CROWD / 2, over, |stream| stream.write_all(b"G"))
    });
    assert!(page.event("readTimeout") + page.event("evicted") + page.event("httpError") > 100.0, "{}", page.text);
    assert!(page.was_full(PLACES), "{:?}", page.highest);
}

#[test]
fn silent_connections_make_room() {
    let (_turn, target) = (turn(), target());
    let page = target.under("idle flood: connections that say nothing", 2, |_, over| {
        crowd(target.endpoint(), CROWD / 2, over, |_| Ok(()))
    });
    assert!(page.event("evicted") > 100.0, "{}", page.text);
    assert!(page.was_full(PLACES), "{:?}", page.highest);
}

#[test]
fn answers_that_nobody_reads_are_not_kept() {
    let (_turn, target) = (turn(), target());
    let batch = post(&asking(&target.lab, 5)).repeat(200);
    let page = target.under("pipelining, answers not read", 2, |_, over| {
        crowd(target.endpoint(), 5, over, |stream| {
            let _ = socket2::SockRef::from(&*stream).set_recv_buffer_size(4_096);
            stuff(stream, &batch)
        })
    });
    assert!(page.event("writeTimeout") > 0.0, "{}", page.text);
}

#[test]
fn a_crowd_that_takes_no_answers_takes_no_place_from_honest_clients() {
    // Longer than the attack: nobody leaves because time is up.
    let (_turn, target) = (turn(), target_with(FEW_PLACES, "1m"));
    let batch = post(&asking(&target.lab, 5)).repeat(200);
    let page = target.under("a crowd that pipelines and does not read", 2, |_, over| {
        // No faster than an unoptimised server fills their buffers: that they keep their places is what is tried here.
        let connect = |to| {
            std::thread::sleep(Duration::from_millis(20));
            narrow(to)
        };
        crowd_by(connect, target.endpoint(), FEW_PLACES, over, |stream| stuff(stream, &batch))
    });
    assert!(page.was_full(FEW_PLACES), "{:?}", page.highest);
    assert!(page.event("evicted") > 100.0, "{}", page.text);
    assert_eq!(page.event("refusedFull"), 0.0, "{}", page.text);
}

#[test]
fn a_client_that_pipelines_without_end_has_its_turn_and_no_more() {
    let (_turn, target) = (turn(), target());
    let batch = post(&asking(&target.lab, 5)).repeat(200);
    let page = target.under("pipelining, answers read", 2, |_, over| {
        let mut answers = vec![0; 1 << 20];
        let answers = Mutex::new(&mut answers);
        crowd(target.endpoint(), 10, over, |stream| {
            stuff(stream, &batch)?;
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            match stream.read(&mut answers) {
                Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
                _ => Ok(()),
            }
        })
    });
    assert!(page.value("stillgood_request_seconds_count") > 5_000.0);
}

#[test]
fn heads_and_bodies_without_end_are_cut() {
    let (_turn, target) = (turn(), target());
    let filler = vec![b'a'; 64 * 1024];
    let starts: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: x\r\nX: ",
        b"GET /",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n40000000\r\n",
    ];
    let cut = AtomicUsize::new(0);
    target.under("heads and bodies of a gigabyte", 4, |thread, over| {
        let mut sent = 0;
        while !over.load(Relaxed) {
            let Ok(mut stream) = connect(target.endpoint()) else { continue };
            let mut octets = 0;
            let mut going = stream.write_all(starts[thread]).is_ok();
            while going && octets < 64 << 20 && !over.load(Relaxed) {
                going = stream.write_all(&filler).is_ok();
                octets += filler.len();
            }
            cut.fetch_add(usize::from(!going), Relaxed);
            sent += octets as u64 >> 10;
        }
        sent
    });
    assert!(cut.load(Relaxed) > 4, "connections that sent too much were closed: {}", cut.load(Relaxed));
}

#[test]
fn random_serials_are_shed_and_the_cache_keeps_its_size() {
    let (_turn, target) = (turn(), target());
    let hashes = [target.crl_lab.hashes(HashAlgorithm::Sha1), target.lab.hashes(HashAlgorithm::Sha1)];
    let page = target.under("random serials", 4, |thread, over| {
        flood(target.endpoint(), over, thread as u64, |seed| request(&hashes[thread % 2], &[any_serial(seed)], None))
    });
    assert!(page.value("stillgood_on_demand_shed_total") > 0.0, "{}", page.text);
    let cached = page.highest("stillgood_on_demand_cache_bytes");
    assert!(cached > 0.0 && cached <= f64::from(1 << 20), "{cached}");
    assert!(page.highest("stillgood_on_demand_waiting") <= 64.0, "{:?}", page.highest);
}

#[test]
fn nonces_take_their_share_of_signing_and_no_more() {
    let (_turn, target) = (turn(), target());
    let hashes = target.crl_lab.hashes(HashAlgorithm::Sha1);
    let page = target.under("nonces", 4, |thread, over| {
        flood(target.endpoint(), over, 77 + thread as u64, |seed| {
            request(&hashes, &[serial(5)], Some(&random(seed).to_be_bytes().repeat(4)))
        })
    });
    let signed = page.value("stillgood_on_demand_signed_total");
    assert!(signed > 10.0, "{signed}");
    // Half of 200 a second for nonces, over the attack, its beginning and its end; one answer for each kept certificate.
    assert!(signed < 100.0 * (ATTACK.as_secs_f64() + 4.0) + 10.0, "{signed}");
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    /// The system has some 28 000 ports for one destination.
    const MOST_CONNECTIONS: u64 = 5_000;
    let (_turn, target) = (turn(), target());
    let page = target.under("connection churn", 4, |thread, over| {
        let mut opened = 0;
        while !over.load(Relaxed) && opened < MOST_CONNECTIONS {
            let Ok(mut stream) = connect(target.endpoint()) else { continue };
            opened += 1;
            match thread {
                // Reset with a request half sent, closed in silence, closed behind a request, all answers unread.
                0 => {
                    let _ = stream.write_all(b"POST / HTTP/1.1\r\nContent-Le");
                    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                }
                1 => {}
                2 => drop(stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")),
                _ => drop(stream.write_all(&post(&asking(&target.lab, 5)))),
            }
        }
        opened
    });
    assert!(page.event("opened") > 1_000.0);
    eventually(Duration::from_secs(10), "all gone", || target.page().value("stillgood_connections") <= 4.0);
    let mut text = String::new();
    for event in ["panicked", "withheld"] {
        write!(text, "{event} {} ", page.event(event)).unwrap();
    }
    assert_eq!(text, "panicked 0 withheld 0 ");
}
