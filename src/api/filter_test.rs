//! A filter, or all that a webhook asks for, tried on an event.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Api, Call, body, reply};
use crate::filter::{Facts, Filter, FilterError, Sample, Subject, Verdict};
use crate::http::{FieldError, Problem, Response};
use crate::model::{DEFAULT_TENANT, EventHead, EventId, data_of};
use crate::outbound::{Subscription, Webhook};
use crate::registry::Known;
use crate::service::WebhookRef;
use crate::service::fields::Fields;
use crate::storage::{ReadError, Stored};

const ALLOWED: &str = "filter (or filters), webhook_id, event, event_id";

/// Whether the event passes, and what each rule says.
#[derive(Serialize)]
struct View<'a> {
    matches: bool,
    rules: Vec<Verdict<'a>>,
}

/// What is tried.
enum Tested {
    Filter(Filter),
    Webhook(Arc<Webhook>),
}

impl Tested {
    fn explain<'a>(&'a self, facts: &Facts<'a>) -> View<'a> {
        let subject = &mut Subject::new(facts);
        match self {
            Self::Filter(filter) => View { matches: filter.passes(subject), rules: filter.explain(subject) },
            Self::Webhook(webhook) => {
                // A webhook gets events of its own tenant only, whatever it asks for.
                let matches = *webhook.tenant == *facts.tenant && webhook.wants_also(subject);
                View { matches, rules: conditions(webhook, subject) }
            }
        }
    }
}

impl Api {
    /// `{"filter":{…}}` or `{"webhook_id":"…"}`, with `{"event":{…}}` or `{"event_id":"…"}`. It changes nothing, so that whoever
    /// may read may ask.
    pub(super) async fn test_filter(&self, call: &Call) -> Result<Response, Problem> {
        let mut fields = Fields::new(body::object(&call.parts.headers, &call.body, false)?);
        let tested = self.tested(call, &mut fields);
        let event_id = fields.take("event_id", |value| {
            let id = value.as_str().and_then(|text| text.parse::<EventId>().ok());
            id.ok_or_else(|| "expected an event's id, evt_…".to_owned())
        });
        let event_id = event_id.value();
        let has_event = fields.left.remove("event").is_some_and(|event| !event.is_null());
        if has_event == event_id.is_some() && fields.errors.iter().all(|error| error.pointer != "/event_id") {
            fields.wrong("/event", "expected an event, or event_id with the id of an accepted one, and not both");
        }
        let tenant = match &tested {
            Some(Tested::Webhook(webhook)) => Arc::clone(&webhook.tenant),
            _ => call.principal.tenant.clone().unwrap_or_else(|| DEFAULT_TENANT.into()),
        };
        // The text of the event, and not the values that were read from it: a number stays as it was written.
        let parts: BTreeMap<String, &RawValue> = serde_json::from_slice(&call.body).unwrap_or_default();
        let sample = parts.get("event").filter(|_| has_event).and_then(|event| {
            let wrong = |found: Vec<FilterError>| fields.errors.extend(found.into_iter().map(|e| below("/event", e)));
            Sample::read(event, &tenant, self.service.clock.now()).map_err(wrong).ok()
        });
        let stored = match event_id.filter(|_| !has_event) {
            Some(id) => self.accepted(call, id, &mut fields).await?,
            None => None,
        };
        fields.finish(ALLOWED)?;
        match (tested, sample, stored) {
            (Some(tested), Some(sample), _) => reply::json(StatusCode::OK, &tested.explain(&sample.facts())),
            (Some(tested), None, Some((id, (head, payload)))) => {
                let head_read = EventHead::parse(&head).map_err(|_| ReadError::Damaged(id))?;
                let data: Bytes = data_of(&head, &payload);
                reply::json(StatusCode::OK, &tested.explain(&Facts::of(&head_read.event, &data)))
            }
            _ => Err(Problem::invalid_body(vec![FieldError::new("", format!("expected {ALLOWED}"))])),
        }
    }

    /// The filter or the webhook that the body names; `None` with an error.
    fn tested(&self, call: &Call, fields: &mut Fields) -> Option<Tested> {
        let before = fields.errors.len();
        let name = if fields.left.contains_key("filter") { "filter" } else { "filters" };
        let filter = fields.left.remove(name).filter(|filter| !filter.is_null());
        let webhook = fields.take("webhook_id", |value| self.webhook_of(call, &value)).value();
        let filter = filter.and_then(|filter| {
            let at = format!("/{name}");
            let wrong = |found: Vec<FilterError>| fields.errors.extend(found.into_iter().map(|e| below(&at, e)));
            Filter::compile(&filter).map_err(wrong).ok()
        });
        match (filter, webhook) {
            (Some(filter), None) => Some(Tested::Filter(filter)),
            (None, Some(webhook)) => Some(Tested::Webhook(webhook)),
            (both, _) => {
                if both.is_some() || fields.errors.len() == before {
                    fields.wrong("/filter", "expected a filter, or webhook_id with the id of a webhook, and not both");
                }
                None
            }
        }
    }

    fn webhook_of(&self, call: &Call, value: &Value) -> Result<Arc<Webhook>, String> {
        let absent = || "there is no such webhook".to_owned();
        let of = value.as_str().and_then(WebhookRef::parse).ok_or_else(absent)?;
        match self.service.known(&call.principal, of) {
            Ok(Known::Live(webhook)) => Ok(webhook),
            Ok(Known::Removed(_)) | Err(_) => Err(absent()),
        }
    }

    async fn accepted(
        &self,
        call: &Call,
        id: EventId,
        fields: &mut Fields,
    ) -> Result<Option<(EventId, Stored)>, Problem> {
        match self.stored(call, id).await {
            Ok(stored) => Ok(Some((id, stored))),
            Err(problem) if problem.code == crate::http::ProblemCode::NotFound => {
                fields.wrong("/event_id", "there is no such event");
                Ok(None)
            }
            Err(problem) => Err(problem),
        }
    }
}

fn below(at: &str, error: FilterError) -> FieldError {
    FieldError::new(format!("{at}{}", error.pointer), error.detail)
}

/// All that a webhook asks for, with pointers into the webhook.
fn conditions<'a>(webhook: &'a Webhook, subject: &mut Subject<'a>) -> Vec<Verdict<'a>> {
    let facts = *subject.facts();
    let mut verdicts = Vec::new();
    if *webhook.tenant != *facts.tenant {
        verdicts.push(Verdict::of_text("/tenant", false, Some(facts.tenant)));
    }
    let by_events = webhook.events.iter().any(|pattern| pattern.matches(facts.event_type));
    verdicts.push(Verdict::of_text("/events", by_events, Some(facts.event_type)));
    for (n, subscription) in webhook.subscriptions.iter().enumerate() {
        subscribed(&format!("/subscriptions/{n}"), subscription, subject, &mut verdicts);
    }
    if let Some(own) = webhook.workspace_id.as_deref() {
        let found = facts.workspace_id;
        verdicts.push(Verdict::of_text("/workspace_id", found == Some(own), found));
    }
    if let Some(filter) = &webhook.filters {
        verdicts.extend(filter.explain(subject).into_iter().map(|verdict| verdict.below("/filters")));
    }
    verdicts
}

/// A subscription holds if all that follows below it holds, and it is active.
fn subscribed<'a>(
    at: &str,
    subscription: &'a Subscription,
    subject: &mut Subject<'a>,
    verdicts: &mut Vec<Verdict<'a>>,
) {
    let facts = *subject.facts();
    verdicts.push(Verdict::of_group(at.to_owned(), "and", subscription.wants_also(subject)));
    if !subscription.is_active {
        verdicts.push(Verdict::new(format!("{at}/is_active"), false));
    }
    let by_type = subscription.event_type.matches(facts.event_type);
    verdicts.push(Verdict::of_text(format!("{at}/event_type"), by_type, Some(facts.event_type)));
    if let Some(own) = subscription.resource_id.as_deref() {
        let found = facts.resource_id;
        verdicts.push(Verdict::of_text(format!("{at}/resource_id"), found == Some(own), found));
    }
    if let Some(filter) = &subscription.filters {
        let at = format!("{at}/filters");
        verdicts.extend(filter.explain(subject).into_iter().map(|verdict| verdict.below(&at)));
    }
}
