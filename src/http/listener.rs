//! Listening sockets, the worker threads that serve them, and their shutdown.

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
use super::connection::{ConnectionMonitor, Connections, serve};
use super::connection_slots::ConnectionSlots;
use crate::config::Server;
use crate::limits::{ACCEPT_BACKOFF, HEAD_BYTES_MAX, LISTEN_BACKLOG, TIMEOUT_CHECK_INTERVAL};
use crate::runtime::{Clock, Heartbeat, Metrics};

/// hyper's limit for the size of a request head. It exceeds [`HEAD_BYTES_MAX`] so far that hyper still parses a target of
/// 64 KiB, which then gets a 414 instead of a 431. The effective limit is [`HEAD_BYTES_MAX`].
const HYPER_HEAD_BYTES_MAX: usize = HEAD_BYTES_MAX + 40 * 1024;
/// The open files that are reserved for each connection: client connections use at most half of the limit of open files.
const FILES_PER_CONNECTION: usize = 2;
/// The assumed limit of open files if the system does not report it.
const FILES_ASSUMED: u64 = 1024;

/// Which routes a listener serves. The route table assigns each route to a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerKind {
    /// The only listener. It serves all routes.
    Combined,
    /// The listener for senders of events, next to an admin listener.
    Public,
    /// The listener for all other routes.
    Admin,
}

/// The connection on which a request arrived.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionInfo {
    /// The listener that accepted the connection.
    pub listener: ListenerKind,
    /// The IP address of the client or of the proxy in front of it.
    pub peer: IpAddr,
}

/// Handles the requests of one worker thread.
pub trait RequestHandler: 'static {
    /// Handles a request and returns its response.
    fn answer(
        &self,
        connection: ConnectionInfo,
        monitor: &Rc<ConnectionMonitor>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response>;
}

/// The state that all worker threads share. It creates the [`RequestHandler`] of each worker thread.
pub trait Serve: Send + Sync + 'static {
    /// The request handler of one worker thread.
    type Handler: RequestHandler;

    /// Creates the request handler of a worker thread. Called on this thread, inside its runtime.
    fn worker(self: &Arc<Self>) -> Self::Handler;

    /// The clock that measures the time limit of the drain.
    fn clock(&self) -> &Clock;

    /// The heartbeat of one worker thread.
    fn heartbeat(&self, worker: usize) -> Heartbeat;

    /// The metrics of the process.
    fn metrics(&self) -> &Arc<Metrics>;
}

/// Bound sockets that are not served yet.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<(TcpListener, ListenerKind)>,
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    workers: usize,
}

/// An address could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// The configured address.
    pub address: SocketAddr,
    /// The error of the operating system.
    pub source: io::Error,
}

/// Sockets that the service manager passed, by their address.
#[derive(Debug, Default)]
pub struct PassedSockets(Vec<(SocketAddr, TcpListener)>);

impl PassedSockets {
    /// Sockets that listen already.
    ///
    /// # Errors
    /// If the address of a socket cannot be read.
    pub fn new(sockets: Vec<TcpListener>) -> io::Result<Self> {
        sockets.into_iter().map(|socket| Ok((socket.local_addr()?, socket))).collect::<io::Result<_>>().map(Self)
    }

    /// Takes the socket of an address.
    fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.0.iter().position(|(of, _)| *of == address)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// The running worker threads.
#[derive(Debug)]
pub struct ListenerThreads {
    stop: watch::Sender<Option<Duration>>,
    threads: Vec<JoinHandle<()>>,
}

/// Binds every configured address. An address of a passed socket uses this socket.
///
/// # Errors
/// The first address that cannot be bound, or a passed socket whose address is not configured.
pub fn bind(config: &Server, mut passed: PassedSockets) -> Result<Listeners, BindError> {
    let listener = if config.admin_listen.is_some() { ListenerKind::Public } else { ListenerKind::Combined };
    let public = config.listen.iter().map(|address| (*address, listener));
    let admin = config.admin_listen.map(|address| (address, ListenerKind::Admin));
    let mut listeners =
        Listeners { sockets: Vec::new(), addresses: Vec::new(), admin: None, workers: config.workers.max(1) };
    for (address, listener) in public.chain(admin) {
        let opened = passed.take(address).map_or_else(|| listen(address), adopt);
        let (socket, bound) = opened.map_err(|source| BindError { address, source })?;
        listeners.sockets.push((socket, listener));
        match listener {
            ListenerKind::Admin => listeners.admin = Some(bound),
            ListenerKind::Combined | ListenerKind::Public => listeners.addresses.push(bound),
        }
    }
    if let Some((address, _)) = passed.0.first() {
        let why = "the service manager passed a socket of this address, which is neither in server.listen nor \
                   server.admin_listen: make ListenStream of the socket unit and the configuration equal";
        return Err(BindError { address: *address, source: io::Error::new(io::ErrorKind::InvalidInput, why) });
    }
    Ok(listeners)
}

/// Takes over a socket that listens already.
fn adopt(socket: TcpListener) -> io::Result<(TcpListener, SocketAddr)> {
    socket.set_nonblocking(true)?;
    let bound = socket.local_addr()?;
    Ok((socket, bound))
}

fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // An IPv6 socket accepts no IPv4 connections, so that `0.0.0.0` and `[::]` can both be configured.
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
    /// The addresses of the public listeners, with the ports that the system assigned.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address of the admin listener. `None` if there is no separate admin listener.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Starts the worker threads.
    ///
    /// # Errors
    /// When the system cannot create a thread or duplicate a socket.
    pub fn serve<S: Serve>(self, shared: &Arc<S>) -> io::Result<ListenerThreads> {
        let (stop, stopped) = watch::channel(None);
        let slots = ConnectionSlots::new(connections_max(), self.workers, shared.metrics());
        let mut running = ListenerThreads { stop, threads: Vec::with_capacity(self.workers) };
        for n in 0..self.workers {
            let sockets: Vec<_> = self
                .sockets
                .iter()
                .map(|(socket, listener)| Ok((socket.try_clone()?, *listener)))
                .collect::<io::Result<_>>()?;
            let (slots, stopped) = (Arc::clone(&slots), stopped.clone());
            let worker_thread = WorkerThread { index: n, sockets, slots, stopped };
            let shared = Arc::clone(shared);
            let thread = std::thread::Builder::new().name(format!("admit-{n}"));
            running.threads.push(thread.spawn(move || {
                if let Err(error) = worker_thread.run(shared) {
                    tracing::error!(%error, "a worker cannot serve");
                }
            })?);
        }
        Ok(running)
    }
}

impl ListenerThreads {
    /// Stops accepting connections. Requests in flight must be answered within the time `within`.
    pub fn stop(&self, within: Duration) {
        // The channel is closed if all workers have ended already.
        let _ = self.stop.send(Some(within));
    }

    /// Waits until all workers have ended. They end after [`Self::stop`].
    pub fn join(mut self) {
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

/// Raises the limit of open files to its hard limit, and returns the maximum number of connections.
fn connections_max() -> usize {
    let files = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() => hard,
        Ok((soft, _)) => soft,
        Err(_) => FILES_ASSUMED,
    };
    (usize::try_from(files).unwrap_or(usize::MAX) / FILES_PER_CONNECTION).clamp(1, Semaphore::MAX_PERMITS)
}

/// The inputs of a worker thread.
struct WorkerThread {
    index: usize,
    sockets: Vec<(TcpListener, ListenerKind)>,
    slots: Arc<ConnectionSlots>,
    stopped: watch::Receiver<Option<Duration>>,
}

impl WorkerThread {
    fn run<S: Serve>(mut self, shared: Arc<S>) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default())?;
        runtime.block_on(async move {
            let clock = shared.clock().clone();
            let worker = Rc::new(shared.worker());
            let connections = Rc::<Connections>::default();
            // Nothing is ever sent. The receiver completes when the last connection has dropped its sender.
            let (alive, mut all_closed) = mpsc::channel::<Infallible>(1);
            let mut acceptors = Vec::new();
            for (socket, listener) in self.sockets {
                let socket = tokio::net::TcpListener::from_std(socket)?;
                let acceptor = Acceptor {
                    listener,
                    worker: Rc::clone(&worker),
                    connections: Rc::clone(&connections),
                    slots: Arc::clone(&self.slots),
                    worker_no: self.index,
                    alive: alive.clone(),
                };
                acceptors.push(tokio::task::spawn_local(acceptor.run(socket)));
            }
            drop(alive);
            tokio::task::spawn_local(sweep(Rc::clone(&connections), shared.heartbeat(self.index)));
            let (slots, giving_way) = (Arc::clone(&self.slots), Rc::clone(&connections));
            tokio::task::spawn_local(async move { slots.close_giving_way(self.index, &giving_way).await });
            // An error means that the sender was dropped, which stops the worker as well.
            let within = self.stopped.wait_for(Option::is_some).await.map_or(None, |within| *within);
            for acceptor in &acceptors {
                acceptor.abort();
            }
            connections.finish();
            let deadline = clock.instant() + within.unwrap_or_default();
            if tokio::time::timeout_at(deadline, all_closed.recv()).await.is_err() {
                tracing::warn!(connections = connections.count(), "connections cut off at the end of the drain");
            }
            Ok(())
        })
    }
}

async fn sweep(connections: Rc<Connections>, heartbeat: Heartbeat) {
    let mut ticks = tokio::time::interval(TIMEOUT_CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        connections.sweep();
        // The sweep shows that the thread is not blocked.
        heartbeat.working();
    }
}

/// Accepts the connections of one socket. Each connection runs in its own task. A connection without a free slot waits
/// until another one gives way.
struct Acceptor<W> {
    listener: ListenerKind,
    worker: Rc<W>,
    connections: Rc<Connections>,
    slots: Arc<ConnectionSlots>,
    worker_no: usize,
    /// Each connection holds a clone until it closes.
    alive: mpsc::Sender<Infallible>,
}

impl<W: RequestHandler> Acceptor<W> {
    async fn run(self, socket: tokio::net::TcpListener) {
        let builder = Rc::new(http());
        loop {
            let (stream, peer) = match socket.accept().await {
                Ok((stream, peer)) => (stream, peer.ip()),
                Err(error) if is_connection_error(&error) => continue,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            let Some(permit) = self.slots.permit().await else { return };
            // Each response is one write, so Nagle's algorithm has no use. If the socket is closed already, its first read
            // fails.
            let _ = stream.set_nodelay(true);
            let connection = ConnectionInfo { listener: self.listener, peer };
            let (worker, builder, alive) = (Rc::clone(&self.worker), Rc::clone(&builder), self.alive.clone());
            let monitor = self.connections.register();
            let slot = self.slots.occupy(permit, (&monitor, peer, self.worker_no));
            tokio::task::spawn_local(async move {
                serve(&builder, (stream, (slot, alive)), (connection, monitor), &*worker).await;
            });
            // The other workers accept from the same socket. Yielding gives them the next connection.
            tokio::task::yield_now().await;
        }
    }
}

/// The HTTP/1.1 settings of the server.
///
/// - hyper's timers are off, because `connection` checks the time limits.
/// - Responses are copied into one buffer, so that head and body are one write.
/// - `pipeline_flush` is off. It would hold back finished responses while the buffer contains a part of the next request
///   or a stray line end.
/// - A client may close its side after its request and still receives the response.
pub fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.half_close(true)
        .header_read_timeout(None)
        .max_header_size(HYPER_HEAD_BYTES_MAX)
        .max_buf_size(HYPER_HEAD_BYTES_MAX)
        .writev(false);
    http
}

/// Whether an error of `accept` concerns only a connection that ended before it was accepted.
fn is_connection_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
