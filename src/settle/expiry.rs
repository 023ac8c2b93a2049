//! What waits for a body that the log's limits took becomes a dead letter, a step at a time.

use redb::Error;

use super::dead::{DeadLetters, Note};
use super::flush::Written;
use super::gather::Expiring;
use super::keeper::Keeper;
use super::pending::Rows;
use crate::model::{DeadReason, Timestamp};

/// Rows looked at for each row that an expiry may move in one step.
const LOOKED_AT_PER_ROW: usize = 16;

/// How far an expiry is.
#[derive(Debug, Default)]
pub(super) enum Progress {
    #[default]
    NoneToDo,
    Rest(Expiring),
    Done,
}

impl Keeper {
    /// Buries some of what waits for a body that is gone.
    pub(super) fn step_expiry(
        &self,
        now: Timestamp,
        rows: &mut Rows<'_>,
        dead: &mut DeadLetters<'_>,
        written: &mut Written,
    ) -> Result<(), Error> {
        let Some(expiring) = self.expiring.front() else { return Ok(()) };
        let (Some(first), Some(last)) = (expiring.events.first(), expiring.events.last()) else { return Ok(()) };
        let (mut found, mut looked_at, mut at) = (Vec::new(), 0, None);
        let rows_max = self.bounds.job_rows;
        rows.between(&expiring.from, *first, *last, |webhook, event| {
            if found.len() == rows_max || looked_at == rows_max * LOOKED_AT_PER_ROW {
                at = Some(super::table::key(webhook, event));
                return false;
            }
            looked_at += 1;
            if expiring.events.binary_search(&event).is_ok() {
                found.push((webhook, event));
            }
            true
        })?;
        for (webhook, event) in found {
            let attempts = rows.remove(webhook, event)?.map_or(0, |row| row.attempts);
            let (at, reason) = (self.clock.now(), DeadReason::Expired);
            dead.put(webhook, event, &Note { reason, attempts, at, steady: now, http_status: None, error: "".into() })?;
            written.died.push(webhook);
        }
        written.expiring = match at {
            Some(from) => Progress::Rest(Expiring { events: expiring.events.clone(), from }),
            None => Progress::Done,
        };
        Ok(())
    }
}
