//! An apply target that calls the server's own service.

use serde::Serialize;
use serde_json::Value;

use super::DeclarationFile;
use super::target::{ApplyTarget, JsonObject, TargetCallFailed, TargetError, TargetRefusal};
use crate::limits::PAGE_ROWS_MAX;
use crate::model::{Principal, Secret};
use crate::outbound::Webhook;
use crate::service::event_type::EventTypeKey;
use crate::service::webhook::subscription::{self, SubscriptionFilter};
use crate::service::webhook::{WebhookFilter, WebhookPreview, document};
use crate::service::{Error, ErrorKind, PageRequest, Service, WebhookRef};

/// A service as an apply target. The principal must be of tenant `*`.
#[derive(Debug)]
pub struct InProcessTarget<'a> {
    service: &'a Service,
    principal: Principal,
    tenant: Option<&'a str>,
    describe: fn(Error) -> String,
}

impl<'a> InProcessTarget<'a> {
    /// Creates the target for a file. `describe` converts an error that names no field to text.
    pub fn new(
        service: &'a Service,
        principal: Principal,
        declared: &'a DeclarationFile,
        describe: fn(Error) -> String,
    ) -> Self {
        Self { service, principal, tenant: declared.tenant.as_deref(), describe }
    }

    fn refused(&self, mut error: Error) -> TargetError {
        let errors = std::mem::take(&mut error.errors);
        TargetError::Refused(TargetRefusal { errors, message: (self.describe)(error) })
    }

    fn map_error<T>(&self, answer: Result<T, Error>) -> Result<T, TargetError> {
        answer.map_err(|error| self.refused(error))
    }

    /// Converts [`ErrorKind::NotFound`] to `None`.
    fn optional<T>(&self, answer: Result<T, Error>) -> Result<Option<T>, TargetError> {
        match answer {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            answer => self.map_error(answer).map(Some),
        }
    }

    /// A reference to the webhook with this uid or id, within the file's tenant.
    fn webhook_ref<'u>(&self, uid: &'u str) -> Result<WebhookRef<'u>, Error> {
        let of = WebhookRef::parse(uid).ok_or_else(|| Error::not_found("webhook"))?;
        self.service.resolve_in_tenant(&self.principal, self.tenant, of)
    }

    fn event_type_key<'n>(&'n self, name: &'n str) -> EventTypeKey<'n> {
        EventTypeKey { name, tenant: self.tenant }
    }

    fn webhook_document(&self, webhook: &Webhook) -> Result<JsonObject, TargetError> {
        object(&document::WebhookDocument::of(webhook, self.service.default_retry()))
    }
}

impl ApplyTarget for InProcessTarget<'_> {
    async fn event_type(&self, name: &str) -> Result<Option<JsonObject>, TargetError> {
        let found = self.optional(self.service.read_event_type(&self.principal, self.event_type_key(name)))?;
        found.map(|event_type| object(&event_type.definition.settings)).transpose()
    }

    async fn put_event_type(&self, name: &str, document: &JsonObject, dry_run: bool) -> Result<(), TargetError> {
        let (key, document) = (self.event_type_key(name), document.clone());
        self.map_error(if dry_run {
            self.service.preview_event_type(&self.principal, key, document, None).map(drop)
        } else {
            self.service.put_event_type(&self.principal, key, document, None).await.map(drop)
        })
    }

    async fn webhook(&self, uid: &str) -> Result<Option<JsonObject>, TargetError> {
        let found = self.webhook_ref(uid).and_then(|of| self.service.read_webhook(&self.principal, of));
        self.optional(found)?.map(|webhook| self.webhook_document(&webhook)).transpose()
    }

    async fn webhooks(&self) -> Result<Vec<JsonObject>, TargetError> {
        let filter = WebhookFilter { tenant: self.tenant, ..WebhookFilter::default() };
        let (mut documents, mut before) = (Vec::new(), None);
        loop {
            let found = self.map_error(self.service.list_webhooks(&self.principal, filter, WHOLE_PAGE, before))?;
            for webhook in &found.rows {
                documents.push(self.webhook_document(webhook)?);
            }
            match found.next {
                Some(next) => before = Some(next),
                None => return Ok(documents),
            }
        }
    }

    async fn check_new_webhook(&self, document: &JsonObject) -> Result<(), TargetError> {
        self.map_error(self.service.draft_webhook(&self.principal, document.clone())).map(drop)
    }

    async fn create_webhook(&self, document: &JsonObject) -> Result<Option<Secret>, TargetError> {
        let draft = self.map_error(self.service.draft_webhook(&self.principal, document.clone()))?;
        let made = self.map_error(self.service.create_webhook(draft, None).await)?;
        Ok(Some(made.webhook.keys.current.secret.clone()))
    }

    async fn preview_webhook(&self, uid: &str, document: &JsonObject) -> Result<WebhookPreview, TargetError> {
        let of = self.map_error(self.webhook_ref(uid))?;
        self.map_error(self.service.preview_replacement(&self.principal, of, document.clone()))
    }

    async fn replace_webhook(&self, uid: &str, document: &JsonObject) -> Result<(), TargetError> {
        let of = self.map_error(self.webhook_ref(uid))?;
        self.map_error(self.service.replace_webhook(&self.principal, of, document.clone(), None).await).map(drop)
    }

    async fn set_secret(&self, uid: &str, secret: &Secret) -> Result<(), TargetError> {
        let of = self.map_error(self.webhook_ref(uid))?;
        let document = JsonObject::from_iter([("secret".to_owned(), Value::from(secret.reveal()))]);
        let draft = self.map_error(self.service.draft_secret(&self.principal, of, document, None))?;
        self.map_error(self.service.regenerate_secret(draft, None).await).map(drop)
    }

    async fn delete_webhook(&self, id: &str) -> Result<(), TargetError> {
        let of = self.map_error(self.webhook_ref(id))?;
        self.map_error(self.service.delete_webhook(&self.principal, of, None).await)
    }

    async fn subscriptions(&self, uid: &str) -> Result<Vec<JsonObject>, TargetError> {
        let of = self.map_error(self.webhook_ref(uid))?;
        let (mut documents, mut before) = (Vec::new(), None);
        loop {
            let filter = SubscriptionFilter::default();
            let found =
                self.map_error(self.service.list_subscriptions(&self.principal, of, filter, WHOLE_PAGE, before))?;
            for one in &found.rows {
                documents.push(object(&subscription::SubscriptionDocument::of(one.webhook.id, &one.subscription))?);
            }
            match found.next {
                Some(next) => before = Some(next),
                None => return Ok(documents),
            }
        }
    }

    async fn create_subscription(&self, uid: &str, document: &JsonObject) -> Result<(), TargetError> {
        let of = self.map_error(self.webhook_ref(uid))?;
        let draft = self.map_error(self.service.draft_subscription(&self.principal, of, document.clone(), None))?;
        self.map_error(self.service.create_subscription(draft, None).await).map(drop)
    }

    async fn replace_subscription(&self, uid: &str, id: &str, document: &JsonObject) -> Result<(), TargetError> {
        let of = self.map_error(self.webhook_ref(uid))?;
        let id = id.parse().map_err(|_| self.refused(Error::not_found("subscription")))?;
        let document = document.clone();
        self.map_error(self.service.replace_subscription(&self.principal, of, id, document, None).await).map(drop)
    }

    async fn delete_subscription(&self, uid: &str, id: &str) -> Result<(), TargetError> {
        let of = self.map_error(self.webhook_ref(uid))?;
        let id = id.parse().map_err(|_| self.refused(Error::not_found("subscription")))?;
        self.map_error(self.service.delete_subscription(&self.principal, of, id, None).await)
    }
}

const WHOLE_PAGE: PageRequest = PageRequest { limit: PAGE_ROWS_MAX, skip: 0 };

fn object(shown: &impl Serialize) -> Result<JsonObject, TargetError> {
    match serde_json::to_value(shown) {
        Ok(Value::Object(document)) => Ok(document),
        _ => Err(TargetCallFailed("the document could not be written".to_owned()).into()),
    }
}
