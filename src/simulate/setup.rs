//! What a world is made of, and what happens to it.

use super::agenda::{HOUR, MINUTE, Ms, SECOND};
use crate::config::defaults::{DEFAULT_REGISTRY_MAX_CHANGE, DEFAULT_REGISTRY_SMALL_CHANGE};
use crate::config::{HumanDuration, Rate};
use crate::registry::{Guard, IssuerId, State};
use crate::renewal::{EndpointId, IssuerSpec, Limits};
use crate::time::Timestamp;
use std::ops::Range;
use std::time::Duration;

/// The slots of a node: 0 is its credential at the CA, from 1 on the signers of the issuers in their order.
pub(super) type Slot = usize;

/// The slot of our own credential.
pub(super) const CREDENTIAL: Slot = 0;

pub(super) const fn days(n: u64) -> Duration {
    Duration::from_secs(n * 86_400)
}

/// A world before anything has happened in it.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// The time of day at virtual time 0.
    pub start: Timestamp,
    pub length: Ms,
    /// Responders of one fleet; each has a signer of its own for every issuer.
    pub nodes: usize,
    pub issuers: usize,
    /// The issuers themselves, where they are a user's own.
    pub own: Option<Vec<IssuerSpec>>,
    /// How old responses of each issuer become before they are signed again; of those not named, a quarter of their validity.
    pub refreshes: Vec<Duration>,
    /// Issuers that come later: they have no signer, and nobody knows them at the start.
    pub absent: Range<usize>,
    /// How long a signer's certificate is valid.
    pub life: Duration,
    /// How long a response is valid.
    pub validity: Duration,
    /// What must be left of a signer beyond that.
    pub margin: Duration,
    pub age: Age,
    /// Our client certificate: how long it is valid, and how much of that is left at the start.
    pub credential: Option<(Duration, Duration)>,
    /// What must be left of it when the next one takes over; none: a tenth of its life.
    pub credential_margin: Option<Duration>,
    /// The customers' calls go by it as well.
    pub customers_need_credential: bool,
    pub agent: Agent,
    pub field: Field,
    pub ca: CaSetup,
    pub customers: Option<Customers>,
    pub script: Vec<(Ms, Deed)>,
    /// How long after the last fault everything must be in order again.
    pub recovery: Duration,
    /// How wrong each node's clock is from the beginning, in milliseconds.
    pub skews: Vec<i64>,
    /// New signers wait for an operator.
    pub needs_approval: bool,
    /// What of a registry change an operator has to approve.
    pub guard: Guard,
    /// An operator lifts in the end what parks and pauses; otherwise what is parked or paused need not be in order.
    pub attended: bool,
    /// From when to when something is in the way, where the script says it so exactly; and after so long without anything,
    /// no signer may be in use too late.
    pub troubles: Vec<(Ms, Ms)>,
    pub quiet: Option<Ms>,
}

impl Setup {
    /// What must be left of our client certificate, where that is valid for so long, when the next one takes over.
    pub(super) fn credential_margin(&self, life: Duration) -> Duration {
        self.credential_margin.unwrap_or(life / 10)
    }

    /// The issuers, all at one CA service.
    pub(super) fn specs(&self) -> Result<Vec<IssuerSpec>, String> {
        if let Some(own) = &self.own {
            return Ok(own.clone());
        }
        let spec = |n: usize| {
            Ok(IssuerSpec {
                id: IssuerId::new(&format!("ca-{n:04}"))?,
                state: State::Active,
                endpoint: EndpointId::new("main")?,
                profile: format!("ocsp-{n:04}"),
                validity: self.validity,
                margin: self.margin,
                needs_approval: self.needs_approval,
                rest: 0,
                held_by: None,
            })
        };
        (1..=self.issuers).map(spec).collect()
    }
}

/// How old the signers are at the start.
#[derive(Clone, Copy, Debug)]
pub(super) enum Age {
    /// All were issued together, so long ago.
    Same(Duration),
    /// Issued evenly over this time.
    Even(Duration),
}

/// What the agent may ask of the CA, and when it looks at the registry.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    pub limits: Limits,
    pub rate: Rate,
    pub max_in_flight: u32,
    pub attempts_per_day: u32,
    pub timeout: Ms,
    pub refresh: Ms,
}

/// The policy of the field.
#[derive(Clone, Debug)]
pub(super) struct Field {
    /// At which share of a certificate's life it is renewed.
    pub fraction: f64,
    /// After a failure it asks again so much later.
    pub retry: Ms,
    pub timeout: Ms,
    /// A start asks for every signer anew: their keys were in memory only.
    pub starts_anew: bool,
    /// One loop looks at one item after the other, so often; otherwise each item has a timer.
    pub one_loop: Option<Ms>,
    /// A call that is over keeps its connection.
    pub leaks: bool,
    /// Somebody has to renew the credential by hand.
    pub watches_credential: bool,
}

impl Field {
    /// For people who compare it with ours.
    pub(super) fn in_words(&self) -> String {
        let time = |ms: Ms| HumanDuration(Duration::from_millis(ms));
        let looks = match self.one_loop {
            Some(every) => format!("looked at one after the other every {}", time(every)),
            None => format!("asked for again {} after a failure", time(self.retry)),
        };
        let mut text = format!(
            "renewed at {:.1} % of a certificate's life, {looks}, time-out {}",
            self.fraction * 100.0,
            time(self.timeout)
        );
        for (holds, what) in [
            (self.starts_anew, "; a restart asks for everything anew"),
            (self.leaks, "; a call that is over keeps its connection"),
            (!self.watches_credential, "; its own client certificate, where it has one, is nobody's"),
        ] {
            if holds {
                text.push_str(what);
            }
        }
        text
    }
}

/// The CA side.
#[derive(Clone, Debug)]
pub(super) struct CaSetup {
    pub queues: usize,
    /// Issuing servers; each takes from one queue.
    pub servers: usize,
    /// Mean time of one issuance.
    pub service: Ms,
    /// So many failures of one server within this time, and it rests for that long.
    pub backoff: Option<(usize, Ms, Ms)>,
    /// What one server could not issue is given to so many others.
    pub hand_over: u32,
    /// Connections the database takes; one per open call.
    pub connections: usize,
    /// With so many jobs waiting the service hangs until it is restarted.
    pub hangs_at: usize,
    /// An order that has been sent before is known again: no second certificate.
    pub remembers: bool,
    pub refusal: Refusal,
    /// It renews no client certificate: that is refused.
    pub no_credentials: bool,
}

/// What is said of an issuer for which the CA cannot issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// That this issuer is disabled.
    Clear,
    /// That something went wrong (HTTP 500).
    Opaque,
    /// That it does not know who asks (HTTP 401), as a label does that is no more.
    Stranger,
    /// Nothing.
    Silence,
}

/// Synchronous API customers who share the queue.
#[derive(Clone, Debug)]
pub(super) struct Customers {
    /// The mean time between two calls.
    pub every: Ms,
    /// They are told 503 after this.
    pub timeout: Ms,
    /// How often one who failed calls again.
    pub retries: u32,
    /// And after how long.
    pub retry: Ms,
    /// Accounts; each may fail so often a minute, then it is told 429.
    pub accounts: u64,
    pub account_rate: usize,
}

/// Something that is done to the world: a fault, its end, or an operator's action.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// The registry says so of these issuers, in its next generation.
    Publish {
        issuers: Range<usize>,
        says: Says,
        late: Ms,
        lost_to: Range<usize>,
    },
    /// The registry has all of this in its next generation, of which the nodes see only what the guard lets pass: where more
    /// would change than may change unasked, issuers stop being asked for, and the rest waits for an operator.
    Propose(Vec<(Range<usize>, Says)>),
    /// He approves what is held.
    Accept,
    RegistryDown(bool),
    /// The keys of these issuers are destroyed: nothing can be issued.
    DestroyKeys(Range<usize>),
    /// The front-end refuses what is destroyed by itself, and clearly.
    TellFrontEnd,
    Ca(CaState),
    /// Issuing takes so many hundredths of its usual time.
    CaSpeed(u64),
    /// If it hangs.
    RestartCa,
    Connections(usize),
    /// Orders of these issuers are answered by an error, without any work.
    Maintenance(Range<usize>),
    /// Certificates of these issuers are dated so long ago; `None`: as they should be.
    Backdate(Option<(Range<usize>, Duration)>),
    /// What waits in this queue is put aside, if more than so many wait in all.
    ParkQueue {
        queue: usize,
        if_over: usize,
    },
    /// What was put aside is queued again.
    Resubmit,
    /// The processes end and begin again. In the configuration of the field some issuers are gone after it, and some new.
    Restart {
        nodes: Range<usize>,
        dropping: Range<usize>,
        adding: Range<usize>,
    },
    /// Only where the field's policy runs: a new configuration is rolled out, and the processes begin anew with it.
    RollOut {
        nodes: Range<usize>,
        dropping: Range<usize>,
        adding: Range<usize>,
    },
    /// Only where ours runs: the configuration is read again.
    Reload(Range<usize>),
    /// The process of this node ends after so many more things that it wants done, and begins again after a minute.
    Crash(usize, u32),
    /// The processes end, if so many jobs wait at the CA.
    Stop {
        nodes: Range<usize>,
        if_over: usize,
    },
    Start(Range<usize>),
    /// These nodes' clocks jump by so many milliseconds.
    ClockJump(Range<usize>, i64),
    DiskFull(Range<usize>, bool),
    /// The certificate of this slot cannot be read, on all nodes.
    IllFormed(Slot),
    /// Where this certificate has expired or cannot be read, an operator puts a good one in place.
    Replace(Range<usize>, Slot),
    /// An operator of ours wants everything renewed now.
    RenewAll(Range<usize>),
    /// An operator lifts all parks.
    Unpark(Range<usize>),
    Pause(Range<usize>, Duration),
    /// He ends the pause.
    Resume(Range<usize>),
    /// An operator approves every new signer that is in place.
    Approve(Range<usize>),
    /// What checks a new certificate of this slot hangs.
    HangsCheck(Slot, bool),
    /// An operator asks why this slot is where it is.
    Explain(usize, Slot),
}

/// What the registry says of issuers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    State(State),
    /// No record any more.
    Gone,
    /// A record that cannot be used.
    Unreadable,
}

/// How the CA answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CaState {
    Up,
    /// No connection.
    Refuses,
    /// Takes connections and says nothing.
    Hangs,
    /// Accepts nobody's credential (HTTP 401).
    KnowsNobody,
    /// Says that it is overloaded, and names so many seconds.
    Busy(u64),
    /// Says "later" to an order that it has not seen, naming so many seconds or no time, and issues when asked again.
    Decides(Option<u64>),
}

/// What must be left of a signer when it is taken into use, as the real driver reckons it.
pub(super) fn reserve(issuer: &IssuerSpec, refresh: Option<Duration>) -> Duration {
    let refresh = refresh.unwrap_or(issuer.validity / 4); // the share of the defaults
    issuer.validity.saturating_add(refresh).saturating_add(issuer.margin)
}

impl Default for Agent {
    fn default() -> Self {
        Agent {
            limits: Limits::default(),
            rate: Rate { count: 30, per: Duration::from_secs(60) },
            max_in_flight: 2,
            attempts_per_day: 2_000,
            timeout: 30 * SECOND,
            refresh: 30 * SECOND,
        }
    }
}

impl Default for Field {
    fn default() -> Self {
        Field {
            fraction: 2.0 / 3.0,
            retry: MINUTE,
            timeout: 30 * SECOND,
            starts_anew: true,
            one_loop: None,
            leaks: false,
            watches_credential: false,
        }
    }
}

impl Default for CaSetup {
    fn default() -> Self {
        CaSetup {
            queues: 1,
            servers: 4,
            service: 400,
            backoff: None,
            hand_over: 0,
            connections: usize::MAX,
            hangs_at: usize::MAX,
            remembers: true,
            refusal: Refusal::Clear,
            no_credentials: false,
        }
    }
}

impl Default for Customers {
    fn default() -> Self {
        Customers { every: 500, timeout: 6 * SECOND, retries: 3, retry: 2 * SECOND, accounts: 40, account_rate: 10 }
    }
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            start: Timestamp::from_unix(1_800_000_000),
            length: 24 * HOUR,
            nodes: 1,
            issuers: 10,
            own: None,
            refreshes: Vec::new(),
            absent: 0..0,
            life: days(45),
            validity: days(4),
            margin: days(1),
            age: Age::Even(days(25)),
            credential: None,
            credential_margin: None,
            customers_need_credential: false,
            agent: Agent::default(),
            field: Field::default(),
            ca: CaSetup::default(),
            customers: None,
            script: Vec::new(),
            recovery: days(2),
            skews: Vec::new(),
            attended: true,
            needs_approval: false,
            guard: Guard { max_change: DEFAULT_REGISTRY_MAX_CHANGE, small_change: DEFAULT_REGISTRY_SMALL_CHANGE },
            troubles: Vec::new(),
            quiet: None,
        }
    }
}
