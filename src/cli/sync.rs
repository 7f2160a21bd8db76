//! From configuration and registry to what the responder is told.

use crate::audit::TrailLimits;
use crate::config::{self, Config};
use crate::endpoint::{Limits, Mounts};
use crate::presign::{DemandSettings, IssuerSettings};
use crate::registry::{Generation, Issuer, SignerSource, State};
use crate::responder::{IssuerSpec, SignerFiles, SignerOrigin};
use crate::signer::slots::{SlotFault, Slots};
use crate::status::Source;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The directory of the slots below a state directory.
const SLOTS: &str = "signers";

/// The audit trail of a state directory.
pub(super) fn audit_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("audit")
}

/// How much of the audit trail is kept.
pub(super) fn trail_limits(config: &Config) -> TrailLimits {
    TrailLimits { file_size: config.admin.audit_size.0, keep: config.admin.audit_keep }
}

/// Opens the slots of a state directory, and says what could not be used there.
pub(super) fn slots(state_dir: &Path) -> Result<(Slots, Vec<SlotFault>), String> {
    let dir = state_dir.join(SLOTS);
    let (slots, faults) = Slots::open(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    for fault in &faults {
        tracing::error!(issuer = fault.slot, "{fault}");
    }
    Ok((slots, faults))
}

/// The slots of a state directory, to be looked at beside a process that uses them.
pub(super) fn look_at_slots(state_dir: &Path) -> (PathBuf, io::Result<(Slots, Vec<SlotFault>)>) {
    let dir = state_dir.join(SLOTS);
    let seen = Slots::look(&dir);
    (dir, seen)
}

/// What each issuer of a generation becomes. Signers that are ordered from a CA service lie in slots.
pub(super) fn specs(generation: &Generation, slots: &Slots) -> Vec<IssuerSpec> {
    generation.issuers.iter().map(|issuer| spec(issuer, slots)).collect()
}

fn spec(issuer: &Arc<Issuer>, slots: &Slots) -> IssuerSpec {
    let padding = issuer.signer.rsa_padding;
    let signer = match &issuer.signer_source {
        SignerSource::Files { certificate, key } => {
            SignerOrigin::Files(SignerFiles { certificate: certificate.clone(), key: key.clone(), padding })
        }
        SignerSource::Enrolled { .. } => SignerOrigin::Slot { slot: slots.slot(issuer.id.as_str()), padding },
    };
    let index = issuer.status.index.iter().cloned().map(Source::Index);
    let crl = issuer.status.crl.iter().cloned().map(Source::Crl);
    IssuerSpec {
        id: issuer.id.as_str().to_owned(),
        certificate: issuer.certificate.clone(),
        settings: settings(&issuer.response),
        signer: Some(signer),
        sources: index.chain(crl).collect(),
        crls_are_complete: issuer.status.crls_are_complete,
        is_disabled: issuer.state == State::Disabled,
    }
}

pub(super) fn settings(response: &config::Response) -> IssuerSettings {
    IssuerSettings {
        profile: response.profile,
        validity: response.validity,
        refresh: response.refresh,
        backdate: response.backdate,
        certid_hashes: response.certid_hashes.clone(),
        responder_by_name: response.responder_id == config::ResponderIdForm::Name,
        answers_nonces: response.nonce == config::NoncePolicy::Answer,
        unissued: response.unissued,
        archive_cutoff: response.archive_cutoff == config::ArchiveCutoff::Issuer,
    }
}

/// So much longer than on-demand signing itself does the endpoint wait for it: of those who have waited for too long each is given
/// what is held for them, one after the other, and the endpoint, had it given up, would know nothing but `tryLater`.
const ON_DEMAND_GRACE: Duration = Duration::from_millis(500);

/// What the endpoint may be made to use.
pub(super) fn limits(config: &Config) -> Limits {
    let endpoint = &config.endpoint;
    Limits {
        header_read: endpoint.header_timeout,
        body_read: endpoint.body_timeout,
        idle: endpoint.idle_timeout,
        write: endpoint.write_timeout,
        on_demand: config.on_demand.timeout.saturating_add(ON_DEMAND_GRACE),
        max_connections: endpoint.max_connections,
        max_requests_per_connection: endpoint.max_requests_per_connection,
        max_connections_per_client: endpoint.max_connections_per_client,
        ..Limits::default()
    }
}

/// The paths under which the endpoint answers.
pub(super) fn mounts(config: &Config) -> Result<Mounts, String> {
    Mounts::new(&config.endpoint.mounts).map_err(|error| format!("[endpoint] mounts: {error}"))
}

/// The limits of signing while a client waits.
pub(super) fn demand(config: &Config) -> DemandSettings {
    DemandSettings {
        rate: config.on_demand.rate.count,
        per: config.on_demand.rate.per,
        queue: config.on_demand.queue,
        cache: config.on_demand.cache.0,
        timeout: config.on_demand.timeout,
        workers: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_waits_longer_than_on_demand_signing_takes_to_give_what_is_held() {
        let config = Config::parse("[on_demand]\ntimeout = \"1s\"\n", Path::new("x.toml"));
        let config = config.unwrap_or_else(|faults| panic!("{faults}"));
        let (endpoint, signing) = (limits(&config).on_demand, demand(&config).timeout);
        assert_eq!(signing, Duration::from_secs(1));
        assert!(endpoint >= signing + Duration::from_millis(500), "{endpoint:?}");
        // So it is for who embeds it, without a configuration.
        assert!(Limits::default().on_demand >= DemandSettings::default().timeout + Duration::from_millis(500));
    }
}
