//! Replays: start, list, read, cancel. A replay is a job that delivers events of the log or dead letters again.

use serde_json::{Map, Value};

use super::access::{may_see, sees, tenant_of};
use super::delivery::deliverable;
use super::fields::DocumentFields;
use super::{
    DeliveryBackend, Error, ErrorKind, ListPage, Operation, PageRequest, Replay, ReplayScope, ResponseRecorder,
    Service, WebhookRef,
};
use crate::handoff::ReplayFilter;
use crate::limits::PAGE_SCAN_MAX;
use crate::model::{DEFAULT_TENANT, EventHead, EventId, Principal, Timestamp, WebhookId, WebhookNo};
use crate::registry::{Registry, WebhookEntry};
use crate::storage::ReadError;

/// Replays to read at once while a list searches for those that the caller may see.
const REPLAYS_AT_ONCE: usize = 256;

/// A validated replay, ready to be started.
#[derive(Debug)]
pub struct ReplayDraft {
    filter: ReplayFilter,
}

/// A validated recovery of a webhook, ready to be started.
#[derive(Debug)]
pub struct RecoveryDraft {
    webhook: WebhookNo,
    since: Timestamp,
}

/// A replay with its tenant and its webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedReplay {
    /// The replay.
    pub replay: Replay,
    /// The tenant whose events or dead letters are delivered again.
    pub tenant: Box<str>,
    /// The only webhook that receives deliveries, if the replay names one.
    pub webhook: Option<WebhookId>,
}

impl Service {
    /// Validates the document of a replay of events: `{"since"?, "until"?, "types"?, "webhook_id"?,
    /// "include_unmatched"?, "include_paused"?}`. A caller of tenant `*` may add `tenant`.
    ///
    /// # Errors
    /// If the role is too low, or the document names no webhook and the caller may not see every webhook of the tenant.
    /// Invalid fields are listed by JSON pointer.
    pub fn draft_replay(&self, principal: &Principal, document: Map<String, Value>) -> Result<ReplayDraft, Error> {
        Operation::ChangeReplays.permit(principal.role)?;
        let mut fields = DocumentFields::new(document);
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

    /// Checks whether an event can be replayed.
    ///
    /// # Errors
    /// If the role is too low, or the caller may not see the event.
    pub async fn may_replay_event(&self, principal: &Principal, id: EventId) -> Result<(), Error> {
        Operation::ChangeReplays.permit(principal.role)?;
        self.stored_event(principal, id).await.map(drop)
    }

    /// Validates the document of a replay of one event: `{"webhook_id"?, "include_unmatched"?, "include_paused"?}`. The
    /// event goes to the named webhook, even if it did not match. Without a named webhook it goes to each webhook that
    /// matched when the event was accepted.
    ///
    /// # Errors
    /// If the role is too low, the caller may not see the event, or the document names no webhook and the caller may
    /// not see every webhook of the tenant. Invalid fields are listed by JSON pointer.
    pub async fn draft_event_replay(
        &self,
        principal: &Principal,
        id: EventId,
        document: Map<String, Value>,
    ) -> Result<ReplayDraft, Error> {
        Operation::ChangeReplays.permit(principal.role)?;
        let ((head, _), _memory) = self.stored_event(principal, id).await?;
        let head = EventHead::parse(&head).map_err(|_| ReadError::Damaged(id))?;
        let mut fields = DocumentFields::new(document);
        let to = self.receivers(&mut fields, principal, head.event.tenant)?;
        fields.finish("webhook_id, include_unmatched, include_paused")?;
        let event = Some(id.to_string().into());
        Ok(ReplayDraft { filter: ReplayFilter { tenant: head.event.tenant.into(), event, ..to } })
    }

    /// Starts a replay. Returns its number once the replay is durable.
    ///
    /// `record` stores the response for repeated requests.
    ///
    /// # Errors
    /// If the store accepts no changes.
    pub async fn start_replay(&self, draft: ReplayDraft, record: Option<ResponseRecorder<u64>>) -> Result<u64, Error> {
        Ok(self.deliveries.replay(draft.filter, record.and_then(ResponseRecorder::numbered)).await?)
    }

    /// Checks whether a webhook can be recovered.
    ///
    /// # Errors
    /// If the role is too low, the caller may not see the webhook, or the webhook accepts no deliveries.
    pub fn may_recover(&self, principal: &Principal, of: WebhookRef<'_>) -> Result<(), Error> {
        Operation::RetryDeliveries.permit(principal.role)?;
        deliverable(&self.find_webhook(principal, of)?).map(drop)
    }

    /// Validates the document of a recovery: `{"since"}`.
    ///
    /// # Errors
    /// If the role is too low, the caller may not see the webhook, or the webhook accepts no deliveries. Invalid fields
    /// are listed by JSON pointer.
    pub fn draft_recovery(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        document: Map<String, Value>,
    ) -> Result<RecoveryDraft, Error> {
        Operation::RetryDeliveries.permit(principal.role)?;
        let webhook = deliverable(&self.find_webhook(principal, of)?)?.no;
        let mut fields = DocumentFields::new(document);
        let is_given = fields.unread.get("since").is_some_and(|since| !since.is_null());
        let since = fields.time("since");
        if !is_given {
            fields.wrong("/since", "is required: an RFC 3339 time such as 2026-01-31T12:00:00Z");
        }
        fields.finish("since")?;
        Ok(RecoveryDraft { webhook, since: since.unwrap_or_default() })
    }

    /// Starts a recovery. Dead letters since the given time are delivered again with a new schedule, and deliveries
    /// that wait for their next attempt become due now. Returns the number of the replay once the replay is durable.
    ///
    /// `record` stores the response for repeated requests.
    ///
    /// # Errors
    /// If the store accepts no changes.
    pub async fn recover(&self, recovery: RecoveryDraft, record: Option<ResponseRecorder<u64>>) -> Result<u64, Error> {
        let answer = record.and_then(ResponseRecorder::numbered);
        Ok(self.deliveries.recover(recovery.webhook, recovery.since, answer).await?)
    }

    /// Lists replays, newest first, starting before the number `before`. `named` restricts the list to one tenant.
    ///
    /// # Errors
    /// If the role is too low, the caller may not see the named tenant, or the store cannot be read.
    pub async fn list_replays(
        &self,
        principal: &Principal,
        named: Option<&str>,
        page: PageRequest,
        before: Option<u64>,
    ) -> Result<ListPage<OwnedReplay, u64>, Error> {
        Operation::ReadReplays.permit(principal.role)?;
        let tenant = tenant_of(principal, named)?.map(str::to_owned);
        let (rows, registry) = (page.fetch_limit(), self.registry.load_full());
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
    /// If the role is too low, the caller may not see the replay, or the store cannot be read.
    pub async fn read_replay(&self, principal: &Principal, no: u64) -> Result<OwnedReplay, Error> {
        Operation::ReadReplays.permit(principal.role)?;
        let found = self.read(move |store, _| Ok::<_, Error>(store.replay_job(no)?)).await?;
        let owned = found.and_then(|replay| owned(&self.registry.load(), replay));
        owned.filter(|replay| sees(principal, &replay.tenant)).ok_or_else(|| Error::not_found("replay"))
    }

    /// Cancels a replay. Deliveries that it has created remain.
    ///
    /// # Errors
    /// If the role is too low, the caller may not see the replay, or the replay has ended.
    pub async fn cancel_replay(&self, principal: &Principal, no: u64) -> Result<(), Error> {
        Operation::ChangeReplays.permit(principal.role)?;
        self.read_replay(principal, no).await?;
        if self.deliveries.cancel_replay(no).await? {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Conflict, "the replay has ended already"))
        }
    }

    /// Reads the webhooks that receive the deliveries. A named webhook is included even if it is paused, unless the
    /// document says otherwise.
    fn receivers(
        &self,
        fields: &mut DocumentFields,
        principal: &Principal,
        tenant: &str,
    ) -> Result<ReplayFilter, Error> {
        let webhook = self.webhook_field(fields, principal, tenant);
        let include_unmatched = fields.flag("include_unmatched").value().unwrap_or(false);
        let include_paused = fields.flag("include_paused").value().unwrap_or(webhook.is_some());
        let registry = self.registry.load();
        let mut of_tenant = registry.webhook_entries().filter(|known| **known.tenant() == *tenant);
        if webhook.is_none() && !of_tenant.all(|known| may_see(principal, known)) {
            let detail = "webhook_id is needed: not every webhook of the tenant is yours to deliver to";
            return Err(Error::new(ErrorKind::Forbidden, detail));
        }
        let webhook = webhook.map(|no| no.0);
        Ok(ReplayFilter { webhook, include_unmatched, include_paused, ..ReplayFilter::default() })
    }

    /// Reads `webhook_id`: an existing webhook of the tenant.
    fn webhook_field(&self, fields: &mut DocumentFields, principal: &Principal, tenant: &str) -> Option<WebhookNo> {
        let read = |value: Value| {
            let of = value.as_str().and_then(WebhookRef::parse);
            let webhook =
                of.and_then(|of| self.live_webhook(principal, of).ok()).filter(|webhook| *webhook.tenant == *tenant);
            webhook.map(|webhook| webhook.no).ok_or_else(|| "expected the id of a webhook of this tenant".to_owned())
        };
        fields.take("webhook_id", read).value()
    }
}

/// Adds tenant and webhook to a replay. Returns `None` if the registry no longer knows the webhook of its dead letters.
fn owned(registry: &Registry, replay: Replay) -> Option<OwnedReplay> {
    let (tenant, webhook) = match &replay.scope {
        ReplayScope::Events(filter) => (filter.tenant.clone(), filter.webhook.map(WebhookNo)),
        ReplayScope::DeadLetters { webhook, .. } => {
            ((**registry.webhook_entry(*webhook)?.tenant()).into(), Some(*webhook))
        }
    };
    let webhook = webhook.and_then(|no| registry.webhook_entry(no).map(WebhookEntry::id));
    Some(OwnedReplay { replay, tenant, webhook })
}

/// Finds the newest matching replays before `before`, at most `rows`. The second value is the position at which the
/// search stopped, if it reached its scan limit before the end of the list and before it found enough.
fn search(
    store: &dyn DeliveryBackend,
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
