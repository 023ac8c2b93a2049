//! The measured process and its folder. The process is started here and is always ended here, by its own id.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, never};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::runtime::Random;

use super::timing::PhaseClock;

/// Timeout of a start. After a kill the server reads its log, which takes time.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Timeout of a stop. The server limits its drain itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for a process to exit after it has closed its output.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval of the checks whether the process has exited.
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Number of lines of the server's standard error that an error shows.
const MESSAGES_SHOWN: usize = 20;

/// The process could not be started or stopped, or exited by itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServerError {
    #[error("cannot start the server: {0}")]
    Start(#[source] io::Error),
    #[error("the server did not get ready\n{messages}")]
    NotReady { messages: String },
    #[error("the server ended by itself ({status})\n{messages}")]
    Exited { status: ExitStatus, messages: String },
    #[error("the server did not stop within {} s", STOP_TIMEOUT.as_secs())]
    NotStopped,
    #[error("cannot signal the server: {0}")]
    Signal(#[source] io::Error),
}

/// A running process whose address is known. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct ServerProcess {
    child: Child,
    messages: PathBuf,
    pub(super) address: SocketAddr,
    /// Time from the start to the ready line.
    pub(super) startup_time: Duration,
}

impl ServerProcess {
    /// Starts a process in `folder` and waits until it is ready. Its standard error goes to a file in the folder.
    pub(super) fn start(mut command: Command, folder: &Path, clock: &PhaseClock) -> Result<Self, ServerError> {
        let messages = folder.join("messages");
        let file = fs::OpenOptions::new().create(true).append(true).open(&messages).map_err(ServerError::Start)?;
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
        let start = clock.now();
        let mut child = command.spawn().map_err(ServerError::Start)?;
        let ready = child.stdout.take().map(ready_address);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { child, messages, address: nowhere, startup_time: Duration::ZERO };
        let ready = ready.ok_or(io::ErrorKind::BrokenPipe).map_err(|kind| ServerError::Start(kind.into()))?;
        match ready.map_err(ServerError::Start)?.recv_timeout(READY_TIMEOUT) {
            Ok(address) => {
                server.address = address;
                server.startup_time = clock.since(start);
                Ok(server)
            }
            Err(RecvTimeoutError::Timeout) => Err(ServerError::NotReady { messages: server.messages() }),
            Err(RecvTimeoutError::Disconnected) => Err(server.ended_early()),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns an error if the process has exited.
    pub(super) fn check(&mut self) -> Result<(), ServerError> {
        match self.child.try_wait().map_err(ServerError::Signal)? {
            None => Ok(()),
            Some(status) => Err(ServerError::Exited { status, messages: self.messages() }),
        }
    }

    /// Sends SIGTERM and waits until the process has exited.
    pub(super) fn stop(mut self) -> Result<ExitStatus, ServerError> {
        let pid = Pid::from_raw(self.child.id() as i32);
        kill(pid, Signal::SIGTERM).map_err(|errno| ServerError::Signal(errno.into()))?;
        self.end_within(STOP_TIMEOUT)?.ok_or(ServerError::NotStopped)
    }

    /// Sends SIGKILL, like a crash, and waits until the process has exited.
    pub(super) fn kill(mut self) -> Result<(), ServerError> {
        self.child.kill().and_then(|()| self.child.wait()).map(drop).map_err(ServerError::Signal)
    }

    /// The error after the output has ended without a ready line.
    fn ended_early(&mut self) -> ServerError {
        match self.end_within(EXIT_TIMEOUT) {
            Ok(Some(status)) => ServerError::Exited { status, messages: self.messages() },
            Ok(None) => ServerError::NotReady { messages: self.messages() },
            Err(error) => error,
        }
    }

    fn end_within(&mut self, within: Duration) -> Result<Option<ExitStatus>, ServerError> {
        for _ in 0..within.as_millis() / EXIT_POLL_INTERVAL.as_millis() {
            if let Some(status) = self.child.try_wait().map_err(ServerError::Signal)? {
                return Ok(Some(status));
            }
            // A sleep: this channel never receives.
            let _ = never::<()>().recv_timeout(EXIT_POLL_INTERVAL);
        }
        Ok(None)
    }

    fn messages(&self) -> String {
        let text = fs::read_to_string(&self.messages).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(MESSAGES_SHOWN)..].join("\n")
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Both calls fail only if the process has exited and has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a process's output to its end, so that the process never blocks on it, and sends the address of the ready
/// line. The channel closes when the output ends.
fn ready_address(stdout: ChildStdout) -> io::Result<Receiver<SocketAddr>> {
    let (sender, receiver) = bounded(1);
    std::thread::Builder::new().name("bench-output".into()).spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(address) = address_in(&line) {
                // The channel is full or closed if an address has already been sent.
                let _ = sender.try_send(address);
            }
        }
    })?;
    Ok(receiver)
}

/// The first address of a line such as `… ready listen=127.0.0.1:8080 …`.
fn address_in(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_ascii_whitespace();
    words.find(|word| *word == "ready")?;
    words.find_map(|word| word.strip_prefix("listen="))?.split(',').next()?.parse().ok()
}

/// A folder with a unique name. Dropping it removes the folder and its contents, unless it is kept.
#[derive(Debug)]
pub(super) struct TempFolder {
    path: PathBuf,
    keep: bool,
}

impl TempFolder {
    /// Creates a folder in `parent` with mode 0700.
    pub(super) fn create(parent: &Path, keep: bool) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = parent.join(format!("hooktide-bench-{:032x}", Random::system().bits()));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path: path.canonicalize()?, keep })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        if !self.keep {
            // If the removal fails, the folder stays. Nothing else can be done at this point.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_names_the_address() {
        let address = "127.0.0.1:8080".parse().ok();
        assert_eq!(address_in("hooktide ready listen=127.0.0.1:8080 data=/x"), address);
        assert_eq!(address_in("hooktide ready version=1 listen=127.0.0.1:8080,[::1]:8080"), address);
        assert_eq!(address_in("hooktide listen=127.0.0.1:8080"), None);
        assert_eq!(address_in("curl http://127.0.0.1:8080"), None);
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_process_is_ready_then_stopped() {
        let folder = TempFolder::create(&std::env::temp_dir(), false).unwrap();
        let script = "echo hello; echo x ready listen=127.0.0.1:7; exec sleep 60";
        let mut server = ServerProcess::start(shell(script), folder.path(), &PhaseClock::new()).unwrap();
        assert_eq!(server.address.port(), 7);
        server.check().unwrap();
        assert!(!server.stop().unwrap().success());
    }

    #[test]
    fn an_error_shows_the_standard_error_of_the_process() {
        let folder = TempFolder::create(&std::env::temp_dir(), false).unwrap();
        let failed =
            ServerProcess::start(shell("echo no such key >&2; exit 2"), folder.path(), &PhaseClock::new()).unwrap_err();
        assert!(failed.to_string().contains("no such key"), "{failed}");
    }

    #[test]
    fn a_temporary_folder_is_removed_on_drop() {
        let folder = TempFolder::create(&std::env::temp_dir(), false).unwrap();
        let path = folder.path().to_owned();
        fs::write(path.join("file"), "x").unwrap();
        drop(folder);
        assert!(!path.exists());
    }
}
