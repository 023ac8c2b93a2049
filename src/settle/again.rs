//! What people ask for of single deliveries: once more now, or never again.

use redb::Error;
use tokio::sync::oneshot;

use super::dead::DeadLetters;
use super::flush::Written;
use super::gather::What;
use super::keeper::Keeper;
use super::pending::{PendingRow, Rows};
use crate::handoff::{Retried, Waiting};
use crate::model::{DeliveryId, EventId, Timestamp, WebhookNo};

/// Who asked for a delivery once more.
#[derive(Debug)]
pub(super) struct AskedAgain {
    pub(super) reply: oneshot::Sender<Retried>,
    /// It had no row yet when it was asked for.
    is_outstanding: bool,
}

impl Keeper {
    /// Takes the wish in; the flush looks what there is to do for it.
    pub(super) fn retry(&mut self, id: DeliveryId, reply: oneshot::Sender<Retried>) {
        let is_wide = self.wide_events().iter().any(|(_, wide)| *wide == id.event);
        let is_outstanding = is_wide || self.outstanding.holds(id.webhook, id.event);
        let reply_no = self.gathered.retries.len();
        self.gathered.retries.push(AskedAgain { reply, is_outstanding });
        self.gathered.items += 1;
        self.gathered.change(id.webhook, id.event, What::Again { reply: reply_no });
    }

    /// Takes in that these dead letters are not wanted any more.
    pub(super) fn discard(&mut self, webhook: WebhookNo, events: Vec<EventId>, reply: oneshot::Sender<u64>) {
        let reply_no = self.gathered.discards.len();
        self.gathered.discards.push(reply);
        self.gathered.items += events.len().max(1);
        for event in events {
            self.gathered.change(webhook, event, What::Discard { reply: reply_no });
        }
    }

    /// Makes a delivery due now. A retry is hurried and goes on in its schedule; what had ended begins a new one.
    pub(super) fn again(
        &self,
        id: DeliveryId,
        reply: usize,
        now: Timestamp,
        rows: &mut Rows<'_>,
        dead: &mut DeadLetters<'_>,
        written: &mut Written,
    ) -> Result<(), Error> {
        let DeliveryId { event, webhook } = id;
        if let Some(reason) = (self.hooks.abandons)(webhook) {
            written.retried[reply] = Retried::Abandoned(reason);
            return Ok(());
        }
        let row = match rows.get(webhook, event)? {
            _ if self.gathered.retries[reply].is_outstanding => None,
            Some(row) if row.due.is_some_and(|at| at > now) => Some(PendingRow { due: Some(now), ..row }),
            Some(_) => None,
            None => {
                let attempts = match dead.remove(webhook, event)? {
                    Some(attempts) => Some(attempts),
                    None => Some(self.history.files().last_number(id)?).filter(|number| *number > 0),
                };
                let Some(attempts) = attempts else { return Ok(()) };
                Some(PendingRow::again(attempts, now))
            }
        };
        written.retried[reply] = Retried::Waits;
        if let Some(row) = row {
            rows.put(webhook, event, row)?;
            written.waiting.push(Waiting { webhook, ready: false, due: Some(now) });
            written.retried[reply] = Retried::Again;
        }
        Ok(())
    }
}
