//! Operational events: what settle tells of webhooks, as events that webhooks can subscribe to.
//!
//! Settle asks for a row while it decides ([`compose`]), and writes it in the transaction of what was decided; a thread takes
//! the rows to the log as a client's events come to it. A crash between the two takes a row twice, and the log knows its id.

use std::collections::HashSet;
use std::thread::JoinHandle;
use std::{io, thread};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, select};
use serde_json::{Map, Value, json};

use crate::handoff::{Command, CommitHandle, DisableReason, Noted, SettleHandle, ToSettle};
use crate::ingest::{Ingest, OperationalEvent};
use crate::limits::{OUTBOX_BATCH, OUTBOX_PAUSE};
use crate::model::{DeliveryId, WebhookNo};
use crate::outbound::Webhook;
use crate::registry::{Registry, Shared};
use crate::runtime::Clock;
use crate::settle::{Happened, Happening, OpenError, Records};

/// The row of an operational event, if a webhook of the tenant asks for its type.
pub(super) fn compose(registry: &Registry, happening: &Happening<'_>) -> Option<Box<[u8]>> {
    let webhook = registry.webhook(happening.webhook)?;
    let event_type = happening.what.event_type();
    if !registry.listens(&webhook.tenant, event_type) {
        return None;
    }
    let (about, correlation_id, part) = match &happening.what {
        Happened::Exhausted { event, correlation_id, .. } => {
            let id = DeliveryId { event: *event, webhook: webhook.no }.to_string();
            (id, Some((*correlation_id).into()), String::new())
        }
        Happened::Failing { percent, .. } => (webhook.id.to_string(), None, format!(":{percent}")),
        Happened::Disabled { .. } | Happened::Recovered { .. } => (webhook.id.to_string(), None, String::new()),
    };
    let event = OperationalEvent {
        id: format!("{event_type}:{about}{part}:{}", happening.at.as_millis()).into(),
        tenant: (*webhook.tenant).into(),
        event_type: event_type.into(),
        timestamp: happening.at,
        resource_id: webhook.id.to_string().into(),
        user_id: webhook.user_id.clone(),
        correlation_id,
        data: serde_json::value::to_raw_value(&data(webhook, happening)).ok()?,
    };
    Some(serde_json::to_vec(&event).ok()?.into())
}

/// The payload. Of the URL only the host is told: path and query may hold a secret, and this goes to another endpoint.
fn data(webhook: &Webhook, happening: &Happening<'_>) -> Map<String, Value> {
    let mut data = Map::new();
    let mut put = |name: &str, value: Value| _ = data.insert(name.to_owned(), value);
    put("webhook_id", json!(webhook.id.to_string()));
    put("uid", json!(webhook.uid));
    put("name", json!(webhook.name));
    put("host", json!(webhook.endpoint.host));
    put("user_id", json!(webhook.user_id));
    match &happening.what {
        Happened::Failing { percent, since, disabled_at, attempt } => {
            put("percent", json!(percent));
            put("failing_since", json!(since));
            put("disabled_at", json!(disabled_at));
            put("http_status", json!(attempt.http_status));
            put("error_message", json!(attempt.error.as_ref().map(ToString::to_string)));
        }
        Happened::Disabled { reason } => {
            let word = reason.map(|reason| match reason {
                DisableReason::Gone => "gone",
                DisableReason::Failing => "failing",
            });
            put("reason", json!(word));
        }
        Happened::Recovered { was_disabled } => {
            put("was", json!(if *was_disabled { "disabled" } else { "failing" }));
            put("by", json!(if *was_disabled { "resume" } else { "success" }));
        }
        Happened::Exhausted { event, event_type, reason, attempt, .. } => {
            put("delivery_id", json!(DeliveryId { event: *event, webhook: webhook.no }.to_string()));
            put("event_id", json!(event.to_string()));
            put("event_type", json!(event_type));
            put("reason", json!(reason.as_str()));
            put("attempt_count", json!(attempt.number));
            put("http_status", json!(attempt.http_status));
            put("error_message", json!(attempt.error.as_ref().map(ToString::to_string)));
        }
    }
    data
}

/// Tells settle of webhooks that were disabled, resumed or removed when a crash came before it knew.
pub(super) fn reconcile(registry: &Registry, records: &Records, settle: &SettleHandle) -> Result<(), OpenError> {
    let told: HashSet<WebhookNo> = records.told_disabled()?.into_iter().collect();
    let failed: HashSet<WebhookNo> = registry.failed().collect();
    let note = |webhook, noted| settle.tell(ToSettle::Command(Command::Note { webhook, noted }));
    for webhook in failed.difference(&told) {
        note(*webhook, Noted::Disabled(None));
    }
    for webhook in told.difference(&failed) {
        note(*webhook, if registry.webhook(*webhook).is_some() { Noted::Resumed } else { Noted::Removed });
    }
    Ok(())
}

/// The bell that settle rings when rows wait, and its listener.
pub(super) fn bell() -> (Sender<()>, Receiver<()>) {
    bounded(1)
}

/// The thread that takes rows to the log, running.
#[derive(Debug)]
pub(super) struct Courier {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Courier {
    /// Starts the thread, which first looks for rows of an earlier run. The outbox is what `records` reads and `settle`
    /// changes.
    pub(super) fn start(
        ingest: Ingest<Shared, CommitHandle>,
        clock: Clock,
        (records, settle): (Records, SettleHandle),
        bell: Receiver<()>,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (stop, stopped) = bounded(0);
        let work = move || {
            let take = |events: Vec<OperationalEvent>| {
                let taken = runtime.block_on(ingest.take_own(&events, clock.now()));
                taken.map_err(|why| why.to_string())
            };
            let mut rows = Rows { records, settle, after: None };
            loop {
                match rows.take_some(&take) {
                    Ok(true) if stopped.try_recv() == Err(TryRecvError::Empty) => {}
                    Ok(true) => return,
                    Ok(false) => select! {
                        recv(bell) -> _ => {}
                        recv(stopped) -> _ => return,
                    },
                    Err(why) => {
                        tracing::warn!(%why, "operational events wait for the log");
                        if stopped.recv_timeout(OUTBOX_PAUSE) != Err(RecvTimeoutError::Timeout) {
                            return;
                        }
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("outbox".into()).spawn(work)?;
        Ok(Self { stop, thread })
    }

    /// Lets it end; rows that are left are taken after the next start.
    pub(super) fn stop(self) {
        drop(self.stop);
        // It has nothing to say; a panic of its was printed.
        let _ = self.thread.join();
    }
}

/// The outbox as the thread reads it.
struct Rows {
    records: Records,
    settle: SettleHandle,
    /// The last row that the log has; settle may not have removed it yet.
    after: Option<u64>,
}

impl Rows {
    /// Takes the next rows to the log; whether there were any. An error says why they have to be tried again.
    fn take_some(&mut self, take: &impl Fn(Vec<OperationalEvent>) -> Result<(), String>) -> Result<bool, String> {
        let rows = self.records.outbox(self.after, OUTBOX_BATCH).map_err(|error| error.to_string())?;
        let Some((last, _)) = rows.last() else { return Ok(false) };
        let last = *last;
        let read = |(no, row): &(u64, Vec<u8>)| match serde_json::from_slice(row) {
            Ok(event) => Some(event),
            Err(error) => {
                tracing::error!(row = no, %error, "an operational event cannot be read; it is left out");
                None
            }
        };
        let events: Vec<OperationalEvent> = rows.iter().filter_map(read).collect();
        if !events.is_empty() {
            take(events)?;
        }
        self.after = Some(last);
        self.settle.tell(ToSettle::Command(Command::Admitted { through: last }));
        Ok(true)
    }
}
