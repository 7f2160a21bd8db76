//! From the configuration to something that can be asked.

use super::{Cfssl, Command, Enrolment, Est, Local, Validity, body};
use crate::config::{self, Protocol};
use crate::https::{Client, ClientCredential, Limits, Tls, Url, UrlError};
use crate::time::Clock;
use std::sync::Arc;

/// Builds the service `[enrolment.NAME]`. Contacts nobody and reads no file: certificates, keys and roots are read when they
/// are needed, and again when they change.
///
/// # Errors
/// A URL that the configuration should not have let through.
pub fn build(name: &str, config: &config::Enrolment, clock: Arc<dyn Clock>) -> Result<Arc<dyn Enrolment>, UrlError> {
    let max = usize::try_from(config.max_in_flight).unwrap_or(1);
    let limits = Limits { max_connections: max, connect_timeout: config.connect_timeout, max_body: body::MAX_LEN };
    Ok(match &config.protocol {
        Protocol::Local { ca_keys, validity } => {
            Arc::new(Local::new(name, ca_keys, clock).with_validity(Validity::of(*validity)))
        }
        Protocol::Command { command } => Arc::new(Command::new(name, command.clone(), config.timeout, max)),
        Protocol::Est { url, trust, client, basic } => {
            let credential = client.as_ref().map(|c| {
                let owner = format!("enrolment.{name}");
                Arc::new(ClientCredential::new(owner, &c.certificate, &c.key, clock.clone()))
            });
            let tls = Tls::new(trust, credential, clock.clone());
            let client = Client::new(url.parse::<Url>()?, Some(tls), limits);
            let est = Est::new(name, client, config.timeout, clock);
            match basic {
                Some(basic) => Arc::new(est.with_basic(basic.clone())),
                None => Arc::new(est),
            }
        }
        Protocol::Cfssl { url, auth_key, trust } => {
            let tls = trust.as_ref().map(|trust| Tls::new(trust, None, clock.clone()));
            let client = Client::new(url.parse::<Url>()?, tls, limits);
            Arc::new(Cfssl::new(name, client, auth_key, config.timeout, clock))
        }
    })
}
