//! Subscriptions of a webhook. A subscription matches events of one type or pattern under its own conditions. It is a
//! part of its webhook and shares the webhook's version.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::unknown_type;
use crate::filter::Filter;
use crate::model::{EventPattern, FieldError, Principal, SubscriptionId, Timestamp, WebhookId, WebhookNo};
use crate::outbound::{Subscription, Webhook};
use crate::registry::{ChangeError, SubscriptionSettings};
use crate::service::fields::{DocumentFields, FieldUpdate, pointer, unknown};
use crate::service::stored_response::changed_webhook;
use crate::service::{
    Error, ErrorKind, ExpectedVersion, ListPage, Operation, PageRequest, ResponseRecorder, Service, WebhookRef,
};

const ALLOWED: &str = "event_type, resource_id, is_active, filters";

/// A validated subscription, ready to be created.
#[derive(Debug)]
pub struct SubscriptionDraft {
    of: WebhookNo,
    settings: SubscriptionSettings,
    version: Option<u64>,
    by: Principal,
}

/// A subscription with its webhook.
#[derive(Debug, Clone)]
pub struct WebhookSubscription {
    /// The webhook.
    pub webhook: Arc<Webhook>,
    /// The subscription.
    pub subscription: Subscription,
}

/// A filter for subscriptions. A field that is `None` matches everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct SubscriptionFilter<'a> {
    /// Subscriptions whose type or pattern matches this event type.
    pub event_type: Option<&'a str>,
    /// Subscriptions to this resource.
    pub resource_id: Option<&'a str>,
    /// Subscriptions that are active, or that are not.
    pub is_active: Option<bool>,
}

impl Service {
    /// Validates the document of a new subscription.
    ///
    /// # Errors
    /// If the role is too low, a field is invalid, the webhook does not exist, or its version is not the expected one.
    pub fn draft_subscription(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        document: Map<String, Value>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<SubscriptionDraft, Error> {
        Operation::ChangeSubscriptions.permit(principal.role)?;
        let webhook = self.live_webhook(principal, of)?;
        let settings = read(document, None)?;
        self.known_type(&webhook, None, &settings)?;
        let version = ExpectedVersion::bind(expected, webhook.version)?;
        Ok(SubscriptionDraft { of: webhook.no, settings, version, by: principal.clone() })
    }

    /// Creates a subscription.
    ///
    /// `record` stores the response for repeated requests.
    ///
    /// # Errors
    /// If the webhook has too many subscriptions, no longer exists, or its version is not the expected one.
    pub async fn create_subscription(
        &self,
        draft: SubscriptionDraft,
        record: Option<ResponseRecorder<WebhookSubscription>>,
    ) -> Result<WebhookSubscription, Error> {
        let SubscriptionDraft { of, settings, version, by } = draft;
        let newest = |webhook: Arc<Webhook>| {
            let subscription = webhook.subscriptions.last().cloned()?;
            Some(WebhookSubscription { webhook, subscription })
        };
        let answer = record.map(|record| record.of_change(move |changed| newest(changed_webhook(changed)?)));
        let writer = self.writer.on_behalf_of(&by).recording(answer);
        let webhook = writer.add_subscription(of, version, settings).await.map_err(changed)?;
        newest(webhook).ok_or_else(|| Error::not_found("subscription"))
    }

    /// Lists the subscriptions of a webhook that match the filter, newest first, starting before the subscription
    /// `before`.
    ///
    /// # Errors
    /// If the role is too low, the webhook does not exist, or the subscription `before` no longer exists.
    pub fn list_subscriptions(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        filter: SubscriptionFilter<'_>,
        page: PageRequest,
        before: Option<SubscriptionId>,
    ) -> Result<ListPage<WebhookSubscription, SubscriptionId>, Error> {
        Operation::ReadSubscriptions.permit(principal.role)?;
        let webhook = self.live_webhook(principal, of)?;
        let all = &webhook.subscriptions;
        let end = match before {
            None => all.len(),
            Some(id) => all.iter().position(|one| one.id == id).ok_or_else(gone)?,
        };
        let of_webhook =
            |one: &Subscription| WebhookSubscription { webhook: Arc::clone(&webhook), subscription: one.clone() };
        let wanted = all[..end].iter().rev().filter(|one| filter.takes(one)).map(of_webhook);
        Ok(page.rows(wanted.take(page.fetch_limit()).collect(), None, |one| one.subscription.id))
    }

    /// Reads a subscription.
    ///
    /// # Errors
    /// If the role is too low, or the subscription does not exist for the caller.
    pub fn read_subscription(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        id: SubscriptionId,
    ) -> Result<WebhookSubscription, Error> {
        Operation::ReadSubscriptions.permit(principal.role)?;
        let webhook = self.live_webhook(principal, of)?;
        let subscription = find(&webhook, id)?.clone();
        Ok(WebhookSubscription { webhook, subscription })
    }

    /// Replaces a subscription. Fields that the document omits return to their defaults.
    ///
    /// # Errors
    /// If the role is too low, a field is invalid, the subscription does not exist, or the version of its webhook is
    /// not the expected one.
    pub async fn replace_subscription(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        id: SubscriptionId,
        document: Map<String, Value>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<WebhookSubscription, Error> {
        Operation::ChangeSubscriptions.permit(principal.role)?;
        let webhook = self.live_webhook(principal, of)?;
        let current = find(&webhook, id)?;
        let settings = read(document, Some((webhook.id, current)))?;
        self.known_type(&webhook, Some(current), &settings)?;
        let version = ExpectedVersion::bind(expected, webhook.version)?;
        let writer = self.writer.on_behalf_of(principal);
        let webhook = writer.replace_subscription(webhook.no, version, id, settings).await.map_err(changed)?;
        let subscription = find(&webhook, id)?.clone();
        Ok(WebhookSubscription { webhook, subscription })
    }

    /// Deletes a subscription.
    ///
    /// # Errors
    /// If the role is too low, the subscription does not exist, or the version of its webhook is not the expected one.
    pub async fn delete_subscription(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        id: SubscriptionId,
        expected: Option<&ExpectedVersion>,
    ) -> Result<(), Error> {
        Operation::ChangeSubscriptions.permit(principal.role)?;
        let webhook = self.live_webhook(principal, of)?;
        find(&webhook, id)?;
        let version = ExpectedVersion::bind(expected, webhook.version)?;
        self.writer.on_behalf_of(principal).remove_subscription(webhook.no, version, id).await.map_err(changed)?;
        Ok(())
    }

    /// Rejects an event type that a strict catalogue does not contain, unless the subscription already has it.
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

/// Only a change that is bound to a version can conflict with another change.
fn changed(error: ChangeError) -> Error {
    match error {
        ChangeError::Changed => Error::changed_meanwhile(),
        error => error.into(),
    }
}

fn find(webhook: &Webhook, id: SubscriptionId) -> Result<&Subscription, Error> {
    webhook.subscriptions.iter().find(|one| one.id == id).ok_or_else(|| Error::not_found("subscription"))
}

/// Reads a document. A client may send back what it read of `current`. All invalid fields are reported.
fn read(body: Map<String, Value>, current: Option<(WebhookId, &Subscription)>) -> Result<SubscriptionSettings, Error> {
    let mut fields = DocumentFields::new(body);
    if let Some((of, current)) = current {
        fields.unread.remove("updated_at");
        let shown = serde_json::to_value(SubscriptionDocument::of(of, current)).unwrap_or_default();
        for key in ["id", "webhook_id", "created_at"] {
            if let Some(given) = fields.unread.remove(key)
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
        FieldUpdate::Value(is_active) => is_active,
        FieldUpdate::Null | FieldUpdate::Absent => true,
    };
    let filters = fields.filters().value().flatten();
    let DocumentFields { unread, mut errors } = fields;
    errors.extend(unknown(&unread, ALLOWED));
    match event_type {
        Some(event_type) if errors.is_empty() => {
            Ok(SubscriptionSettings { event_type, resource_id, is_active, filters })
        }
        _ => Err(Error::invalid_body(errors)),
    }
}

/// A subscription as a JSON document.
#[derive(Serialize)]
pub struct SubscriptionDocument<'a> {
    id: String,
    webhook_id: String,
    event_type: String,
    resource_id: Option<&'a str>,
    is_active: bool,
    filters: FiltersDocument<'a>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// Absent filters are rendered as an empty object, because clients expect an object.
#[derive(Serialize)]
#[serde(untagged)]
enum FiltersDocument<'a> {
    Some(&'a RawValue),
    None {},
}

impl<'a> SubscriptionDocument<'a> {
    /// Creates the document of a subscription of this webhook.
    pub fn of(webhook: WebhookId, subscription: &'a Subscription) -> Self {
        Self {
            id: subscription.id.to_string(),
            webhook_id: webhook.to_string(),
            event_type: subscription.event_type.to_string(),
            resource_id: subscription.resource_id.as_deref(),
            is_active: subscription.is_active,
            filters: subscription
                .filters
                .as_deref()
                .map(Filter::as_json)
                .map_or(FiltersDocument::None {}, FiltersDocument::Some),
            created_at: subscription.created_at,
            updated_at: subscription.updated_at,
        }
    }
}
