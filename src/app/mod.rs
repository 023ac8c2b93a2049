//! app: what is built and stopped, in what order; and what the operating system's signals mean.
//!
//! Promises: nothing is served before everything acknowledged earlier is known again; SIGTERM and SIGINT stop accepting,
//! answer what is in flight, let running deliveries end within `server.drain_seconds`, write the checkpoint and close every
//! file; a thread that fails for good ends the process, so that a restart can recover.

mod adapters;
mod callbacks;
mod declare;
mod external_calls;
mod figures;
mod health;
mod keys;
mod operational;
mod reload;
mod server;
mod setup;
mod startup;
mod store;
mod test_delivery;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::Loader;
use crate::model::file::ADMIN_KEY;
use crate::runtime::logging::Logging;
use server::{Server, StartError};
pub use setup::Setup;

/// What [`serve`] needs beside the configuration.
#[derive(Debug)]
pub struct ServeOptions {
    /// For development: the first start prints the admin key and a ready `curl` line.
    pub dev: bool,
    /// Reads the configuration again at SIGHUP.
    pub loader: Loader,
    /// Changes the log level at SIGHUP.
    pub logging: Logging,
}

/// How often the threads are looked at that can only end by a fault in this program.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the server until it is told to stop; 0 after a clean drain, 1 after a failure.
pub fn serve(setup: Setup, options: &ServeOptions) -> ExitCode {
    match run(setup, options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!(%error, "the server cannot start");
            ExitCode::FAILURE
        }
    }
}

fn run(setup: Setup, options: &ServeOptions) -> Result<bool, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Signals are taken before anything is opened, so that none falls between.
    let mut signals = runtime.block_on(async { Signals::new() })?;
    let declared = setup.declared.clone();
    let server = Server::start(setup)?;
    runtime.block_on(server.declare(declared.as_deref()));
    // Whoever waits for the line may hang up after it.
    let _ = io::stdout().lock().write_all(announcement(&server, options).as_bytes());
    let failed = runtime.block_on(watch(&server, options, &mut signals));
    if let Some(reason) = &failed {
        tracing::error!(reason = %reason, "the server ends, so that a restart can recover what was acknowledged");
    }
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

/// Waits for the end: `None` if it was asked for, else what failed.
async fn watch(server: &Server, options: &ServeOptions, signals: &mut Signals) -> Option<String> {
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

/// The ready line, which a supervisor or a test can wait for, and at the first start of a development server what a person
/// needs to begin.
fn announcement(server: &Server, options: &ServeOptions) -> String {
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
        let shown = if options.dev { key.first_shown() } else { None };
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
