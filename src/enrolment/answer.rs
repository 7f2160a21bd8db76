//! What an HTTP exchange with a CA service means. Pure.
//!
//! The scope is the narrowest that the answer proves. A server that answers for one label with 301, 404, 403 or 500 says nothing
//! about the others; only what every request meets (it cannot be reached, it is overloaded, it cannot be trusted) concerns the
//! whole service.

use super::failure::{excerpt, printable};
use super::{Failure, Kind, MAX_RETRY_AFTER, Scope, body};
use crate::https::{Cause, CredentialError, Error, Reply, Stage};
use crate::time::{Timestamp, parse_http_date};
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use std::time::Duration;

/// What a service can be met with, for whoever models one: it means what it means of a real one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// An answer with a status other than 200 and 202, and with Retry-After in seconds where it names one.
    Status(u16, Option<u64>),
    /// A 200 in which there is no certificate that can be used.
    Unusable,
    /// Nobody takes the connection.
    Unreachable,
    /// The request was sent, and no answer came in time.
    Unanswered,
    /// Our certificate is not accepted.
    CredentialRefused,
}

/// The failure that this is.
pub fn met(met: Met) -> Failure {
    const NAME: &str = "modelled";
    let error = |cause, sent| of_error(NAME, &Error { server: NAME.to_owned(), stage: Stage::Waiting, sent, cause });
    match met {
        Met::Status(status, retry_after) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let fields = retry_after.map(|seconds| (RETRY_AFTER, HeaderValue::from(seconds))).into_iter().collect();
            of_status(NAME, "POST", &Reply { status, fields, body: Vec::new() }, Timestamp::EPOCH)
        }
        Met::Unusable => of_body(NAME, "POST", "it cannot be read"),
        Met::Unreachable => error(Cause::Unreachable("nobody listens".to_owned()), false),
        Met::Unanswered => error(Cause::TimedOut, true),
        Met::CredentialRefused => error(Cause::CredentialRefused("certificate expired".to_owned()), false),
    }
}

/// What a failed exchange means. `name` is the service's in the configuration.
pub(super) fn of_error(name: &str, error: &Error) -> Failure {
    use Kind::{Permanent, Transient, Unknown};
    let (scope, kind) = match &error.cause {
        Cause::Credential(CredentialError::NotYetValid { .. }) => (Scope::OwnCredential, Transient),
        Cause::Credential(_) | Cause::CredentialRefused(_) => (Scope::OwnCredential, Permanent),
        Cause::NotTrusted(_) | Cause::Trust(_) => (Scope::Endpoint, Permanent),
        Cause::TooLarge { .. } => (Scope::Item, Unknown),
        Cause::Withdrawn => (Scope::Issuer, Transient),
        Cause::TimedOut | Cause::Unreachable(_) | Cause::Tls(_) | Cause::Broken(_) | Cause::NotHttp(_) => {
            (Scope::Endpoint, if error.sent { Unknown } else { Transient })
        }
    };
    let advice = match (&error.cause, kind) {
        (Cause::NotTrusted(_), _) => format!("; see that enrolment.{name}.trust holds the root it chains to"),
        (Cause::CredentialRefused(_), _) => {
            format!("; see that enrolment.{name}.client_certificate is one that this CA issued and did not revoke")
        }
        (Cause::Trust(_), _) => format!("; put right enrolment.{name}.trust"),
        (_, Unknown) => "; whether it issued is not known, so the same order is asked again".to_owned(),
        _ => String::new(),
    };
    // The line about our own certificate stands alone: it says everything.
    let text = match &error.cause {
        Cause::Credential(e) => e.to_string(),
        _ => format!("enrolment.{name}: {error}{advice}"),
    };
    Failure::new(scope, kind, text)
}

/// What a status other than 200 and 202 means. `asked` is what was asked for, for the message.
pub(super) fn of_status(name: &str, asked: &str, reply: &Reply, now: Timestamp) -> Failure {
    use Kind::{Permanent, Transient, Unknown};
    let status = reply.status;
    let (scope, kind, advice) = match status.as_u16() {
        200..=299 => (Scope::Item, Unknown, "there is no certificate in it; the same order is asked again".to_owned()),
        300..=399 => {
            let to = reply.field(LOCATION).map_or("nowhere".to_owned(), |to| printable(to, body::SHOWN));
            let text = format!(
                "a redirect to {to}, which is not followed; put the right address in enrolment.{name}.url, or the right profile in the registry, and unpark"
            );
            (Scope::Issuer, Permanent, text)
        }
        401 => (
            Scope::OwnCredential,
            Permanent,
            format!("it does not accept who we are; see the credential of enrolment.{name}"),
        ),
        403 => (
            Scope::Issuer,
            Permanent,
            "our credential may not order this; have the CA allow it, or see whether the profile is disabled"
                .to_owned(),
        ),
        408 | 425 | 429 | 502..=504 => (Scope::Endpoint, Transient, "it is tried again later".to_owned()),
        500.. => (Scope::Issuer, Transient, "the CA failed with this request; it is tried again later".to_owned()),
        _ => (
            Scope::Issuer,
            Permanent,
            "refused; see that the profile in the registry is one that the CA has".to_owned(),
        ),
    };
    let text = format!("enrolment.{name}: {asked} was answered {}: {advice}{}", shown(status), said(reply));
    let retry_after = matches!(kind, Transient).then(|| retry_after(reply, now)).flatten();
    Failure::new(scope, kind, text).after(retry_after)
}

/// A 200 whose body is unusable: the CA may have issued, and the same order may get it (RFC 7030 §4.2.3).
pub(super) fn of_body(name: &str, asked: &str, reason: &str) -> Failure {
    let text = format!(
        "enrolment.{name}: {asked} was answered 200, but the body is unusable: {reason}; the same order is asked again"
    );
    Failure::new(Scope::Item, Kind::Unknown, text)
}

/// Retry-After: seconds or an IMF-fixdate (RFC 9110 §10.2.3), at most [`MAX_RETRY_AFTER`]. A date that has passed is no
/// wait; what cannot be read was not said.
pub(super) fn retry_after(reply: &Reply, now: Timestamp) -> Option<Duration> {
    let value = reply.field(RETRY_AFTER)?.trim();
    let wait = match value.bytes().all(|b| b.is_ascii_digit()) && !value.is_empty() {
        true => value.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs), // digits only: too many of them
        false => parse_http_date(value.as_bytes())?.since(now),
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

fn shown(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// The beginning of what the server says to people.
fn said(reply: &Reply) -> String {
    let is_html = reply.field(CONTENT_TYPE).is_some_and(|t| t.to_ascii_lowercase().contains("html"))
        || reply.body.trim_ascii_start().first() == Some(&b'<');
    if is_html {
        return "; it sent an HTML page, as proxies and log-in pages do".to_owned();
    }
    match excerpt(&reply.body, body::SHOWN) {
        empty if empty.is_empty() => String::new(),
        text => format!("; it said: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, header::HeaderName};

    const NOW: Timestamp = Timestamp::from_unix(784_111_777);

    fn reply(status: u16, fields: &[(HeaderName, &str)], body: &[u8]) -> Reply {
        let fields: HeaderMap = fields.iter().map(|(n, v)| (n.clone(), HeaderValue::from_str(v).unwrap())).collect();
        Reply { status: StatusCode::from_u16(status).unwrap(), fields, body: body.to_vec() }
    }

    #[test]
    fn every_status_has_its_scope_and_kind() {
        use Kind::{Permanent, Transient, Unknown};
        use Scope::{Endpoint, Issuer, Item, OwnCredential};
        for (status, scope, kind) in [
            (204, Item, Unknown),
            (301, Issuer, Permanent),
            (307, Issuer, Permanent),
            (400, Issuer, Permanent),
            (401, OwnCredential, Permanent),
            (403, Issuer, Permanent),
            (404, Issuer, Permanent),
            (405, Issuer, Permanent),
            (408, Endpoint, Transient),
            (410, Issuer, Permanent),
            (422, Issuer, Permanent),
            (429, Endpoint, Transient),
            (500, Issuer, Transient),
            (501, Issuer, Transient),
            (502, Endpoint, Transient),
            (503, Endpoint, Transient),
            (504, Endpoint, Transient),
            (599, Issuer, Transient),
        ] {
            let failure = of_status("main", "POST /x", &reply(status, &[], b""), NOW);
            assert_eq!((failure.scope, failure.kind), (scope, kind), "{status}");
            assert!(failure.message().contains(&status.to_string()), "{failure}");
        }
    }

    #[test]
    fn what_a_model_meets_means_what_it_means_of_a_real_service() {
        use Kind::{Permanent, Transient, Unknown};
        use Scope::{Endpoint, Issuer, Item, OwnCredential};
        for (what, scope, kind) in [
            (Met::Status(403, None), Issuer, Permanent),
            (Met::Status(500, None), Issuer, Transient),
            (Met::Status(503, Some(7)), Endpoint, Transient),
            (Met::Unusable, Item, Unknown),
            (Met::Unreachable, Endpoint, Transient),
            (Met::Unanswered, Endpoint, Unknown),
            (Met::CredentialRefused, OwnCredential, Permanent),
        ] {
            let failure = met(what);
            assert_eq!((failure.scope, failure.kind), (scope, kind), "{what:?}");
        }
        assert_eq!(met(Met::Status(503, Some(7))).retry_after, Some(Duration::from_secs(7)));
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_bounded() {
        let after = |value: &str| retry_after(&reply(202, &[(RETRY_AFTER, value)], b""), NOW);
        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert_eq!(after(" 0 "), Some(Duration::ZERO));
        assert_eq!(after("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(after("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("99999999999999999999999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(after("Fri, 31 Dec 9999 23:59:59 GMT"), Some(MAX_RETRY_AFTER));
        for bad in ["", "-1", "1.5", "soon"] {
            assert_eq!(after(bad), None, "{bad}");
        }
        let failure = of_status("main", "POST /x", &reply(503, &[(RETRY_AFTER, "7")], b"busy"), NOW);
        assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
        assert!(failure.message().ends_with("it said: busy"), "{failure}");
    }

    #[test]
    fn redirects_and_pages_are_named() {
        let redirect = of_status("main", "POST /x", &reply(302, &[(LOCATION, "https://evil.example/")], b""), NOW);
        assert!(redirect.message().contains("https://evil.example/, which is not followed"), "{redirect}");
        let page = of_status("main", "POST /x", &reply(404, &[(CONTENT_TYPE, "text/html")], b"Not found"), NOW);
        assert!(page.message().contains("HTML page"), "{page}");
    }
}
