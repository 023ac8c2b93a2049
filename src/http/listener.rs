//! Listening sockets, the threads that serve them, and their end.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::Response;
use super::connection::{Connections, Watch, serve};
use crate::config::Server;
use crate::limits::{ACCEPT_BACKOFF, HEAD_BYTES_MAX, LISTEN_BACKLOG, SWEEP_INTERVAL};
use crate::runtime::Clock;

/// hyper's own bound of a head. It is so much larger than [`HEAD_BYTES_MAX`] that a target of 64 KiB is still parsed, and
/// so answered 414 and not 431; the bound that counts is ours.
const HYPER_HEAD_BYTES_MAX: usize = HEAD_BYTES_MAX + 40 * 1024;
/// The share of the files that a process may open which connections to us may take.
const FILES_PER_CONNECTION: usize = 2;
/// Where the limit is unknown.
const FILES_ASSUMED: u64 = 1024;

/// What a listener serves. The routes that belong to each are in the route table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerKind {
    /// Everything: there is no other listener.
    Whole,
    /// What is for senders, beside an admin listener.
    Public,
    /// The rest.
    Admin,
}

/// Where a request arrived.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// The listener.
    pub surface: ListenerKind,
    /// The address of the other end of the connection.
    pub peer: IpAddr,
}

/// Answers the requests of one worker thread.
pub trait Worker: 'static {
    /// Answers a request.
    fn answer(&self, at: Arrival, watch: &Rc<Watch>, request: Request<Incoming>) -> impl Future<Output = Response>;
}

/// What the worker threads share, and what makes the [`Worker`] of each.
pub trait Serve: Send + Sync + 'static {
    /// The part that lives on one thread.
    type Worker: Worker;

    /// Makes the worker of a thread. Called on that thread, within its runtime.
    fn worker(self: &Arc<Self>) -> Self::Worker;

    /// The clock that limits the drain.
    fn clock(&self) -> &Clock;
}

/// Sockets that listen, and are not served yet.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<(TcpListener, ListenerKind)>,
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    workers: usize,
}

/// Why a socket does not listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// Where it should.
    pub address: SocketAddr,
    /// What the system says.
    pub source: io::Error,
}

/// Threads that serve.
#[derive(Debug)]
pub struct Running {
    stop: watch::Sender<Option<Duration>>,
    threads: Vec<JoinHandle<()>>,
}

/// Binds every address of the configuration.
///
/// # Errors
/// The first address that cannot be had.
pub fn bind(config: &Server) -> Result<Listeners, BindError> {
    let surface = if config.admin_listen.is_some() { ListenerKind::Public } else { ListenerKind::Whole };
    let public = config.listen.iter().map(|address| (*address, surface));
    let admin = config.admin_listen.map(|address| (address, ListenerKind::Admin));
    let mut listeners =
        Listeners { sockets: Vec::new(), addresses: Vec::new(), admin: None, workers: config.workers.max(1) };
    for (address, surface) in public.chain(admin) {
        let (socket, bound) = listen(address).map_err(|source| BindError { address, source })?;
        listeners.sockets.push((socket, surface));
        match surface {
            ListenerKind::Admin => listeners.admin = Some(bound),
            ListenerKind::Whole | ListenerKind::Public => listeners.addresses.push(bound),
        }
    }
    Ok(listeners)
}

fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // Each address is its own, so that `0.0.0.0` and `[::]` can both be given.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    let socket = TcpListener::from(socket);
    let bound = socket.local_addr()?;
    Ok((socket, bound))
}

impl Listeners {
    /// Where the public listeners are, with the ports they got.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the admin listener is, if there is one of its own.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// When the system gives no thread, or none that can wait for sockets.
    pub fn serve<S: Serve>(self, shared: &Arc<S>) -> io::Result<Running> {
        let (stop, stopped) = watch::channel(None);
        let places = Arc::new(Semaphore::new(connections_max()));
        let mut running = Running { stop, threads: Vec::with_capacity(self.workers) };
        for n in 0..self.workers {
            let sockets: Vec<_> = self
                .sockets
                .iter()
                .map(|(socket, surface)| Ok((socket.try_clone()?, *surface)))
                .collect::<io::Result<_>>()?;
            let seat = WorkerThread { sockets, places: Arc::clone(&places), stopped: stopped.clone() };
            let shared = Arc::clone(shared);
            let thread = std::thread::Builder::new().name(format!("admit-{n}"));
            running.threads.push(thread.spawn(move || {
                if let Err(error) = seat.run(shared) {
                    tracing::error!(%error, "a worker cannot serve");
                }
            })?);
        }
        Ok(running)
    }
}

impl Running {
    /// Stops accepting; what is in flight has so long to be answered.
    pub fn stop(&self, within: Duration) {
        // Workers that are gone need not be told.
        let _ = self.stop.send(Some(within));
    }

    /// Waits for the workers' end, which [`Self::stop`] brings.
    pub fn join(mut self) {
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

/// How many connections there may be, after the process's limit of files is raised as far as it goes.
fn connections_max() -> usize {
    let files = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() => hard,
        Ok((soft, _)) => soft,
        Err(_) => FILES_ASSUMED,
    };
    (usize::try_from(files).unwrap_or(usize::MAX) / FILES_PER_CONNECTION).clamp(1, Semaphore::MAX_PERMITS)
}

/// What a worker's thread starts with.
struct WorkerThread {
    sockets: Vec<(TcpListener, ListenerKind)>,
    places: Arc<Semaphore>,
    stopped: watch::Receiver<Option<Duration>>,
}

impl WorkerThread {
    fn run<S: Serve>(mut self, shared: Arc<S>) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default())?;
        runtime.block_on(async move {
            let clock = shared.clock().clone();
            let worker = Rc::new(shared.worker());
            let connections = Rc::<Connections>::default();
            // Nothing is ever sent: the receiver sees the last connection drop its sender.
            let (held, mut gone) = mpsc::channel::<Infallible>(1);
            let mut acceptors = Vec::new();
            for (socket, surface) in self.sockets {
                let socket = tokio::net::TcpListener::from_std(socket)?;
                let acceptor = Acceptor {
                    surface,
                    worker: Rc::clone(&worker),
                    connections: Rc::clone(&connections),
                    places: Arc::clone(&self.places),
                    held: held.clone(),
                };
                acceptors.push(tokio::task::spawn_local(acceptor.run(socket)));
            }
            drop(held);
            tokio::task::spawn_local(sweep(Rc::clone(&connections)));
            // An error is a sender that is gone, and stops as well.
            let within = self.stopped.wait_for(Option::is_some).await.map_or(None, |within| *within);
            for acceptor in &acceptors {
                acceptor.abort();
            }
            connections.finish();
            let deadline = clock.instant() + within.unwrap_or_default();
            if tokio::time::timeout_at(deadline, gone.recv()).await.is_err() {
                tracing::warn!(connections = connections.count(), "connections cut off at the end of the drain");
            }
            Ok(())
        })
    }
}

async fn sweep(connections: Rc<Connections>) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        connections.sweep();
    }
}

/// Accepts the connections of one socket, as long as there are places for them. Each connection is a task.
struct Acceptor<W> {
    surface: ListenerKind,
    worker: Rc<W>,
    connections: Rc<Connections>,
    places: Arc<Semaphore>,
    /// Each connection holds a clone until it ends.
    held: mpsc::Sender<Infallible>,
}

impl<W: Worker> Acceptor<W> {
    async fn run(self, socket: tokio::net::TcpListener) {
        let builder = Rc::new(http());
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            let (stream, peer) = match socket.accept().await {
                Ok((stream, peer)) => (stream, peer.ip()),
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            // Responses are written whole, so there is nothing to gather. A socket that is gone already shows at its first
            // read.
            let _ = stream.set_nodelay(true);
            let at = Arrival { surface: self.surface, peer };
            let (worker, builder, held) = (Rc::clone(&self.worker), Rc::clone(&builder), self.held.clone());
            let watch = self.connections.watch();
            tokio::task::spawn_local(async move {
                serve(&builder, (stream, (place, held)), (at, watch), &*worker).await;
            });
            // The other workers wait for the same socket: let them have the next connection.
            tokio::task::yield_now().await;
        }
    }
}

/// HTTP/1.1 as it is served here. hyper's timers are off: `connection` keeps the time. Answers are flattened, so that head
/// and body are one write. `pipeline_flush` stays off: it holds finished answers back while a part of the next request,
/// or a stray line end, is in the buffer. A client may close its side when it has sent its request, and is answered still.
pub fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.half_close(true)
        .header_read_timeout(None)
        .max_header_size(HYPER_HEAD_BYTES_MAX)
        .max_buf_size(HYPER_HEAD_BYTES_MAX)
        .writev(false);
    http
}

/// Errors of `accept` that concern a connection that ended before it was accepted, and not the socket.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
