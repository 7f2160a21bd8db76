//! `simulate --config F`: the user's own issuers and limits.

use super::super::{print, print_error};
use super::Args;
use crate::agent::{Reading, Settings, view_of};
use crate::config::{Config, Protocol, RegistrySource};
use crate::registry::{Document, MAX_LEN, RecordRules, State, read_bounded};
use crate::signer::files::MAX_CERTIFICATE_FILE_LEN;
use crate::simulate::{LifeIs, Own, OwnIssuer, OwnReport};
use crate::time::{Clock, SystemClock, Timestamp};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

pub(super) fn run(args: &Args, config: &Path) -> ExitCode {
    match reports(args, config) {
        Ok(reports) => {
            if args.json {
                match serde_json::to_string_pretty(&reports) {
                    Ok(text) => print(&format!("{text}\n")),
                    Err(e) => print_error(&format!("{e}\n")),
                }
            } else {
                reports.iter().for_each(|report| print(&table(report, args.seed)));
            }
            // A signer in use too late has not expired, but what it signs has, before its time is over.
            let fine = |r: &OwnReport| r.violations.is_empty() && r.totals.expired == 0 && r.totals.late == 0;
            let fine = reports.iter().all(fine);
            if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(text) => {
            print_error(&format!("{text}\n"));
            ExitCode::FAILURE
        }
    }
}

fn reports(args: &Args, file: &Path) -> Result<Vec<OwnReport>, String> {
    let config = Config::load(file).map_err(|faults| faults.to_string())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let now = args.start.map_or_else(|| clock.now(), Timestamp::from_unix);
    let settings = Settings::of(&config, &clock, None).map_err(|(name, e)| format!("[enrolment.{name}]: {e}"))?;
    let registry: PathBuf = match (&args.registry, &config.registry.source) {
        (Some(file), _) | (None, RegistrySource::File(file)) => file.clone(),
        _ => return Err("the registry is on a server, and nothing is contacted; write --registry FILE".to_owned()),
    };
    let bytes = read_bounded(&registry, MAX_LEN).map_err(|e| format!("{}: {e}", registry.display()))?;
    let rules = RecordRules::of(&config);
    let document = Document::parse(&bytes, &registry, &rules).map_err(|faults| faults.to_string())?;
    let generation = document.resolve(&mut |path| read_bounded(path, MAX_CERTIFICATE_FILE_LEN));
    for quarantined in &generation.quarantined {
        print_error(&format!("warning: {} is left out: its record cannot be used\n", quarantined.name()));
    }
    let refreshes: BTreeMap<_, _> = generation.issuers.iter().map(|i| (i.id.clone(), i.response.refresh)).collect();
    let view = view_of(&Reading { generation: Arc::new(generation), synced_at: now }, &config.renewal);
    let mut reports = Vec::new();
    for service in &settings.services {
        let of = |i: &&crate::renewal::IssuerSpec| i.endpoint == service.spec.id && i.state == State::Active;
        let own = |spec: &crate::renewal::IssuerSpec| OwnIssuer {
            spec: spec.clone(),
            refresh: refreshes.get(&spec.id).copied().unwrap_or(spec.validity / 4),
        };
        let issuers: Vec<_> = view.issuers.iter().filter(of).map(own).collect();
        if issuers.is_empty() {
            continue;
        }
        let configured = match config.enrolment.get(service.spec.id.as_str()).map(|e| &e.protocol) {
            Some(Protocol::Local { validity, .. }) => Some(*validity),
            _ => None,
        };
        let (life, life_is) = match (args.life, configured) {
            (Some(life), _) => (life.0, LifeIs::Said),
            (None, Some(life)) => (life, LifeIs::Configured),
            (None, None) => (DEFAULT_LIFE, LifeIs::Assumed),
        };
        let own = Own {
            start: now,
            nodes: args.nodes.map_or(1, |n| usize::try_from(n).unwrap_or(1)),
            issuers,
            service: service.spec.clone(),
            timeout: service.timeout,
            limits: settings.limits.clone(),
            refresh: config.registry.refresh,
            life,
            life_is,
            ca_down: args.ca_down.map(|d| d.0),
        };
        reports.push(own.run(args.seed)?);
    }
    if reports.is_empty() {
        return Err(format!("{}: no active issuer has an enrolment; there is nothing to renew", registry.display()));
    }
    Ok(reports)
}

/// What many CAs give a delegated responder.
const DEFAULT_LIFE: Duration = Duration::from_secs(90 * 86_400);
/// The most lines of the calendar.
const LINES: usize = 30;

fn table(report: &OwnReport, seed: u64) -> String {
    let mut out = String::new();
    let t = &report.totals;
    let days = report.length_secs / 86_400;
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "[enrolment.{}]: {} signers, {days} days, --seed {seed} --start {}",
        report.service,
        report.signers,
        report.start.unix()
    );
    for assumption in &report.assumptions {
        let _ = writeln!(out, "  assumed: {assumption}");
    }
    let _ = writeln!(
        out,
        "  requests {}, new signers {}, at most {} requests a minute",
        t.requests, t.renewed, t.peak_per_minute
    );
    let _ = writeln!(out, "  too late {}, expired {}, minutes unserved {}", t.late, t.expired, t.unserved_minutes);
    let _ = writeln!(out, "\n  requests an hour   hours");
    for (requests, hours) in &report.hours_by_requests {
        let _ = writeln!(out, "  {requests:>16} {hours:>7}");
    }
    let _ = writeln!(out, "\n  requests by day");
    let step = report.by_day.len().div_ceil(LINES).max(1);
    let lines: Vec<u64> = report.by_day.chunks(step).map(|days| days.iter().sum()).collect();
    let most = lines.iter().max().copied().unwrap_or(1).max(1);
    for (n, count) in lines.iter().enumerate() {
        let bar = "#".repeat(usize::try_from(count * 50 / most).unwrap_or(0));
        let _ = writeln!(out, "  day {:>4} {count:>7} {bar}", n * step + 1);
    }
    if let Some(down) = &report.down {
        let _ = writeln!(
            out,
            "\n  the CA is down from day {} to day {}: {} requests in vain; afterwards at most {} a minute, nothing overdue after {} h",
            down.from_secs / 86_400 + 1,
            down.to_secs / 86_400 + 1,
            down.requests,
            down.peak_after,
            down.hours_to_catch_up
        );
    }
    for violation in &report.violations {
        let _ = writeln!(out, "{violation}");
    }
    out.push('\n');
    out
}
