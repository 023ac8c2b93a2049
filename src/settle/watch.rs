//! What settle tells of how webhooks stand: that one fails, was disabled, is well again, or that a delivery was given up.
//!
//! Each is told once: how far a webhook is on its way is a row of state.redb, in the transaction that also has the operational
//! event. Deliveries of operational events cause none, or a receiver of them that fails would hear of itself for ever.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use redb::{Error, ReadTransaction, ReadableTable, WriteTransaction};

use super::keeper::{DisableReason, Keeper};
use super::Settled;
use super::table::WATCH;
use crate::limits::OUTBOX_ROWS_MAX;
use crate::model::{Attempt, DeadReason, Decision, EventHead, EventId, RESERVED_TYPES, Timestamp, WebhookNo};

/// Shares of the way to being disabled, in percent, at which it is told.
pub const FAILING_PERCENT: [u8; 3] = [50, 70, 90];

/// Something that whoever runs a webhook should know.
#[derive(Debug, Clone, PartialEq)]
pub struct Happening<'a> {
    /// The webhook.
    pub webhook: WebhookNo,
    /// When, by the wall clock.
    pub at: Timestamp,
    /// What.
    pub what: Happened<'a>,
}

/// What happened to a webhook.
#[derive(Debug, Clone, PartialEq)]
pub enum Happened<'a> {
    /// It does nothing but fail, and this much of the time is over after which it is disabled.
    Failing {
        /// One of [`FAILING_PERCENT`].
        percent: u8,
        /// Since when, by the wall clock.
        since: Timestamp,
        /// When it is disabled if that goes on.
        disabled_at: Timestamp,
        /// The attempt that failed just now.
        attempt: &'a Attempt,
    },
    /// Its status is failed.
    Disabled {
        /// Why; `None` if a crash came before that was known.
        reason: Option<DisableReason>,
    },
    /// It is well again.
    Recovered {
        /// Whether it had been disabled, and not only failed.
        was_disabled: bool,
    },
    /// A delivery was given up after an attempt.
    Exhausted {
        /// The event.
        event: EventId,
        /// Its type.
        event_type: &'a str,
        /// Its correlation id.
        correlation_id: &'a str,
        /// Why.
        reason: DeadReason,
        /// The last attempt.
        attempt: &'a Attempt,
    },
}

impl Happened<'_> {
    /// The type of the operational event that tells it.
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::Failing { .. } => "hooktide.webhook.failing",
            Self::Disabled { .. } => "hooktide.webhook.disabled",
            Self::Recovered { .. } => "hooktide.webhook.recovered",
            Self::Exhausted { .. } => "hooktide.delivery.exhausted",
        }
    }
}

/// What the registry tells of a webhook's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// It is failed now.
    Disabled(Option<DisableReason>),
    /// It was failed and is no more.
    Resumed,
    /// It was removed.
    Removed,
}

/// How badly a webhook stands; one that is well has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Failing(u8),
    Disabled,
}

/// Of all webhooks that do not stand well.
#[derive(Debug, Default)]
pub(super) struct Watches {
    of: HashMap<WebhookNo, Standing>,
    dirty: BTreeSet<WebhookNo>,
}

/// As stored; below it are percents.
const DISABLED: u8 = 100;

impl Watches {
    pub(super) fn load(txn: &ReadTransaction) -> Result<Self, Error> {
        let mut of = HashMap::new();
        for entry in txn.open_table(WATCH)?.iter()? {
            let (no, row) = entry?;
            let standing = if row.value() >= DISABLED { Standing::Disabled } else { Standing::Failing(row.value()) };
            of.insert(WebhookNo(no.value()), standing);
        }
        Ok(Self { of, dirty: BTreeSet::new() })
    }

    /// Writes what changed.
    pub(super) fn write(&self, txn: &WriteTransaction) -> Result<(), Error> {
        if self.dirty.is_empty() {
            return Ok(());
        }
        let mut table = txn.open_table(WATCH)?;
        for no in &self.dirty {
            match self.of.get(no) {
                None => drop(table.remove(no.0)?),
                Some(Standing::Failing(percent)) => drop(table.insert(no.0, percent)?),
                Some(Standing::Disabled) => drop(table.insert(no.0, DISABLED)?),
            }
        }
        Ok(())
    }

    /// Notes that what [`Watches::write`] wrote is durable.
    pub(super) fn written(&mut self) {
        self.dirty.clear();
    }

    fn set(&mut self, webhook: WebhookNo, standing: Option<Standing>) -> Option<Standing> {
        let before = match standing {
            Some(standing) => self.of.insert(webhook, standing),
            None => self.of.remove(&webhook),
        };
        if before != standing {
            self.dirty.insert(webhook);
        }
        before
    }
}

/// The webhooks that were told to be disabled.
pub(super) fn disabled(txn: &ReadTransaction) -> Result<Vec<WebhookNo>, Error> {
    let mut found = Vec::new();
    for entry in txn.open_table(WATCH)?.iter()? {
        let (no, row) = entry?;
        if row.value() >= DISABLED {
            found.push(WebhookNo(no.value()));
        }
    }
    Ok(found)
}

impl Keeper {
    /// Looks at outcomes that were just counted.
    pub(super) fn watch(&mut self, outcomes: &[Settled]) {
        for outcome in outcomes {
            match &outcome.attempt {
                Some(attempt) if attempt.error.is_some() => self.watch_failure(outcome, attempt),
                Some(_) if !self.watches.of.is_empty() => self.watch_success(outcome),
                _ => {}
            }
        }
    }

    /// What the registry says.
    pub(super) fn note(&mut self, webhook: WebhookNo, noted: Noted) {
        match noted {
            Noted::Disabled(reason) => {
                if self.watches.set(webhook, Some(Standing::Disabled)) != Some(Standing::Disabled) {
                    self.tell(webhook, Happened::Disabled { reason });
                }
            }
            Noted::Resumed => {
                // It gets all of its time again.
                self.stats.begin_anew(webhook);
                if self.watches.set(webhook, None).is_some() {
                    self.tell(webhook, Happened::Recovered { was_disabled: true });
                }
            }
            Noted::Removed => _ = self.watches.set(webhook, None),
        }
        self.gathered.items += 1;
    }

    fn watch_success(&mut self, outcome: &Settled) {
        let webhook = outcome.webhook;
        // One that is disabled stays so, though a delivery that was under way succeeded.
        if !matches!(self.watches.of.get(&webhook), Some(Standing::Failing(_))) {
            return;
        }
        self.watches.set(webhook, None);
        self.gathered.items += 1;
        if !is_own(&outcome.head) {
            self.tell(webhook, Happened::Recovered { was_disabled: false });
        }
    }

    fn watch_failure(&mut self, outcome: &Settled, attempt: &Attempt) {
        let Ok((_, event_type)) = EventHead::labels(&outcome.head) else { return };
        if event_type.starts_with(RESERVED_TYPES) {
            return;
        }
        self.watch_failing(outcome.webhook, attempt);
        if let Decision::Dead(reason @ (DeadReason::Exhausted | DeadReason::NotRetryable)) = outcome.decision {
            let correlation_id = EventHead::parse(&outcome.head).map_or("", |head| head.event.correlation_id);
            let event = outcome.event;
            self.tell(outcome.webhook, Happened::Exhausted { event, event_type, correlation_id, reason, attempt });
        }
    }

    fn watch_failing(&mut self, webhook: WebhookNo, attempt: &Attempt) {
        let Some(since) = self.stats.get(webhook).failing_since else { return };
        let (after, failing_for) = (self.options.disable_after, self.clock.steady().since(since));
        let Some(percent) = percent_reached(failing_for, after) else { return };
        let standing = Standing::Failing(percent);
        if self.watches.of.get(&webhook).is_some_and(|before| *before >= standing) {
            return;
        }
        self.watches.set(webhook, Some(standing));
        self.gathered.items += 1;
        let now = self.clock.now();
        let ms = i64::try_from(failing_for.as_millis()).unwrap_or(i64::MAX);
        let since = Timestamp::from_millis(now.as_millis().saturating_sub(ms));
        let disabled_at = since.plus(after);
        self.tell(webhook, Happened::Failing { percent, since, disabled_at, attempt });
    }

    /// Counts and logs it, and makes an operational event of it if anybody listens.
    fn tell(&mut self, webhook: WebhookNo, what: Happened<'_>) {
        let event_type = what.event_type();
        self.metrics.operational.with_label_values(&[event_type]).inc();
        match what {
            Happened::Exhausted { event, reason, .. } => {
                tracing::debug!(webhook = webhook.0, %event, reason = reason.as_str(), "delivery given up");
            }
            _ => tracing::info!(webhook = webhook.0, event_type, "how a webhook stands has changed"),
        }
        let happening = Happening { webhook, at: self.clock.now(), what };
        let Some(row) = (self.hooks.compose)(&happening) else { return };
        if self.outbox.rows + self.gathered.outbox.len() as u64 >= OUTBOX_ROWS_MAX {
            self.metrics.operational_dropped.inc();
            return;
        }
        self.gathered.outbox.push(row);
        self.gathered.items += 1;
    }
}

/// Whether an event is one of the gateway's own.
fn is_own(head: &[u8]) -> bool {
    EventHead::labels(head).is_ok_and(|(_, event_type)| event_type.starts_with(RESERVED_TYPES))
}

/// The last of [`FAILING_PERCENT`] that a time of nothing but failure has reached.
fn percent_reached(failing_for: Duration, disable_after: Duration) -> Option<u8> {
    let reached = |percent: &u8| failing_for.as_millis() * 100 >= disable_after.as_millis() * u128::from(*percent);
    FAILING_PERCENT.into_iter().rev().find(reached)
}
