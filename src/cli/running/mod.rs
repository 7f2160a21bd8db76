//! A running service: state directory, registry, responder, listeners, signals.

mod change;
mod config_file;
mod keeper;
mod progress;
mod registry;
mod service;
mod signals;

use self::config_file::ConfigFile;
use self::keeper::{Keeper, Order};
use self::registry::Registry;
use self::service::{Endpoint, Service};
use self::signals::{Signal, Signals};
use super::agent::RenewalAgent;
use super::logging::{self, Log};
use super::supervisor::{Sockets, Supervisor};
use super::sync;
use crate::admin;
use crate::config::{Config, LogFormat};
use crate::endpoint::{self, Bound, Handle, Server, Settings};
use crate::responder::{Responder, ResponderSettings};
use crate::time::{Clock, SystemClock};
use arc_swap::ArcSwap;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long requests in progress have when the service stops or its listeners are replaced.
const GRACE: Duration = Duration::from_secs(10);
/// How often the registry file is looked at for a change.
const LOOK: Duration = Duration::from_millis(500);
/// Ports below this take a privilege (unless `net.ipv4.ip_unprivileged_port_start` says otherwise).
const PRIVILEGED: u16 = 1024;
/// How long the thread that looks at files, and the agent with it, may take to stop.
const KEEPER_STOP: Duration = Duration::from_secs(7);

/// How to run.
pub(super) struct Options<'a> {
    /// Show progress of the first signing on a terminal.
    pub(super) progress: bool,
    /// Called once, when each issuer has a signer (or none has come for a while), with the addresses of the endpoint and of the admin listener.
    pub(super) started: Option<&'a Started>,
    /// How log lines are written.
    pub(super) log: LogFormat,
}

/// Is told the addresses of the endpoint and of the admin listener.
pub(super) type Started = dyn Fn(&[SocketAddr], Option<SocketAddr>);

/// Serves until it is told to stop.
pub(super) fn run(config: Config, options: &Options<'_>) -> Result<(), String> {
    let mut doubts = super::shield::give_up(&config);
    // While this is the only thread, and what a port below 1024 takes has not been given up.
    let taken = Taken::by(&config);
    doubts.extend(super::shield::open_to_others(&config.state_dir));
    doubts.extend(super::shield::drop_capabilities(&config));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the system gives no event queue: {error}"))?;
    {
        let _inside = runtime.enter();
        signals::outlive_limit_on_files()?;
    }
    // Dropped last: its last lines come before the caller's last word.
    let log = logging::start(options.log);
    for doubt in doubts.into_iter().chain(config.warnings.iter().map(ToString::to_string)) {
        tracing::warn!("{doubt}");
    }
    let ended = taken.and_then(|taken| runtime.block_on(serve(config, options, &log, taken)));
    drop(runtime); // before the log
    ended
}

/// What is taken before there is a second thread.
struct Taken {
    sockets: Sockets,
    bound: Bound,
    _lock: File,
}

impl Taken {
    fn by(config: &Config) -> Result<Self, String> {
        let sockets = Sockets::inherited()?;
        let lock = lock(&config.state_dir)?;
        let bound = if sockets.endpoint.is_empty() {
            Server::bind(&config.endpoint.listen, config.endpoint.workers).map_err(|error| error.to_string())?
        } else {
            Bound::default()
        };
        let sockets = Sockets { admin: sockets.admin.or_else(|| bind_admin(config)), ..sockets };
        Ok(Taken { sockets, bound, _lock: lock })
    }
}

async fn serve(config: Config, options: &Options<'_>, log: &Log, taken: Taken) -> Result<(), String> {
    // First of all: a HUP during the start must not end the process.
    let mut signals = Signals::new()?;
    let mut supervisor = Supervisor::from_env();
    let Taken { sockets, bound, _lock } = taken;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let responder = Responder::start(ResponderSettings {
        state_dir: Some(config.state_dir.clone()),
        presign_workers: config.presign.workers,
        background_nice: i32::from(config.presign.background_nice),
        demand: sync::demand(&config),
        clock: clock.clone(),
    });
    let slots = sync::slots(&config.state_dir)?;
    let mut registry = Registry::open(&config, slots.0.clone(), clock.clone())?;
    let renewal = RenewalAgent::new(&config, slots, responder.clone(), registry.handle(), clock.clone());
    registry.write_into(renewal.trail());

    let status = Arc::new(ArcSwap::from_pointee(admin::RegistryView::default()));
    // The copy of the last good one, at once; the source is looked at meanwhile.
    registry.follow(&responder, &status);
    let looked = status.clone();
    let endpoint =
        start(&config, &responder, Settings { bound, sockets: sockets.for_endpoint()?, ..Settings::default() })?;
    let addresses = endpoint.addresses().to_vec();
    let admin_state = Arc::new(admin::State::new(responder.clone(), &endpoint, status.clone(), clock.clone()));
    admin_state.set_trail(renewal.trail());
    admin_state.set_lines_dropped(Box::new(log.lines_dropped()));
    for address in &addresses {
        tracing::info!("answering OCSP requests on http://{address}/");
    }
    if !sockets.endpoint.is_empty() {
        tracing::info!("these sockets were handed over; [endpoint] listen is not used");
    }
    let shared = Arc::new(ArcSwap::from_pointee(config.clone()));
    let config_file = ConfigFile::new(config.file.clone());
    let shown = responder.clone();
    let endpoint = Arc::new(Endpoint::new(endpoint));
    let mut changes = registry.changes();
    let mut service = Service {
        config,
        config_file,
        responder,
        registry,
        sockets,
        endpoint: endpoint.clone(),
        admin: None,
        admin_state,
        status,
        renewal,
        shared,
        control: None,
        clock,
    };
    service.follow_renewal();
    // Whoever cannot be looked at answers all the same.
    if let Err(error) = service.start_admin() {
        tracing::error!("{error}; requests are answered without it, and it is tried again");
    }
    if let Err(error) = service.start_control() {
        tracing::error!("{error}; operators cannot be answered, and it is tried again");
    }
    let admin = service.admin.as_ref().map(admin::AdminHandle::address);
    let keeper = Keeper::start(service)?;
    supervisor.ready(&addresses);
    let mut look = tokio::time::interval(LOOK);
    let progress = async {
        registry::first_look(&looked).await;
        if options.progress && std::io::stderr().is_terminal() {
            progress::show_progress(&shown).await;
        }
        if options.started.is_some() {
            progress::first_signers(&shown).await;
        }
    };
    tokio::pin!(progress);
    let (mut is_starting, mut is_late) = (true, false);
    let ended = loop {
        tokio::select! {
            () = &mut progress, if is_starting => {
                is_starting = false;
                if let Some(started) = options.started {
                    started(&addresses, admin);
                }
            }
            _ = look.tick() => {
                if keeper.has_ended() {
                    break Err("the thread that looks at files has died; the log says why".to_owned());
                }
                keeper.order(Order::Look);
                let fault = keeper.fault();
                if let Some(fault) = fault.as_ref().filter(|_| !is_late) {
                    tracing::error!("{fault}");
                }
                is_late = fault.is_some();
                if let Some(workers) = endpoint.pulse() {
                    supervisor.feed(&workers);
                }
            }
            () = changes.next() => keeper.order(Order::Registry),
            () = keeper.reloaded() => supervisor.ready(&endpoint.addresses()),
            signal = signals.next() => match signal {
                Signal::Reload => {
                    supervisor.reloading();
                    keeper.order(Order::Reload);
                }
                Signal::Stop(name) => {
                    supervisor.stopping();
                    tracing::info!("{name}: stopping; requests in progress are answered");
                    break Ok(());
                }
            }
        }
    };
    let _ = tokio::task::spawn_blocking(move || {
        if !keeper.stop(KEEPER_STOP) {
            tracing::error!("a look at the configuration or state_dir hangs and is left behind");
        }
        if let Some(endpoint) = endpoint.take() {
            endpoint.shutdown(GRACE);
        }
    })
    .await;
    ended
}

/// The admin listener's address, where it takes a privilege. One that cannot be had now is told when it is tried again.
fn bind_admin(config: &Config) -> Option<TcpListener> {
    let address = config.admin.listen.filter(|address| (1..PRIVILEGED).contains(&address.port()))?;
    TcpListener::bind(address).ok()
}

/// Listens again, after a change: on the sockets that were handed over, or where there are none on the addresses of the configuration: who starts
/// the process has the last word.
fn listen(config: &Config, responder: &Responder, inherited: &Sockets) -> Result<Handle, String> {
    let sockets = inherited.for_endpoint()?;
    let listen = if sockets.is_empty() { config.endpoint.listen.clone() } else { Vec::new() };
    let is_privileged = listen.iter().any(|address| (1..PRIVILEGED).contains(&address.port()));
    start(config, responder, Settings { listen, sockets, share_port: true, ..Settings::default() }).map_err(|error| {
        let given_up = "; if it is a port below 1024 that is refused: the privilege for it was given up after the start, so that \
            this takes a restart";
        if is_privileged { error + given_up } else { error }
    })
}

fn start(config: &Config, responder: &Responder, settings: Settings) -> Result<Handle, String> {
    let settings = Settings { workers: config.endpoint.workers, ..settings };
    Server::start(&service(config, responder)?, settings).map_err(|error| error.to_string())
}

fn service(config: &Config, responder: &Responder) -> Result<endpoint::Service, String> {
    let service = responder.service().with_mounts(sync::mounts(config)?).with_limits(sync::limits(config));
    Ok(service.with_request_log(config.log.requests))
}

/// One process at a time may use a state directory: two would renew the same signers and overwrite each other's segments.
fn lock(state_dir: &Path) -> Result<File, String> {
    let dir = state_dir.display();
    let say = |what: &str, error: &io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "state_dir {dir}: {what}: {error}; run this as the user whose directory it is, or give it to the one who runs this: \
             `mkdir -p {dir}; chown -R USER {dir}`"
        ),
        _ => format!("state_dir {dir}: {what}: {error}"),
    };
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
