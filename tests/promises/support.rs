//! Test support: a server as a child process, a sink with configurable responses, and a client. All are small and
//! blocking.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Timeout of every wait in these tests.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// The usual number of tries in a test, times `HOOKTIDE_TEST_SCALE` for long runs by hand.
pub fn scaled(usual: usize) -> usize {
    std::env::var("HOOKTIDE_TEST_SCALE").map_or(usual, |scale| usual * scale.parse::<usize>().unwrap())
}

/// A `hooktide serve` process on a temporary folder.
pub struct Server {
    child: Child,
    pub addr: SocketAddr,
    /// The management address, if it is separate.
    pub admin: Option<SocketAddr>,
    pub key: String,
    dir: Arc<tempfile::TempDir>,
    settings: Vec<(String, String)>,
}

impl Server {
    /// Starts a server on a new folder. `settings` are environment variables without their prefix; `NOFILE` is the
    /// limit of open files.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), settings)
    }

    /// Starts a server in a prepared folder. Its data goes to `data` in that folder.
    pub fn start_in(dir: Arc<tempfile::TempDir>, settings: &[(&str, &str)]) -> Self {
        Self::start_on(dir, settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    fn start_on(dir: Arc<tempfile::TempDir>, settings: Vec<(String, String)>) -> Self {
        let stderr = std::fs::OpenOptions::new().create(true).append(true).open(dir.path().join("stderr.log")).unwrap();
        let files = settings.iter().find(|(key, _)| key == "NOFILE").map(|(_, files)| format!("--nofile={files}"));
        let binary = binary();
        let mut command = Command::new(files.as_ref().map_or(binary, |_| "prlimit"));
        command.args(files.iter().map(String::as_str).chain(files.as_ref().map(|_| binary)));
        command.arg("serve").current_dir(dir.path()).env_clear().stdout(Stdio::piped()).stderr(stderr);
        command.env("HOOKTIDE_SERVER__LISTEN", "127.0.0.1:0");
        command.env("HOOKTIDE_SERVER__DATA_DIR", dir.path().join("data"));
        command.env("HOOKTIDE_EGRESS__ALLOW", r#"["127.0.0.0/8"]"#);
        for (key, value) in &settings {
            match key.as_str() {
                "NOFILE" => &mut command,
                "LD_PRELOAD" => command.env(key, value),
                "CONFIG" => command.args(["--config", value]).env_remove("HOOKTIDE_EGRESS__ALLOW"),
                _ => command.env(format!("HOOKTIDE_{key}"), value),
            };
        }
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (addr, admin) = loop {
            let Some(Ok(line)) = lines.next() else {
                let log = std::fs::read_to_string(dir.path().join("stderr.log")).unwrap_or_default();
                let _ = child.wait();
                panic!("the server ended before it was ready:\n{log}");
            };
            if let Some(rest) = line.strip_prefix("hooktide ready listen=") {
                let addr = rest.split([' ', ',']).next().unwrap().parse().unwrap();
                let admin = rest.split(' ').find_map(|field| field.strip_prefix("admin_listen="));
                break (addr, admin.map(|admin| admin.parse().unwrap()));
            }
        };
        let key = std::fs::read_to_string(dir.path().join("data/admin.key")).unwrap().trim().to_owned();
        Self { child, addr, admin, key, dir, settings }
    }

    /// The folder of all data.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The log of all its runs so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr.log")).unwrap()
    }

    /// Process id, for signals and for /proc.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits until the process ends. Returns its exit code; `None` if a signal ended it.
    pub fn wait(&mut self) -> Option<i32> {
        let until = Instant::now() + WAIT_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "the server does not end; its log:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the server with `signal` and starts it again on the same folder with the same settings.
    pub fn restart(&mut self, signal: Signal) {
        self.signal(signal);
        self.restart_ended();
    }

    /// Starts the server again after it has ended.
    pub fn restart_ended(&mut self) {
        self.wait();
        let next = Self::start_on(Arc::clone(&self.dir), self.settings.clone());
        let mut last = std::mem::replace(self, next);
        last.child.wait().unwrap();
    }

    /// Changes a setting for the next start.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.retain(|(k, _)| k != key);
        self.settings.push((key.to_owned(), value.to_owned()));
    }

    /// Waits until the log contains `text`.
    pub fn until_logged(&self, text: &str) {
        let until = Instant::now() + WAIT_TIMEOUT;
        while !self.log().contains(text) {
            assert!(Instant::now() < until, "{text:?} is not logged:\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends one request with the admin key.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.client().call(method, path, body)
    }

    /// A client with its own kept-alive connection.
    pub fn client(&self) -> Client {
        Client::to(self.addr, self.key.clone())
    }

    /// Creates a webhook. Returns its id and secret.
    pub fn webhook(&self, url: &str, events: &[&str], more: Value) -> (String, String) {
        let mut body = json!({ "url": url, "events": events });
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let answer = self.call("POST", "/api/v1/webhooks", Some(&body));
        assert_eq!(answer.status, 201, "{}", answer.text());
        let made = answer.json();
        (made["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned())
    }

    /// Publishes an event and returns its id.
    pub fn publish(&self, event_type: &str, data: &Value) -> String {
        let answer = self.call("POST", "/api/v1/events", Some(&json!({ "type": event_type, "data": data })));
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Polls a path until the response satisfies the condition.
    pub fn until(&self, path: &str, satisfied: impl Fn(&Value) -> bool) -> Value {
        let mut client = self.client();
        let until = Instant::now() + WAIT_TIMEOUT;
        loop {
            let answer = client.call("GET", path, None);
            if answer.status == 200 && satisfied(&answer.json()) {
                return answer.json();
            }
            assert!(Instant::now() < until, "{path} stays {}: {}\n{}", answer.status, answer.text(), self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A value of `/proc/<pid>/status`, in KiB.
    pub fn memory_kib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|l| l.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A complete response.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

/// A client with one kept-alive connection to a server.
pub struct Client {
    pub addr: SocketAddr,
    pub key: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    pub fn to(addr: SocketAddr, key: String) -> Self {
        Self { addr, key, stream: None }
    }

    /// Changes the server address. Reconnects if the address differs.
    pub fn redirect(&mut self, addr: SocketAddr) {
        if addr != self.addr {
            *self = Self::to(addr, std::mem::take(&mut self.key));
        }
    }

    pub fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(|b| serde_json::to_vec(b).unwrap()).unwrap_or_default();
        self.send(method, path, &[("Content-Type", "application/json")], &body).unwrap()
    }

    /// Sends one request. The result is an error if the server closes the connection before the response is complete.
    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<Answer> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(self.addr)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(WAIT_TIMEOUT))?;
            self.stream = Some(BufReader::new(stream));
        }
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n", self.addr, body.len());
        if !self.key.is_empty() {
            head += &format!("Authorization: Bearer {}\r\n", self.key);
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        let stream = self.stream.as_mut().unwrap();
        let answer = stream.get_mut().write_all(&bytes).and_then(|()| read_message(stream)).and_then(|message| {
            let status = message.first.split(' ').nth(1).and_then(|s| s.parse().ok());
            let status = status.ok_or_else(|| std::io::Error::other(message.first.clone()))?;
            Ok(Answer { status, headers: message.headers, body: message.body })
        });
        let closes = answer.as_ref().map_or(true, |a| a.headers.get("connection").is_some_and(|c| c == "close"));
        if closes {
            self.stream = None;
        }
        answer
    }
}

struct Message {
    first: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

fn read_message(from: &mut impl BufRead) -> std::io::Result<Message> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let first = line.trim_end().to_owned();
    let mut headers = HashMap::new();
    loop {
        line.clear();
        if from.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
            None => break,
        };
    }
    let len = headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut body = vec![0; len];
    from.read_exact(&mut body)?;
    Ok(Message { first, headers, body })
}

/// A request received by a sink.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    pub at: Instant,
}

impl Delivery {
    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// The response of a sink: a status, additional header lines, and a delay.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: String,
    pub after: Duration,
}

impl From<u16> for Reply {
    fn from(status: u16) -> Self {
        Self { status, headers: String::new(), after: Duration::ZERO }
    }
}

type Respond = dyn Fn(&Delivery) -> Reply + Send + Sync;

/// An HTTP receiver on its own port, with one thread per connection.
pub struct Sink {
    pub addr: SocketAddr,
    from: Receiver<Delivery>,
    seen: Arc<Mutex<Vec<Delivery>>>,
}

impl Sink {
    /// Starts a sink that responds with 204 to everything.
    pub fn start() -> Self {
        Self::answering(|_| 204.into())
    }

    /// Starts a sink whose responses come from `respond`.
    pub fn answering(respond: impl Fn(&Delivery) -> Reply + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0".parse().unwrap(), respond)
    }

    /// Starts a sink on a given address, like an endpoint that recovers.
    pub fn on(addr: SocketAddr, respond: impl Fn(&Delivery) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(addr).unwrap();
        let addr = listener.local_addr().unwrap();
        let (to, from) = sync_channel(1 << 20);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let respond: Arc<Respond> = Arc::new(respond);
        let all = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (to, all, respond) = (to.clone(), Arc::clone(&all), Arc::clone(&respond));
                thread::spawn(move || serve_sink(stream, &to, &all, &*respond));
            }
        });
        Self { addr, from, seen }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Waits for the next delivery.
    pub fn next(&self) -> Delivery {
        self.from.recv_timeout(WAIT_TIMEOUT).expect("a delivery")
    }

    /// The next delivery; `None` if none arrives within `wait`.
    pub fn within(&self, wait: Duration) -> Option<Delivery> {
        match self.from.recv_timeout(wait) {
            Ok(delivery) => Some(delivery),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the sink ended"),
        }
    }

    /// All deliveries so far.
    pub fn all(&self) -> Vec<Delivery> {
        self.seen.lock().unwrap().clone()
    }

    /// The number of deliveries of each event so far.
    pub fn counts(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for delivery in self.seen.lock().unwrap().iter() {
            *counts.entry(delivery.id().to_owned()).or_insert(0) += 1;
        }
        counts
    }
}

fn serve_sink(stream: TcpStream, to: &SyncSender<Delivery>, all: &Mutex<Vec<Delivery>>, respond: &Respond) {
    let _ = stream.set_nodelay(true);
    let mut stream = BufReader::new(stream);
    while let Ok(message) = read_message(&mut stream) {
        let path = message.first.split(' ').nth(1).unwrap_or_default().to_owned();
        let delivery = Delivery { path, headers: message.headers, body: message.body, at: Instant::now() };
        let reply = respond(&delivery);
        all.lock().unwrap().push(delivery.clone());
        let _ = to.send(delivery);
        if !reply.after.is_zero() {
            thread::sleep(reply.after);
        }
        let head = format!("HTTP/1.1 {} Answer\r\nContent-Length: 0\r\n{}\r\n", reply.status, reply.headers);
        if stream.get_mut().write_all(head.as_bytes()).is_err() {
            return;
        }
    }
}

/// The path of the tested binary: that of this build, or the one in `HOOKTIDE_TEST_BINARY`.
pub fn binary() -> &'static str {
    static BINARY: LazyLock<String> = LazyLock::new(|| {
        std::env::var("HOOKTIDE_TEST_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_hooktide").to_owned())
    });
    &BINARY
}

/// Whether the tested binary has no optimizations, so that bounds on times are wider.
pub fn is_debug_build() -> bool {
    cfg!(debug_assertions) && std::env::var_os("HOOKTIDE_TEST_BINARY").is_none()
}

/// The address of a free port without a listener.
pub fn dead_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Runs the command line and returns its exit code, standard output and standard error.
pub fn run(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(binary());
    let output = command.args(args).current_dir(dir).env_clear().envs(env.iter().copied()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}
