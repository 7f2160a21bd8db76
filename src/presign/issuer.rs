//! One issuer as the presigner sees it: settings, signer and statuses, each swapped on its own.

use super::lag::Waiting;
use super::schedule::{CABF_MIN_VALIDITY, Cadence};
use super::table::Table;
use crate::ocsp::{HashAlgorithm, Profile, ResponderId, Unissued};
use crate::signer::Signer;
use crate::store::{IssuerSlot, Policy};
use crate::time::{Timestamp, monotonic};
use crate::x509::Certificate;
use arc_swap::{ArcSwap, ArcSwapOption};
use ring::digest;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The number of the next issuer.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// How an issuer's responses are made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IssuerSettings {
    /// Which rule book.
    pub profile: Profile,
    /// From thisUpdate to nextUpdate.
    pub validity: Duration,
    /// Signed again this long after thisUpdate.
    pub refresh: Duration,
    /// How far thisUpdate lies before signing.
    pub backdate: Duration,
    /// The CertID hashes that are signed ahead; others are signed on demand.
    pub certid_hashes: Vec<HashAlgorithm>,
    /// Name the signer by its subject instead of its key hash.
    pub responder_by_name: bool,
    /// Whether nonces are echoed.
    pub answers_nonces: bool,
    /// What is said of serials that were never issued.
    pub unissued: Unissued,
    /// Whether answers carry archiveCutoff with the notBefore of the issuer's certificate (RFC 6960 §4.4.4).
    pub archive_cutoff: bool,
}

impl Default for IssuerSettings {
    /// RFC 9919: four days, refreshed daily, by key, no nonces, `unauthorized` for what was not issued.
    fn default() -> Self {
        IssuerSettings {
            profile: Profile::Rfc9919,
            validity: Duration::from_secs(96 * 3600),
            refresh: Duration::from_secs(24 * 3600),
            backdate: Duration::from_secs(300),
            certid_hashes: vec![HashAlgorithm::Sha1],
            responder_by_name: false,
            answers_nonces: false,
            unissued: Unissued::Unauthorized,
            archive_cutoff: false,
        }
    }
}

impl IssuerSettings {
    /// The arithmetic of the dates.
    pub fn cadence(&self) -> Cadence {
        let least_validity = if self.profile == Profile::Cabf { CABF_MIN_VALIDITY } else { Duration::ZERO };
        Cadence { validity: self.validity, refresh: self.refresh, backdate: self.backdate, least_validity }
    }

    /// Changes when any of them does.
    pub fn fingerprint(&self) -> u64 {
        let digest = digest::digest(&digest::SHA256, format!("{self:?}").as_bytes());
        digest.as_ref().first_chunk::<8>().map_or(0, |octets| u64::from_le_bytes(*octets))
    }

    /// How the store treats misses and nonces.
    pub fn policy(&self, knows_unissued: bool) -> Policy {
        Policy {
            // RFC 8954, which CA/B BR §4.9.9 cites, ends at 32 octets; RFC 9654 §2.1 lets the answer leave out any other length
            // than 16 to 32, and we echo them all where no rule book speaks against it.
            nonces: self.answers_nonces.then_some(if self.profile == Profile::Cabf { (16, 32) } else { (1, 128) }),
            signs_misses: !knows_unissued || self.unissued != Unissued::Unauthorized,
        }
    }
}

/// A key that may sign for an issuer, with what its certificate says.
pub struct ActiveSigner {
    key: Arc<dyn Signer>,
    certificate: Certificate,
    delegated: bool,
}

impl ActiveSigner {
    /// A signer that has passed the self-check. `issuer` tells whether it is the CA itself, whose certificate is not put into
    /// responses.
    pub fn new(key: Arc<dyn Signer>, certificate: Certificate, issuer: &Certificate) -> Self {
        let delegated = certificate.spki_der() != issuer.spki_der();
        ActiveSigner { key, certificate, delegated }
    }

    /// The key.
    pub fn key(&self) -> &dyn Signer {
        &*self.key
    }

    /// Its certificate; the CA's own where the CA signs.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The certificate to embed: none when the CA signs itself.
    pub fn embedded(&self) -> Option<Vec<u8>> {
        self.delegated.then(|| self.certificate.der().to_vec())
    }

    /// notBefore and notAfter, between which it may sign and which no nextUpdate may pass.
    pub fn life(&self) -> (Timestamp, Timestamp) {
        (self.certificate.not_before(), self.certificate.not_after())
    }

    /// How responses name it.
    pub fn responder_id(&self, by_name: bool) -> ResponderId {
        if by_name {
            ResponderId::Name(self.certificate.subject_der().to_vec())
        } else {
            ResponderId::Key(self.certificate.responder_key_hash())
        }
    }
}

impl fmt::Debug for ActiveSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActiveSigner({}, serial {})", self.certificate.subject(), self.certificate.serial())
    }
}

/// What is needed to sign for an issuer, as of one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// How.
    pub settings: Arc<IssuerSettings>,
    /// With what; `None` while there is no usable signer.
    pub signer: Option<Arc<ActiveSigner>>,
    /// What; `None` until the sources have been read.
    pub table: Option<Arc<Table>>,
}

/// An issuer the presigner works for.
#[derive(Debug)]
pub struct Issuer {
    slot: Arc<IssuerSlot>,
    certificate: ArcSwap<Certificate>,
    key_id: [u8; 32],
    number: u64,
    view: ArcSwap<View>,
    sequence: AtomicU64,
    outdated_before: AtomicU64,
    removed: AtomicBool,
    is_looked_at: watch::Sender<bool>,
    epoch: AtomicU64,
    /// When everything was last to be signed again whatever it says.
    resigned: ArcSwapOption<Instant>,
    demand_fault: ArcSwapOption<String>,
    waiting: Waiting,
}

impl Issuer {
    /// An issuer of which nothing is known yet but its certificate and settings.
    pub fn new(id: &str, certificate: Certificate, settings: IssuerSettings) -> Self {
        let hashes = HashAlgorithm::ALL.map(|algorithm| certificate.issuer_hashes(algorithm));
        // Two records may have one key (a cross-signed CA); their segments must be told apart.
        let mut identity = digest::Context::new(&digest::SHA256);
        identity.update(certificate.spki_der());
        identity.update(id.as_bytes());
        let mut key_id = [0; 32];
        for (to, from) in key_id.iter_mut().zip(identity.finish().as_ref()) {
            *to = *from;
        }
        // Until a source has been read nobody knows whether it lists what was issued.
        let slot = Arc::new(IssuerSlot::new(id, hashes, settings.policy(false)));
        let view = View { settings: Arc::new(settings), signer: None, table: None };
        Issuer {
            slot,
            certificate: ArcSwap::from_pointee(certificate),
            key_id,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            view: ArcSwap::from_pointee(view),
            sequence: AtomicU64::new(1),
            outdated_before: AtomicU64::new(0),
            removed: AtomicBool::new(false),
            is_looked_at: watch::Sender::new(true),
            epoch: AtomicU64::new(0),
            resigned: ArcSwapOption::empty(),
            demand_fault: ArcSwapOption::empty(),
            waiting: Waiting::default(),
        }
    }

    /// The registry's name for it.
    pub fn id(&self) -> &str {
        self.slot.id()
    }

    /// Its place in the store.
    pub fn slot(&self) -> &Arc<IssuerSlot> {
        &self.slot
    }

    /// Its certificate.
    pub fn certificate(&self) -> Arc<Certificate> {
        self.certificate.load_full()
    }

    /// Changes when anything does that its signed responses depend on; kept in segment files.
    pub(super) fn fingerprint(&self, settings: &IssuerSettings) -> u64 {
        let own = settings.fingerprint();
        // archiveCutoff is the certificate's notBefore.
        let cutoff = self.certificate.load().not_before().unix().unsigned_abs();
        if settings.archive_cutoff { own ^ cutoff.wrapping_mul(0x9e37_79b9_7f4a_7c15) } else { own }
    }

    /// Takes another certificate of the same CA, one with the same key and name: a renewed one.
    pub(super) fn set_certificate(&self, certificate: Certificate) {
        self.certificate.store(Arc::new(certificate));
    }

    /// SHA-256 of its SubjectPublicKeyInfo and its id.
    pub fn key_id(&self) -> &[u8; 32] {
        &self.key_id
    }

    /// What no other issuer of this process has, one of the same id before or after it included: a CA may be re-keyed.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Settings, signer and statuses of this moment.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Swaps settings, signer or statuses.
    pub fn update(&self, mut change: impl FnMut(&View) -> View) {
        self.view.rcu(|view| Arc::new(change(view)));
    }

    /// The next sequence number; segments that begin later have higher ones.
    pub(super) fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::SeqCst)
    }

    /// Segments that have begun by now are to be signed again, whatever they say.
    pub(super) fn outdate(&self) {
        self.outdated_before.store(self.next_sequence(), Ordering::SeqCst);
    }

    /// Whether a segment with this sequence number is to be signed again, whatever it says.
    pub(super) fn is_outdated(&self, sequence: u64) -> bool {
        sequence < self.outdated_before.load(Ordering::SeqCst)
    }

    /// Notes that everything is to be signed again by whoever is the signer.
    pub(super) fn note_resigned(&self) {
        self.resigned.store(Some(Arc::new(monotonic())));
    }

    /// Whether that was so short a time ago.
    pub(super) fn was_resigned_within(&self, span: Duration) -> bool {
        self.resigned.load().as_ref().is_some_and(|at| monotonic().saturating_duration_since(**at) < span)
    }

    /// Counts on from what an earlier process has used.
    pub(super) fn raise_sequence(&self, used: u64) {
        self.sequence.fetch_max(used.saturating_add(1), Ordering::SeqCst);
    }

    /// Which answers that were signed on demand may be given: those whose signing began in this epoch.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Begins the next: answers signed on demand by now, or being signed, are not given any more.
    pub(super) fn begin_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Why the last signing on demand failed, if it did.
    pub fn demand_fault(&self) -> Option<Arc<String>> {
        self.demand_fault.load_full()
    }

    /// Notes how a signing on demand went.
    pub(super) fn note_on_demand(&self, fault: Option<String>) {
        if fault.is_some() || self.demand_fault.load().is_some() {
            self.demand_fault.store(fault.map(Arc::new));
        }
    }

    /// Stops all signing for it.
    pub fn remove(&self) {
        self.removed.store(true, Ordering::SeqCst);
    }

    /// Says that its signer and its sources are still to be looked at: until then, who asks for what does not lie ready waits.
    pub fn expect_look(&self) {
        self.is_looked_at.send_replace(false);
    }

    /// Says that they have been looked at, whatever came of it.
    pub fn mark_looked_at(&self) {
        self.is_looked_at.send_if_modified(|is_over| !std::mem::replace(is_over, true));
    }

    /// Tells when that is done; `None` if it is.
    pub(super) fn look_to_come(&self) -> Option<watch::Receiver<bool>> {
        let is_over = *self.is_looked_at.borrow();
        (!is_over).then(|| self.is_looked_at.subscribe())
    }

    /// Its revocations that are not served yet.
    pub(super) fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// Whether signing for it has been stopped.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::SeqCst)
    }
}
