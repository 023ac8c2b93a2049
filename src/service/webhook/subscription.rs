//! Subscriptions of a webhook: events of one type, or pattern, under conditions of their own. They are part of their webhook:
//! its version is theirs.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::unknown_type;
use crate::filter::Filter;
use crate::model::{EventPattern, FieldError, Principal, SubscriptionId, Timestamp, WebhookId, WebhookNo};
use crate::outbound::{Subscription, Webhook};
use crate::registry::{ChangeError, SubscriptionSettings};
use crate::service::fields::{Fields, Given, pointer, unknown};
use crate::service::{Error, ErrorKind, ExpectedVersion, Operation, Page, Rows, Service, WebhookRef};

const ALLOWED: &str = "event_type, resource_id, is_active, filters";

/// A subscription that was checked and can be made.
#[derive(Debug)]
pub struct SubscriptionDraft {
    of: WebhookNo,
    settings: SubscriptionSettings,
    version: Option<u64>,
    by: Principal,
}

/// A subscription, with the webhook that it is part of.
#[derive(Debug, Clone)]
pub struct OfWebhook {
    /// The webhook.
    pub webhook: Arc<Webhook>,
    /// The subscription.
    pub subscription: Subscription,
}

/// Which subscriptions are listed.
#[derive(Debug, Clone, Copy, Default)]
pub struct SubscriptionFilter<'a> {
    /// Those that name this event type.
    pub event_type: Option<&'a str>,
    /// Those of this resource.
    pub resource_id: Option<&'a str>,
    /// Those that are active, or those that are not.
    pub is_active: Option<bool>,
}

impl Service {
    /// Checks the document of a new subscription.
    ///
    /// # Errors
    /// Each field that is wrong; a webhook that is not there, or not of the expected version.
    pub fn draft_subscription(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        document: Map<String, Value>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<SubscriptionDraft, Error> {
        Operation::ChangeSubscriptions.permit(principal.role)?;
        let webhook = self.live(principal, of)?;
        let settings = read(document, None)?;
        self.known_type(&webhook, None, &settings)?;
        let version = ExpectedVersion::bind(expected, webhook.version)?;
        Ok(SubscriptionDraft { of: webhook.no, settings, version, by: principal.clone() })
    }

    /// Makes a subscription.
    ///
    /// # Errors
    /// If the webhook has too many, is not there any more, or is not of the expected version.
    pub async fn create_subscription(&self, draft: SubscriptionDraft) -> Result<OfWebhook, Error> {
        let SubscriptionDraft { of, settings, version, by } = draft;
        let webhook = self.writer.by(&by).add_subscription(of, version, settings).await.map_err(changed)?;
        let made = webhook.subscriptions.last().cloned().ok_or_else(|| Error::not_found("subscription"))?;
        Ok(OfWebhook { webhook, subscription: made })
    }

    /// A page of a webhook's subscriptions, newest first, before the subscription `before`.
    ///
    /// # Errors
    /// A webhook that is not there, or a `before` that is not there any more.
    pub fn list_subscriptions(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        filter: SubscriptionFilter<'_>,
        page: Page,
        before: Option<SubscriptionId>,
    ) -> Result<Rows<OfWebhook, SubscriptionId>, Error> {
        Operation::ReadSubscriptions.permit(principal.role)?;
        let webhook = self.live(principal, of)?;
        let all = &webhook.subscriptions;
        let end = match before {
            None => all.len(),
            Some(id) => all.iter().position(|one| one.id == id).ok_or_else(gone)?,
        };
        let of_webhook = |one: &Subscription| OfWebhook { webhook: Arc::clone(&webhook), subscription: one.clone() };
        let wanted = all[..end].iter().rev().filter(|one| filter.takes(one)).map(of_webhook);
        Ok(page.rows(wanted.take(page.wanted()).collect(), None, |one| one.subscription.id))
    }

    /// One subscription.
    ///
    /// # Errors
    /// If it is not there for the caller.
    pub fn read_subscription(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        id: SubscriptionId,
    ) -> Result<OfWebhook, Error> {
        Operation::ReadSubscriptions.permit(principal.role)?;
        let webhook = self.live(principal, of)?;
        let subscription = find(&webhook, id)?.clone();
        Ok(OfWebhook { webhook, subscription })
    }

    /// Replaces a subscription. A field that the document does not name goes back to its default.
    ///
    /// # Errors
    /// Each field that is wrong; a subscription that is not there; a webhook that is not of the expected version.
    pub async fn replace_subscription(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        id: SubscriptionId,
        document: Map<String, Value>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<OfWebhook, Error> {
        Operation::ChangeSubscriptions.permit(principal.role)?;
        let webhook = self.live(principal, of)?;
        let current = find(&webhook, id)?;
        let settings = read(document, Some((webhook.id, current)))?;
        self.known_type(&webhook, Some(current), &settings)?;
        let version = ExpectedVersion::bind(expected, webhook.version)?;
        let writer = self.writer.by(principal);
        let webhook = writer.replace_subscription(webhook.no, version, id, settings).await.map_err(changed)?;
        let subscription = find(&webhook, id)?.clone();
        Ok(OfWebhook { webhook, subscription })
    }

    /// Deletes a subscription.
    ///
    /// # Errors
    /// A subscription that is not there; a webhook that is not of the expected version.
    pub async fn delete_subscription(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        id: SubscriptionId,
        expected: Option<&ExpectedVersion>,
    ) -> Result<(), Error> {
        Operation::ChangeSubscriptions.permit(principal.role)?;
        let webhook = self.live(principal, of)?;
        find(&webhook, id)?;
        let version = ExpectedVersion::bind(expected, webhook.version)?;
        self.writer.by(principal).remove_subscription(webhook.no, version, id).await.map_err(changed)?;
        Ok(())
    }

    /// Whether the catalogue takes the type that a subscription names, unless it names it already.
    fn known_type(
        &self,
        webhook: &Webhook,
        current: Option<&Subscription>,
        settings: &SubscriptionSettings,
    ) -> Result<(), Error> {
        if current.is_some_and(|current| current.event_type == settings.event_type) {
            return Ok(());
        }
        match unknown_type(&self.registry.load(), &webhook.tenant, &settings.event_type) {
            Some(detail) => Err(Error::unknown_types(vec![FieldError::new("/event_type", detail)])),
            None => Ok(()),
        }
    }
}

impl SubscriptionFilter<'_> {
    fn takes(&self, one: &Subscription) -> bool {
        self.event_type.is_none_or(|text| one.event_type.matches(text))
            && self.resource_id.is_none_or(|id| one.resource_id.as_deref() == Some(id))
            && self.is_active.is_none_or(|is_active| one.is_active == is_active)
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::InvalidArgument, "cursor: its subscription is not there any more; list anew")
}

/// Only a change that was bound to a version can come too late.
fn changed(error: ChangeError) -> Error {
    match error {
        ChangeError::Changed => Error::changed_meanwhile(),
        error => error.into(),
    }
}

fn find(webhook: &Webhook, id: SubscriptionId) -> Result<&Subscription, Error> {
    webhook.subscriptions.iter().find(|one| one.id == id).ok_or_else(|| Error::not_found("subscription"))
}

/// Reads a document, which may be what was read of `current`. Each field that is wrong is named.
fn read(body: Map<String, Value>, current: Option<(WebhookId, &Subscription)>) -> Result<SubscriptionSettings, Error> {
    let mut fields = Fields::new(body);
    if let Some((of, current)) = current {
        fields.left.remove("updated_at");
        let shown = serde_json::to_value(Document::of(of, current)).unwrap_or_default();
        for key in ["id", "webhook_id", "created_at"] {
            if let Some(given) = fields.left.remove(key)
                && shown.get(key) != Some(&given)
            {
                fields.wrong(pointer(key), "is set by the server and cannot be changed");
            }
        }
    }
    let before = fields.errors.len();
    let event_type = fields
        .take("event_type", |value| {
            EventPattern::try_new(value.as_str().unwrap_or_default()).map_err(|error| error.to_string())
        })
        .value();
    if event_type.is_none() && fields.errors.len() == before {
        fields.wrong("/event_type", "is required: an event type or a pattern, such as record.updated or record.*");
    }
    let resource_id = fields.id("resource_id").value();
    let is_active = match fields.flag("is_active") {
        Given::Value(is_active) => is_active,
        Given::Null | Given::Absent => true,
    };
    let filters = fields.filters().value().flatten();
    let Fields { left, mut errors } = fields;
    errors.extend(unknown(&left, ALLOWED));
    match event_type {
        Some(event_type) if errors.is_empty() => {
            Ok(SubscriptionSettings { event_type, resource_id, is_active, filters })
        }
        _ => Err(Error::invalid_body(errors)),
    }
}

/// A subscription as a JSON document.
#[derive(Serialize)]
pub struct Document<'a> {
    id: String,
    webhook_id: String,
    event_type: String,
    resource_id: Option<&'a str>,
    is_active: bool,
    filters: Filters<'a>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// An object also where there are none, as clients look into it.
#[derive(Serialize)]
#[serde(untagged)]
enum Filters<'a> {
    Some(&'a RawValue),
    None {},
}

impl<'a> Document<'a> {
    /// A subscription of this webhook.
    pub fn of(webhook: WebhookId, subscription: &'a Subscription) -> Self {
        Self {
            id: subscription.id.to_string(),
            webhook_id: webhook.to_string(),
            event_type: subscription.event_type.to_string(),
            resource_id: subscription.resource_id.as_deref(),
            is_active: subscription.is_active,
            filters: subscription.filters.as_deref().map(Filter::as_json).map_or(Filters::None {}, Filters::Some),
            created_at: subscription.created_at,
            updated_at: subscription.updated_at,
        }
    }
}
