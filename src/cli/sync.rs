//! From configuration and registry to what the responder is told.

use crate::config::{self, Config};
use crate::endpoint::{Limits, Mounts};
use crate::presign::{DemandSettings, IssuerSettings};
use crate::registry::{Generation, Issuer, SignerSource};
use crate::responder::{IssuerSpec, SignerFiles};
use crate::status::Source;
use std::sync::Arc;

/// What each issuer of a generation becomes. Signers that are ordered from a CA service lie in the state directory once they have
/// been issued.
pub(super) fn specs(generation: &Generation) -> Vec<IssuerSpec> {
    generation.issuers.iter().map(spec).collect()
}

fn spec(issuer: &Arc<Issuer>) -> IssuerSpec {
    let signer = match &issuer.signer_source {
        SignerSource::Files { certificate, key } => {
            Some(SignerFiles { certificate: certificate.clone(), key: key.clone(), padding: issuer.signer.rsa_padding })
        }
        SignerSource::Enrolled { .. } => None,
    };
    let index = issuer.status.index.iter().cloned().map(Source::Index);
    let crl = issuer.status.crl.iter().cloned().map(Source::Crl);
    IssuerSpec {
        id: issuer.id.as_str().to_owned(),
        certificate: issuer.certificate.clone(),
        settings: settings(&issuer.response),
        signer,
        sources: index.chain(crl).collect(),
    }
}

fn settings(response: &config::Response) -> IssuerSettings {
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

/// What the endpoint may be made to use.
pub(super) fn limits(config: &Config) -> Limits {
    let endpoint = &config.endpoint;
    Limits {
        header_read: endpoint.header_timeout,
        body_read: endpoint.body_timeout,
        idle: endpoint.idle_timeout,
        write: endpoint.write_timeout,
        on_demand: config.on_demand.timeout,
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
