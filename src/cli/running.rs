//! A running service: state directory, registry, responder, listeners, signals.

use super::sync;
use crate::admin;
use crate::config::{Config, RegistrySource};
use crate::endpoint::{self, Handle, Server, Settings};
use crate::registry::file::{FileSource, Poll};
use crate::registry::{Generation, RecordRules};
use crate::responder::{Responder, ResponderSettings};
use crate::status::Watch;
use crate::time::{Clock, SystemClock, Timestamp};
use arc_swap::ArcSwap;
use std::fs::File;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long requests in progress have when the service stops or its listeners are replaced.
const GRACE: Duration = Duration::from_secs(10);
/// How often the registry file is looked at for a change.
const LOOK: Duration = Duration::from_millis(500);

/// How to run.
pub(super) struct Options<'a> {
    /// Show progress of the first signing on a terminal.
    pub(super) progress: bool,
    /// Called once, when requests are being answered, with the addresses of the endpoint and of the admin listener.
    pub(super) started: Option<&'a Started>,
}

/// Is told the addresses of the endpoint and of the admin listener.
pub(super) type Started = dyn Fn(&[SocketAddr], Option<SocketAddr>);

/// Serves until it is told to stop.
pub(super) fn run(config: Config, options: &Options<'_>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the system gives no event queue: {error}"))?;
    runtime.block_on(serve(config, options))
}

async fn serve(config: Config, options: &Options<'_>) -> Result<(), String> {
    // First of all: a HUP during the start must not end the process.
    let mut signals = Signals::new()?;
    let _lock = lock(&config.state_dir)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let responder = Responder::start(ResponderSettings {
        state_dir: Some(config.state_dir.clone()),
        presign_workers: config.presign.workers,
        background_nice: i32::from(config.presign.background_nice),
        demand: sync::demand(&config),
        clock: clock.clone(),
    });
    let mut registry = Registry::open(&config, clock.clone())?;

    let status = Arc::new(ArcSwap::from_pointee(admin::RegistryView::default()));
    registry.follow(&responder, &status, true);
    let endpoint = listen(&config, &responder, false)?;
    let addresses = endpoint.addresses().to_vec();
    let admin_state =
        Arc::new(admin::State::new(responder.clone(), endpoint.stats().clone(), status.clone(), clock.clone()));
    for address in &addresses {
        tracing::info!("answering OCSP requests on http://{address}/");
    }
    let config_watch = Watch::new([config.file.clone()]);
    let shown = responder.clone();
    let mut service = Service {
        config,
        config_watch,
        responder,
        registry,
        endpoint: Some(endpoint),
        admin: None,
        admin_state,
        status,
    };
    // Whoever cannot be looked at answers all the same.
    if let Err(error) = service.start_admin() {
        tracing::error!("{error}; requests are answered without it, and it is tried again");
    }
    let mut look = tokio::time::interval(LOOK);
    let progress = async {
        if options.progress && std::io::stderr().is_terminal() {
            show_progress(&shown).await;
        }
    };
    tokio::pin!(progress);
    let mut is_starting = true;
    loop {
        tokio::select! {
            () = &mut progress, if is_starting => {
                is_starting = false;
                if let Some(started) = options.started {
                    started(&addresses, service.admin.as_ref().map(admin::AdminHandle::address));
                }
            }
            _ = look.tick() => service.look(),
            signal = signals.next() => match signal {
                Signal::Reload => service.reload(),
                Signal::Stop(name) => {
                    tracing::info!("{name}: stopping; requests in progress are answered");
                    break;
                }
            }
        }
    }
    if let Some(endpoint) = service.endpoint.take() {
        let _ = tokio::task::spawn_blocking(move || endpoint.shutdown(GRACE)).await;
    }
    Ok(())
}

struct Service {
    config: Config,
    config_watch: Watch,
    responder: Responder,
    registry: Registry,
    endpoint: Option<Handle>,
    admin: Option<admin::AdminHandle>,
    admin_state: Arc<admin::State>,
    status: Arc<ArcSwap<admin::RegistryView>>,
}

impl Service {
    fn start_admin(&mut self) -> Result<(), admin::AdminError> {
        if let (Some(address), None) = (self.config.admin.listen, &self.admin) {
            let admin = admin::start(address, self.admin_state.clone())?;
            tracing::info!("health, readiness and metrics on http://{}/", admin.address());
            self.admin = Some(admin);
        }
        Ok(())
    }

    fn look(&mut self) {
        let _ = self.start_admin(); // told at the start
        if !self.config_watch.poll().is_empty() {
            self.reload();
        }
        self.registry.follow(&self.responder, &self.status, false);
    }

    /// Takes a changed configuration over as a whole, or not at all.
    fn reload(&mut self) {
        let file = self.config.file.clone();
        if std::fs::metadata(&file).is_ok_and(|metadata| !metadata.is_file()) {
            let file = file.display();
            tracing::error!("the configuration is refused and the one in use stays: {file} is not a regular file");
            return;
        }
        let mut next = match Config::load(&file) {
            Ok(next) => next,
            Err(faults) => {
                tracing::error!("the configuration is refused and the one in use stays:\n{faults}");
                return;
            }
        };
        for (what, changed) in [
            ("state_dir", next.state_dir != self.config.state_dir),
            ("[admin]", next.admin != self.config.admin),
            ("[presign]", next.presign != self.config.presign),
            ("[on_demand]", next.on_demand != self.config.on_demand),
        ] {
            if changed {
                tracing::warn!("{what} has changed: that takes a restart; the rest is taken over");
            }
        }
        next.state_dir.clone_from(&self.config.state_dir);
        next.admin.clone_from(&self.config.admin);
        next.presign.clone_from(&self.config.presign);
        next.on_demand.clone_from(&self.config.on_demand);
        let same_sockets = next.endpoint.listen == self.config.endpoint.listen
            && next.endpoint.workers == self.config.endpoint.workers;
        if let (true, Some(endpoint)) = (same_sockets, &self.endpoint) {
            match service(&next, &self.responder) {
                Ok(service) => endpoint.replace(&service),
                Err(error) => {
                    tracing::error!("the configuration is refused and the one in use stays: {error}");
                    return;
                }
            }
        } else {
            match listen(&next, &self.responder, true) {
                Ok(endpoint) => {
                    self.admin_state.set_endpoint(endpoint.stats().clone());
                    if let Some(before) = self.endpoint.replace(endpoint) {
                        std::thread::spawn(move || before.shutdown(GRACE));
                    }
                }
                Err(error) => {
                    tracing::error!("the configuration is refused and the one in use stays: {error}");
                    return;
                }
            }
        }
        if let Err(error) = self.registry.change(&next) {
            tracing::error!("the registry in use stays: {error}");
        }
        self.config = next;
        self.registry.follow(&self.responder, &self.status, true);
        tracing::info!("configuration taken over from {}", file.display());
    }
}

fn listen(config: &Config, responder: &Responder, share_port: bool) -> Result<Handle, String> {
    let settings = Settings {
        listen: config.endpoint.listen.clone(),
        workers: config.endpoint.workers,
        share_port,
        ..Settings::default()
    };
    Server::start(&service(config, responder)?, settings).map_err(|error| error.to_string())
}

fn service(config: &Config, responder: &Responder) -> Result<endpoint::Service, String> {
    Ok(responder.service().with_mounts(sync::mounts(config)?).with_limits(sync::limits(config)))
}

/// One process at a time may use a state directory: two would renew the same signers and overwrite each other's segments.
fn lock(state_dir: &Path) -> Result<File, String> {
    let say = |what: &str, error: &dyn std::fmt::Display| format!("state_dir {}: {what}: {error}", state_dir.display());
    crate::store::create_private(state_dir).map_err(|e| say("cannot be made", &e))?;
    let file = File::create(state_dir.join("lock")).map_err(|e| say("cannot be written to", &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(format!(
            "state_dir {} is in use by another process; stop that one, or give this one a state_dir of its own",
            state_dir.display()
        )),
        Err(std::fs::TryLockError::Error(e)) => Err(say("cannot be locked", &e)),
    }
}

/// The registry file, looked at when it changes and by interval.
struct Registry {
    file: PathBuf,
    source: FileSource,
    watch: Watch,
    clock: Arc<dyn Clock>,
    refresh: Duration,
    looked: Timestamp,
    fault: Option<String>,
}

impl Registry {
    fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let RegistrySource::File(file) = &config.registry.source else {
            return Err("[registry] source: this version reads registries from files; name a path".into());
        };
        let source = FileSource::open(file, &config.state_dir, RecordRules::of(config))
            .map_err(|error| format!("state_dir {}: {error}", config.state_dir.display()))?;
        let watch = Watch::new([file.clone()]);
        let file = file.clone();
        Ok(Registry {
            file,
            source,
            watch,
            clock,
            refresh: config.registry.refresh,
            looked: Timestamp::MIN,
            fault: None,
        })
    }

    fn change(&mut self, config: &Config) -> Result<(), String> {
        match &config.registry.source {
            // What is known of it stays: issuers whose record is broken are served on as before.
            RegistrySource::File(file) if *file == self.file => {
                self.source.set_rules(RecordRules::of(config));
                self.refresh = config.registry.refresh;
            }
            _ => *self = Registry::open(config, self.clock.clone())?,
        }
        Ok(())
    }

    /// Looks at the file if it changed, if the interval has passed, or if it must be, and hands on what is new.
    fn follow(&mut self, responder: &Responder, status: &ArcSwap<admin::RegistryView>, must: bool) {
        let now = self.clock.now();
        let changed = !self.watch.poll().is_empty();
        if !(must || changed || now < self.looked || now.since(self.looked) >= self.refresh) {
            return;
        }
        self.looked = now;
        let fault = match self.source.poll(now) {
            Poll::Unchanged => None,
            Poll::Changed(generation) => {
                hand_on(&generation, responder);
                None
            }
            Poll::Refused(faults) => Some(faults.to_string()),
            Poll::Restored(generation, faults) => {
                hand_on(&generation, responder);
                Some(faults.to_string())
            }
        };
        if let Some(text) = fault.as_ref().filter(|text| self.fault.as_ref() != Some(*text)) {
            tracing::error!("the registry is refused and what was known before holds:\n{text}");
        }
        self.fault = fault;
        let view = admin::RegistryView {
            generation: self.source.current().cloned(),
            last_success: self.source.last_success(),
            fault: self.fault.clone(),
        };
        status.store(Arc::new(view));
    }
}

fn hand_on(generation: &Generation, responder: &Responder) {
    for quarantined in &generation.quarantined {
        for fault in &quarantined.faults {
            tracing::error!(issuer = quarantined.name(), "registry record left out: {fault}");
        }
    }
    for note in &generation.notes {
        tracing::warn!("{note}");
    }
    let issuers = generation.issuers.len();
    tracing::info!(generation = generation.number, issuers, "registry taken over");
    // Reading a large index takes a while; nothing here waits for it.
    responder.adopt_issuers(sync::specs(generation));
}

/// A bar on the terminal until everything has been signed once, or nothing moves any more.
async fn show_progress(responder: &Responder) {
    // What there is to sign is known when the sources have been read.
    while !responder.reports().iter().all(|report| !report.sources.is_empty() || report.status_fault.is_some()) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let total: usize = responder.reports().iter().map(|report| report.entries).sum();
    let stats = responder.presign_stats();
    if stats.missing == 0 || total == 0 {
        return;
    }
    let bar = indicatif::ProgressBar::new(total as u64);
    if let Ok(style) = indicatif::ProgressStyle::with_template(
        "signing {bar:32} {human_pos}/{human_len} {per_sec} {elapsed_precise} left {eta}",
    ) {
        bar.set_style(style);
    }
    let mut still = 0;
    let mut before = 0;
    while still < 50 {
        let stats = responder.presign_stats();
        bar.set_position(stats.signed.min(total as u64));
        if stats.missing == 0 {
            break;
        }
        still = if stats.signed == before { still + 1 } else { 0 };
        before = stats.signed;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bar.finish_and_clear();
}

/// The signals a service listens to.
struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
    hup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, String> {
        use tokio::signal::unix::{SignalKind, signal};
        let of = |kind| signal(kind).map_err(|error| format!("cannot listen to signals: {error}"));
        Ok(Signals {
            term: of(SignalKind::terminate())?,
            int: of(SignalKind::interrupt())?,
            hup: of(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.term.recv() => Signal::Stop("SIGTERM"),
            _ = self.int.recv() => Signal::Stop("SIGINT"),
            _ = self.hup.recv() => Signal::Reload,
        }
    }
}

/// What a signal asks for.
enum Signal {
    Reload,
    Stop(&'static str),
}
