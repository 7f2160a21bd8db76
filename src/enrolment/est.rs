//! Enrolment over Secure Transport (RFC 7030, RFC 8951).

use super::{Enrolment, Failure, Kind, Leave, Order, Outcome, Purpose, Scope, Submitted, accept, answer, body};
use crate::config::{BasicCredential, plain_name};
use crate::https::{Client, ClientCredential, Reply, Request};
use crate::signer::files::read_key_file;
use crate::time::{Clock, monotonic};
use bytes::Bytes;
use data_encoding::BASE64;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, StatusCode};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Characters of base64 to a line (RFC 2045 §6.8 allows 76). RFC 8951 §3.1 allows one long line, but older servers stop
/// reading at 1024 characters.
const LINE: usize = 64;

/// RFC 7617 §2.
const SCHEME: &str = "Basic ";

/// An EST server.
pub struct Est {
    name: String,
    client: Client,
    basic: Option<BasicCredential>,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl Est {
    /// The service `name`; `timeout` bounds each exchange.
    pub fn new(name: impl Into<String>, client: Client, timeout: Duration, clock: Arc<dyn Clock>) -> Self {
        Est { name: name.into(), client, basic: None, timeout, clock }
    }

    /// With HTTP basic authentication (RFC 7030 §3.2.3, RFC 7617) beside or instead of a client certificate. The password is
    /// read at each request.
    #[must_use]
    pub fn with_basic(mut self, basic: BasicCredential) -> Self {
        self.basic = Some(basic);
        self
    }

    /// The CA certificates that the server distributes (RFC 7030 §4.1), in DER; not to be trusted without looking.
    /// `profile` is the label, empty for the server's default.
    pub async fn cacerts(&self, profile: &str, deadline: Instant) -> Result<Vec<Vec<u8>>, Failure> {
        let path = self.path(profile, "cacerts")?;
        let asked = format!("GET {path}");
        let request = self.request(Method::GET, path, Bytes::new())?;
        let reply = self.exchange(&request, &Leave::default(), deadline).await?;
        match reply.status {
            StatusCode::OK => body::certificates(&reply.body).map_err(|e| answer::of_body(&self.name, &asked, &e)),
            _ => Err(answer::of_status(&self.name, &asked, &reply, self.clock.now())),
        }
    }

    async fn enrol(&self, order: &Order, deadline: Instant) -> Result<Outcome, Failure> {
        let operation = match order.purpose {
            Purpose::Signer => "simpleenroll",
            Purpose::OwnCredential => "simplereenroll",
        };
        let path = self.path(&order.profile, operation)?;
        let asked = format!("{operation} for {} (profile {}, order {})", order.issuer, order.profile, order.id);
        let request = self.request(Method::POST, path, in_lines(&order.csr_der).into())?;
        let reply = self.exchange(&request, &order.leave, deadline).await?;
        match reply.status {
            StatusCode::OK => match body::certificates(&reply.body) {
                Ok(certificates) => Ok(Outcome::Issued(accept::ours_first(order, certificates))),
                Err(e) => Err(answer::of_body(&self.name, &asked, &e)),
            },
            // RFC 7030 §4.2.3: the same request is sent again after that time.
            StatusCode::ACCEPTED => {
                let retry_after = answer::retry_after(&reply, self.clock.now());
                Ok(Outcome::Waiting { retry_after, handle: None })
            }
            _ => Err(answer::of_status(&self.name, &asked, &reply, self.clock.now())),
        }
    }

    async fn exchange(&self, request: &Request, leave: &Leave, deadline: Instant) -> Result<Reply, Failure> {
        let deadline = monotonic().checked_add(self.timeout).map_or(deadline, |ours| ours.min(deadline));
        self.client.exchange_if(request, leave, deadline).await.map_err(|e| answer::of_error(&self.name, &e))
    }

    fn path(&self, profile: &str, operation: &str) -> Result<String, Failure> {
        if profile.is_empty() {
            return Ok(format!("/.well-known/est/{operation}"));
        }
        plain_name(profile).map_err(|e| {
            let text = format!("enrolment.{}: the profile cannot be part of a path: {e}", self.name);
            Failure::new(Scope::Issuer, Kind::Permanent, text)
        })?;
        Ok(format!("/.well-known/est/{profile}/{operation}"))
    }

    fn request(&self, method: Method, path: String, body: Bytes) -> Result<Request, Failure> {
        let mut fields = HeaderMap::new();
        fields.insert(ACCEPT, HeaderValue::from_static("application/pkcs7-mime"));
        fields.insert(USER_AGENT, HeaderValue::from_static(concat!("stillgood/", env!("CARGO_PKG_VERSION"))));
        if method == Method::POST {
            fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/pkcs10"));
        }
        if let Some(basic) = &self.basic {
            fields.insert(AUTHORIZATION, self.authorization(basic)?);
        }
        Ok(Request { method, path, fields, body })
    }

    fn authorization(&self, basic: &BasicCredential) -> Result<HeaderValue, Failure> {
        let unusable = |text: String| {
            let text = format!("our password for enrolment.{}: {text}", self.name);
            Failure::new(Scope::OwnCredential, Kind::Permanent, text)
        };
        let file = read_key_file(&basic.password_file).map_err(|e| unusable(e.to_string()))?;
        let password = file.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default();
        if password.is_empty() {
            return Err(unusable(format!("{}: its first line is empty", basic.password_file.display())));
        }
        let mut pair = Zeroizing::new(Vec::with_capacity(basic.user.len() + 1 + password.len()));
        pair.extend_from_slice(basic.user.as_bytes());
        pair.push(b':');
        pair.extend_from_slice(password);
        // Of its final length from the beginning: a string that grows leaves a copy behind.
        let mut value = Zeroizing::new(String::with_capacity(SCHEME.len() + BASE64.encode_len(pair.len())));
        value.push_str(SCHEME);
        BASE64.encode_append(&pair, &mut value);
        let mut value = HeaderValue::from_str(&value).map_err(|e| unusable(e.to_string()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl Enrolment for Est {
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

    fn credential(&self) -> Option<&Arc<ClientCredential>> {
        self.client.tls().and_then(|tls| tls.credential())
    }

    fn secret_file(&self) -> Option<&Path> {
        self.basic.as_ref().map(|basic| basic.password_file.as_path())
    }
}

fn in_lines(der: &[u8]) -> Vec<u8> {
    let text = BASE64.encode(der);
    let mut out = Vec::with_capacity(text.len() + text.len() / LINE + 1);
    for line in text.as_bytes().chunks(LINE) {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out
}
