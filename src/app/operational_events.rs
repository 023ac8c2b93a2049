//! Operational events: changes of webhooks that settle reports, as events that webhooks can subscribe to.
//!
//! Settle gets a row from [`compose_event`] while it decides, and writes the row in the transaction of the decision. A
//! thread reads the rows and submits them to the log like a client's events. A crash between the two steps submits a
//! row twice, and the log finds the duplicate by its id.

use std::collections::HashSet;
use std::thread::JoinHandle;
use std::{io, thread};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, select};
use serde_json::{Map, Value, json};

use crate::handoff::{CommitHandle, DisableReason, SettleCommand, SettleHandle, StatusChange, ToSettle};
use crate::ingest::{Ingest, OperationalEvent};
use crate::limits::{OUTBOX_BATCH, OUTBOX_RETRY_PAUSE};
use crate::model::{DeliveryId, WebhookNo};
use crate::outbound::Webhook;
use crate::registry::{Registry, Shared};
use crate::runtime::Clock;
use crate::settle::{DeliveryRecords, HealthEvent, HealthEventKind, OpenSettleError};

/// The outbox row of an operational event. `None` if no webhook of the tenant subscribes to its type.
pub(super) fn compose_operational_event(registry: &Registry, health_event: &HealthEvent<'_>) -> Option<Box<[u8]>> {
    let webhook = registry.webhook(health_event.webhook)?;
    let event_type = health_event.kind.event_type();
    if !registry.has_subscribers(&webhook.tenant, event_type) {
        return None;
    }
    let (about, correlation_id, part) = match &health_event.kind {
        HealthEventKind::Exhausted { event, correlation_id, .. } => {
            let id = DeliveryId { event: *event, webhook: webhook.no }.to_string();
            (id, Some((*correlation_id).into()), String::new())
        }
        HealthEventKind::Failing { percent, .. } => (webhook.id.to_string(), None, format!(":{percent}")),
        HealthEventKind::Disabled { .. } | HealthEventKind::Recovered { .. } => {
            (webhook.id.to_string(), None, String::new())
        }
    };
    let event = OperationalEvent {
        id: format!("{event_type}:{about}{part}:{}", health_event.at.as_millis()).into(),
        tenant: (*webhook.tenant).into(),
        event_type: event_type.into(),
        timestamp: health_event.at,
        resource_id: webhook.id.to_string().into(),
        user_id: webhook.user_id.clone(),
        correlation_id,
        data: serde_json::value::to_raw_value(&data(webhook, health_event)).ok()?,
    };
    Some(serde_json::to_vec(&event).ok()?.into())
}

/// The payload. It has only the host of the URL, because path and query may hold a secret and the event goes to another
/// endpoint.
fn data(webhook: &Webhook, health_event: &HealthEvent<'_>) -> Map<String, Value> {
    let mut data = Map::new();
    let mut put = |name: &str, value: Value| _ = data.insert(name.to_owned(), value);
    put("webhook_id", json!(webhook.id.to_string()));
    put("uid", json!(webhook.uid));
    put("name", json!(webhook.name));
    let endpoint = &webhook.endpoint;
    put("host", json!(if endpoint.subject.is_some() { &endpoint.url } else { &endpoint.host }));
    put("user_id", json!(webhook.user_id));
    match &health_event.kind {
        HealthEventKind::Failing { percent, since, disabled_at, attempt } => {
            put("percent", json!(percent));
            put("failing_since", json!(since));
            put("disabled_at", json!(disabled_at));
            put("http_status", json!(attempt.http_status));
            put("error_message", json!(attempt.error.as_ref().map(ToString::to_string)));
        }
        HealthEventKind::Disabled { reason } => {
            let word = reason.map(|reason| match reason {
                DisableReason::Gone => "gone",
                DisableReason::Failing => "failing",
            });
            put("reason", json!(word));
        }
        HealthEventKind::Recovered { was_disabled } => {
            put("was", json!(if *was_disabled { "disabled" } else { "failing" }));
            put("by", json!(if *was_disabled { "resume" } else { "success" }));
        }
        HealthEventKind::Exhausted { event, event_type, reason, attempt, .. } => {
            put("delivery_id", json!(DeliveryId { event: *event, webhook: webhook.no }.to_string()));
            put("event_id", json!(event.to_string()));
            put("event_type", json!(event_type));
            put("reason", json!(reason.as_str()));
            let error = attempt.and_then(|attempt| attempt.error.as_ref());
            put("attempt_count", json!(attempt.map_or(0, |attempt| attempt.number)));
            put("http_status", json!(attempt.and_then(|attempt| attempt.http_status)));
            put("error_message", json!(error.map(ToString::to_string)));
        }
    }
    data
}

/// Informs settle of webhooks that were disabled, resumed or removed shortly before a crash.
pub(super) fn reconcile(
    registry: &Registry,
    records: &DeliveryRecords,
    settle: &SettleHandle,
) -> Result<(), OpenSettleError> {
    let notified: HashSet<WebhookNo> = records.notified_disabled()?.into_iter().collect();
    let failed: HashSet<WebhookNo> = registry.failed().collect();
    let send = |webhook, change| settle.send(ToSettle::Command(SettleCommand::StatusChanged { webhook, change }));
    for webhook in failed.difference(&notified) {
        send(*webhook, StatusChange::Disabled(None));
    }
    for webhook in notified.difference(&failed) {
        send(
            *webhook,
            if registry.webhook(*webhook).is_some() { StatusChange::Resumed } else { StatusChange::Removed },
        );
    }
    Ok(())
}

/// The channel that settle uses to wake the outbox thread when rows wait.
pub(super) fn wakeup_channel() -> (Sender<()>, Receiver<()>) {
    bounded(1)
}

/// The running thread that submits outbox rows to the log.
#[derive(Debug)]
pub(super) struct OutboxThread {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl OutboxThread {
    /// Starts the thread, which first submits the rows of an earlier run. It reads the outbox with `records` and
    /// removes rows through `settle`.
    pub(super) fn start(
        ingest: Ingest<Shared, CommitHandle>,
        clock: Clock,
        (records, settle): (DeliveryRecords, SettleHandle),
        wakeups: Receiver<()>,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (stop, stopped) = bounded(0);
        let run = move || {
            let submit = |events: Vec<OperationalEvent>| {
                let submitted = runtime.block_on(ingest.submit_operational(&events, clock.now()));
                submitted.map_err(|why| why.to_string())
            };
            let mut reader = OutboxReader { records, settle, after: None };
            loop {
                match reader.submit_next(&submit) {
                    Ok(true) if stopped.try_recv() == Err(TryRecvError::Empty) => {}
                    Ok(true) => return,
                    Ok(false) => select! {
                        recv(wakeups) -> _ => {}
                        recv(stopped) -> _ => return,
                    },
                    Err(why) => {
                        tracing::warn!(%why, "operational events wait for the log");
                        if stopped.recv_timeout(OUTBOX_RETRY_PAUSE) != Err(RecvTimeoutError::Timeout) {
                            return;
                        }
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("outbox".into()).spawn(run)?;
        Ok(Self { stop, thread })
    }

    /// Stops the thread. Rows that are left are submitted after the next start.
    pub(super) fn stop(self) {
        drop(self.stop);
        // The thread has no result, and a panic was already printed.
        let _ = self.thread.join();
    }
}

/// The outbox, as the thread reads it.
struct OutboxReader {
    records: DeliveryRecords,
    settle: SettleHandle,
    /// The last row that is in the log. Settle may not have removed it yet.
    after: Option<u64>,
}

impl OutboxReader {
    /// Submits the next rows to the log. Returns whether there were any. After an error the caller has to try again.
    fn submit_next(&mut self, submit: &impl Fn(Vec<OperationalEvent>) -> Result<(), String>) -> Result<bool, String> {
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
            submit(events)?;
        }
        self.after = Some(last);
        self.settle.send(ToSettle::Command(SettleCommand::Admitted { through: last }));
        Ok(true)
    }
}
