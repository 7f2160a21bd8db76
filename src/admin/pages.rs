//! What each path of the admin listener says.

use super::{State, metrics, page};
use crate::registry::IssuerId;
use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use http_body_util::Full;
use std::collections::{BTreeMap, BTreeSet};

/// The most issuers of a kind that are named of a change that waits.
const MAX_NAMED: usize = 1_000;

/// The answer to a request; never waits. The client `reads_html` if it says so.
pub(super) fn answer(state: &State, method: &Method, path: &str, reads_html: bool) -> Response<Full<Bytes>> {
    if *method != Method::GET && *method != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".into());
        response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/healthz" => match state.not_alive() {
            None => text(StatusCode::OK, "alive\n".into()),
            Some(fault) => text(StatusCode::SERVICE_UNAVAILABLE, fault + "\n"),
        },
        "/readyz" => {
            let missing = state.not_ready();
            if missing.is_empty() {
                let lines: Vec<_> = std::iter::once("ready".to_owned()).chain(state.living_on()).collect();
                text(StatusCode::OK, lines.join("\n") + "\n")
            } else {
                text(StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n")
            }
        }
        "/readyz/any" => match state.serves_nobody() {
            none if none.is_empty() => text(StatusCode::OK, "serving\n".into()),
            missing => text(StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n"),
        },
        "/metrics" => {
            let mut response = text(StatusCode::OK, metrics::page(state));
            let of = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, of);
            response
        }
        "/status.json" => json(state),
        "/status" => status(state),
        "/" if reads_html => status(state),
        "/" => text(
            StatusCode::OK,
            "stillgood\n\n/healthz      alive?\n/readyz       answers for every issuer? if not, why\n/readyz/any   for any? for load balancers\n/metrics      for Prometheus\n\
             /status       for people, in a browser\n/status.json  issuers, signers, sources, faults\n"
                .into(),
        ),
        _ => text(StatusCode::NOT_FOUND, "nothing here; see /\n".into()),
    }
}

/// The page for people.
fn status(state: &State) -> Response<Full<Bytes>> {
    let (code, body) = match &*state.report.load() {
        Some(report) => {
            let counted = state.endpoint.load().snapshot();
            let traffic = page::Traffic::new(&counted, &state.meter, crate::time::monotonic());
            (StatusCode::OK, page::render(&report(), &traffic))
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, page::starting()),
    };
    let mut response = text(code, body);
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, page::POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::VARY, "accept"),
    ] {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    response
}

fn json(state: &State) -> Response<Full<Bytes>> {
    #[derive(serde::Serialize)]
    struct Status<'a> {
        now: crate::time::Timestamp,
        config_fault: Option<&'a str>,
        config_takes_restart: &'a [&'static str],
        generation: Option<u64>,
        registry_synced: Option<crate::time::Timestamp>,
        registry_fault: Option<&'a str>,
        registry_held: Option<Held>,
        issuers: &'a [crate::responder::IssuerReport],
        quarantined: Vec<Quarantined>,
    }
    #[derive(serde::Serialize)]
    struct Quarantined {
        record: String,
        faults: Vec<String>,
    }
    #[derive(serde::Serialize)]
    struct Held {
        generation: u64,
        since: crate::time::Timestamp,
        changes: String,
        by_kind: BTreeMap<&'static str, Vec<String>>,
    }
    let (registry, config_file) = (state.registry.load(), state.config_file.load());
    let names = |issuers: &BTreeSet<IssuerId>| issuers.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    let held = registry.held.as_ref().map(|held| Held {
        generation: held.generation.number,
        since: held.since,
        changes: held.impact.to_string(),
        by_kind: held.impact.kinds().map(|(kind, issuers)| (kind, names(issuers))).collect(),
    });
    let reports = state.responder.reports();
    let quarantined = registry.generation.iter().flat_map(|generation| &generation.quarantined);
    let status = Status {
        now: state.clock.now(),
        config_fault: config_file.refused.as_deref(),
        config_takes_restart: &config_file.takes_a_restart,
        generation: registry.generation.as_ref().map(|generation| generation.number),
        registry_synced: registry.last_success,
        registry_fault: registry.fault.as_deref(),
        registry_held: held,
        issuers: &reports,
        quarantined: quarantined
            .map(|q| Quarantined { record: q.name(), faults: q.faults.iter().map(ToString::to_string).collect() })
            .collect(),
    };
    match serde_json::to_string_pretty(&status) {
        Ok(body) => {
            let mut response = text(StatusCode::OK, body + "\n");
            let of = header::HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, of);
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}
