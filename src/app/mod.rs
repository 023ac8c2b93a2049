//! app: builds the server, stops it in order, and handles the signals of the operating system.
//!
//! Guarantees:
//!
//! - The server serves no request before it has recovered everything that was acknowledged earlier.
//! - SIGTERM and SIGINT stop accepting requests, answer the running ones, let running deliveries end within
//!   `server.drain_seconds`, write the checkpoint and close every file.
//! - A stop ends after `server.drain_seconds` and 5 s more, whatever does not stop. The process then ends with exit
//!   code 3. What was acknowledged is on the disk, as after a crash.
//! - A permanent failure of a thread ends the process, so that a restart can recover.

mod adapters;
mod apply_file;
mod callbacks;
mod compiled_config;
mod delivery_backend;
mod external_calls;
mod health;
mod keys;
mod operational_events;
mod reload;
mod server;
mod start_error;
mod startup;
mod statistics_backend;
mod systemd;
mod test_delivery;
mod transport;
mod watchdog;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::Loader;
use crate::http::PassedSockets;
use crate::model::file::ADMIN_KEY;
use crate::runtime::logging::LogHandle;
pub use compiled_config::CompiledConfig;
use server::RunningServer;
use start_error::StartError;

/// What [`serve`] needs in addition to the configuration.
#[derive(Debug)]
pub struct ServeOptions {
    /// For development: the first start prints the admin key and a complete `curl` command.
    pub dev: bool,
    /// Reads the configuration again at SIGHUP.
    pub loader: Loader,
    /// Changes the log level at SIGHUP.
    pub logging: LogHandle,
}

/// How often the threads are checked that end only because of a bug in this program.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the server until it is stopped. Returns 0 after a clean drain, and 1 after a failure.
pub fn serve(setup: CompiledConfig, options: &ServeOptions) -> ExitCode {
    match run(setup, options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!(%error, "the server cannot start");
            ExitCode::FAILURE
        }
    }
}

fn run(setup: CompiledConfig, options: &ServeOptions) -> Result<bool, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The signal handlers are installed first, so that no signal is lost.
    let mut signals = runtime.block_on(async { Signals::new() })?;
    // From a signal on the time is limited, even if the signal arrives while the server starts.
    let stop_notice = watchdog::limit_stop(setup.config.server.drain)?;
    let declared = setup.declared.clone();
    let sockets = PassedSockets::new(systemd::sockets()?)?;
    let server = RunningServer::start(setup, sockets)?;
    runtime.block_on(server.apply_declared_webhooks(declared.as_deref()));
    // A process that waits for this line may close the pipe afterwards.
    let _ = io::stdout().lock().write_all(announcement(&server, options).as_bytes());
    systemd::ready();
    systemd::feed_watchdog(server.commit(), server.clock().clone())?;
    let failed = runtime.block_on(watch(&server, options, &mut signals));
    if let Some(reason) = &failed {
        tracing::error!(reason = %reason, "the server ends, so that a restart can recover what was acknowledged");
    }
    stop_notice.stopping();
    systemd::stopping();
    Ok(server.stop() && failed.is_none())
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// Waits for a stop signal or a failure. Returns the failure, or `None` after a signal.
async fn watch(server: &RunningServer, options: &ServeOptions, signals: &mut Signals) -> Option<String> {
    let mut poisoned = server.poisoned();
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return None,
            _ = signals.interrupt.recv() => return None,
            _ = signals.hang_up.recv() => reload::reload(server, options).await,
            _ = poisoned.changed() => {}
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
        }
        if let Some(reason) = server.failure() {
            return Some(reason);
        }
    }
}

/// The ready line, which a supervisor or a test can wait for. At the first start of a development server it is followed
/// by the admin key and an example command.
fn announcement(server: &RunningServer, options: &ServeOptions) -> String {
    let listen = server.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let admin = server.admin_address().map(|addr| addr.to_string());
    if server.config().logging.json {
        let ready = serde_json::json!({ "message": "ready", "listen": listen, "admin_listen": admin });
        return format!("{ready}\n");
    }
    let data_dir = &server.config().server.data_dir;
    let admin = admin.map(|addr| format!(" admin_listen={addr}")).unwrap_or_default();
    let ready = format!("hooktide ready listen={listen}{admin} data_dir={}\n", data_dir.display());
    let key = server.admin_key().map(|key| {
        let shown = if options.dev { key.new_key() } else { None };
        greeting(&data_dir.join(ADMIN_KEY), &listen, shown)
    });
    ready + &key.unwrap_or_default()
}

fn greeting(path: &Path, listen: &str, shown: Option<&str>) -> String {
    let path = path.display();
    let Some(key) = shown else { return format!("admin key: in {path}\n") };
    let addr = listen.split(',').next().unwrap_or_default();
    format!(
        "admin key: {key} (kept in {path}, shown this once)\n\
         try:\n  curl -s http://{addr}/api/v1/events -H 'Authorization: Bearer {key}' \\\n       \
         -d '{{\"type\":\"order.created\",\"data\":{{\"order_id\":\"ord_1\"}}}}'\n"
    )
}
