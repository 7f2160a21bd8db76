//! `[registry]`: where the registry comes from, and how much of it may change at once.

use super::document::{Collector, Node, Section, Value};
use super::response::{duration, shown};
use super::{enrolment, path};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The registry is small; half a minute is how long a disabled CA may still be asked.
pub const DEFAULT_REGISTRY_REFRESH: Duration = Duration::from_secs(30);
/// Thirty missed refreshes: by then the sync is broken, and what was active then may not be now.
pub const DEFAULT_REGISTRY_MAX_AGE: Duration = Duration::from_secs(900);
/// Name, TCP and TLS to a server that is well; what takes longer is asked again later.
pub const DEFAULT_REGISTRY_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A document of some megabytes over a slow line; it is also how long a renewal may wait for its evidence.
pub const DEFAULT_REGISTRY_TIMEOUT: Duration = Duration::from_secs(15);
/// What is changed on purpose is a few issuers; a fifth of them at once is a generator that lost its input.
pub const DEFAULT_REGISTRY_MAX_CHANGE: f64 = 0.2;
/// A lab of three issuers may change all of them, and a mistake with five can be repaired by hand.
pub const DEFAULT_REGISTRY_SMALL_CHANGE: usize = 5;

/// Where the registry comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistrySource {
    /// A file.
    File(PathBuf),
    /// An `https://` URL.
    Https(String),
}

/// `[registry]`: which issuers there are.
#[derive(Clone, Debug, PartialEq)]
pub struct Registry {
    /// Where it comes from.
    pub source: RegistrySource,
    /// How often it is looked at again (a changed file is also noticed at once).
    pub refresh: Duration,
    /// When the last successful look is older than this, no renewal starts.
    pub max_age: Duration,
    /// A new generation that would change more than this share of the known issuers is held for an operator; 1 holds none.
    pub max_change: f64,
    /// Up to so many issuers may change at once, whatever their share.
    pub small_change: usize,
    /// Paths inside a registry from a URL are relative to this directory, and stay in it.
    pub base: PathBuf,
    /// The roots the server's certificate must chain to; PEM. There is one where the source is a URL.
    pub trust: Option<PathBuf>,
    /// Our certificate and its key, PEM, where the server wants one.
    pub client: Option<(PathBuf, PathBuf)>,
    /// How long a connection to the server may take to stand.
    pub connect_timeout: Duration,
    /// How long a look at the server may take in all.
    pub timeout: Duration,
}

impl Registry {
    pub(super) fn read(mut s: Section<'_>, base: &Path, out: &mut Collector) -> Self {
        let source = s
            .optional("source", out, |n| match n.string()? {
                url if url.starts_with("https://") => enrolment::url(n, &["https://"]).map(RegistrySource::Https),
                url if url.contains("://") => Err(format!("\"{url}\" is neither a path nor an https:// URL")),
                _ => path(n, base).map(RegistrySource::File),
            })
            .unwrap_or_else(|| RegistrySource::File(base.join("issuers.json")));
        let refresh = s
            .optional("refresh", out, |n| duration(n, Duration::from_secs(1), Duration::from_secs(86_400)))
            .unwrap_or(DEFAULT_REGISTRY_REFRESH);
        let max_age = s
            .optional("max_age", out, |n| duration(n, Duration::from_secs(2), Duration::from_secs(7 * 86_400)))
            .unwrap_or(DEFAULT_REGISTRY_MAX_AGE);
        if max_age < refresh * 2 {
            let text = format!(
                "{} is less than twice refresh {}: one missed look would stop all renewal",
                shown(max_age),
                shown(refresh)
            );
            s.fault("max_age", &text, out);
        }
        let minute = |n: &Node| duration(n, Duration::from_millis(100), Duration::from_secs(60));
        let registry = Registry {
            source,
            refresh,
            max_age,
            max_change: s.optional("max_change", out, share).unwrap_or(DEFAULT_REGISTRY_MAX_CHANGE),
            small_change: s
                .optional("small_change", out, |n| n.integer(0, 1_000_000))
                .unwrap_or(DEFAULT_REGISTRY_SMALL_CHANGE),
            // "." as the directory of a file that is named without one, and nowhere else.
            base: s.optional("base", out, |n| path(n, base)).unwrap_or_else(|| base.join(".")).components().collect(),
            trust: s.optional("trust", out, |n| path(n, base)),
            client: client(&mut s, base, out),
            connect_timeout: s.optional("connect_timeout", out, minute).unwrap_or(DEFAULT_REGISTRY_CONNECT_TIMEOUT),
            timeout: s.optional("timeout", out, minute).unwrap_or(DEFAULT_REGISTRY_TIMEOUT),
        };
        if registry.connect_timeout > registry.timeout {
            s.fault("connect_timeout", "it is longer than timeout, of which it is a part", out);
        }
        if matches!(registry.source, RegistrySource::Https(_)) && !s.has("trust") {
            s.fault(
                "source",
                "trust is missing beside it; write trust = \"registry-roots.pem\", the roots the server chains to",
                out,
            );
        }
        s.finish(out);
        registry
    }
}

fn client(s: &mut Section<'_>, base: &Path, out: &mut Collector) -> Option<(PathBuf, PathBuf)> {
    let certificate = s.optional("client_certificate", out, |n| path(n, base));
    let key = s.optional("client_key", out, |n| path(n, base));
    match (s.has("client_certificate"), s.has("client_key")) {
        (true, false) => s.fault("client_certificate", "client_key is missing beside it", out),
        (false, true) => s.fault("client_key", "client_certificate is missing beside it", out),
        _ => {}
    }
    Some((certificate?, key?))
}

/// A fraction from 0 to 1.
fn share(node: &Node) -> Result<f64, String> {
    let found = match node.value {
        Value::Float(share) => share,
        Value::Integer(0) => 0.0,
        Value::Integer(1) => 1.0,
        _ => f64::NAN,
    };
    if (0.0..=1.0).contains(&found) {
        Ok(found)
    } else {
        Err("expected a share of the issuers from 0.0 to 1.0, as in 0.2".to_owned())
    }
}
