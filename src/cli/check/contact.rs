//! What the CA services that signers are ordered from distribute, asked by `check --contact`.

use crate::config::{Config, Fault};
use crate::enrolment::build_est;
use crate::registry::Issuer;
use crate::time::{Clock, SystemClock, monotonic};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long all services together may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An active issuer whose signer is ordered, by which service under which label.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) issuer: Arc<Issuer>,
    pub(super) enrolment: String,
    pub(super) profile: String,
}

/// What one service distributes for one label.
#[derive(Debug, serde::Serialize)]
pub(super) struct Contact {
    /// The service.
    enrolment: String,
    /// The label.
    profile: String,
    /// How many CA certificates it distributes; `None`: it did not say.
    certificates: Option<usize>,
    /// Issuers whose CA certificate in the registry is among them.
    agree: Vec<String>,
    /// The others.
    differ: Vec<String>,
}

/// Asks each EST service for the CA certificates of each label by which signers are ordered (RFC 7030 §4.1.2). A service that does
/// not answer is a fault; a CA that is not among what it distributes is a warning, because it need not distribute all.
pub(super) fn est(
    config: &Config,
    ordered: &[Ordered],
    faults: &mut Vec<Fault>,
    warnings: &mut Vec<Fault>,
) -> Vec<Contact> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            faults.push(Fault::of_file(&config.file, format!("no CA service was asked: {e}")));
            return Vec::new();
        }
    };
    let end = monotonic() + PATIENCE;
    let mut contacts = Vec::new();
    for (name, enrolment) in &config.enrolment {
        let mut labels: BTreeMap<&str, Vec<&Ordered>> = BTreeMap::new();
        for one in ordered.iter().filter(|one| one.enrolment == *name) {
            labels.entry(&one.profile).or_default().push(one);
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut fault = |text: String| faults.push(Fault::of_file(&config.file, text));
        let service = match build_est(name, enrolment, clock) {
            Ok(Some(service)) => service,
            Ok(None) => continue,
            Err(e) => {
                fault(format!("enrolment.{name}: {e}"));
                continue;
            }
        };
        for (profile, issuers) in labels {
            let deadline: Instant = end.min(monotonic() + enrolment.timeout);
            let found = match monotonic() < end {
                true => runtime.block_on(service.cacerts(profile, deadline)).map_err(|f| f.to_string()),
                false => {
                    Err(format!("enrolment.{name}: not asked: the {} s for all services were over", PATIENCE.as_secs()))
                }
            };
            let mut contact = Contact {
                enrolment: name.clone(),
                profile: profile.to_owned(),
                certificates: found.as_ref().ok().map(Vec::len),
                agree: Vec::new(),
                differ: Vec::new(),
            };
            match found {
                Ok(certificates) => {
                    for one in issuers {
                        let id = one.issuer.id.to_string();
                        let is_there = certificates.iter().any(|der| der == one.issuer.certificate.der());
                        if is_there {
                            contact.agree.push(id);
                            continue;
                        }
                        let text = format!(
                            "{id}: its CA certificate is not among the {} that enrolment.{name} distributes for {profile}; see that \
                             the profile is that of this CA, and that the CA has not got another key",
                            certificates.len()
                        );
                        warnings.push(Fault::of_file(&config.file, text));
                        contact.differ.push(id);
                    }
                }
                Err(why) => fault(format!("the CA certificates for {profile}: {why}")),
            }
            contacts.push(contact);
        }
    }
    contacts
}

impl Contact {
    /// For people.
    pub(super) fn line(&self) -> String {
        let Contact { enrolment, profile, agree, differ, .. } = self;
        match self.certificates {
            None => format!("{enrolment}: {profile}: it did not say which CA certificates it distributes\n"),
            Some(count) => {
                let (agree, all) = (agree.len(), agree.len() + differ.len());
                format!(
                    "{enrolment}: {profile}: {count} CA certificates, among them those of {agree} of {all} issuers\n"
                )
            }
        }
    }
}
