//! The process that is measured, and its folder: started here, ended here, by its own id, whatever happens.

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

use super::timing::Stage;

/// How long a start may take: a log that was killed is walked.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long a stop may take; the server bounds its drain itself.
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// How long a process may take to end that has closed its output.
const END_WITHIN: Duration = Duration::from_secs(2);
/// How often the end of a process is looked for.
const GLANCE: Duration = Duration::from_millis(5);
/// Lines of the server's own messages that are shown when it fails.
const MESSAGES_SHOWN: usize = 20;

/// A process that could not be started, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServerError {
    #[error("cannot start the server: {0}")]
    Start(#[source] io::Error),
    #[error("the server did not get ready\n{messages}")]
    NotReady { messages: String },
    #[error("the server ended by itself ({status})\n{messages}")]
    Died { status: ExitStatus, messages: String },
    #[error("the server did not stop within {} s", STOP_WITHIN.as_secs())]
    NotStopped,
    #[error("cannot signal the server: {0}")]
    Signal(#[source] io::Error),
}

/// A running process that has said where it listens. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    messages: PathBuf,
    pub(super) address: SocketAddr,
    /// From its start to the ready line.
    pub(super) ready_after: Duration,
}

impl Server {
    /// Starts a process in `folder`, where its standard error goes to a file, and waits until it is ready.
    pub(super) fn start(mut command: Command, folder: &Path, stage: &Stage) -> Result<Self, ServerError> {
        let messages = folder.join("messages");
        let file = fs::OpenOptions::new().create(true).append(true).open(&messages).map_err(ServerError::Start)?;
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
        let start = stage.now();
        let mut child = command.spawn().map_err(ServerError::Start)?;
        let ready = child.stdout.take().map(ready_address);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { child, messages, address: nowhere, ready_after: Duration::ZERO };
        let ready = ready.ok_or(io::ErrorKind::BrokenPipe).map_err(|kind| ServerError::Start(kind.into()))?;
        match ready.map_err(ServerError::Start)?.recv_timeout(READY_WITHIN) {
            Ok(address) => {
                server.address = address;
                server.ready_after = stage.since(start);
                Ok(server)
            }
            Err(RecvTimeoutError::Timeout) => Err(ServerError::NotReady { messages: server.messages() }),
            Err(RecvTimeoutError::Disconnected) => Err(server.ended_early()),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails if the process has ended.
    pub(super) fn check(&mut self) -> Result<(), ServerError> {
        match self.child.try_wait().map_err(ServerError::Signal)? {
            None => Ok(()),
            Some(status) => Err(ServerError::Died { status, messages: self.messages() }),
        }
    }

    /// Asks the process to stop and waits for it.
    pub(super) fn stop(mut self) -> Result<ExitStatus, ServerError> {
        let pid = Pid::from_raw(self.child.id() as i32);
        kill(pid, Signal::SIGTERM).map_err(|errno| ServerError::Signal(errno.into()))?;
        self.end_within(STOP_WITHIN)?.ok_or(ServerError::NotStopped)
    }

    /// Kills the process as a crash would.
    pub(super) fn kill(mut self) -> Result<(), ServerError> {
        self.child.kill().and_then(|()| self.child.wait()).map(drop).map_err(ServerError::Signal)
    }

    /// Why there will be no ready line: the output has ended, and the process with it, or it is of no use.
    fn ended_early(&mut self) -> ServerError {
        match self.end_within(END_WITHIN) {
            Ok(Some(status)) => ServerError::Died { status, messages: self.messages() },
            Ok(None) => ServerError::NotReady { messages: self.messages() },
            Err(error) => error,
        }
    }

    fn end_within(&mut self, within: Duration) -> Result<Option<ExitStatus>, ServerError> {
        for _ in 0..within.as_millis() / GLANCE.as_millis() {
            if let Some(status) = self.child.try_wait().map_err(ServerError::Signal)? {
                return Ok(Some(status));
            }
            // A wait that nobody cuts short.
            let _ = never::<()>().recv_timeout(GLANCE);
        }
        Ok(None)
    }

    fn messages(&self) -> String {
        let text = fs::read_to_string(&self.messages).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(MESSAGES_SHOWN)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a process's output to its end, so that it never waits for us, and tells the address of the ready line. The
/// channel ends with the output.
fn ready_address(stdout: ChildStdout) -> io::Result<Receiver<SocketAddr>> {
    let (tell, told) = bounded(1);
    std::thread::Builder::new().name("bench-output".into()).spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(address) = address_in(&line) {
                // Full or closed: it was told already.
                let _ = tell.try_send(address);
            }
        }
    })?;
    Ok(told)
}

/// The first address of `… ready listen=127.0.0.1:8080 …`.
fn address_in(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_ascii_whitespace();
    words.find(|word| *word == "ready")?;
    words.find_map(|word| word.strip_prefix("listen="))?.split(',').next()?.parse().ok()
}

/// A folder with a name of its own; dropped, it is removed with all that is in it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    /// Makes a folder in `parent`.
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

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed stays; there is nobody to tell who could do more.
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
        let folder = Folder::create(&std::env::temp_dir(), false).unwrap();
        let script = "echo hello; echo x ready listen=127.0.0.1:7; exec sleep 60";
        let mut server = Server::start(shell(script), folder.path(), &Stage::new()).unwrap();
        assert_eq!(server.address.port(), 7);
        server.check().unwrap();
        assert!(!server.stop().unwrap().success());
    }

    #[test]
    fn a_process_that_fails_is_quoted() {
        let folder = Folder::create(&std::env::temp_dir(), false).unwrap();
        let failed = Server::start(shell("echo no such key >&2; exit 2"), folder.path(), &Stage::new()).unwrap_err();
        assert!(failed.to_string().contains("no such key"), "{failed}");
    }

    #[test]
    fn a_folder_goes_with_its_guard() {
        let folder = Folder::create(&std::env::temp_dir(), false).unwrap();
        let path = folder.path().to_owned();
        fs::write(path.join("file"), "x").unwrap();
        drop(folder);
        assert!(!path.exists());
    }
}
