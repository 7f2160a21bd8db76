//! CFSSL's `authsign`: JSON over HTTP, the request authenticated by an HMAC.

use super::failure::{excerpt, printable};
use super::{Enrolment, Failure, Kind, Order, Outcome, Purpose, Scope, Submitted, accept, answer, body};
use crate::https::{Client, Request};
use crate::signer::files::read_key_file;
use crate::time::{Clock, monotonic};
use crate::x509::pem;
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method};
use ring::hmac;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Where requests go, after the URL's own path.
const PATH: &str = "/api/v1/cfssl/authsign";
/// The most messages of an answer that are shown.
const MAX_ERRORS: usize = 4;

/// A CFSSL server. A profile for signers has `"usages": ["digital signature", "ocsp signing"]` and `"ocsp_no_check": true`.
pub struct Cfssl {
    name: String,
    client: Client,
    auth_key: PathBuf,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

/// `signer.SignRequest` of CFSSL, as far as it is needed.
#[derive(Serialize)]
struct SignRequest<'a> {
    certificate_request: &'a str,
    profile: &'a str,
}

/// `auth.AuthenticatedRequest`: Go encodes octets in base64.
#[derive(Serialize)]
struct Authenticated {
    token: String,
    request: String,
}

#[derive(Deserialize)]
struct Answer {
    success: bool,
    result: Option<Signed>,
    #[serde(default)]
    errors: Vec<Message>,
}

#[derive(Deserialize)]
struct Signed {
    certificate: String,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
}

impl Cfssl {
    /// The service `name`; the file holds the hexadecimal key of the profile's auth provider and is read at each request.
    pub fn new(
        name: impl Into<String>,
        client: Client,
        auth_key: impl Into<PathBuf>,
        timeout: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Cfssl { name: name.into(), client, auth_key: auth_key.into(), timeout, clock }
    }

    async fn enrol(&self, order: &Order, deadline: Instant) -> Result<Outcome, Failure> {
        if order.purpose == Purpose::OwnCredential {
            let text = format!("enrolment.{}: CFSSL renews no client credential", self.name);
            return Err(Failure::new(Scope::Issuer, Kind::Permanent, text));
        }
        let request = self.request(order)?;
        let asked = format!("authsign for {} (profile {}, order {})", order.issuer, order.profile, order.id);
        let deadline = monotonic().checked_add(self.timeout).map_or(deadline, |ours| ours.min(deadline));
        let reply = self.client.exchange_if(&request, &order.leave, deadline).await;
        let reply = reply.map_err(|e| answer::of_error(&self.name, &e))?;
        let Ok(answer) = serde_json::from_slice::<Answer>(&reply.body) else {
            return Err(match reply.status.as_u16() {
                200 => {
                    let reason = format!("it is not CFSSL's JSON; it begins \"{}\"", excerpt(&reply.body, body::SHOWN));
                    answer::of_body(&self.name, &asked, &reason)
                }
                _ => answer::of_status(&self.name, &asked, &reply, self.clock.now()),
            });
        };
        match answer.result {
            Some(signed) if answer.success && reply.status.is_success() => {
                match body::certificates(signed.certificate.as_bytes()) {
                    Ok(certificates) => Ok(Outcome::Issued(accept::ours_first(order, certificates))),
                    Err(e) => Err(answer::of_body(&self.name, &asked, &e)),
                }
            }
            _ => Err(self.refused(&asked, reply.status.as_u16(), &answer.errors)),
        }
    }

    fn request(&self, order: &Order) -> Result<Request, Failure> {
        let local = |e: serde_json::Error| Failure::new(Scope::Local, Kind::Permanent, e.to_string());
        let csr = pem::encode("CERTIFICATE REQUEST", &order.csr_der);
        let inner = SignRequest { certificate_request: &csr, profile: &order.profile };
        let inner = serde_json::to_vec(&inner).map_err(local)?;
        let token = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.key()?), &inner);
        let outer = Authenticated { token: BASE64.encode(token.as_ref()), request: BASE64.encode(&inner) };
        let mut fields = HeaderMap::new();
        fields.insert(ACCEPT, HeaderValue::from_static("application/json"));
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        fields.insert(USER_AGENT, HeaderValue::from_static(concat!("stillgood/", env!("CARGO_PKG_VERSION"))));
        let body = serde_json::to_vec(&outer).map_err(local)?.into();
        Ok(Request { method: Method::POST, path: PATH.to_owned(), fields, body })
    }

    /// The shared secret is our credential here.
    fn key(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let unusable = |text: String| {
            let text = format!("our CFSSL key for enrolment.{}: {text}", self.name);
            Failure::new(Scope::OwnCredential, Kind::Permanent, text)
        };
        let text = read_key_file(&self.auth_key).map_err(|e| unusable(e.to_string()))?;
        match HEXLOWER_PERMISSIVE.decode(text.trim_ascii()) {
            Ok(key) if !key.is_empty() => Ok(Zeroizing::new(key)),
            _ => {
                Err(unusable(format!("{}: not a key in hexadecimal, as in CFSSL's auth_keys", self.auth_key.display())))
            }
        }
    }

    /// CFSSL answers most failures with 400 or 500 and says in words what it was; a wrong token is told only there.
    fn refused(&self, asked: &str, status: u16, errors: &[Message]) -> Failure {
        let words: Vec<String> = errors
            .iter()
            .take(MAX_ERRORS)
            .map(|e| format!("{} (code {})", printable(&e.message, body::SHOWN), e.code))
            .collect();
        let words = if words.is_empty() { "no reason given".to_owned() } else { words.join(", ") };
        let is_token = errors.iter().any(|e| e.message.to_ascii_lowercase().contains("token"));
        let (scope, kind, advice) = match status {
            _ if is_token => (
                Scope::OwnCredential,
                Kind::Permanent,
                format!("see that {} holds the key of the profile's auth provider", self.auth_key.display()),
            ),
            401 => (Scope::OwnCredential, Kind::Permanent, format!("see {}", self.auth_key.display())),
            408 | 425 | 429 | 502..=504 => (Scope::Endpoint, Kind::Transient, "it is tried again later".to_owned()),
            500.. => (Scope::Issuer, Kind::Transient, "it is tried again later".to_owned()),
            _ => (
                Scope::Issuer,
                Kind::Permanent,
                "see that the profile in the registry is one that the server has, with an auth_key".to_owned(),
            ),
        };
        let text = format!("enrolment.{}: {asked} was answered {status}: {words}; {advice}", self.name);
        Failure::new(scope, kind, text)
    }
}

impl Enrolment for Cfssl {
    fn submit<'a>(&'a self, order: &'a Order, deadline: Instant) -> Submitted<'a> {
        Box::pin(async move { self.enrol(order, deadline).await.unwrap_or_else(Outcome::Failed) })
    }

    fn endpoint(&self) -> &str {
        &self.name
    }

    fn connections(&self) -> usize {
        self.client.connections()
    }

    fn max_connections(&self) -> usize {
        self.client.max_connections()
    }

    fn secret_file(&self) -> Option<&Path> {
        Some(&self.auth_key)
    }
}
