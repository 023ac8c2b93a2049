//! Filter tests: evaluates a filter, or all conditions of a webhook, against an event.

use std::sync::Arc;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::fields::DocumentFields;
use super::{Error, ErrorKind, Operation, Service, WebhookRef};
use crate::filter::{EventFields, Filter, FilterError, FilterInput, RuleResult, SampleEvent, TooCostly};
use crate::limits::{FILTER_COMPILE_WORK, FILTER_EVENT_WORK_MAX, FILTER_PATTERNS_MAX, MANAGE_RETRY_AFTER};
use crate::model::{DEFAULT_TENANT, EventHead, EventId, FieldError, Principal, data_of};
use crate::outbound::{Subscription, Webhook};
use crate::runtime::{TenantShare, WorkBudget};
use crate::storage::{LogRecord, ReadError};

const ALLOWED: &str = "filter (or filters), webhook_id, event, event_id";

/// The result of a filter test, with the result of each rule.
#[derive(Debug, Clone)]
pub struct Explanation<'a> {
    /// Whether the event matches.
    pub matches: bool,
    /// One verdict for each rule and each group of rules, in the order of the filter.
    pub rules: Vec<RuleResult<'a>>,
}

/// The filter or the webhook that is tested.
enum Candidate {
    Filter(Filter),
    Webhook(Arc<Webhook>),
}

impl Candidate {
    /// Evaluates the candidate, and then each of its rules for the explanation. Returns the units of work too.
    fn explain(&self, event_fields: &EventFields<'_>) -> (Result<Explanation<'static>, TooCostly>, u64) {
        let input = &mut FilterInput::new(event_fields);
        input.set_work_left(FILTER_EVENT_WORK_MAX);
        let matches = match self {
            Self::Filter(filter) => filter.matches_input(input),
            // A webhook receives only events of its own tenant, whatever its conditions are.
            Self::Webhook(webhook) if *webhook.tenant != *event_fields.tenant => Ok(false),
            Self::Webhook(webhook) => webhook.matches_input(input),
        };
        let done = FILTER_EVENT_WORK_MAX - input.work_left();
        let matches = match matches {
            Ok(matches) => matches,
            Err(error) => return (Err(error), done),
        };
        input.set_work_left(EXPLAIN_WORK_MAX);
        let rules = match self {
            Self::Filter(filter) => filter.explain(input),
            Self::Webhook(webhook) => conditions(webhook, input),
        };
        let rules = rules.map(|rules| rules.into_iter().map(RuleResult::into_owned).collect());
        (rules.map(|rules| Explanation { matches, rules }), done + EXPLAIN_WORK_MAX - input.work_left())
    }

    /// The field of the document that names the candidate.
    fn pointer(&self) -> &'static str {
        match self {
            Self::Filter(_) => "/filter",
            Self::Webhook(_) => "/webhook_id",
        }
    }
}

/// Units of work of an explanation, which evaluates every rule and each subscription twice.
const EXPLAIN_WORK_MAX: u64 = 2 * FILTER_EVENT_WORK_MAX;

impl Service {
    /// Evaluates a filter or a webhook against an event. The document is `{"filter": {…}}` or `{"webhook_id": "…"}`,
    /// combined with `{"event": {…}}` or `{"event_id": "…"}`. Nothing changes, so every role that may read may call it.
    ///
    /// `event` is the raw text of the document's `event`, which keeps numbers as they were written. Without it the
    /// value in the document is used.
    ///
    /// # Errors
    /// If the role is too low, or the stores cannot be read. Invalid fields are listed by JSON pointer.
    pub async fn test_filter(
        &self,
        principal: &Principal,
        document: Map<String, Value>,
        event: Option<&RawValue>,
    ) -> Result<Explanation<'static>, Error> {
        Operation::TestFilter.permit(principal.role)?;
        let caller = principal.tenant.as_deref().unwrap_or(DEFAULT_TENANT);
        let work = Arc::clone(self.registry.load().tenant_work(caller));
        if work.available(self.clock.now()) < FILTER_EVENT_WORK_MAX {
            let detail = "the filters of this tenant did too much work in the last second";
            return Err(Error::new(ErrorKind::RateLimited, detail).retry_after(MANAGE_RETRY_AFTER));
        }
        work.charge(self.clock.now(), compile_work(&document));
        let mut fields = DocumentFields::new(document);
        let tried = self.tried(principal, &mut fields);
        let event_id = fields.take("event_id", |value| {
            let id = value.as_str().and_then(|text| text.parse::<EventId>().ok());
            id.ok_or_else(|| "expected an event's id, evt_…".to_owned())
        });
        let event_id = event_id.value();
        let given = fields.unread.remove("event").filter(|event| !event.is_null());
        let has_event = given.is_some();
        if has_event == event_id.is_some() && fields.errors.iter().all(|error| error.pointer != "/event_id") {
            fields.wrong("/event", "expected an event, or event_id with the id of an accepted one, and not both");
        }
        let tenant = match &tried {
            Some(Candidate::Webhook(webhook)) => Arc::clone(&webhook.tenant),
            _ => principal.tenant.clone().unwrap_or_else(|| DEFAULT_TENANT.into()),
        };
        let text = given.and_then(|given| event.map(ToOwned::to_owned).or_else(|| to_raw_value(&given).ok()));
        let sample = text.as_deref().and_then(|event| {
            let wrong = |found: Vec<FilterError>| fields.errors.extend(found.into_iter().map(|e| below("/event", e)));
            SampleEvent::read(event, &tenant, self.clock.now()).map_err(wrong).ok()
        });
        let stored = match event_id.filter(|_| !has_event) {
            Some(id) => self.accepted(principal, id, &mut fields).await?,
            None => None,
        };
        fields.finish(ALLOWED)?;
        match (tried, sample, stored) {
            (Some(tried), Some(sample), _) => self.evaluate_candidate(&tried, &work, &sample.event_fields()),
            (Some(tried), None, Some((id, ((head, payload), _memory)))) => {
                let read = EventHead::parse(&head).map_err(|_| ReadError::Damaged(id))?;
                let data = data_of(&head, &payload);
                self.evaluate_candidate(&tried, &work, &EventFields::of(&read.event, &data))
            }
            _ => Err(Error::invalid_body(vec![FieldError::new("", format!("expected {ALLOWED}"))])),
        }
    }

    /// Evaluates the candidate within the work of one event, and charges the tenant of the caller.
    fn evaluate_candidate(
        &self,
        candidate: &Candidate,
        work: &WorkBudget,
        event_fields: &EventFields<'_>,
    ) -> Result<Explanation<'static>, Error> {
        let (explanation, done) = candidate.explain(event_fields);
        work.charge(self.clock.now(), done);
        explanation.map_err(|TooCostly| {
            let detail = format!(
                "needs more work on this event than the {FILTER_EVENT_WORK_MAX} units that one event may cause; its \
                 delivery would become a dead letter (filter_too_costly): use smaller regular expressions, shorter texts \
                 or fewer rules"
            );
            Error::invalid_body(vec![FieldError::new(candidate.pointer(), detail)])
        })
    }

    /// The filter or the webhook that the document names; `None` if an error was recorded.
    fn tried(&self, principal: &Principal, fields: &mut DocumentFields) -> Option<Candidate> {
        let before = fields.errors.len();
        let name = if fields.unread.contains_key("filter") { "filter" } else { "filters" };
        let filter = fields.unread.remove(name).filter(|filter| !filter.is_null());
        let webhook = fields.take("webhook_id", |value| self.webhook_to_try(principal, &value)).value();
        let filter = filter.and_then(|filter| {
            let at = format!("/{name}");
            let wrong = |found: Vec<FilterError>| fields.errors.extend(found.into_iter().map(|e| below(&at, e)));
            Filter::compile(&filter).map_err(wrong).ok()
        });
        match (filter, webhook) {
            (Some(filter), None) => Some(Candidate::Filter(filter)),
            (None, Some(webhook)) => Some(Candidate::Webhook(webhook)),
            (both, _) => {
                if both.is_some() || fields.errors.len() == before {
                    fields.wrong("/filter", "expected a filter, or webhook_id with the id of a webhook, and not both");
                }
                None
            }
        }
    }

    fn webhook_to_try(&self, principal: &Principal, value: &Value) -> Result<Arc<Webhook>, String> {
        let of = value.as_str().and_then(WebhookRef::parse);
        let webhook = of.and_then(|of| self.live_webhook(principal, of).ok());
        webhook.ok_or_else(|| "there is no such webhook".to_owned())
    }

    async fn accepted(
        &self,
        principal: &Principal,
        id: EventId,
        fields: &mut DocumentFields,
    ) -> Result<Option<(EventId, (LogRecord, TenantShare))>, Error> {
        match self.stored_event(principal, id).await {
            Ok(stored) => Ok(Some((id, stored))),
            Err(error) if error.kind == ErrorKind::NotFound => {
                fields.wrong("/event_id", "there is no such event");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// The units of work to compile the filter of the document, from the number of its regular expressions.
fn compile_work(document: &Map<String, Value>) -> u64 {
    let filters = ["filter", "filters"].iter().filter_map(|name| document.get(*name));
    let patterns: usize = filters.map(|filter| filter.to_string().matches("\"matches\"").count()).sum();
    patterns.min(FILTER_PATTERNS_MAX) as u64 * FILTER_COMPILE_WORK
}

fn below(at: &str, error: FilterError) -> FieldError {
    FieldError::new(format!("{at}{}", error.pointer), error.detail)
}

/// Evaluates all conditions of a webhook, with pointers into the webhook.
fn conditions<'a>(webhook: &'a Webhook, input: &mut FilterInput<'a>) -> Result<Vec<RuleResult<'a>>, TooCostly> {
    let event_fields = *input.event_fields();
    let mut results = Vec::new();
    if *webhook.tenant != *event_fields.tenant {
        results.push(RuleResult::of_text("/tenant", false, Some(event_fields.tenant)));
    }
    let by_events = webhook.events.iter().any(|pattern| pattern.matches(event_fields.event_type));
    results.push(RuleResult::of_text("/events", by_events, Some(event_fields.event_type)));
    for (n, subscription) in webhook.subscriptions.iter().enumerate() {
        subscribed(&format!("/subscriptions/{n}"), subscription, input, &mut results)?;
    }
    if let Some(own) = webhook.workspace_id.as_deref() {
        let found = event_fields.workspace_id;
        results.push(RuleResult::of_text("/workspace_id", found == Some(own), found));
    }
    if let Some(filter) = &webhook.filters {
        results.extend(filter.explain(input)?.into_iter().map(|result| result.below("/filters")));
    }
    Ok(results)
}

/// Evaluates a subscription. It matches if it is active and all of its conditions match.
fn subscribed<'a>(
    at: &str,
    subscription: &'a Subscription,
    input: &mut FilterInput<'a>,
    results: &mut Vec<RuleResult<'a>>,
) -> Result<(), TooCostly> {
    let event_fields = *input.event_fields();
    results.push(RuleResult::of_group(at.to_owned(), "and", subscription.matches_input(input)?));
    if !subscription.is_active {
        results.push(RuleResult::new(format!("{at}/is_active"), false));
    }
    let by_type = subscription.event_type.matches(event_fields.event_type);
    results.push(RuleResult::of_text(format!("{at}/event_type"), by_type, Some(event_fields.event_type)));
    if let Some(own) = subscription.resource_id.as_deref() {
        let found = event_fields.resource_id;
        results.push(RuleResult::of_text(format!("{at}/resource_id"), found == Some(own), found));
    }
    if let Some(filter) = &subscription.filters {
        let at = format!("{at}/filters");
        results.extend(filter.explain(input)?.into_iter().map(|result| result.below(&at)));
    }
    Ok(())
}
