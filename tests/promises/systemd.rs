//! systemd: passed sockets, notices, the watchdog, and the units of `systemd/`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{binary, scaled};

/// A server that gets its listening socket from its parent, as from systemd.
struct Service {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Service {
    fn start(dir: &Path, socket: &TcpListener, listen: SocketAddr, variables: &[(&str, &str)]) -> Self {
        // LISTEN_PID is the id of the process that gets the sockets, which are its files from number 3 on.
        let script = r#"exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" serve"#;
        let mut command = Command::new("sh");
        command.args(["-c", script, binary()]).current_dir(dir).env_clear().envs(variables.iter().copied());
        command.env("HOOKTIDE_SERVER__LISTEN", listen.to_string()).env("HOOKTIDE_SERVER__DATA_DIR", dir.join("data"));
        command.env("HOOKTIDE_AUTH__API_KEYS", r#"[{ key = "a-key-that-is-long-enough-to-pass", role = "admin" }]"#);
        let stdin = OwnedFd::from(socket.try_clone().unwrap());
        let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    fn until_ready(mut self) -> Self {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(line.starts_with("hooktide ready"), "{line}{}", self.errors());
        self
    }

    fn stop(&mut self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    fn errors(&mut self) -> String {
        let _ = self.child.kill();
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

fn bound() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// The error of a connection that was closed without a byte.
const NO_RESPONSE: &str = "closed without a response";

/// Publishes one event on a connection of its own. Returns the status.
fn publish(address: SocketAddr, n: u64) -> std::io::Result<u16> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    let body = format!(r#"{{"type":"a.b","data":{n}}}"#);
    let head = "POST /api/v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a-key-that-is-long-enough-to-pass\r\n\
                Content-Type: application/json\r\nConnection: close\r\n";
    socket.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| std::io::Error::other(if answer.is_empty() { NO_RESPONSE } else { "no status" }))
}

#[test]
fn no_connection_is_refused_while_a_service_with_a_passed_socket_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, address) = bound();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut service = Service::start(dir.path(), &socket, address, &[]).until_ready();
    let load = {
        let is_over = Arc::clone(&is_over);
        std::thread::spawn(move || {
            let mut statuses = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                statuses.push(publish(address, statuses.len() as u64).map_err(|error| error.to_string()));
            }
            statuses
        })
    };
    for _ in 0..scaled(4) {
        std::thread::sleep(Duration::from_millis(150));
        service.stop();
        service = Service::start(dir.path(), &socket, address, &[]).until_ready();
    }
    is_over.store(true, Ordering::Relaxed);
    let statuses = load.join().unwrap();
    let accepted = statuses.iter().filter(|status| matches!(status, Ok(202))).count();
    // A stop may close a connection that it accepted and whose request it has not read. A client sends such a request
    // again on another connection.
    let (unread, odd): (Vec<_>, Vec<_>) = statuses
        .iter()
        .filter(|status| !matches!(status, Ok(202 | 503)))
        .partition(|status| status.as_ref().is_err_and(|error| error == NO_RESPONSE));
    assert!(odd.is_empty() && accepted > 20, "{accepted} accepted, and {odd:?}");
    assert!(unread.len() <= scaled(4), "at most one for each restart: {}", unread.len());
    println!("{} requests, {accepted} accepted, none refused", statuses.len());
    service.stop();
}

#[test]
fn the_service_manager_hears_of_the_start_the_watchdog_and_the_stop() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let notices = UnixDatagram::bind(&path).unwrap();
    notices.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let (socket, address) = bound();
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "300000")];
    let mut service = Service::start(dir.path(), &socket, address, &variables).until_ready();
    let next = || {
        let mut notice = [0; 256];
        let len = notices.recv(&mut notice).unwrap();
        String::from_utf8_lossy(&notice[..len]).trim().to_owned()
    };
    assert_eq!(next(), "READY=1");
    let began = Instant::now();
    for _ in 0..5 {
        assert_eq!(next(), "WATCHDOG=1");
    }
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    service.stop();
    let rest: Vec<_> = std::iter::repeat_with(next).take_while(|notice| notice != "STOPPING=1").collect();
    assert!(rest.iter().all(|notice| notice == "WATCHDOG=1"), "{rest:?}");
}

#[test]
fn a_passed_socket_of_another_address_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, passed) = bound();
    let configured = crate::support::dead_address();
    let mut service = Service::start(dir.path(), &socket, configured, &[]);
    assert_eq!(service.child.wait().unwrap().code(), Some(1));
    let errors = service.errors();
    assert!(errors.contains(&passed.to_string()) && errors.contains("ListenStream"), "{errors}");
}

#[test]
fn the_units_are_valid_and_the_service_is_hardened() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let dir = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for name in ["hooktide.service", "hooktide.socket"] {
        // The binary of the unit is not installed here.
        let text = std::fs::read_to_string(units.join(name)).unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text.replace("/usr/bin/hooktide", binary())).unwrap();
        paths.push(path);
    }
    let analyze = |arguments: &[&str], paths: &[std::path::PathBuf]| {
        let done = Command::new("systemd-analyze").args(arguments).args(paths).output().unwrap();
        let text = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert!(done.status.success(), "{arguments:?}: {text}");
        text
    };
    let warnings = analyze(&["verify", "--man=no"], &paths);
    assert!(!warnings.contains("hooktide."), "{warnings}");
    // The unit of the threshold is a tenth: 1.5.
    analyze(&["security", "--offline=true", "--no-pager", "--threshold=15"], &paths[..1]);
}
