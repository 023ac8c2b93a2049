//! Filter tests: evaluates a filter, or all conditions of a webhook, against an event.

use std::sync::Arc;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::fields::DocumentFields;
use super::{Error, ErrorKind, Operation, Service, WebhookRef};
use crate::filter::{EventFields, Filter, FilterError, FilterInput, RuleResult, SampleEvent};
use crate::model::{DEFAULT_TENANT, EventHead, EventId, FieldError, Principal, data_of};
use crate::outbound::{Subscription, Webhook};
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
    fn explain<'a>(&'a self, event_fields: &EventFields<'a>) -> Explanation<'a> {
        let input = &mut FilterInput::new(event_fields);
        match self {
            Self::Filter(filter) => Explanation { matches: filter.matches_input(input), rules: filter.explain(input) },
            Self::Webhook(webhook) => {
                // A webhook receives only events of its own tenant, whatever its conditions are.
                let matches = *webhook.tenant == *event_fields.tenant && webhook.matches_input(input);
                Explanation { matches, rules: conditions(webhook, input) }
            }
        }
    }
}

impl Explanation<'_> {
    fn into_owned(self) -> Explanation<'static> {
        Explanation { matches: self.matches, rules: self.rules.into_iter().map(RuleResult::into_owned).collect() }
    }
}

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
            (Some(tried), Some(sample), _) => Ok(tried.explain(&sample.event_fields()).into_owned()),
            (Some(tried), None, Some((id, (head, payload)))) => {
                let read = EventHead::parse(&head).map_err(|_| ReadError::Damaged(id))?;
                let data = data_of(&head, &payload);
                Ok(tried.explain(&EventFields::of(&read.event, &data)).into_owned())
            }
            _ => Err(Error::invalid_body(vec![FieldError::new("", format!("expected {ALLOWED}"))])),
        }
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
    ) -> Result<Option<(EventId, LogRecord)>, Error> {
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

fn below(at: &str, error: FilterError) -> FieldError {
    FieldError::new(format!("{at}{}", error.pointer), error.detail)
}

/// Evaluates all conditions of a webhook, with pointers into the webhook.
fn conditions<'a>(webhook: &'a Webhook, input: &mut FilterInput<'a>) -> Vec<RuleResult<'a>> {
    let event_fields = *input.event_fields();
    let mut results = Vec::new();
    if *webhook.tenant != *event_fields.tenant {
        results.push(RuleResult::of_text("/tenant", false, Some(event_fields.tenant)));
    }
    let by_events = webhook.events.iter().any(|pattern| pattern.matches(event_fields.event_type));
    results.push(RuleResult::of_text("/events", by_events, Some(event_fields.event_type)));
    for (n, subscription) in webhook.subscriptions.iter().enumerate() {
        subscribed(&format!("/subscriptions/{n}"), subscription, input, &mut results);
    }
    if let Some(own) = webhook.workspace_id.as_deref() {
        let found = event_fields.workspace_id;
        results.push(RuleResult::of_text("/workspace_id", found == Some(own), found));
    }
    if let Some(filter) = &webhook.filters {
        results.extend(filter.explain(input).into_iter().map(|result| result.below("/filters")));
    }
    results
}

/// Evaluates a subscription. It matches if it is active and all of its conditions match.
fn subscribed<'a>(
    at: &str,
    subscription: &'a Subscription,
    input: &mut FilterInput<'a>,
    results: &mut Vec<RuleResult<'a>>,
) {
    let event_fields = *input.event_fields();
    results.push(RuleResult::of_group(at.to_owned(), "and", subscription.matches_input(input)));
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
        results.extend(filter.explain(input).into_iter().map(|result| result.below(&at)));
    }
}
