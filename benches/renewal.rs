//! What a planning pass costs at ten thousand issuers: the calendar, a new generation of the registry, and a poll.
//!
//! `cargo bench --bench renewal`. The calendar is to take less than 10 ms.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use stillgood::config::Rate;
use stillgood::ocsp::Serial;
use stillgood::registry::{IssuerId, State};
use stillgood::renewal::{
    Core, EndpointId, EndpointSpec, Event, IssuerSpec, Limits, NodeId, RegistryView, SignerLife, SlotId,
};
use stillgood::time::Timestamp;

const ISSUERS: u64 = 10_000;
const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);

fn view() -> RegistryView {
    let issuers = (0..ISSUERS).map(|n| IssuerSpec {
        id: IssuerId::new(&format!("issuing-ca-{n}")).expect("a plain name"),
        state: State::Active,
        endpoint: EndpointId::new("main").expect("a plain name"),
        profile: format!("ocsp-{n}"),
        validity: 4 * DAY,
        margin: DAY,
        needs_approval: false,
        rest: 0,
        held_by: None,
    });
    RegistryView { generation: 1, synced_at: NOW, issuers: issuers.collect(), quarantined: vec![] }
}

fn core() -> Core {
    let mut core = Core::new(Limits::default(), NodeId::named("node-1"));
    let endpoint = EndpointSpec {
        id: EndpointId::new("main").expect("a plain name"),
        rate: Rate { count: 30, per: Duration::from_secs(60) },
        max_in_flight: 2,
        attempts_per_day: 20_000,
        credential: None,
    };
    core.handle(Event::Endpoints(vec![endpoint]), NOW).expect("used");
    core.handle(Event::Registry(view()), NOW).expect("used");
    for (n, spec) in (1_u64..).zip(view().issuers) {
        let serial = Serial::from_unsigned(&n.to_be_bytes()).expect("eight octets");
        // Issued over 40 days, so that a part of them is due.
        let not_before = NOW.minus(DAY * u32::try_from(n % 30).expect("small"));
        let life = Some(SignerLife { serial, not_before, not_after: not_before.plus(40 * DAY) });
        core.handle(Event::Signer { slot: SlotId::Signer(spec.id), life }, NOW).expect("used");
    }
    core
}

fn renewal(c: &mut Criterion) {
    let core = core();
    let mut group = c.benchmark_group("renewal of 10 000 issuers");
    group.bench_function("the calendar", |b| b.iter(|| black_box(&core).plan(NOW)));
    group.bench_function("its histogram", |b| {
        let plan = core.plan(NOW);
        b.iter(|| black_box(&plan).by_hour());
    });
    group.bench_function("the impact of a registry", |b| {
        let view = view();
        b.iter(|| black_box(&core).impact(&view, NOW));
    });
    group.bench_function("the next generation and a poll", |b| {
        let setup = || (core.clone(), view());
        let run = |(mut core, view): (Core, RegistryView)| {
            core.handle(Event::Registry(view), NOW).expect("used");
            (core.poll(NOW), core)
        };
        b.iter_batched(setup, run, criterion::BatchSize::LargeInput);
    });
    group.finish();
}

criterion_group!(benches, renewal);
criterion_main!(benches);
