//! Where documents come from: a file, or a server.

use super::MAX_LEN;
use super::memory::read_bounded;
use crate::config::{self, Fault, RegistrySource};
use crate::https::{Client, ClientCredential, Limits, Request, Tls, Url};
use crate::status::Watch;
use crate::time::{Clock, monotonic};
use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, HeaderValue, IF_NONE_MATCH, LOCATION, USER_AGENT};
use http::{HeaderMap, Method, StatusCode};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The longest entity tag that is sent back.
const MAX_ETAG: usize = 256;
/// One look at a time, and an idle connection that is used again.
const MAX_CONNECTIONS: usize = 1;

/// What is read, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spec {
    File(PathBuf),
    Https { url: String, trust: PathBuf, client: Option<(PathBuf, PathBuf)>, connect: Duration, timeout: Duration },
}

/// Why a source could not be read.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) fault: Fault,
    /// It may be in trouble: it is to be asked less often.
    pub(super) spare: bool,
}

/// An open source.
pub(super) enum Source {
    File { file: PathBuf, watch: Watch },
    Https(Box<Https>),
}

/// A server, and what it last answered.
pub(super) struct Https {
    name: PathBuf,
    client: Client,
    path: String,
    timeout: Duration,
    last: Option<(HeaderValue, Bytes)>,
}

impl Spec {
    pub(super) fn of(registry: &config::Registry) -> Self {
        match &registry.source {
            RegistrySource::File(file) => Spec::File(file.clone()),
            RegistrySource::Https(url) => Spec::Https {
                url: url.clone(),
                trust: registry.trust.clone().unwrap_or_default(),
                client: registry.client.clone(),
                connect: registry.connect_timeout,
                timeout: registry.timeout,
            },
        }
    }

    /// What faults call it.
    pub(super) fn name(&self) -> &Path {
        match self {
            Spec::File(file) => file,
            Spec::Https { url, .. } => Path::new(url),
        }
    }
}

impl Source {
    /// Nothing is read yet.
    pub(super) fn open(spec: &Spec, clock: &Arc<dyn Clock>) -> Result<Self, Fault> {
        match spec {
            Spec::File(file) => Ok(Source::File { file: file.clone(), watch: Watch::new([file.clone()]) }),
            Spec::Https { url, trust, client, connect, timeout } => {
                let mut server: Url = url.parse().map_err(|e| Fault::of_file(url, format!("{e}")))?;
                let path = match std::mem::take(&mut server.path) {
                    empty if empty.is_empty() => "/".to_owned(),
                    path => path,
                };
                let credential = client.as_ref().map(|(certificate, key)| {
                    Arc::new(ClientCredential::new("the registry", certificate, key, clock.clone()))
                });
                let tls = Tls::new(trust, credential, clock.clone());
                let limits = Limits { max_connections: MAX_CONNECTIONS, connect_timeout: *connect, max_body: MAX_LEN };
                let client = Client::new(server, Some(tls), limits);
                let https = Https { name: url.into(), client, path, timeout: *timeout, last: None };
                Ok(Source::Https(Box::new(https)))
            }
        }
    }

    /// Whether it is known to have changed since this was last asked; only files are.
    pub(super) fn has_changed(&mut self) -> bool {
        match self {
            Source::File { watch, .. } => !watch.poll().is_empty(),
            Source::Https(_) => false,
        }
    }

    /// What it says now.
    pub(super) async fn read(&mut self) -> Result<Bytes, Unreadable> {
        match self {
            // Its own thread: nobody else waits for a disk that hangs.
            Source::File { file, .. } => read_bounded(file, MAX_LEN).map(Bytes::from).map_err(|e| Unreadable {
                fault: Fault::of_file(file.as_path(), format!("the registry cannot be read: {e}")),
                spare: false,
            }),
            Source::Https(https) => https.read().await,
        }
    }
}

impl Https {
    async fn read(&mut self) -> Result<Bytes, Unreadable> {
        let told = |text: String| Unreadable { fault: Fault::of_file(&self.name, text), spare: true };
        let mut fields = HeaderMap::new();
        fields.insert(USER_AGENT, HeaderValue::from_static(concat!("stillgood/", env!("CARGO_PKG_VERSION"))));
        fields.insert(ACCEPT, HeaderValue::from_static("application/json"));
        fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some((etag, _)) = &self.last {
            fields.insert(IF_NONE_MATCH, etag.clone());
        }
        let request = Request { method: Method::GET, path: self.path.clone(), fields, body: Bytes::new() };
        let now = monotonic();
        let deadline = now.checked_add(self.timeout).unwrap_or(now);
        let reply = self.client.exchange(&request, deadline).await;
        let reply = reply.map_err(|e| told(format!("the registry cannot be read: {e}")))?;
        match (reply.status, &self.last) {
            (StatusCode::NOT_MODIFIED, Some((_, document))) => Ok(document.clone()),
            (StatusCode::OK, _) => {
                if let Some(encoding) = reply.field(CONTENT_ENCODING).filter(|e| !e.eq_ignore_ascii_case("identity")) {
                    let text = format!("the server sent it as {encoding:?}, which was not asked for");
                    return Err(told(text));
                }
                let etag = reply.fields.get(ETAG).filter(|etag| etag.len() <= MAX_ETAG).cloned();
                let document = Bytes::from(reply.body);
                self.last = etag.map(|etag| (etag, document.clone()));
                Ok(document)
            }
            (status, _) => {
                let mut text = format!("the server answered {status} to a GET");
                if let (true, Some(to)) = (status.is_redirection(), reply.field(LOCATION)) {
                    let to: String = to.chars().take(200).collect();
                    text = format!("{text}, and redirects are not followed; if it has moved to {to:?}, name that");
                }
                Err(told(text))
            }
        }
    }
}
