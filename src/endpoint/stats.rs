//! What the endpoint counts. One shard per worker, written by that worker alone and merged when somebody looks.

use super::source::StatusKind;
use crate::ocsp::ErrorStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the latency buckets of `stillgood_request_seconds`, in microseconds; one more bucket has no bound.
pub const LATENCY_BOUNDS_MICROS: [u64; 14] =
    [10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000, 5_000_000];

/// Names of the CertID hash algorithms as they are counted.
pub const HASHES: [&str; 5] = ["sha1", "sha256", "sha384", "sha512", "other"];

/// The method of a request, as counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MethodKind {
    /// GET.
    Get = 0,
    /// HEAD.
    Head = 1,
    /// POST.
    Post = 2,
    /// Anything else; the names are a client's to invent, so they are no label.
    Other = 3,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A signed answer that was held ready.
    Ready,
    /// A signed answer from the on-demand signer.
    OnDemand,
    /// 304.
    NotModified,
    /// An OCSP error.
    Refused(ErrorStatus),
    /// `GET /`.
    Greeting,
    /// 405.
    MethodNotAllowed,
}

/// What became of the nonce of a request that had one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum NonceResult {
    /// It is in the answer, which was signed for this request alone.
    Echoed = 0,
    /// The answer is without it: it lay ready or was signed for others too.
    LeftOut = 1,
    /// There is no signed answer.
    Refused = 2,
}

/// Something that happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Event {
    /// Accepted.
    Opened = 0,
    /// Ended, for whatever reason.
    Closed = 1,
    /// Refused because every place was taken and none could be freed.
    RefusedFull = 2,
    /// Refused because the client had its share.
    RefusedClient = 3,
    /// Closed to make room for a new one.
    Evicted = 4,
    /// Cut because a header section, a body or the next request did not come in time.
    ReadTimeout = 5,
    /// Cut because the client did not take what we sent.
    WriteTimeout = 6,
    /// Handed from the fast path to the general one.
    HandedOver = 7,
    /// The HTTP could not be understood; the client got 400, 414 or 431, or nothing.
    HttpError = 8,
    /// accept(2) failed.
    AcceptError = 9,
    /// A source offered an answer past its nextUpdate; the client got `tryLater`.
    Withheld = 10,
    /// The on-demand signer took longer than [`super::Limits::on_demand`].
    OnDemandTimeout = 11,
    /// A connection's task panicked; the connection was dropped, nothing else.
    Panicked = 12,
}

/// The counters of all workers at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    requests: [[u64; Outcome::COUNT]; MethodKind::ALL.len()],
    statuses: [u64; StatusKind::ALL.len()],
    hashes: [u64; HASHES.len()],
    nonces: [u64; NonceResult::ALL.len()],
    events: [u64; Event::ALL.len()],
    /// Requests per latency bucket, not cumulative; the last has no upper bound. See [`LATENCY_BOUNDS_MICROS`].
    pub latency: [u64; LATENCY_BOUNDS_MICROS.len() + 1],
    /// Sum of all latencies in nanoseconds. A latency runs from the moment the last octet of the request was read to the
    /// moment the answer was handed to the kernel.
    pub latency_sum_nanos: u64,
}

/// The counters of an endpoint. Cloning gives another handle to the same counters.
#[derive(Clone, Debug, Default)]
pub struct Stats(Arc<Vec<Arc<Shard>>>);

/// The counters of one worker, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Shard {
    requests: [[AtomicU64; Outcome::COUNT]; MethodKind::ALL.len()],
    statuses: [AtomicU64; StatusKind::ALL.len()],
    hashes: [AtomicU64; HASHES.len()],
    nonces: [AtomicU64; NonceResult::ALL.len()],
    events: [AtomicU64; Event::ALL.len()],
    latency: [AtomicU64; LATENCY_BOUNDS_MICROS.len() + 1],
    latency_sum_nanos: AtomicU64,
    /// Requests since the last one that was logged.
    unlogged: AtomicU64,
    /// Whether several threads write here. If not, counting needs no locked instruction.
    shared: bool,
}

impl MethodKind {
    /// All of them, in the order of their discriminants.
    pub const ALL: [MethodKind; 4] = [MethodKind::Get, MethodKind::Head, MethodKind::Post, MethodKind::Other];

    /// The label.
    pub const fn name(self) -> &'static str {
        match self {
            MethodKind::Get => "GET",
            MethodKind::Head => "HEAD",
            MethodKind::Post => "POST",
            MethodKind::Other => "other",
        }
    }
}

impl Outcome {
    const COUNT: usize = Self::ALL.len();
    /// All of them.
    pub const ALL: [Outcome; 10] = [
        Outcome::Ready,
        Outcome::OnDemand,
        Outcome::NotModified,
        Outcome::Greeting,
        Outcome::MethodNotAllowed,
        Outcome::Refused(ErrorStatus::MalformedRequest),
        Outcome::Refused(ErrorStatus::InternalError),
        Outcome::Refused(ErrorStatus::TryLater),
        Outcome::Refused(ErrorStatus::SigRequired),
        Outcome::Refused(ErrorStatus::Unauthorized),
    ];

    /// The label.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Ready => "ready",
            Outcome::OnDemand => "onDemand",
            Outcome::NotModified => "notModified",
            Outcome::Greeting => "greeting",
            Outcome::MethodNotAllowed => "methodNotAllowed",
            Outcome::Refused(status) => status.name(),
        }
    }

    const fn index(self) -> usize {
        match self {
            Outcome::Ready => 0,
            Outcome::OnDemand => 1,
            Outcome::NotModified => 2,
            Outcome::Greeting => 3,
            Outcome::MethodNotAllowed => 4,
            Outcome::Refused(ErrorStatus::MalformedRequest) => 5,
            Outcome::Refused(ErrorStatus::InternalError) => 6,
            Outcome::Refused(ErrorStatus::TryLater) => 7,
            Outcome::Refused(ErrorStatus::SigRequired) => 8,
            Outcome::Refused(ErrorStatus::Unauthorized) => 9,
        }
    }
}

impl NonceResult {
    /// All of them, in the order of their discriminants.
    pub const ALL: [NonceResult; 3] = [NonceResult::Echoed, NonceResult::LeftOut, NonceResult::Refused];

    /// The label.
    pub const fn name(self) -> &'static str {
        match self {
            NonceResult::Echoed => "echoed",
            NonceResult::LeftOut => "leftOut",
            NonceResult::Refused => "refused",
        }
    }
}

impl Event {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Event; 13] = [
        Event::Opened,
        Event::Closed,
        Event::RefusedFull,
        Event::RefusedClient,
        Event::Evicted,
        Event::ReadTimeout,
        Event::WriteTimeout,
        Event::HandedOver,
        Event::HttpError,
        Event::AcceptError,
        Event::Withheld,
        Event::OnDemandTimeout,
        Event::Panicked,
    ];

    /// The label.
    pub const fn name(self) -> &'static str {
        match self {
            Event::Opened => "opened",
            Event::Closed => "closed",
            Event::RefusedFull => "refusedFull",
            Event::RefusedClient => "refusedClient",
            Event::Evicted => "evicted",
            Event::ReadTimeout => "readTimeout",
            Event::WriteTimeout => "writeTimeout",
            Event::HandedOver => "handedOver",
            Event::HttpError => "httpError",
            Event::AcceptError => "acceptError",
            Event::Withheld => "withheld",
            Event::OnDemandTimeout => "onDemandTimeout",
            Event::Panicked => "panicked",
        }
    }
}

impl Snapshot {
    /// Requests of this method that ended so.
    pub fn requests(&self, method: MethodKind, outcome: Outcome) -> u64 {
        cell(&self.requests, method as usize).and_then(|row| cell(row, outcome.index())).copied().unwrap_or(0)
    }

    /// All requests that ended so.
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        MethodKind::ALL.into_iter().map(|m| self.requests(m, outcome)).sum()
    }

    /// Signed answers (304 included) that said so.
    pub fn status(&self, status: StatusKind) -> u64 {
        cell(&self.statuses, status as usize).copied().unwrap_or(0)
    }

    /// Well-formed requests by the hash of their first CertID, in the order of [`HASHES`].
    pub fn hashes(&self) -> [u64; HASHES.len()] {
        self.hashes
    }

    /// Well-formed requests with a nonce of which this became.
    pub fn nonces(&self, result: NonceResult) -> u64 {
        cell(&self.nonces, result as usize).copied().unwrap_or(0)
    }

    /// How often this happened.
    pub fn event(&self, event: Event) -> u64 {
        cell(&self.events, event as usize).copied().unwrap_or(0)
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.event(Event::Opened).saturating_sub(self.event(Event::Closed))
    }
}

impl Stats {
    /// `workers` shards with one writer each, and one at the end for anybody.
    pub(super) fn new(workers: usize) -> Self {
        let mut shards: Vec<_> = (0..workers).map(|_| Arc::new(Shard::default())).collect();
        shards.push(Arc::new(Shard { shared: true, ..Shard::default() }));
        Stats(Arc::new(shards))
    }

    pub(super) fn shard(&self, worker: usize) -> Arc<Shard> {
        self.0.get(worker).or(self.0.last()).cloned().unwrap_or_default()
    }

    /// The counters now. Not one instant for all of them: a request may be in one and not yet in another.
    pub fn snapshot(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        self.0.iter().for_each(|shard| shard.add_to(&mut sum));
        sum
    }
}

/// What a worker does to count one answer that lay ready, for the bench that says what it costs.
#[doc(hidden)]
pub fn counting_of_a_worker() -> impl FnMut(Duration) {
    let shard = Stats::new(1).shard(0);
    move |took| {
        shard.hash(Some(crate::ocsp::HashAlgorithm::Sha1));
        shard.status(StatusKind::Good);
        shard.request(MethodKind::Get, Outcome::Ready);
        shard.latency(took, 1);
    }
}

impl Shard {
    /// Whether the request at hand is the one in `every` that is logged.
    pub(super) fn is_sampled(&self, every: u32) -> bool {
        let is_due = self.unlogged.fetch_add(1, Relaxed) + 1 >= u64::from(every);
        if is_due {
            self.unlogged.store(0, Relaxed);
        }
        is_due
    }

    pub(super) fn request(&self, method: MethodKind, outcome: Outcome) {
        if let Some(counter) = cell(&self.requests, method as usize).and_then(|row| cell(row, outcome.index())) {
            self.add(counter, 1);
        }
    }

    pub(super) fn status(&self, status: StatusKind) {
        if let Some(counter) = cell(&self.statuses, status as usize) {
            self.add(counter, 1);
        }
    }

    pub(super) fn hash(&self, hash: Option<crate::ocsp::HashAlgorithm>) {
        if let Some(counter) = cell(&self.hashes, hash.map_or(HASHES.len() - 1, |h| h as usize)) {
            self.add(counter, 1);
        }
    }

    /// To be called for requests with a nonce only: most have none, and cost no more than the question.
    pub(super) fn nonce(&self, result: NonceResult) {
        if let Some(counter) = cell(&self.nonces, result as usize) {
            self.add(counter, 1);
        }
    }

    pub(super) fn event(&self, event: Event) {
        if let Some(counter) = cell(&self.events, event as usize) {
            self.add(counter, 1);
        }
    }

    /// `count` requests that took this long each.
    pub(super) fn latency(&self, each: Duration, count: u64) {
        let nanos = u64::try_from(each.as_nanos()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_MICROS.iter().position(|bound| nanos <= bound * 1_000);
        if let Some(counter) = cell(&self.latency, bucket.unwrap_or(LATENCY_BOUNDS_MICROS.len())) {
            self.add(counter, count);
        }
        self.add(&self.latency_sum_nanos, nanos.saturating_mul(count));
    }

    fn add(&self, counter: &AtomicU64, n: u64) {
        if self.shared {
            counter.fetch_add(n, Relaxed);
        } else {
            counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
        }
    }

    fn add_to(&self, sum: &mut Snapshot) {
        fn all<'a>(to: impl IntoIterator<Item = &'a mut u64>, from: impl IntoIterator<Item = &'a AtomicU64>) {
            to.into_iter().zip(from).for_each(|(t, f)| *t = t.wrapping_add(f.load(Relaxed)));
        }
        all(sum.requests.as_flattened_mut(), self.requests.as_flattened());
        all(&mut sum.statuses, &self.statuses);
        all(&mut sum.hashes, &self.hashes);
        all(&mut sum.nonces, &self.nonces);
        // Closed is read before Opened would be, were they one line apart: `open` saturates instead of promising order.
        all(&mut sum.events, &self.events);
        all(&mut sum.latency, &self.latency);
        all([&mut sum.latency_sum_nanos], [&self.latency_sum_nanos]);
    }
}

fn cell<T>(cells: &[T], index: usize) -> Option<&T> {
    cells.get(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_has_its_own_counter_and_shards_are_merged() {
        let stats = Stats::new(2);
        for (n, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.index(), n);
            (0..=n).for_each(|worker| stats.shard(worker).request(MethodKind::Post, outcome));
        }
        for (n, event) in Event::ALL.into_iter().enumerate() {
            assert_eq!(event as usize, n);
            (0..=n).for_each(|worker| stats.shard(worker).event(event));
        }
        for (n, result) in NonceResult::ALL.into_iter().enumerate() {
            assert_eq!(result as usize, n);
            (0..=n).for_each(|worker| stats.shard(worker).nonce(result));
        }
        let snapshot = stats.snapshot();
        for (n, result) in (1..).zip(NonceResult::ALL) {
            assert_eq!(snapshot.nonces(result), n);
        }
        for (n, outcome) in (1..).zip(Outcome::ALL) {
            assert_eq!(snapshot.requests(MethodKind::Post, outcome), n);
            assert_eq!(snapshot.requests(MethodKind::Get, outcome), 0);
        }
        for (n, event) in (1..).zip(Event::ALL) {
            assert_eq!(snapshot.event(event), n);
        }
    }

    #[test]
    fn a_latency_lands_in_the_first_bucket_that_holds_it() {
        let stats = Stats::new(1);
        let shard = stats.shard(0);
        shard.latency(Duration::from_micros(10), 1);
        shard.latency(Duration::from_nanos(10_001), 2);
        shard.latency(Duration::from_secs(60), 1);
        let snapshot = stats.snapshot();
        assert_eq!(snapshot.latency.first(), Some(&1));
        assert_eq!(snapshot.latency.get(1), Some(&2));
        assert_eq!(snapshot.latency.last(), Some(&1));
        assert_eq!(snapshot.latency_sum_nanos, 60_000_030_002);
    }
}
