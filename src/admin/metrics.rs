//! Every metric there is, with its help text.

use super::State;
use super::exposition::{Exposition, Family, Kind};
use crate::endpoint::{Event, HASHES, LATENCY_BOUNDS_MICROS, MethodKind, NonceResult, Outcome, StatusKind};
use crate::presign::LAG_BOUNDS_MILLIS;

/// The metrics page.
pub(super) fn page(state: &State) -> String {
    let mut e = Exposition::default();
    requests(state, &mut e);
    issuers(state, &mut e);
    signing(state, &mut e);
    registry(state, &mut e);
    process(state, &mut e);
    if let Some(agent) = &*state.agent.load() {
        super::renewal::metrics(agent, &mut e);
    }
    if let Some(report) = &*state.report.load() {
        super::lives::metrics(&report(), &mut e);
    }
    e.finish()
}

fn requests(state: &State, e: &mut Exposition) {
    let counted = state.endpoint.load().snapshot();
    let mut family = e.family(
        "stillgood_requests_total",
        Kind::Counter,
        "HTTP requests by method and result: ready, onDemand, notModified, greeting, methodNotAllowed or the OCSP error.",
    );
    for method in MethodKind::ALL {
        for outcome in Outcome::ALL {
            let n = counted.requests(method, outcome);
            // A series that begins at 1 has no increase: those that are watched are there from the beginning.
            if n > 0 || method != MethodKind::Other {
                family.sample("", &[("method", method.name()), ("result", outcome.name())], n);
            }
        }
    }
    let mut family = e.family("stillgood_answers_total", Kind::Counter, "Signed answers sent, by certificate status.");
    for status in StatusKind::ALL {
        family.sample("", &[("status", status.name())], counted.status(status));
    }
    let mut family =
        e.family("stillgood_certid_hash_total", Kind::Counter, "Requests by the hash algorithm of their CertID.");
    for (name, n) in HASHES.iter().zip(counted.hashes()) {
        family.sample("", &[("hash", name)], n);
    }
    let help = "Requests with a nonce, by what became of it: echoed, left out of the answer, or no signed answer.";
    let mut family = e.family("stillgood_nonce_requests_total", Kind::Counter, help);
    for result in NonceResult::ALL {
        family.sample("", &[("result", result.name())], counted.nonces(result));
    }
    let mut family = e.family("stillgood_connection_events_total", Kind::Counter, "What happened to connections.");
    for event in Event::ALL {
        family.sample("", &[("event", event.name())], counted.event(event));
    }
    let open = counted.open();
    e.single("stillgood_connections", Kind::Gauge, "Connections open now.", open);
    let mut family = e.family(
        "stillgood_request_seconds",
        Kind::Histogram,
        "From the last octet of a request to the answer in the kernel's hands, in seconds.",
    );
    let bounds = LATENCY_BOUNDS_MICROS.map(|bound| bound as f64 / 1e6);
    histogram(&mut family, &bounds, &counted.latency, counted.latency_sum_nanos as f64 / 1e9);
}

/// `counts` has one more than there are `bounds`, and is not cumulative.
fn histogram(family: &mut Family<'_>, bounds: &[f64], counts: &[u64], sum: f64) {
    let mut below = 0;
    for (n, bound) in counts.iter().zip(bounds) {
        below += n;
        family.sample("_bucket", &[("le", &bound.to_string())], below);
    }
    let all: u64 = counts.iter().sum();
    family.sample("_bucket", &[("le", "+Inf")], all);
    family.sample("_sum", &[], sum);
    family.sample("_count", &[], all);
}

fn issuers(state: &State, e: &mut Exposition) {
    let reports = state.responder.reports();
    let mut family =
        e.family("stillgood_responses", Kind::Gauge, "Certificates answered for, by issuer and status in the sources.");
    for r in reports.iter() {
        family.sample("", &[("issuer", &r.id), ("status", "good")], r.entries.saturating_sub(r.revoked));
        family.sample("", &[("issuer", &r.id), ("status", "revoked")], r.revoked);
    }
    let mut family = e.family(
        "stillgood_oldest_this_update_seconds",
        Kind::Gauge,
        "thisUpdate of the oldest pre-signed slice, in seconds since the epoch.",
    );
    for r in reports.iter() {
        if let Some(at) = r.oldest_this_update {
            family.sample("", &[("issuer", &r.id)], at.unix());
        }
    }
    let mut family = e.family(
        "stillgood_runs_out_seconds",
        Kind::Gauge,
        "nextUpdate of the pre-signed slice that runs out first, in seconds since the epoch.",
    );
    for r in reports.iter() {
        if let Some(at) = r.runs_out {
            family.sample("", &[("issuer", &r.id)], at.unix());
        }
    }
    let mut family =
        e.family("stillgood_validity_seconds", Kind::Gauge, "From thisUpdate to nextUpdate, as it is set, in seconds.");
    for r in reports.iter() {
        family.sample("", &[("issuer", &r.id)], r.validity_secs);
    }
    let mut family = e.family(
        "stillgood_refresh_seconds",
        Kind::Gauge,
        "How old an answer may become before it is signed again, as it is set, in seconds.",
    );
    for r in reports.iter() {
        family.sample("", &[("issuer", &r.id)], r.refresh_secs);
    }
    let mut family = e.family(
        "stillgood_signer_not_after_seconds",
        Kind::Gauge,
        "notAfter of the signer in use, in seconds since the epoch.",
    );
    for r in reports.iter() {
        if let Some(signer) = &r.signer {
            family.sample("", &[("issuer", &r.id)], signer.not_after.unix());
        }
    }
    let help = "1: to be renewed and answered for; 0: disabled, so that its answers end with its signer.";
    let mut family = e.family("stillgood_issuer_active", Kind::Gauge, help);
    for r in reports.iter() {
        family.sample("", &[("issuer", &r.id)], u8::from(!r.is_disabled));
    }
    let mut family = e.family(
        "stillgood_held_back",
        Kind::Gauge,
        "Revocations that could not be signed: the answers from before them are not given.",
    );
    for r in reports.iter() {
        family.sample("", &[("issuer", &r.id)], r.held_back);
    }
    let mut family = e.family(
        "stillgood_issuer_fault",
        Kind::Gauge,
        "1 if the signer, the sources, the signing or the answers of an issuer are in trouble.",
    );
    for r in reports.iter() {
        let faults = [
            ("signer", &r.signer_fault),
            ("status", &r.status_fault),
            ("signing", &r.signing_fault),
            ("answer", &r.answer_fault),
        ];
        for (kind, fault) in faults {
            family.sample("", &[("issuer", &r.id), ("kind", kind)], u8::from(fault.is_some()));
        }
    }
    let mut family = e.family(
        "stillgood_revocation_waiting_seconds",
        Kind::Gauge,
        "How long the oldest revocation in the sources that is not served yet has waited, in seconds; 0 if none does.",
    );
    for r in reports.iter() {
        family.sample("", &[("issuer", &r.id)], r.revocation_waits_secs);
    }
    let mut family = e.family("stillgood_crl_expired", Kind::Gauge, "1 if a CRL's nextUpdate has passed.");
    for r in reports.iter() {
        for source in r.sources.iter().filter(|source| source.next_update.is_some()) {
            let expired = source.next_update.is_some_and(|t| t < state.clock.now());
            family.sample("", &[("issuer", &r.id), ("file", &source.file)], u8::from(expired));
        }
    }
    let mut family = e.family(
        "stillgood_items",
        Kind::Gauge,
        "Things to be looked after: known, checked in the last pass, unreadable.",
    );
    let lines: u64 = reports.iter().flat_map(|r| &r.sources).map(|source| source.quarantined).sum();
    // That the signer of a disabled issuer has expired is no trouble.
    let now = state.clock.now();
    let troubled = reports.iter().filter(|r| r.signer_fault.is_some() && !r.is_ending(now) || r.status_fault.is_some());
    let troubled = troubled.count();
    let quarantined = state.registry.load().generation.as_ref().map_or(0, |g| g.quarantined.len());
    family.sample("", &[("kind", "issuer"), ("state", "known")], reports.len() + quarantined);
    family.sample("", &[("kind", "issuer"), ("state", "checked")], reports.len() - troubled);
    family.sample("", &[("kind", "issuer"), ("state", "unreadable")], troubled + quarantined);
    family.sample("", &[("kind", "source_line"), ("state", "unreadable")], lines);
    let refused: usize = reports.iter().map(|r| r.refused_segments.len()).sum();
    family.sample("", &[("kind", "segment"), ("state", "unreadable")], refused);
    if let Some(agent) = &*state.agent.load() {
        let coverage = &agent.view().coverage;
        let counts =
            [("known", coverage.known), ("checked", coverage.checked), ("unreadable", coverage.unreadable.len())];
        for (name, count) in counts {
            family.sample("", &[("kind", "renewal"), ("state", name)], count);
        }
    }
}

fn signing(state: &State, e: &mut Exposition) {
    let presign = state.responder.presign_stats();
    let demand = state.responder.demand_stats();
    let lag = state.responder.revocation_lag();
    let help = "From the last look at which a revocation was not in the source's file until it is served, in seconds.";
    let mut family = e.family("stillgood_revocation_lag_seconds", Kind::Histogram, help);
    let bounds = LAG_BOUNDS_MILLIS.map(|bound| bound as f64 / 1e3);
    histogram(&mut family, &bounds, &lag.buckets, lag.sum.as_secs_f64());
    e.single(
        "stillgood_presign_backlog",
        Kind::Gauge,
        "Slices and changes that are due to be signed.",
        presign.backlog,
    );
    e.single("stillgood_presign_missing", Kind::Gauge, "Slices that have never been signed.", presign.missing);
    e.single("stillgood_presign_slices", Kind::Gauge, "Slices there are.", presign.slices);
    e.single("stillgood_presign_signed_total", Kind::Counter, "Signatures made ahead.", presign.signed);
    e.single("stillgood_presign_failures_total", Kind::Counter, "Slices that could not be signed.", presign.failures);
    e.single("stillgood_on_demand_signed_total", Kind::Counter, "Signatures made on demand.", demand.signed);
    e.single("stillgood_on_demand_cached_total", Kind::Counter, "On-demand answers from the cache.", demand.cached);
    e.single("stillgood_on_demand_shed_total", Kind::Counter, "Requests beyond the on-demand budget.", demand.shed);
    e.single("stillgood_on_demand_waiting", Kind::Gauge, "Requests waiting for a signature.", demand.waiting);
    e.single("stillgood_on_demand_cache_bytes", Kind::Gauge, "Weight of the on-demand cache.", demand.cache_weight);
}

/// What the kernel says of this process, under the names that every dashboard knows. Left out where there is no /proc.
fn process(state: &State, e: &mut Exposition) {
    state.config_file.load().metrics(e);
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.and_then(|text| text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()));
    if let Some(pages) = resident {
        let octets = pages.saturating_mul(rustix::param::page_size() as u64);
        e.single("process_resident_memory_bytes", Kind::Gauge, "Resident memory, mapped segments included.", octets);
    }
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    e.single("process_cpu_seconds_total", Kind::Counter, "CPU time, user and system, in seconds.", seconds);
    let dropped = state.lines_dropped.load().as_ref().map_or(0, |count| count());
    let help = "Log lines lost because whoever reads standard error does not keep up.";
    e.single("stillgood_log_lines_dropped_total", Kind::Counter, help, dropped);
}

fn registry(state: &State, e: &mut Exposition) {
    let view = state.registry.load();
    let now = state.clock.now();
    if let Some(generation) = &view.generation {
        e.single("stillgood_registry_generation", Kind::Gauge, "Generation of the registry in use.", generation.number);
    }
    if let Some(at) = view.last_success {
        let age = now.since(at).as_secs();
        e.single("stillgood_registry_age_seconds", Kind::Gauge, "Since the registry was last read and usable.", age);
    }
    let help = "1 if the last look at the registry brought nothing usable.";
    e.single("stillgood_registry_fault", Kind::Gauge, help, u8::from(view.fault.is_some()));
    let help = "Generation that waits for an operator; 0 if none does.";
    let held = view.held.as_ref();
    e.single("stillgood_registry_held", Kind::Gauge, help, held.map_or(0, |held| held.generation.number));
    let help = "Issuers that the waiting generation would change.";
    e.single("stillgood_registry_held_issuers", Kind::Gauge, help, held.map_or(0, |held| held.impact.changed()));
    let mut family = e.family("stillgood_registry_looks_total", Kind::Counter, "Looks at the registry's source.");
    for (result, count) in view.looks.by_result() {
        family.sample("", &[("result", result)], count);
    }
    let mut family = e.family(
        "stillgood_agent_last_pass_timestamp_seconds",
        Kind::Gauge,
        "When the last look at all files, and the last pass of renewal, was completed, in seconds since the epoch.",
    );
    if let Some(at) = state.responder.last_pass() {
        family.sample("", &[("pass", "files")], at.unix());
    }
    if let Some(agent) = &*state.agent.load() {
        family.sample("", &[("pass", "renewal")], agent.view().last_pass.unix());
    }
    if let Some(runs) = state.agent_runs() {
        let help = "1 if the renewal agent runs; left out where the configuration names no CA service.";
        e.single("stillgood_agent_running", Kind::Gauge, help, u8::from(runs));
    }
    if let Some(trail) = &*state.trail.load() {
        let help = "Events that the audit trail could not write.";
        e.single("stillgood_audit_lost_total", Kind::Counter, help, trail.lost());
    }
    let is_ready = u8::from(state.not_ready().is_empty());
    let help = "1 if there is an answer for every active issuer, as /readyz says.";
    e.single("stillgood_ready", Kind::Gauge, help, is_ready);
    let help = "When this process started, in seconds since the epoch.";
    e.single("stillgood_start_time_seconds", Kind::Gauge, help, state.started.unix());
    let mut family = e.family("stillgood_build_info", Kind::Gauge, "1, with the version as a label.");
    family.sample("", &[("version", env!("CARGO_PKG_VERSION"))], 1);
}
