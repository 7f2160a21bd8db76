//! A site with a real renewal core: five issuers in different phases, a credential, and one issuer whose signer is files.

use super::super::*;
use crate::admin::control::AgentReport;
use crate::audit::TrailLimits;
use crate::config::Rate;
use crate::ocsp::{Profile, Serial};
use crate::registry::{IssuerId, State};
use crate::renewal::{
    Action, Core, CredentialSpec, EndpointId, EndpointSpec, Event, Failure, IssuerSpec, Kind, Limits, NodeId, Scope,
    SignerLife, Step,
};
use crate::responder::{SignerReport, SourceSummary};
use crate::time::ManualClock;
use std::sync::Mutex;
use std::time::Duration;

/// 2026-11-21T14:00:00Z.
pub(in crate::cli) const NOW: i64 = 1_795_269_600;
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

pub(in crate::cli) fn at(unix: i64) -> Timestamp {
    Timestamp::from_unix(unix)
}

pub(in crate::cli) fn main_endpoint() -> EndpointId {
    EndpointId::new("main").unwrap()
}

pub(in crate::cli) fn signer(id: &str) -> SlotId {
    SlotId::Signer(IssuerId::new(id).unwrap())
}

/// The core behind a mutex, at the time of its clock.
#[derive(Clone)]
pub(in crate::cli) struct Hall {
    pub(in crate::cli) core: Arc<Mutex<Core>>,
    clock: Arc<ManualClock>,
    pub(in crate::cli) given: Arc<Mutex<Vec<(String, String)>>>,
    /// What its report says beside its numbers.
    pub(in crate::cli) agent: Arc<Mutex<AgentReport>>,
    pub(in crate::cli) credential_faults: Arc<Mutex<Vec<(String, String)>>>,
}

impl Renewals for Hall {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(self.core.lock().unwrap().snapshot(self.clock.now()))
    }

    fn report(&self) -> AgentReport {
        let last_pass = Some(self.clock.now().minus(Duration::from_secs(2)));
        let set = self.agent.lock().unwrap().clone();
        AgentReport { last_pass, known: 6, checked: 6, ..set }
    }

    fn credential_faults(&self) -> Vec<(String, String)> {
        self.credential_faults.lock().unwrap().clone()
    }

    async fn plan(&self) -> Result<Plan, AgentError> {
        Ok(self.core.lock().unwrap().plan(self.clock.now()))
    }

    async fn explain(&self, slot: SlotId) -> Result<Explanation, AgentError> {
        self.core.lock().unwrap().explain(&slot, self.clock.now()).map_err(AgentError::Ignored)
    }

    async fn impact(&self, view: RegistryView) -> Result<renewal::Impact, AgentError> {
        Ok(self.core.lock().unwrap().impact(&view, self.clock.now()))
    }

    async fn command(&self, command: renewal::Command, who: String, reason: String) -> Result<usize, AgentError> {
        self.given.lock().unwrap().push((who, reason));
        self.core.lock().unwrap().handle(Event::Command(command), self.clock.now()).map_err(AgentError::Ignored)
    }
}

/// A registry of generation 7 with one record that cannot be used.
#[derive(Default)]
pub(in crate::cli) struct Paper {
    pub(in crate::cli) held: Option<(u64, String)>,
    /// Every record can be used.
    pub(in crate::cli) is_whole: bool,
    /// The record of this issuer has become unusable three hours ago.
    pub(in crate::cli) served_on: Option<String>,
}

impl Registries for Paper {
    fn report(&self) -> RegistryReport {
        let faults = ["issuers.json:31:7: certificate: no such file".to_owned()];
        let broken = (!self.is_whole).then(|| Quarantine {
            record: "broken-ca".into(),
            faults: faults.into(),
            served_on_since: None,
        });
        let served_on = self.served_on.iter().map(|id| Quarantine {
            record: id.clone(),
            faults: vec!["issuers.json:7:3: state: \"actve\" is none".into()],
            served_on_since: Some(at(NOW - 3 * HOUR)),
        });
        RegistryReport {
            generation: Some(7),
            synced_at: Some(at(NOW)),
            fresh: true,
            fault: None,
            held: self.held.clone(),
            quarantined: broken.into_iter().chain(served_on).collect(),
        }
    }

    async fn examine(&self, file: PathBuf) -> Result<Examined, String> {
        if !file.ends_with("issuers.new.json") {
            return Err(format!("{}: no such file", file.display()));
        }
        let mut view = view();
        view.generation = 8;
        view.issuers.retain(|spec| spec.id.as_str() != "parked-ca");
        view.issuers.iter_mut().for_each(|spec| match spec.id.as_str() {
            "idle-ca" => spec.state = State::Disabled,
            "due-ca" => spec.profile = "another".into(),
            _ => {}
        });
        view.issuers.push(spec("fresh-ca", false));
        let held = Some("4 of 6 issuers would change, and no more than 20 % may unasked".into());
        let ids = |id: &str| [IssuerId::new(id).unwrap()].into();
        let changes = registry::Impact {
            known: 6,
            added: ids("fresh-ca"),
            removed: ids("parked-ca"),
            disabled: ids("idle-ca"),
            moved: ids("due-ca"),
            ..registry::Impact::default()
        };
        Ok(Examined { view, changes, quarantined: vec![], refused: vec![], held })
    }

    async fn approve(&self, generation: u64, _: String) -> Result<(), String> {
        match &self.held {
            Some((held, _)) if *held == generation => Ok(()),
            _ => Err("no generation of the registry is held".into()),
        }
    }
}

fn spec(id: &str, needs_approval: bool) -> IssuerSpec {
    IssuerSpec {
        id: IssuerId::new(id).unwrap(),
        state: State::Active,
        endpoint: main_endpoint(),
        profile: "ocsp".into(),
        validity: Duration::from_secs(4 * 86_400),
        margin: Duration::from_secs(86_400),
        needs_approval,
        rest: 0,
        held_by: None,
    }
}

pub(in crate::cli) fn view() -> RegistryView {
    let ids = [("due-ca", false), ("idle-ca", false), ("parked-ca", false), ("paused-ca", false), ("staged-ca", true)];
    let issuers = ids.into_iter().map(|(id, needs_approval)| spec(id, needs_approval)).collect();
    RegistryView { generation: 7, synced_at: at(NOW - 3 * HOUR), issuers, quarantined: vec![] }
}

fn life(number: u8, from: i64, days: i64) -> SignerLife {
    let serial = Serial::from_hex(&format!("7a31c5{number:02x}90e4")).unwrap();
    SignerLife { serial, not_before: at(from), not_after: at(from + days * DAY) }
}

/// The core after three hours of work.
pub(in crate::cli) fn core() -> Core {
    let mut core = Core::new(Limits::default(), NodeId::named("node-1"));
    let start = NOW - 3 * HOUR;
    let credential = Some(CredentialSpec { profile: Some("agent".into()), margin: Duration::from_secs(7 * 86_400) });
    let rate = Rate { count: 30, per: Duration::from_secs(60) };
    let endpoint = EndpointSpec { id: main_endpoint(), rate, max_in_flight: 4, attempts_per_day: 500, credential };
    let tell = |core: &mut Core, event: Event, now: i64| core.handle(event, at(now)).map(|_| ()).unwrap();
    tell(&mut core, Event::Endpoints(vec![endpoint]), start);
    tell(&mut core, Event::Registry(view()), start);
    let pause = renewal::Pause {
        reach: Reach::Slot(signer("paused-ca")),
        until: at(NOW + 2 * HOUR),
        reason: "its HSM is serviced".into(),
        who: "alice (uid 1000, pid 4711)".into(),
        since: None,
    };
    tell(&mut core, Event::Command(renewal::Command::Pause(pause)), start);
    let lives = [
        (SlotId::Credential(main_endpoint()), life(1, NOW - 100 * DAY, 365)),
        (signer("idle-ca"), life(2, NOW - 5 * DAY, 30)),
        (signer("due-ca"), life(3, NOW - 23 * DAY, 30)),
        (signer("parked-ca"), life(4, NOW - 26 * DAY, 30)),
        (signer("paused-ca"), life(5, NOW - 20 * DAY, 30)),
        (signer("staged-ca"), life(6, NOW - 21 * DAY, 30)),
    ];
    for (slot, life) in lives {
        tell(&mut core, Event::Signer { slot, life: Some(life) }, start);
    }
    for now in start..=NOW {
        if now % 12 == 0 {
            tell(&mut core, Event::Registry(RegistryView { synced_at: at(now), ..view() }), now);
        }
        while let actions @ [_, ..] = core.poll(at(now)).as_slice() {
            for action in actions {
                carry_out(&mut core, action, now);
            }
        }
    }
    core
}

fn carry_out(core: &mut Core, action: &Action, now: i64) {
    let event = match action.clone() {
        Action::ConfirmActive => Event::Confirmed { generation: 7, at: at(now) },
        Action::Prepare(request) => Event::Prepared { slot: request.slot, order: request.order },
        Action::Submit(request) => match request.slot.to_string().as_str() {
            "parked-ca" => {
                let text = "the profile ocsp is disabled (HTTP 403)";
                let failure = Failure::new(Scope::Issuer, Kind::Permanent, text);
                Event::Failed { slot: request.slot, order: request.order, step: Step::Submit(request.attempt), failure }
            }
            "staged-ca" => Event::Issued { slot: request.slot, order: request.order },
            // The CA thinks about it.
            _ => Event::Later {
                slot: request.slot,
                order: request.order,
                attempt: request.attempt,
                retry_after: Some(Duration::from_secs(4 * 3_600)),
            },
        },
        Action::Verify { slot, order } => Event::Verified { slot, order, life: life(7, now - 60, 30) },
        Action::Stage { slot, order } => Event::Staged { slot, order },
        Action::Activate { .. }
        | Action::Cancel { .. }
        | Action::HangUp { .. }
        | Action::Persist(_)
        | Action::Tell(_) => return,
    };
    core.handle(event, at(now)).unwrap();
}

fn report(id: &str, days: i64) -> IssuerReport {
    IssuerReport {
        id: id.into(),
        subject: format!("CN={id}"),
        profile: Profile::Rfc9919,
        signer: Some(SignerReport {
            subject: format!("CN={id} OCSP"),
            serial: "7A31C5FF".into(),
            not_before: at(NOW - 40 * DAY),
            not_after: at(NOW + days * DAY),
            algorithm: "ecdsa-with-SHA256",
            is_ca: false,
            warnings: vec![],
            order: None,
        }),
        signer_fault: None,
        sources: vec![SourceSummary {
            kind: "index",
            file: format!("{id}.txt"),
            data_time: at(NOW - 3 * HOUR),
            entries: 1_200,
            quarantined: 0,
            first_quarantined: None,
            quarantined_first: vec![],
            next_update: None,
            is_expired: false,
        }],
        status_fault: None,
        signing_fault: None,
        held_back: 0,
        answer_fault: None,
        refused_segments: vec![],
        entries: 1_200,
        revoked: 7,
        knows_issued: true,
        oldest_this_update: Some(at(NOW - 3 * HOUR)),
        runs_out: Some(at(NOW + 3 * DAY)),
        is_complete: true,
        validity_secs: 4 * 86_400,
        refresh_secs: 86_400,
        late_from: Some(at(NOW + 2 * DAY)),
        revocation_waits_secs: 0,
        is_ordered: id != "files-ca",
        is_disabled: false,
    }
}

/// Everything together, and the directory of its audit trail.
pub(in crate::cli) struct Site {
    pub(in crate::cli) desk: Arc<Desk<Hall, Paper>>,
    pub(in crate::cli) hall: Hall,
    pub(in crate::cli) served: Arc<Mutex<Served>>,
    pub(in crate::cli) dir: tempfile::TempDir,
}

impl Site {
    pub(in crate::cli) fn new(held: Option<(u64, String)>) -> Self {
        let clock = Arc::new(ManualClock::at(at(NOW)));
        let hall = Hall {
            core: Arc::new(Mutex::new(core())),
            clock: clock.clone(),
            given: Arc::default(),
            agent: Arc::default(),
            credential_faults: Arc::default(),
        };
        let dir = tempfile::tempdir().unwrap();
        let trail = Arc::new(
            Trail::open(&dir.path().join("audit"), TrailLimits { file_size: 1 << 20, keep: 2 }, clock.clone()).unwrap(),
        );
        events().iter().for_each(|event| trail.saw(event));
        let ids = ["due-ca", "files-ca", "idle-ca", "parked-ca", "paused-ca", "staged-ca"];
        let served = Arc::new(Mutex::new(Served {
            reports: Arc::new(ids.into_iter().map(|id| report(id, 60)).collect()),
            presign: PresignStats { signed: 14_400, backlog: 0, missing: 0, slices: 12, failures: 0 },
            last_pass: Some(at(NOW - 1)),
            since_last_pass: Duration::from_secs(1),
            agent_fault: None,
            worries: vec![],
            missing: vec![],
            renewal: Renewal::default(),
        }));
        let desk = Desk {
            agent: Box::new({
                let hall = hall.clone();
                move || Some(hall.clone())
            }),
            registry: Paper { held, ..Paper::default() },
            served: Box::new({
                let served = served.clone();
                move || served.lock().unwrap().clone()
            }),
            look: Box::new(|| Box::pin(async {})),
            resign: Box::new(|id| (id != "gone").then_some(2)),
            trail: Some(trail),
            clock,
            started: at(NOW - 3 * DAY - 4 * HOUR),
            socket: "/run/stillgood/admin.sock".into(),
        };
        Site { desk: Arc::new(desk), hall, served, dir }
    }

    /// A site with which all is well: one issuer whose signer is files, and no agent.
    pub(in crate::cli) fn calm() -> Self {
        let mut site = Site::new(None);
        let desk = Arc::get_mut(&mut site.desk).unwrap();
        desk.agent = Box::new(|| None);
        desk.registry = Paper { is_whole: true, ..Paper::default() };
        site.change(|served| served.reports = Arc::new(vec![report("files-ca", 60)]));
        site
    }

    pub(in crate::cli) fn change(&self, change: impl FnOnce(&mut Served)) {
        change(&mut self.served.lock().unwrap());
    }

    /// Changes what the responder says of the first issuer.
    pub(in crate::cli) fn first(&self, change: impl FnOnce(&mut IssuerReport)) {
        self.change(|served| change(&mut Arc::make_mut(&mut served.reports)[0]));
    }

    /// As operators see it, without what differs from run to run.
    pub(in crate::cli) fn status(&self) -> Status {
        Status { pid: 4711, version: "0.1.0".into(), ..self.desk.picture() }
    }
}

fn events() -> Vec<AuditEvent> {
    let of = |ago: i64, what, id: &str| AuditEvent {
        endpoint: Some("main".into()),
        order: Some("00c0ffee00c0ffee".into()),
        cause: Some("scheduled".into()),
        ..AuditEvent::new(at(NOW - ago), "agent", what, About::Issuer(id.into()))
    };
    let refused = AuditEvent {
        attempt: Some(1),
        outcome: Some(Outcome::Refused),
        alarm: true,
        ..of(10_790, What::Answer, "parked-ca")
    };
    let command =
        AuditEvent::new(at(NOW - 600), "alice (uid 1000, pid 4711)", What::Command, About::Issuer("paused-ca".into()));
    vec![
        AuditEvent::new(at(NOW - DAY), "agent", What::Started, About::All),
        AuditEvent { attempt: Some(1), ..of(10_792, What::Request, "parked-ca") },
        refused.saying("the profile ocsp is disabled (HTTP 403)"),
        AuditEvent { outcome: Some(Outcome::Done), ..command }.saying("pause for 2h: its HSM is serviced"),
        AuditEvent { serial: Some("7A31C50790E4".into()), ..of(300, What::Staged, "staged-ca") },
    ]
}
