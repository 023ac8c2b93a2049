//! Listening sockets, the threads that serve them, and their end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::connection::serve;
use super::route::Surface;
use super::service::Worker;
use super::{Admit, Directory, Management};
use crate::config::Server;
use crate::handoff::Desk;
use crate::ingest::Submit;
use crate::limits::{ACCEPT_BACKOFF, HEAD_BYTES_MAX, LISTEN_BACKLOG, SWEEP_INTERVAL};

/// hyper's own bound of a head. It is so much larger than [`HEAD_BYTES_MAX`] that a target of 64 KiB is still parsed, and
/// so answered 414 and not 431; the bound that counts is ours.
const HYPER_HEAD_BYTES_MAX: usize = HEAD_BYTES_MAX + 40 * 1024;
/// The share of the files that a process may open which connections to us may take.
const FILES_PER_CONNECTION: usize = 2;
/// Where the limit is unknown.
const FILES_ASSUMED: u64 = 1024;

/// Sockets that listen, and are not served yet.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<(TcpListener, Surface)>,
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
    let surface = if config.admin_listen.is_some() { Surface::Public } else { Surface::Whole };
    let public = config.listen.iter().map(|address| (*address, surface));
    let admin = config.admin_listen.map(|address| (address, Surface::Admin));
    let mut listeners =
        Listeners { sockets: Vec::new(), addresses: Vec::new(), admin: None, workers: config.workers.max(1) };
    for (address, surface) in public.chain(admin) {
        let (socket, bound) = listen(address).map_err(|source| BindError { address, source })?;
        listeners.sockets.push((socket, surface));
        match surface {
            Surface::Admin => listeners.admin = Some(bound),
            Surface::Whole | Surface::Public => listeners.addresses.push(bound),
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
    pub fn serve<D: Directory, S: Submit, M: Management>(self, admit: &Arc<Admit<D, S, M>>) -> io::Result<Running> {
        let (stop, stopped) = watch::channel(None);
        let places = Arc::new(Semaphore::new(connections_max()));
        let mut running = Running { stop, threads: Vec::with_capacity(self.workers) };
        for n in 0..self.workers {
            let sockets: Vec<_> = self
                .sockets
                .iter()
                .map(|(socket, surface)| Ok((socket.try_clone()?, *surface)))
                .collect::<io::Result<_>>()?;
            let runtime = Seat { sockets, places: Arc::clone(&places), stopped: stopped.clone() };
            let admit = Arc::clone(admit);
            let thread = std::thread::Builder::new().name(format!("admit-{n}"));
            running.threads.push(thread.spawn(move || {
                if let Err(error) = runtime.run(admit) {
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
struct Seat {
    sockets: Vec<(TcpListener, Surface)>,
    places: Arc<Semaphore>,
    stopped: watch::Receiver<Option<Duration>>,
}

impl Seat {
    fn run<D: Directory, S: Submit, M: Management>(mut self, admit: Arc<Admit<D, S, M>>) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default())?;
        runtime.block_on(async move {
            let clock = admit.clock.clone();
            let (desk, clerk) = Desk::open();
            tokio::task::spawn_local(clerk.run());
            let worker = Rc::new(Worker::new(admit, desk));
            // Nothing is ever sent: the receiver sees the last connection drop its sender.
            let (held, mut gone) = mpsc::channel::<std::convert::Infallible>(1);
            let mut acceptors = Vec::new();
            for (socket, surface) in self.sockets {
                let socket = tokio::net::TcpListener::from_std(socket)?;
                let acceptor = accept(socket, surface, Rc::clone(&worker), Arc::clone(&self.places), held.clone());
                acceptors.push(tokio::task::spawn_local(acceptor));
            }
            drop(held);
            tokio::task::spawn_local(sweep(Rc::clone(&worker)));
            // An error is a sender that is gone, and stops as well.
            let within = self.stopped.wait_for(Option::is_some).await.map_or(None, |within| *within);
            for acceptor in &acceptors {
                acceptor.abort();
            }
            worker.connections.finish();
            let deadline = clock.instant() + within.unwrap_or_default();
            if tokio::time::timeout_at(deadline, gone.recv()).await.is_err() {
                tracing::warn!(connections = worker.connections.count(), "connections cut off at the end of the drain");
            }
            Ok(())
        })
    }
}

async fn sweep<D, S, M>(worker: Rc<Worker<D, S, M>>) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        worker.connections.sweep();
    }
}

/// Accepts as long as there are places for connections, each of which is a task.
async fn accept<D: Directory, S: Submit, M: Management>(
    socket: tokio::net::TcpListener,
    surface: Surface,
    worker: Rc<Worker<D, S, M>>,
    places: Arc<Semaphore>,
    held: mpsc::Sender<std::convert::Infallible>,
) {
    let builder = Rc::new(http());
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (stream, peer) = match socket.accept().await {
            Ok((stream, peer)) => (stream, peer.ip()),
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        // Answers are written whole, so there is nothing to gather; a socket that is already gone shows when it is read.
        let _ = stream.set_nodelay(true);
        let (worker, builder, held) = (Rc::clone(&worker), Rc::clone(&builder), held.clone());
        tokio::task::spawn_local(async move {
            let watch = worker.connections.watch();
            let service = service_fn(|request| async {
                Ok::<_, std::convert::Infallible>(worker.answer((surface, peer), &watch, request).await)
            });
            serve(&builder, stream, Rc::clone(&watch), service).await;
            drop((place, held));
        });
        // The other workers wait for the same socket: let them have the next one.
        tokio::task::yield_now().await;
    }
}

/// HTTP/1.1 as it is served here. hyper's timers are off: `connection` keeps the time. Answers are flattened, so that head
/// and body are one write. `pipeline_flush` stays off: it holds finished answers back while a part of the next request,
/// or a stray line end, is in the buffer. A client may close its side when it has sent its request, and is answered still.
pub(super) fn http() -> http1::Builder {
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
