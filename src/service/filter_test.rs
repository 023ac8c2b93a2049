//! A filter, or everything that a webhook asks for, tried on an event.

use std::sync::Arc;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::fields::Fields;
use super::{Error, ErrorKind, Operation, Service, WebhookRef};
use crate::filter::{Facts, Filter, FilterError, Sample, Subject, Verdict};
use crate::model::{DEFAULT_TENANT, EventHead, EventId, FieldError, Principal, data_of};
use crate::outbound::{Subscription, Webhook};
use crate::storage::{ReadError, Stored};

const ALLOWED: &str = "filter (or filters), webhook_id, event, event_id";

/// Whether an event passes, and what each rule says of the event.
#[derive(Debug, Clone)]
pub struct Explanation<'a> {
    /// Whether the event passes.
    pub matches: bool,
    /// One verdict for each rule and each group of rules, in their order.
    pub rules: Vec<Verdict<'a>>,
}

/// What is tried.
enum Candidate {
    Filter(Filter),
    Webhook(Arc<Webhook>),
}

impl Candidate {
    fn explain<'a>(&'a self, facts: &Facts<'a>) -> Explanation<'a> {
        let subject = &mut Subject::new(facts);
        match self {
            Self::Filter(filter) => Explanation { matches: filter.passes(subject), rules: filter.explain(subject) },
            Self::Webhook(webhook) => {
                // A webhook gets only events of its own tenant, whatever it asks for.
                let matches = *webhook.tenant == *facts.tenant && webhook.wants_also(subject);
                Explanation { matches, rules: conditions(webhook, subject) }
            }
        }
    }
}

impl Explanation<'_> {
    fn into_owned(self) -> Explanation<'static> {
        Explanation { matches: self.matches, rules: self.rules.into_iter().map(Verdict::into_owned).collect() }
    }
}

impl Service {
    /// Tries a filter or a webhook on an event, as a document says: `{"filter": {…}}` or `{"webhook_id": "…"}`, with
    /// `{"event": {…}}` or `{"event_id": "…"}`. Nothing changes, so that whoever reads may ask.
    ///
    /// `event` is the text of the document's `event`, in which numbers stand as they were written. Without it the value in
    /// the document is read.
    ///
    /// # Errors
    /// If the role is too low, or the stores cannot be read; each field that is wrong, by its JSON pointer.
    pub async fn test_filter(
        &self,
        principal: &Principal,
        document: Map<String, Value>,
        event: Option<&RawValue>,
    ) -> Result<Explanation<'static>, Error> {
        Operation::TestFilter.permit(principal.role)?;
        let mut fields = Fields::new(document);
        let tried = self.tried(principal, &mut fields);
        let event_id = fields.take("event_id", |value| {
            let id = value.as_str().and_then(|text| text.parse::<EventId>().ok());
            id.ok_or_else(|| "expected an event's id, evt_…".to_owned())
        });
        let event_id = event_id.value();
        let given = fields.left.remove("event").filter(|event| !event.is_null());
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
            Sample::read(event, &tenant, self.clock.now()).map_err(wrong).ok()
        });
        let stored = match event_id.filter(|_| !has_event) {
            Some(id) => self.accepted(principal, id, &mut fields).await?,
            None => None,
        };
        fields.finish(ALLOWED)?;
        match (tried, sample, stored) {
            (Some(tried), Some(sample), _) => Ok(tried.explain(&sample.facts()).into_owned()),
            (Some(tried), None, Some((id, (head, payload)))) => {
                let read = EventHead::parse(&head).map_err(|_| ReadError::Damaged(id))?;
                let data = data_of(&head, &payload);
                Ok(tried.explain(&Facts::of(&read.event, &data)).into_owned())
            }
            _ => Err(Error::invalid_body(vec![FieldError::new("", format!("expected {ALLOWED}"))])),
        }
    }

    /// The filter or the webhook that the document names; `None` with an error.
    fn tried(&self, principal: &Principal, fields: &mut Fields) -> Option<Candidate> {
        let before = fields.errors.len();
        let name = if fields.left.contains_key("filter") { "filter" } else { "filters" };
        let filter = fields.left.remove(name).filter(|filter| !filter.is_null());
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
        let webhook = of.and_then(|of| self.live(principal, of).ok());
        webhook.ok_or_else(|| "there is no such webhook".to_owned())
    }

    async fn accepted(
        &self,
        principal: &Principal,
        id: EventId,
        fields: &mut Fields,
    ) -> Result<Option<(EventId, Stored)>, Error> {
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

/// Everything that a webhook asks for, with pointers into the webhook.
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

/// A subscription holds if it is active and everything below it holds.
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
