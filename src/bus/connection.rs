//! The connection to the broker, on a thread with a runtime of its own.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use async_nats::connection::State;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::{Client, Event};
use rustls::ClientConfig;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::consume::{MessageReceiver, run_consumers};
use super::settings::BusSettings;
use super::{monitor, stream};
use crate::limits::{
    BUS_ACK_TIMEOUT_MAX, BUS_ACKS_MAX, BUS_API_TIMEOUT, BUS_COMMANDS_MAX, BUS_CONNECT_TIMEOUT, BUS_LOST_ACK_TIMEOUT,
    BUS_PING_INTERVAL, BUS_RECONNECT_DELAY_MAX, BUS_RECONNECT_DELAY_MIN,
};
use crate::registry::Shared;

/// The running event bus.
#[derive(Debug)]
pub struct EventBus {
    handle: EventBusHandle,
    runtime: Handle,
    consumers: Option<tokio::task::JoinHandle<()>>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// A handle to the event bus, for the shards and the health probe.
#[derive(Debug, Clone)]
pub struct EventBusHandle(pub(super) Arc<BusState>);

/// What the users of the connection share.
#[derive(Debug)]
pub(super) struct BusState {
    pub(super) settings: Arc<BusSettings>,
    pub(super) client: Client,
    /// Publishes messages. The attempt bounds the wait for an ack.
    pub(super) publisher: Context,
    /// Manages streams and consumers.
    pub(super) manager: Context,
    link: watch::Receiver<Link>,
    /// What does not work, by the name of the part.
    problems: Mutex<BTreeMap<Box<str>, Box<str>>>,
}

/// The connections so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Link {
    /// The connections that were established.
    pub(super) made: u64,
    /// The connections that were lost.
    pub(super) lost: u64,
}

impl EventBus {
    /// Starts the thread, which connects and reconnects. A broker that cannot be reached is no error. `tls` is the
    /// configuration of TLS connections without settings of their own.
    ///
    /// # Errors
    /// If the thread cannot be started, or the credentials cannot be used.
    pub fn start(settings: Arc<BusSettings>, tls: &Arc<ClientConfig>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (link_sender, link) = watch::channel(Link::default());
        let link_sender = Arc::new(link_sender);
        let options = settings
            .options(tls)
            .map_err(|why| io::Error::other(format!("nats: {why}")))?
            .name("hooktide")
            .ignore_discovered_servers()
            .retry_on_initial_connect()
            .connection_timeout(BUS_CONNECT_TIMEOUT)
            .ping_interval(BUS_PING_INTERVAL)
            .request_timeout(Some(BUS_API_TIMEOUT))
            .client_capacity(BUS_COMMANDS_MAX)
            .reconnect_delay_callback(|attempts| {
                let doubled = BUS_RECONNECT_DELAY_MIN.saturating_mul(1 << attempts.min(16));
                if attempts == 0 { BUS_RECONNECT_DELAY_MIN } else { doubled.min(BUS_RECONNECT_DELAY_MAX) }
            })
            .event_callback(move |event| {
                let link = Arc::clone(&link_sender);
                async move { observe(&event, &link) }
            });
        let state = runtime.block_on(async {
            let client = options.connect(settings.servers.clone()).await.map_err(io::Error::other)?;
            // Contexts spawn tasks, which belong to this runtime.
            let publisher = ContextBuilder::new()
                .timeout(BUS_ACK_TIMEOUT_MAX)
                .ack_timeout(BUS_LOST_ACK_TIMEOUT)
                .max_ack_inflight(BUS_ACKS_MAX)
                .build(client.clone());
            let manager = ContextBuilder::new().timeout(BUS_API_TIMEOUT).build(client.clone());
            Ok::<_, io::Error>(BusState { settings, client, publisher, manager, link, problems: Mutex::default() })
        })?;
        let handle = EventBusHandle(Arc::new(state));
        let (stop, stopped) = oneshot::channel::<()>();
        let of_thread = runtime.handle().clone();
        let state = Arc::clone(&handle.0);
        let run = move || {
            runtime.block_on(async {
                tokio::spawn(monitor::report_durability(Arc::clone(&state)));
                tokio::spawn(stream::keep_checked(Arc::clone(&state)));
                // Ends when the owner is dropped, too.
                let _ = stopped.await;
                // What is in the buffer of the connection is written out.
                let _ = tokio::time::timeout(BUS_API_TIMEOUT, state.client.flush()).await;
            });
        };
        let thread = thread::Builder::new().name("nats".into()).spawn(run)?;
        Ok(Self { handle, runtime: of_thread, consumers: None, stop, thread })
    }

    /// A handle for the users of the bus.
    pub fn handle(&self) -> EventBusHandle {
        self.handle.clone()
    }

    /// Starts to consume for the sources in the registry.
    pub fn start_consuming(&mut self, registry: Shared, receiver: Arc<dyn MessageReceiver>) {
        let state = Arc::clone(&self.handle.0);
        self.consumers = Some(self.runtime.spawn(run_consumers(state, registry, receiver)));
    }

    /// Stops to consume. Messages in progress are delivered again after the next start, and are duplicates then.
    pub fn stop_consuming(&mut self) {
        if let Some(consumers) = self.consumers.take() {
            consumers.abort();
        }
    }

    /// Closes the connection and ends the thread. Attempts must have ended before.
    pub fn stop(self) {
        let Self { handle, stop, thread, .. } = self;
        drop(handle);
        drop(stop);
        // The thread has no result, and a panic was already printed.
        let _ = thread.join();
    }
}

impl EventBusHandle {
    /// What keeps webhooks from publishing or sources from consuming; `None` if nothing does.
    pub fn problem(&self) -> Option<String> {
        if !self.0.is_connected() {
            return Some("not connected to a server of nats.url".to_owned());
        }
        let problems = self.0.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<_> = problems.iter().map(|(part, problem)| format!("{part}: {problem}")).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

impl BusState {
    /// Whether there is a connection now.
    pub(super) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Notifies about new and lost connections.
    pub(super) fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// Sets why a part does not work, or that it works, and logs a change.
    pub(super) fn set_problem(&self, part: &str, problem: Option<String>) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.get(part).map(|known| &**known) == problem.as_deref() {
            return;
        }
        if let Some(problem) = problem {
            tracing::error!(target: "hooktide::bus", part, %problem, "a part of the event bus does not work");
            problems.insert(part.into(), problem.into());
        } else {
            tracing::info!(target: "hooktide::bus", part, "a part of the event bus works again");
            problems.remove(part);
        }
    }
}

/// Counts connections and logs errors.
fn observe(event: &Event, link: &watch::Sender<Link>) {
    match event {
        Event::Connected => {
            link.send_modify(|link| link.made += 1);
            tracing::info!(target: "hooktide::bus", "connected to NATS");
        }
        Event::Disconnected | Event::Closed => {
            link.send_modify(|link| link.lost += 1);
            tracing::warn!(target: "hooktide::bus", "the connection to NATS is lost");
        }
        Event::ServerError(error) => tracing::warn!(target: "hooktide::bus", %error, "NATS reports an error"),
        Event::ClientError(error) => tracing::warn!(target: "hooktide::bus", %error, "NATS cannot be used"),
        Event::SlowConsumer(_) => tracing::warn!(target: "hooktide::bus", "messages arrive faster than they are read"),
        Event::LameDuckMode | Event::Draining => {}
    }
}
