//! From the configuration to something that can be asked.

use super::{Cfssl, Command, Enrolment, Est, Local, Validity, body};
use crate::config::{self, Protocol};
use crate::https::{Client, ClientCredential, Limits, Tls, Url, UrlError};
use crate::time::Clock;
use std::path::Path;
use std::sync::Arc;

/// Builds the service `[enrolment.NAME]`. Contacts nobody and reads no file: certificates, keys and roots are read when they
/// are needed, and again when they change.
///
/// # Errors
/// A URL that the configuration should not have let through.
pub fn build(name: &str, config: &config::Enrolment, clock: Arc<dyn Clock>) -> Result<Arc<dyn Enrolment>, UrlError> {
    Ok(match &config.protocol {
        Protocol::Local { ca_keys, validity } => {
            Arc::new(Local::new(name, ca_keys, clock).with_validity(Validity::of(*validity)))
        }
        Protocol::Command { command } => {
            let max = limits(config).max_connections;
            Arc::new(Command::new(name, command.clone(), config.timeout, max))
        }
        Protocol::Est { url, trust, client, basic } => {
            Arc::new(est(name, config, url, trust, client.as_ref(), basic.as_ref(), clock)?)
        }
        Protocol::Cfssl { url, auth_key, trust } => {
            let tls = trust.as_ref().map(|trust| Tls::new(trust, None, clock.clone()));
            let client = Client::new(url.parse::<Url>()?, tls, limits(config));
            Arc::new(Cfssl::new(name, client, auth_key, config.timeout, clock))
        }
    })
}

/// The EST server of `[enrolment.NAME]`, to be asked for what it distributes; `None`: the service speaks something else.
///
/// # Errors
/// A URL that the configuration should not have let through.
pub fn build_est(name: &str, config: &config::Enrolment, clock: Arc<dyn Clock>) -> Result<Option<Est>, UrlError> {
    match &config.protocol {
        Protocol::Est { url, trust, client, basic } => {
            est(name, config, url, trust, client.as_ref(), basic.as_ref(), clock).map(Some)
        }
        _ => Ok(None),
    }
}

fn est(
    name: &str,
    config: &config::Enrolment,
    url: &str,
    trust: &Path,
    client: Option<&config::ClientCredential>,
    basic: Option<&config::BasicCredential>,
    clock: Arc<dyn Clock>,
) -> Result<Est, UrlError> {
    let credential = client.map(|c| {
        let owner = format!("enrolment.{name}");
        Arc::new(ClientCredential::new(owner, &c.certificate, &c.key, clock.clone()))
    });
    let tls = Tls::new(trust, credential, clock.clone());
    let client = Client::new(url.parse::<Url>()?, Some(tls), limits(config));
    let est = Est::new(name, client, config.timeout, clock);
    Ok(match basic {
        Some(basic) => est.with_basic(basic.clone()),
        None => est,
    })
}

fn limits(config: &config::Enrolment) -> Limits {
    let max_connections = usize::try_from(config.max_in_flight).unwrap_or(1);
    Limits { max_connections, connect_timeout: config.connect_timeout, max_body: body::MAX_LEN }
}
