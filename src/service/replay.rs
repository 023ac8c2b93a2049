//! Replays: start, list, read, cancel. A replay delivers again what the log or the dead letters hold, as a job.

use serde_json::{Map, Value};

use super::access::{may_see, sees, tenant_of};
use super::delivery::deliverable;
use super::fields::Fields;
use super::{DeliveryStore, Error, ErrorKind, Operation, Page, Replay, Rows, Service, WebhookRef, Work};
use crate::handoff::ReplayFilter;
use crate::limits::PAGE_SCAN_MAX;
use crate::model::{DEFAULT_TENANT, EventHead, EventId, Principal, Timestamp, WebhookId, WebhookNo};
use crate::registry::{Lookup, Registry};
use crate::storage::ReadError;

/// Replays read at once while a list looks for the caller's.
const REPLAYS_AT_ONCE: usize = 256;

/// A replay that was checked and can be started.
#[derive(Debug)]
pub struct ReplayDraft {
    filter: ReplayFilter,
}

/// The recovery of a webhook that was checked and can be started.
#[derive(Debug)]
pub struct RecoveryDraft {
    webhook: WebhookNo,
    since: Timestamp,
}

/// A replay, with its tenant and its webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedReplay {
    /// The replay.
    pub replay: Replay,
    /// The tenant whose events or dead letters it takes.
    pub tenant: Box<str>,
    /// The only webhook that it delivers to, if it names one.
    pub webhook: Option<WebhookId>,
}

impl Service {
    /// Checks the document of a new replay of events: `{"since"?, "until"?, "types"?, "webhook_id"?, "include_unmatched"?,
    /// "include_paused"?}`, and `tenant` for a caller of tenant `*`.
    ///
    /// # Errors
    /// If the role is too low, or not every webhook of the tenant is the caller's to deliver to; each field that is wrong,
    /// by its JSON pointer.
    pub fn draft_replay(&self, principal: &Principal, document: Map<String, Value>) -> Result<ReplayDraft, Error> {
        Operation::ChangeReplays.permit(principal.role)?;
        let mut fields = Fields::new(document);
        let named = fields.id("tenant").value();
        let tenant = named.as_deref().or(principal.tenant.as_deref()).unwrap_or(DEFAULT_TENANT).to_owned();
        if !sees(principal, &tenant) {
            fields.wrong("/tenant", "only a key of tenant * may name another tenant");
        }
        let (since, until) = (fields.time("since"), fields.time("until"));
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            fields.wrong("/until", "expected a time after since");
        }
        let types = fields.types("types").iter().map(|pattern| pattern.to_string().into()).collect();
        let to = self.receivers(&mut fields, principal, &tenant)?;
        fields.finish("since, until, types, webhook_id, include_unmatched, include_paused, tenant")?;
        Ok(ReplayDraft { filter: ReplayFilter { tenant: tenant.into(), since, until, types, ..to } })
    }

    /// Looks whether an event can be replayed.
    ///
    /// # Errors
    /// If the role is too low, or the caller may not know of the event.
    pub async fn may_replay_event(&self, principal: &Principal, id: EventId) -> Result<(), Error> {
        Operation::ChangeReplays.permit(principal.role)?;
        self.stored_event(principal, id).await.map(drop)
    }

    /// Checks the document of a replay of one event: `{"webhook_id"?, "include_unmatched"?, "include_paused"?}`. The event
    /// goes to the webhook that is named, whether it matched or not, or to each webhook that matched when the event was
    /// accepted.
    ///
    /// # Errors
    /// If the role is too low, the caller may not know of the event, or not every webhook of the tenant is the caller's to
    /// deliver to; each field that is wrong, by its JSON pointer.
    pub async fn draft_event_replay(
        &self,
        principal: &Principal,
        id: EventId,
        document: Map<String, Value>,
    ) -> Result<ReplayDraft, Error> {
        Operation::ChangeReplays.permit(principal.role)?;
        let (head, _) = self.stored_event(principal, id).await?;
        let head = EventHead::parse(&head).map_err(|_| ReadError::Damaged(id))?;
        let mut fields = Fields::new(document);
        let to = self.receivers(&mut fields, principal, head.event.tenant)?;
        fields.finish("webhook_id, include_unmatched, include_paused")?;
        let event = Some(id.to_string().into());
        Ok(ReplayDraft { filter: ReplayFilter { tenant: head.event.tenant.into(), event, ..to } })
    }

    /// Starts a replay; answers its number once the replay is durable.
    ///
    /// # Errors
    /// If the store takes no change.
    pub async fn start_replay(&self, draft: ReplayDraft) -> Result<u64, Error> {
        Ok(self.deliveries.replay(draft.filter).await?)
    }

    /// Looks whether a webhook can be recovered.
    ///
    /// # Errors
    /// If the role is too low, the caller may not know of the webhook, or the webhook takes no deliveries.
    pub fn may_recover(&self, principal: &Principal, of: WebhookRef<'_>) -> Result<(), Error> {
        Operation::RetryDeliveries.permit(principal.role)?;
        deliverable(&self.known(principal, of)?).map(drop)
    }

    /// Checks the document of a recovery: `{"since"}`.
    ///
    /// # Errors
    /// If the role is too low, the caller may not know of the webhook, or the webhook takes no deliveries; each field that
    /// is wrong, by its JSON pointer.
    pub fn draft_recovery(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        document: Map<String, Value>,
    ) -> Result<RecoveryDraft, Error> {
        Operation::RetryDeliveries.permit(principal.role)?;
        let webhook = deliverable(&self.known(principal, of)?)?.no;
        let mut fields = Fields::new(document);
        let is_given = fields.left.get("since").is_some_and(|since| !since.is_null());
        let since = fields.time("since");
        if !is_given {
            fields.wrong("/since", "is required: an RFC 3339 time such as 2026-01-31T12:00:00Z");
        }
        fields.finish("since")?;
        Ok(RecoveryDraft { webhook, since: since.unwrap_or_default() })
    }

    /// Starts a recovery: dead letters since its time begin anew, and what waits for its next attempt is due now. Answers
    /// the number of its replay once the replay is durable.
    ///
    /// # Errors
    /// If the store takes no change.
    pub async fn recover(&self, recovery: RecoveryDraft) -> Result<u64, Error> {
        Ok(self.deliveries.recover(recovery.webhook, recovery.since).await?)
    }

    /// Lists replays, newest first, from the one before number `before`. `named` narrows the list to one tenant.
    ///
    /// # Errors
    /// If the role is too low, the caller may not know of the named tenant, or the store cannot be read.
    pub async fn list_replays(
        &self,
        principal: &Principal,
        named: Option<&str>,
        page: Page,
        before: Option<u64>,
    ) -> Result<Rows<OwnedReplay, u64>, Error> {
        Operation::ReadReplays.permit(principal.role)?;
        let tenant = tenant_of(principal, named)?.map(str::to_owned);
        let (rows, registry) = (page.wanted(), self.registry.load_full());
        let wanted = move |replay| {
            let replay = owned(&registry, replay)?;
            tenant.as_deref().is_none_or(|tenant| *tenant == *replay.tenant).then_some(replay)
        };
        let (found, stopped_at) = self.read(move |store, _| search(store, wanted, rows, before)).await?;
        Ok(page.rows(found, stopped_at, |row| row.replay.no))
    }

    /// Reads a replay.
    ///
    /// # Errors
    /// If the role is too low, the caller may not know of the replay, or the store cannot be read.
    pub async fn read_replay(&self, principal: &Principal, no: u64) -> Result<OwnedReplay, Error> {
        Operation::ReadReplays.permit(principal.role)?;
        let found = self.read(move |store, _| Ok::<_, Error>(store.replay_job(no)?)).await?;
        let owned = found.and_then(|replay| owned(&self.registry.load(), replay));
        owned.filter(|replay| sees(principal, &replay.tenant)).ok_or_else(|| Error::not_found("replay"))
    }

    /// Cancels a replay. Deliveries that it has made stay.
    ///
    /// # Errors
    /// If the role is too low, the caller may not know of the replay, or the replay has ended.
    pub async fn cancel_replay(&self, principal: &Principal, no: u64) -> Result<(), Error> {
        Operation::ChangeReplays.permit(principal.role)?;
        self.read_replay(principal, no).await?;
        if self.deliveries.cancel_replay(no).await? {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Conflict, "the replay has ended already"))
        }
    }

    /// The webhooks that a replay delivers to. A webhook that is named is meant even while it is paused, unless the caller
    /// says otherwise.
    fn receivers(&self, fields: &mut Fields, principal: &Principal, tenant: &str) -> Result<ReplayFilter, Error> {
        let webhook = self.webhook_field(fields, principal, tenant);
        let include_unmatched = fields.flag("include_unmatched").value().unwrap_or(false);
        let include_paused = fields.flag("include_paused").value().unwrap_or(webhook.is_some());
        let registry = self.registry.load();
        let mut of_tenant = registry.all().filter(|known| **known.tenant() == *tenant);
        if webhook.is_none() && !of_tenant.all(|known| may_see(principal, known)) {
            let detail = "webhook_id is needed: not every webhook of the tenant is yours to deliver to";
            return Err(Error::new(ErrorKind::Forbidden, detail));
        }
        let webhook = webhook.map(|no| no.0);
        Ok(ReplayFilter { webhook, include_unmatched, include_paused, ..ReplayFilter::default() })
    }

    /// `webhook_id`: a webhook of the tenant that is there.
    fn webhook_field(&self, fields: &mut Fields, principal: &Principal, tenant: &str) -> Option<WebhookNo> {
        let read = |value: Value| {
            let of = value.as_str().and_then(WebhookRef::parse);
            let webhook = of.and_then(|of| self.live(principal, of).ok()).filter(|webhook| *webhook.tenant == *tenant);
            webhook.map(|webhook| webhook.no).ok_or_else(|| "expected the id of a webhook of this tenant".to_owned())
        };
        fields.take("webhook_id", read).value()
    }
}

/// A replay with its tenant; `None` of one whose webhook nobody knows any more.
fn owned(registry: &Registry, replay: Replay) -> Option<OwnedReplay> {
    let (tenant, webhook) = match &replay.work {
        Work::Events(filter) => (filter.tenant.clone(), filter.webhook.map(WebhookNo)),
        Work::DeadLetters { webhook, .. } => ((**registry.known(*webhook)?.tenant()).into(), Some(*webhook)),
    };
    let webhook = webhook.and_then(|no| registry.known(no).map(Lookup::id));
    Some(OwnedReplay { replay, tenant, webhook })
}

/// The newest replays before `before` that are wanted, at most `rows`; and where the search stopped, if it stopped before the
/// end and before it found enough.
fn search(
    store: &dyn DeliveryStore,
    wanted: impl Fn(Replay) -> Option<OwnedReplay>,
    rows: usize,
    mut before: Option<u64>,
) -> Result<(Vec<OwnedReplay>, Option<u64>), Error> {
    let (mut found, mut looked_at) = (Vec::new(), 0);
    while looked_at < PAGE_SCAN_MAX {
        let replays = store.replays(before, REPLAYS_AT_ONCE)?;
        let is_full = replays.len() == REPLAYS_AT_ONCE;
        for replay in replays {
            (looked_at, before) = (looked_at + 1, Some(replay.no));
            found.extend(wanted(replay));
            if found.len() == rows {
                return Ok((found, None));
            }
        }
        if !is_full {
            return Ok((found, None));
        }
    }
    Ok((found, before))
}
