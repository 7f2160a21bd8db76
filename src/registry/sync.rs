//! A thread that looks at the registry's source, so that one that hangs keeps nobody else waiting.

use super::follower::{ApproveError, Change, Follower, Held};
use super::source::{Source, Spec, Unreadable};
use super::{Generation, Guard, RecordRules, pace};
use crate::config::{Config, Fault, Faults};
use crate::time::{Clock, Timestamp, monotonic};
use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{sleep_until, timeout, timeout_at};

/// How often a file is looked at for a change.
const WATCH: Duration = Duration::from_millis(500);
/// The most callers that wait for a look.
const MAX_WAITING: usize = 64;
/// How long an operator waits for an approval to be kept.
const APPROVAL: Duration = Duration::from_secs(10);
/// How long stopping waits for what is being written.
const STOP: Duration = Duration::from_secs(2);

const LATE: &str = "the registry was not read in time";
const ENDED: &str = "the registry's thread has ended";

/// What is looked at, how often, and what documents are checked against.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    spec: Spec,
    refresh: Duration,
    max_age: Duration,
    guard: Guard,
    rules: RecordRules,
}

impl Settings {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        let registry = &config.registry;
        Settings {
            spec: Spec::of(registry),
            refresh: registry.refresh,
            max_age: registry.max_age,
            guard: Guard::of(registry),
            rules: RecordRules::of(config),
        }
    }
}

/// The registry as it is known at a moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Grows with each change of `current` or `held`.
    pub revision: u64,
    /// What is in use.
    pub current: Option<Arc<Generation>>,
    /// What waits for an operator.
    pub held: Option<Arc<Held>>,
    /// By what signers may be asked for: what is in use, marked there what the held one stops. A change is held for
    /// what it would do; what the newest word says of a CA that is gone holds at once.
    pub renewable: Option<Arc<Generation>>,
    /// When the source was last read and found usable: the age of the evidence.
    pub synced: Option<Timestamp>,
    /// Why the last look failed, if it did.
    pub fault: Option<String>,
    /// What looks have brought since the start.
    pub looks: Looks,
}

/// How many looks brought what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    /// The same as before.
    pub unchanged: u64,
    /// Something that was taken over.
    pub taken: u64,
    /// Something that is held.
    pub held: u64,
    /// A document that cannot be used.
    pub refused: u64,
    /// Nothing: the source could not be read.
    pub unreadable: u64,
}

impl Looks {
    /// Each with its name.
    pub fn by_result(&self) -> [(&'static str, u64); 5] {
        [
            ("unchanged", self.unchanged),
            ("taken", self.taken),
            ("held", self.held),
            ("refused", self.refused),
            ("unreadable", self.unreadable),
        ]
    }
}

/// What a look on demand brought.
#[derive(Clone, Debug)]
pub enum Looked {
    /// The source was read and found usable.
    Read {
        /// What is known since.
        view: Arc<View>,
        /// When the look began.
        at: Timestamp,
    },
    /// It could not be read in time, or nobody could look: why.
    NotRead(String),
    /// It was read, and what it says cannot be used: why. What was in use before says nothing of what it should say now.
    Unusable(String),
}

/// A running sync; dropping it ends its thread.
#[derive(Debug)]
pub struct Sync {
    stop: Arc<Notify>,
    stopped: std_mpsc::Receiver<()>,
}

/// Asks a running sync, from any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    views: watch::Receiver<Arc<View>>,
    settings: Arc<watch::Sender<Settings>>,
    commands: mpsc::Sender<Command>,
}

enum Command {
    Look(Waiting),
    Approve { generation: u64, who: String, reply: oneshot::Sender<Result<(), ApproveError>> },
}

struct Waiting {
    reply: Box<dyn FnOnce(Looked) + Send>,
    since: Instant,
}

impl Sync {
    /// Begins with what is kept under `state_dir`, which [`Handle::view`] shows at once, and looks at the source from then on.
    ///
    /// # Errors
    /// When `{state_dir}/registry` cannot be made or read, or no thread can be had.
    pub fn start(settings: Settings, state_dir: &Path, clock: Arc<dyn Clock>) -> io::Result<(Sync, Handle)> {
        let Settings { spec, guard, rules, .. } = &settings;
        let follower = Follower::open(spec.name(), state_dir, rules.clone(), *guard, clock.now())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stop = Arc::new(Notify::new());
        let (command_to, commands) = mpsc::channel(MAX_WAITING);
        let (settings_to, mut settings) = watch::channel(settings);
        let source = Source::open(&settings.borrow_and_update().spec, &clock);
        let (view_to, views) = watch::channel(Arc::default());
        let driver = Driver {
            follower,
            source,
            settings,
            commands,
            views: view_to,
            stop: stop.clone(),
            clock,
            random: SystemRandom::new(),
            looks: Looks::default(),
            fault: None,
            failures: 0,
            last: None,
            waiting: Vec::new(),
        };
        driver.publish();
        let (ended, stopped) = std_mpsc::sync_channel(1);
        std::thread::Builder::new().name("registry".to_owned()).spawn(move || {
            runtime.block_on(driver.run());
            // Nobody may be waiting.
            let _ = ended.send(());
        })?;
        Ok((Sync { stop, stopped }, Handle { views, settings: Arc::new(settings_to), commands: command_to }))
    }
}

impl Drop for Sync {
    fn drop(&mut self) {
        self.stop.notify_one();
        // A disk that hangs is not waited for: whatever is written is written aside and renamed.
        let _ = self.stopped.recv_timeout(STOP);
    }
}

impl Handle {
    /// What is known now; never waits.
    pub fn view(&self) -> Arc<View> {
        self.views.borrow().clone()
    }

    /// Is told each time a look has ended, and each time something has changed.
    pub fn subscribe(&self) -> watch::Receiver<Arc<View>> {
        self.views.clone()
    }

    /// Looks at the source now; by `deadline` at the latest there is an answer. Calls that come together share a look. It
    /// costs the server a conditional request; certificates are not read again for it.
    pub async fn look_now(&self, deadline: Instant) -> Looked {
        let (reply, answer) = oneshot::channel();
        // Whoever asked may have gone.
        if let Err(why) = self.ask(Box::new(move |looked| drop(reply.send(looked)))) {
            return Looked::NotRead(why);
        }
        match timeout_at(deadline.into(), answer).await {
            Ok(Ok(looked)) => looked,
            Ok(Err(_)) => Looked::NotRead(ENDED.to_owned()),
            Err(_) => Looked::NotRead(LATE.to_owned()),
        }
    }

    /// Like [`Handle::look_now`], for a thread that may wait.
    pub fn look_now_blocking(&self, patience: Duration) -> Looked {
        let (reply, answer) = std_mpsc::sync_channel(1);
        if let Err(why) = self.ask(Box::new(move |looked| drop(reply.send(looked)))) {
            return Looked::NotRead(why);
        }
        answer.recv_timeout(patience).unwrap_or_else(|e| match e {
            std_mpsc::RecvTimeoutError::Timeout => Looked::NotRead(LATE.to_owned()),
            std_mpsc::RecvTimeoutError::Disconnected => Looked::NotRead(ENDED.to_owned()),
        })
    }

    fn ask(&self, reply: Box<dyn FnOnce(Looked) + Send>) -> Result<(), String> {
        let command = Command::Look(Waiting { reply, since: monotonic() });
        self.commands.try_send(command).map_err(|e| format!("the registry's thread takes no question: {e}"))
    }

    /// Takes the generation over that is held, in the name of `who`. Once this has succeeded no restart asks again.
    pub async fn approve(&self, generation: u64, who: &str) -> Result<(), ApproveError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Approve { generation, who: who.to_owned(), reply };
        self.commands.try_send(command).map_err(|e| ApproveError::Busy(e.to_string()))?;
        match timeout(APPROVAL, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ApproveError::Busy("its thread has ended".to_owned())),
            Err(_) => Err(ApproveError::Busy("the approval was taken but is not yet in effect; look again".to_owned())),
        }
    }

    /// Goes on by other settings, and looks at once. Nothing that is known is lost, even if the source is another one.
    pub fn change(&self, settings: Settings) {
        self.settings.send_replace(settings);
    }
}

struct Driver {
    follower: Follower,
    source: Result<Source, Fault>,
    settings: watch::Receiver<Settings>,
    commands: mpsc::Receiver<Command>,
    views: watch::Sender<Arc<View>>,
    stop: Arc<Notify>,
    clock: Arc<dyn Clock>,
    random: SystemRandom,
    looks: Looks,
    fault: Option<String>,
    /// Looks in a row that found the source in trouble.
    failures: u32,
    last: Option<Last>,
    waiting: Vec<Waiting>,
}

/// The last look.
#[derive(Clone, Copy)]
struct Last {
    began: Instant,
    ended: Instant,
    at: Timestamp,
    good: bool,
    /// What was read was refused.
    refused: bool,
}

/// Why a look did not end.
enum Interrupted {
    /// By other settings, which are in force now.
    Changed,
    /// The thread is to end.
    Stopped,
}

impl Driver {
    async fn run(mut self) {
        // A look that also reads the certificates again.
        let mut due = monotonic();
        let mut watch = tokio::time::interval(WATCH);
        let stop = self.stop.clone();
        loop {
            let next = if self.waiting.is_empty() { due } else { monotonic() };
            tokio::select! {
                () = stop.notified() => return,
                changed = self.settings.changed() => match changed {
                    Ok(()) => {
                        self.change();
                        due = monotonic();
                    }
                    Err(_) => return, // nobody is left to ask
                },
                Some(command) = self.commands.recv() => self.command(command),
                _ = watch.tick() => {
                    if self.source.as_mut().is_ok_and(Source::has_changed) {
                        due = monotonic();
                    }
                }
                () = sleep_until(next.into()) => {
                    let quick = monotonic() < due;
                    match self.look(quick).await {
                        Ok(good) if quick && good => {}
                        Ok(_) => {
                            let now = monotonic();
                            due = now.checked_add(self.wait()).unwrap_or(now);
                        }
                        Err(Interrupted::Changed) => due = monotonic(),
                        Err(Interrupted::Stopped) => return,
                    }
                }
            }
        }
    }

    fn wait(&self) -> Duration {
        let mut octets = [0; 4];
        // Without random octets machines ask at the same time, and no more.
        let _ = self.random.fill(&mut octets);
        let draw = f64::from(u32::from_ne_bytes(octets)) / f64::from(u32::MAX);
        let settings = self.settings.borrow();
        pace::wait(self.failures, settings.refresh, settings.max_age, draw)
    }

    /// Takes changed settings over.
    fn change(&mut self) {
        let settings = self.settings.borrow_and_update().clone();
        let same = match (&self.source, settings.spec.name()) {
            (Ok(Source::File { file, .. }), name) => file == name,
            _ => false,
        };
        if !same {
            // Trust and credentials may have moved too: a server is always dialled anew.
            self.source = Source::open(&settings.spec, &self.clock);
        }
        (self.failures, self.last) = (0, None);
        self.follower.set_terms(settings.spec.name(), settings.rules, settings.guard, self.clock.now());
        self.publish();
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Look(waiting) => match self.last {
                Some(last) if last.good && waiting.since.duration_since(last.began) <= pace::FRESH => {
                    self.answer(waiting, last.at);
                }
                Some(last) if !last.good && waiting.since.duration_since(last.ended) <= pace::RESPITE => {
                    self.refuse(waiting);
                }
                _ if self.waiting.len() < MAX_WAITING => self.waiting.push(waiting),
                _ => self.refuse(waiting),
            },
            Command::Approve { generation, who, reply } => {
                let result = self.follower.approve(generation, &who, self.clock.now());
                self.publish();
                // Whoever asked may have gone.
                let _ = reply.send(result);
            }
        }
    }

    /// Reads the source and considers what it says; whether it could be used.
    async fn look(&mut self, quick: bool) -> Result<bool, Interrupted> {
        let (began, at) = (monotonic(), self.clock.now());
        let read = self.read().await?;
        self.ended(read, quick, began, at);
        Ok(self.fault.is_none())
    }

    /// Reads the source, and does meanwhile what else is asked for.
    async fn read(&mut self) -> Result<Result<Bytes, Unreadable>, Interrupted> {
        let missing = Err(Fault::of_file(self.follower.name(), "it is being read"));
        let mut source = match std::mem::replace(&mut self.source, missing) {
            Ok(source) => source,
            Err(fault) => {
                self.source = Err(fault.clone());
                return Ok(Err(Unreadable { fault, spare: true }));
            }
        };
        let stop = self.stop.clone();
        let read = {
            let read = source.read();
            tokio::pin!(read);
            loop {
                tokio::select! {
                    read = &mut read => break Some(read),
                    () = stop.notified() => return Err(Interrupted::Stopped),
                    changed = self.settings.changed() => match changed {
                        Ok(()) => break None,
                        Err(_) => return Err(Interrupted::Stopped),
                    },
                    Some(command) = self.commands.recv() => self.command(command),
                }
            }
        };
        self.source = Ok(source);
        read.ok_or_else(|| {
            self.change();
            Interrupted::Changed
        })
    }

    fn ended(&mut self, read: Result<Bytes, Unreadable>, quick: bool, began: Instant, at: Timestamp) {
        let spare = read.as_ref().is_err_and(|e| e.spare);
        let could_be_read = read.is_ok();
        let (count, fault) = match read {
            Err(unreadable) => (&mut self.looks.unreadable, Some(unreadable.fault.to_string())),
            Ok(document) => match considered(&mut self.follower, &document, quick, at) {
                Ok(Change::None) => (&mut self.looks.unchanged, None),
                Ok(Change::Taken) => (&mut self.looks.taken, None),
                Ok(Change::Held) => (&mut self.looks.held, None),
                Err(faults) => (&mut self.looks.refused, Some(faults.to_string())),
            },
        };
        *count += 1;
        self.failures = if spare { self.failures.saturating_add(1) } else { 0 };
        let good = fault.is_none();
        self.fault = fault;
        self.last = Some(Last { began, ended: monotonic(), at, good, refused: could_be_read && !good });
        self.publish();
        for waiting in std::mem::take(&mut self.waiting) {
            match good {
                true if waiting.since.duration_since(began) <= pace::FRESH => self.answer(waiting, at),
                true => self.waiting.push(waiting),
                false => self.refuse(waiting),
            }
        }
    }

    fn answer(&self, waiting: Waiting, at: Timestamp) {
        let view = self.views.borrow().clone();
        (waiting.reply)(Looked::Read { view, at });
    }

    fn refuse(&self, waiting: Waiting) {
        let refused = self.last.is_some_and(|last| last.refused);
        (waiting.reply)(match &self.fault {
            Some(why) if refused => Looked::Unusable(why.clone()),
            Some(why) => Looked::NotRead(why.clone()),
            None => Looked::NotRead("too many wait for the registry already".to_owned()),
        });
    }

    fn publish(&self) {
        let revision = self.follower.revision();
        let before = self.views.borrow().clone();
        let renewable = match before.revision == revision {
            true => before.renewable.clone(),
            false => self.follower.renewable(),
        };
        self.views.send_replace(Arc::new(View {
            revision,
            current: self.follower.current().cloned(),
            held: self.follower.held().cloned(),
            renewable,
            synced: self.follower.synced(),
            fault: self.fault.clone(),
            looks: self.looks,
        }));
    }
}

/// A document that makes the parser panic is refused like any other.
fn considered(follower: &mut Follower, document: &[u8], quick: bool, now: Timestamp) -> Result<Change, Faults> {
    catch_unwind(AssertUnwindSafe(|| follower.consider(document, quick, now))).unwrap_or_else(|_| {
        let text = "a fault of this program: reading this document panicked; report it with the document";
        Err(Fault::of_file(follower.name(), text).into())
    })
}
