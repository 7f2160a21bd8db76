//! Enrolment: asking a CA for a signer's certificate, one file per protocol behind one trait.
//!
//! An [`Order`] is complete in itself: its key exists, its request is signed, its id is fixed. It may be submitted again at
//! any time, after a time-out, a crash or on another day, and stays the same order: one key at the CA, ever. Nothing here
//! retries, waits for its turn or decides when to ask; that is for whoever holds the orders. Every attempt ends by its
//! deadline, uses at most the configured number of connections, and says of a failure how far it reaches
//! ([`Scope`]) and whether asking again can help ([`Kind`]).

mod accept;
mod answer;
mod body;
mod build;
mod cfssl;
mod command;
mod est;
mod failure;
mod local;

pub use accept::accept;
pub use answer::{Met, met};
pub use build::{build, build_est};
pub use cfssl::Cfssl;
pub use command::{Command, EXIT_NOT_SET_UP, EXIT_REFUSED, EXIT_TRY_AGAIN, EXIT_UNAVAILABLE, EXIT_WAITING};
pub use est::Est;
pub use failure::{Failure, Kind, Scope};
pub use local::{DEFAULT_BACKDATE, DEFAULT_LIFE, Local, Validity, sign};

pub use crate::https::{ClientCredential, CredentialError, Leave};
use crate::x509::Certificate;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest wait a CA may ask for that is passed on; whoever schedules bounds it by the signer's own deadline.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(7 * 86_400);

/// What a certificate is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To sign OCSP responses for an issuer.
    Signer,
    /// To prove ourselves to the CA service: the agent's own client certificate.
    OwnCredential,
}

/// One order for one certificate. Submitting it twice orders nothing twice: key, request and id stay the same.
#[derive(Clone, Debug)]
pub struct Order {
    /// Names the order in logs and to programs; unique.
    pub id: String,
    /// The registry's id of the issuer; for our own credential, the name of the CA service.
    pub issuer: String,
    /// What the CA calls this kind of certificate: EST's label, CFSSL's profile.
    pub profile: String,
    /// What it is for.
    pub purpose: Purpose,
    /// The PKCS#10 request, signed by the new key.
    pub csr_der: Vec<u8>,
    /// The SubjectPublicKeyInfo of the new key, as in the request.
    pub spki_der: Vec<u8>,
    /// The CA that is to issue it, where it is known; [`Local`] needs it.
    pub issuer_certificate: Option<Arc<Certificate>>,
    /// Leave to send it, taken at the last moment: whoever holds the orders withdraws it when the issuer is disabled meanwhile.
    pub leave: Leave,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The CA issued. DER certificates, the one for the order's key first if there is one; nothing is verified yet, see
    /// [`accept`].
    Issued(Vec<Vec<u8>>),
    /// The CA has the order and has not decided. Submit the same order again, not before `retry_after`.
    Waiting {
        /// How long the CA wants to be left alone, at most [`MAX_RETRY_AFTER`]; `None` when it did not say.
        retry_after: Option<Duration>,
        /// What the CA calls the pending request, for people; at most [`Failure::MAX_LEN`] octets.
        handle: Option<String>,
    },
    /// Everything else. A refusal is a failure of kind [`Kind::Permanent`].
    Failed(Failure),
}

/// What [`Enrolment::submit`] returns.
pub type Submitted<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// A CA service, by whatever protocol.
pub trait Enrolment: Send + Sync {
    /// Asks once, for a new order or for one that was submitted before: the outcome is there at `deadline` at the latest,
    /// or earlier when the service's own time-out is shorter. Dropping the future ends the attempt: its connection is
    /// closed, its process killed. [`Order::leave`] is taken when the request is about to leave, and nothing is sent if it was
    /// withdrawn.
    fn submit<'a>(&'a self, order: &'a Order, deadline: Instant) -> Submitted<'a>;

    /// The name of the service in the configuration; state is kept by it.
    fn endpoint(&self) -> &str;

    /// Connections (or processes) open now, idle ones included; never more than [`Enrolment::max_connections`].
    fn connections(&self) -> usize;

    /// The most there may be.
    fn max_connections(&self) -> usize;

    /// The client certificate by which we prove ourselves, to be watched and renewed.
    fn credential(&self) -> Option<&Arc<ClientCredential>> {
        None
    }

    /// The file of the password or shared key by which we prove ourselves, to be watched: another one ends a refusal.
    fn secret_file(&self) -> Option<&Path> {
        None
    }
}
