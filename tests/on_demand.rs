//! Signing on demand: what is kept, for whom, what it costs, and what is given when nothing can be signed.

mod common;

use common::site::basic;
use common::{DAY, Lab, Watched, eventually, long_serial, request, revoked, serial};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use stillgood::ocsp::{CertStatus, ErrorStatus, HashAlgorithm, Profile, Unissued};
use stillgood::presign::{
    ActiveSigner, Demand, DemandSettings, Issuer, IssuerSettings, Outcome, PresignSettings, Presigner, SignedAnswer,
    Table, Unlisted, View,
};
use stillgood::signer::{KeyKind, SignError};
use stillgood::store::{Routes, Store};
use stillgood::time::{Clock, ManualClock, SystemClock, Timestamp};
use stillgood::x509::issue::CertificateSpec;

const LIMIT: Duration = Duration::from_secs(60);
const SHA1: HashAlgorithm = HashAlgorithm::Sha1;
const LATER: Outcome = Outcome::Refused(ErrorStatus::TryLater);

/// Signs while it is open; fails or waits while it is not.
struct Gate {
    state: Mutex<State>,
    turn: Condvar,
    waiting: AtomicUsize,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Open,
    Shut,
    Broken,
    /// Returns an error.
    Failing,
}

impl Gate {
    fn set(&self, state: State) {
        *self.state.lock().unwrap() = state;
        self.turn.notify_all();
    }

    fn pass(&self) -> Result<(), SignError> {
        let mut state = self.state.lock().unwrap();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        while *state == State::Shut {
            state = self.turn.wait(state).unwrap();
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        let now = *state;
        drop(state);
        assert!(now != State::Broken, "a signer that panics");
        if now == State::Failing { Err(SignError("no key".into())) } else { Ok(()) }
    }
}

struct Bench {
    lab: Lab,
    clock: Arc<ManualClock>,
    store: Arc<Store>,
    issuer: Arc<Issuer>,
    gate: Arc<Gate>,
    demand: Demand,
}

/// Of an issuer of which only the revoked certificates are known.
fn bench_of(lab: Lab, settings: IssuerSettings, demand: DemandSettings) -> Bench {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let store = Arc::new(Store::default());
    let demand = Demand::start(demand, store.clone(), clock.clone());
    let gate = Gate { state: Mutex::new(State::Open), turn: Condvar::new(), waiting: AtomicUsize::new(0) };
    let issuer = lab.issuer("ca", settings);
    let bench = Bench { lab, clock, store, issuer, gate: Arc::new(gate), demand };
    bench.route(&bench.issuer);
    bench.sign_with(Some(&bench.gate));
    bench.revoke(&[]);
    bench
}

fn bench(demand: DemandSettings) -> Bench {
    bench_of(Lab::new("Demand"), IssuerSettings::default(), demand)
}

/// So many signatures for as long as a test lasts.
fn budget(rate: u32) -> DemandSettings {
    DemandSettings { rate, per: 3650 * DAY, ..DemandSettings::default() }
}

impl Bench {
    fn route(&self, issuer: &Arc<Issuer>) {
        self.store.set_routes(Routes::new(vec![issuer.slot().clone()]));
        self.demand.set_issuers([issuer.clone()]);
    }

    fn sign_with(&self, gate: Option<&Arc<Gate>>) {
        let signer = gate.cloned().map(|gate| {
            let key = Watched { key: self.lab.signer_key.clone(), before: move || gate.pass() };
            Arc::new(ActiveSigner::new(Arc::new(key), self.lab.signer.clone(), &self.lab.ca))
        });
        self.issuer.update(|view| View { signer: signer.clone(), ..view.clone() });
    }

    fn revoke(&self, serials: &[u64]) {
        set_crl(&self.issuer, serials);
    }

    fn start_asking(&self, n: u64, nonce: Option<&[u8]>) -> impl Future<Output = Outcome> + Send + 'static {
        self.demand.answer(request(&self.lab.hashes(SHA1), &[long_serial(n)], nonce).into())
    }

    fn ask(&self, n: u64) -> Outcome {
        run(self.start_asking(n, None))
    }

    fn good(&self, n: u64) -> SignedAnswer {
        match self.ask(n) {
            Outcome::Shared(answer) if answer.status == CertStatus::Good => answer,
            other => panic!("{other:?}"),
        }
    }
}

fn set_crl(issuer: &Issuer, serials: &[u64]) {
    let entries: Vec<_> =
        serials.iter().map(|n| (long_serial(*n), revoked(Timestamp::from_unix(1_700_000_000)))).collect();
    let unlisted = Unlisted::Good { from: Timestamp::MIN, until: Timestamp::MAX };
    let table = Arc::new(Table::build(&entries, 0, unlisted).unwrap());
    issuer.update(|view| View { table: Some(table.clone()), ..view.clone() });
}

/// On a runtime that has no timer.
fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap().block_on(future)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_re_keyed_ca_is_not_given_the_answers_of_its_former_key() {
    let b = bench(budget(10));
    let before = b.good(5);
    let lab = Lab::new("Demand"); // the same name and id, another key
    let issuer = lab.issuer("ca", IssuerSettings::default());
    issuer.update(|view| View { signer: Some(lab.active_signer()), ..view.clone() });
    set_crl(&issuer, &[]);
    b.route(&issuer);
    let asked = |lab: &Lab| run(b.demand.answer(request(&lab.hashes(SHA1), &[long_serial(5)], None).into()));
    let Outcome::Shared(after) = asked(&lab) else { panic!("not answered") };
    assert_ne!(after.response, before.response);
    let id = &basic(&after.response).tbs_response_data.responses[0].cert_id;
    assert_eq!(id.issuer_key_hash.as_bytes(), lab.hashes(SHA1).key.as_bytes());
    assert_eq!(asked(&b.lab), Outcome::Refused(ErrorStatus::Unauthorized), "the former key is nobody's here");
}

#[test]
fn until_it_runs_out_an_answer_is_given_when_the_budget_is_spent() {
    let b = bench(budget(1));
    let first = b.good(5);
    assert_eq!(b.ask(6), Outcome::Busy);
    b.clock.set(first.refresh_at.plus(secs(60)));
    assert_eq!(b.good(5), first);
    assert_eq!((b.demand.stats().shed, b.demand.stats().cached), (2, 1));
    b.clock.set(first.next_update.minus(secs(1)));
    assert_eq!(b.good(5), first);
    b.revoke(&[5]);
    assert_eq!(b.ask(5), Outcome::Busy, "it says what the sources no longer say");
    b.revoke(&[]);
    b.issuer.update(|view| {
        let settings = IssuerSettings { profile: Profile::Cabf, ..(*view.settings).clone() };
        View { settings: Arc::new(settings), ..view.clone() }
    });
    assert_eq!(b.ask(5), Outcome::Busy, "it was made under another rule book");
    b.issuer.update(|view| View { settings: Arc::new(IssuerSettings::default()), ..view.clone() });
    assert_eq!(b.good(5), first);
    b.clock.set(first.next_update);
    assert_eq!(b.ask(5), Outcome::Busy);
}

#[test]
fn until_it_runs_out_an_answer_is_given_when_nothing_can_be_signed() {
    let lab = Lab::with("Spent", KeyKind::EcdsaP256, SystemClock.now(), 2 * DAY);
    let spent = bench_of(lab, IssuerSettings::default(), budget(100));
    let first = spent.good(5);
    assert_eq!(first.next_update, spent.lab.signer.not_after());
    spent.clock.set(first.next_update.minus(secs(30)));
    assert_eq!(spent.ask(6), LATER, "nothing is signed that runs out at once");
    assert_eq!(spent.good(5), first);

    let b = bench(budget(100));
    let first = b.good(5);
    b.clock.set(first.refresh_at.plus(secs(60)));
    b.sign_with(None);
    assert_eq!((b.ask(6), b.good(5)), (LATER, first.clone()));
    b.sign_with(Some(&b.gate));
    b.gate.set(State::Broken);
    assert_eq!((b.ask(6), b.good(5)), (Outcome::Refused(ErrorStatus::InternalError), first.clone()));
    b.gate.set(State::Open);
    assert_ne!(b.good(5), first, "signed again as soon as it can be");
}

#[test]
fn those_who_ask_for_the_same_wait_for_one_signature_and_cost_one_of_the_budget() {
    let b = bench(budget(1));
    b.gate.set(State::Shut);
    let asking: Vec<_> = (0..16).map(|_| b.start_asking(5, None)).collect();
    eventually(LIMIT, "signing", || b.gate.waiting.load(Ordering::SeqCst) == 1);
    b.gate.set(State::Open);
    for asked in asking {
        assert!(matches!(run(asked), Outcome::Shared(_)));
    }
    assert_eq!((b.demand.stats().signed, b.demand.stats().shed, b.demand.stats().waiting), (1, 0, 0));
}

#[test]
fn no_more_wait_than_may() {
    let b = bench(DemandSettings { queue: 4, timeout: LIMIT, ..budget(100) });
    b.gate.set(State::Shut);
    let asking: Vec<_> = [1, 1, 2, 3].map(|n| b.start_asking(n, None)).into();
    assert_eq!((b.ask(1), b.ask(4)), (Outcome::Busy, Outcome::Busy));
    assert_eq!(b.demand.stats().waiting, 4);
    b.gate.set(State::Open);
    asking.into_iter().for_each(|asked| assert!(matches!(run(asked), Outcome::Shared(_))));
    b.good(4);
}

#[test]
fn a_nonce_that_is_not_echoed_is_not_charged_for() {
    let b = bench(budget(4));
    for n in 0..4 {
        assert!(matches!(run(b.start_asking(n, Some(&[7; 32]))), Outcome::Shared(_)), "{n}");
        assert!(matches!(run(b.start_asking(n, Some(&[8; 32]))), Outcome::Shared(_)), "kept for everyone");
    }
    let echoing = IssuerSettings { answers_nonces: true, ..IssuerSettings::default() };
    let b = bench_of(Lab::new("Echo"), echoing, budget(4));
    let first = b.good(9);
    let once = |n| run(b.start_asking(n, Some(&[7; 32])));
    assert!(matches!((once(0), once(1)), (Outcome::Once(_), Outcome::Once(_))));
    assert_eq!(once(2), Outcome::Busy, "half of four have been signed");
    assert_eq!(once(9), Outcome::Shared(first), "rather without a nonce than not at all");
}

#[test]
fn who_has_waited_for_too_long_is_answered_without_a_timer_of_the_runtime() {
    let b = bench(DemandSettings { timeout: Duration::from_millis(500), ..budget(100) });
    eventually(LIMIT, "signed in time", || matches!(b.ask(5), Outcome::Shared(_)));
    let first = b.good(5);
    b.clock.set(first.refresh_at.plus(secs(60)));
    b.gate.set(State::Shut);
    assert_eq!((b.ask(6), b.good(5)), (Outcome::Busy, first));
    assert_eq!(b.demand.stats().waiting, 0);
    b.gate.set(State::Open);
    eventually(LIMIT, "signed for whoever asks next", || matches!(b.ask(6), Outcome::Shared(_)));
}

#[test]
fn a_certificate_that_comes_off_a_crl_is_not_answered_as_of_an_earlier_time() {
    let b = bench(budget(10));
    let presigner =
        Presigner::start(&PresignSettings { workers: 1, background_nice: 0, segments: None }, b.clock.clone());
    presigner.add(&b.issuer);
    let now = b.clock.now();
    let crl = |entries: &[_]| {
        let unlisted = Unlisted::Good { from: Timestamp::MIN, until: Timestamp::MAX };
        presigner.set_table(&b.issuer, Table::build(entries, 0, unlisted).unwrap());
        eventually(LIMIT, "signed", || {
            let live = b.issuer.slot().live();
            let wave = live.wave(SHA1).unwrap();
            let held = b.issuer.view().table.as_ref().unwrap().slice(0).unwrap().region().to_vec();
            wave.is_complete() && *wave.slices()[0].as_ref().unwrap().keys().region() == held
        });
    };
    crl(&[(long_serial(5), revoked(now))]);
    assert_eq!(b.issuer.slot().live().wave(SHA1).unwrap().this_update(&long_serial(5)), Some(now));
    b.clock.set(now.plus(secs(10)));
    crl(&[]);
    assert!(b.good(5).this_update > now, "later than the revocation that it takes back");
}

#[test]
fn before_the_first_look_at_its_files_as_many_wait_for_an_issuer_as_the_queue_has_places() {
    let b = bench(DemandSettings { queue: 2, ..budget(10) });
    b.issuer.update(|view| View { table: None, ..view.clone() });
    b.issuer.expect_look();
    let early = [b.start_asking(5, None), b.start_asking(6, None)];
    assert_eq!(b.ask(7), LATER, "there are two places");
    assert_eq!((b.demand.stats().waiting, b.demand.stats().shed), (2, 1));
    b.revoke(&[6]);
    b.issuer.mark_looked_at();
    let said = early.map(|early| match run(early) {
        Outcome::Shared(answer) => answer.status,
        other => panic!("{other:?}"),
    });
    assert_eq!(said[0], CertStatus::Good);
    assert!(matches!(said[1], CertStatus::Revoked { .. }), "{said:?}");

    b.issuer.expect_look();
    drop(b.start_asking(8, None));
    assert_eq!(b.demand.stats().waiting, 0, "whoever goes away leaves the place");
    b.issuer.update(|view| View { table: None, ..view.clone() });
    let early = b.start_asking(8, None);
    b.issuer.mark_looked_at();
    assert_eq!(run(early), LATER, "the look brought nothing");
}

/// What is said of each certificate of a request, or the error.
fn statuses(outcome: &Outcome) -> Result<Vec<&'static str>, ErrorStatus> {
    let answer = match outcome {
        Outcome::Shared(answer) => answer.response.clone(),
        Outcome::Once(response) => response.clone(),
        Outcome::Refused(status) => return Err(*status),
        Outcome::Busy => panic!("busy"),
    };
    let responses = basic(&answer).tbs_response_data.responses;
    let status = |single: &x509_ocsp::SingleResponse| match single.cert_status {
        x509_ocsp::CertStatus::Good(_) => "good",
        x509_ocsp::CertStatus::Revoked(_) => "revoked",
        x509_ocsp::CertStatus::Unknown(_) => "unknown",
    };
    Ok(responses.iter().map(status).collect())
}

impl Bench {
    fn ask_all(&self, serials: &[u64]) -> Result<Vec<&'static str>, ErrorStatus> {
        let serials: Vec<_> = serials.iter().map(|n| long_serial(*n)).collect();
        statuses(&run(self.demand.answer(request(&self.lab.hashes(SHA1), &serials, None).into())))
    }
}

fn set_index(issuer: &Issuer, serials: &[u64], unlisted: Unlisted) {
    let entries: Vec<_> = serials.iter().map(|n| (long_serial(*n), CertStatus::Good)).collect();
    let table = Arc::new(Table::build(&entries, 0, unlisted).unwrap());
    issuer.update(|view| View { table: Some(table.clone()), ..view.clone() });
}

#[test]
fn several_certificates_that_were_not_issued_are_answered_as_each_would_be_alone() {
    for (unissued, said) in [
        (Unissued::Unknown, Ok("unknown")),
        (Unissued::Good, Ok("good")),
        (Unissued::Revoked, Ok("revoked")),
        (Unissued::Unauthorized, Err(ErrorStatus::Unauthorized)),
    ] {
        let settings = IssuerSettings { profile: Profile::Rfc6960, unissued, ..IssuerSettings::default() };
        let b = bench_of(Lab::new("Unissued"), settings, budget(100));
        set_index(&b.issuer, &[5], Unlisted::NotIssued);
        let each = |n| said.map(|said| vec![said; n]);
        assert_eq!(b.ask_all(&[10]), each(1));
        assert_eq!(b.ask_all(&[10, 11]), each(2));
        assert_eq!(b.ask_all(&[10, 10]), each(2), "twice the same");
        assert_eq!(b.ask_all(&[10, 5, 11]), Ok(vec![said.unwrap_or("unknown"), "good", said.unwrap_or("unknown")]));
    }
}

#[test]
fn of_two_records_one_that_cannot_tell_is_not_outvoted_by_one_that_does_not_know() {
    for unissued in [Unissued::Unauthorized, Unissued::Unknown, Unissued::Good] {
        let settings = IssuerSettings { profile: Profile::Rfc6960, unissued, ..IssuerSettings::default() };
        let b = bench_of(Lab::new("Two"), settings.clone(), budget(100));
        let other = b.lab.issuer("other", settings);
        other.update(|view| View { signer: Some(b.lab.active_signer()), ..view.clone() });
        // The first cannot rely on its lists for what they do not name; the second was issued nothing but this one.
        set_index(&b.issuer, &[1], Unlisted::Nothing);
        set_index(&other, &[5], Unlisted::NotIssued);
        for order in [[&b.issuer, &other], [&other, &b.issuer]] {
            b.store.set_routes(Routes::new(order.map(|issuer| issuer.slot().clone()).into()));
            b.demand.set_issuers(order.map(Arc::clone));
            assert_eq!(b.ask_all(&[10]), Err(ErrorStatus::TryLater));
            assert_eq!(b.ask_all(&[10, 11]), Err(ErrorStatus::TryLater));
            assert_eq!(b.ask_all(&[1, 10]), Err(ErrorStatus::TryLater), "{unissued:?}");
            assert_eq!(b.ask_all(&[5, 1]), Ok(vec!["good", "good"]));
        }
    }
}

#[test]
fn what_was_being_signed_when_all_was_to_be_signed_anew_is_not_kept() {
    let b = bench(budget(100));
    b.gate.set(State::Shut);
    let by_the_old = b.start_asking(5, None);
    eventually(LIMIT, "signing", || b.gate.waiting.load(Ordering::SeqCst) == 1);
    b.demand.forget("ca");
    let after = b.start_asking(5, None);
    b.gate.set(State::Open);
    let (Outcome::Shared(old), Outcome::Shared(new)) = (run(by_the_old), run(after)) else { panic!("not answered") };
    assert_ne!(old, new, "who asks after it does not join who asked before");
    assert_eq!(b.good(5), new);
    assert_eq!(b.demand.stats().signed, 2);
}

#[test]
fn what_was_being_signed_when_the_settings_changed_is_signed_again_under_the_new_ones() {
    let b = bench(budget(100));
    b.gate.set(State::Shut);
    let by_the_old = b.start_asking(5, None);
    eventually(LIMIT, "signing", || b.gate.waiting.load(Ordering::SeqCst) == 1);
    let settings = Arc::new(IssuerSettings { validity: 2 * DAY, ..IssuerSettings::default() });
    b.issuer.update(|view| View { settings: settings.clone(), ..view.clone() });
    b.gate.set(State::Open);
    let lives = |answer: &SignedAnswer| answer.next_update.since(answer.this_update) + secs(1);
    let Outcome::Shared(old) = run(by_the_old) else { panic!("not answered") };
    assert_eq!((lives(&old), lives(&b.good(5))), (4 * DAY, 2 * DAY));
}

#[test]
fn when_the_certificate_of_a_ca_is_renewed_an_answer_with_the_old_cutoff_is_not_given() {
    let settings = IssuerSettings { archive_cutoff: true, ..IssuerSettings::default() };
    let b = bench_of(Lab::new("Cutoff"), settings, budget(100));
    let presigner =
        Presigner::start(&PresignSettings { workers: 1, background_nice: 0, segments: None }, b.clock.clone());
    presigner.add(&b.issuer);
    let cutoff = |answer: &SignedAnswer| {
        let extensions = basic(&answer.response).tbs_response_data.responses[0].single_extensions.clone().unwrap();
        extensions[0].extn_value.as_bytes()[2..].to_vec()
    };
    let first = b.good(5);
    assert_eq!(cutoff(&first), stillgood::time::format_generalized(b.lab.ca.not_before()));
    let (from, until) = (b.lab.ca.not_before().plus(secs(3600)), b.lab.ca.not_after());
    let spec = CertificateSpec::ca(b.lab.ca.subject_der().to_vec(), b.lab.ca_key.spki_der(), serial(3), from, until);
    presigner.set_certificate(&b.issuer, &spec.issue(&b.lab.ca_key).unwrap());
    assert_eq!(cutoff(&b.good(5)), stillgood::time::format_generalized(from));
}

#[test]
fn a_key_that_fails_on_demand_is_told_until_it_signs_again() {
    let b = bench(budget(100));
    b.gate.set(State::Failing);
    assert_eq!(b.ask(5), Outcome::Refused(ErrorStatus::InternalError));
    assert_eq!(b.issuer.demand_fault().unwrap().as_str(), "on demand: signing failed: no key");
    b.gate.set(State::Open);
    b.good(5);
    assert_eq!(b.issuer.demand_fault(), None);
}
