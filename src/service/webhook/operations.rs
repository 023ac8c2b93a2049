//! Webhooks: make, read, change, delete, pause, resume, preview.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::preview::Preview;
use super::settings::{Purpose, Rules, read};
use super::{type_warnings, unknown_types};
use crate::limits::CHANGE_TRIES;
use crate::model::{Principal, WebhookStatus};
use crate::outbound::{Webhook, WebhookSettings};
use crate::registry::ChangeError;
use crate::service::{Error, ErrorKind, ExpectedVersion, Operation, Service, WebhookRef};

/// A webhook that was checked and can be made.
#[derive(Debug)]
pub struct WebhookDraft {
    settings: WebhookSettings,
    by: Principal,
}

/// A webhook that was made or changed.
#[derive(Debug, Clone)]
pub struct Written {
    /// As it is now.
    pub webhook: Arc<Webhook>,
    /// What is valid and yet likely not what the caller meant.
    pub warnings: Vec<String>,
}

impl Service {
    /// Checks the document of a new webhook.
    ///
    /// # Errors
    /// Each field that is wrong, by its JSON pointer.
    pub fn draft_webhook(&self, principal: &Principal, document: Map<String, Value>) -> Result<WebhookDraft, Error> {
        Operation::CreateWebhook.permit(principal.role)?;
        let settings = read(document, Purpose::Create, &self.rules(principal))?;
        unknown_types(&self.registry.load(), None, &settings)?;
        Ok(WebhookDraft { settings, by: principal.clone() })
    }

    /// Makes a webhook. Its secret is in its keys.
    ///
    /// # Errors
    /// If the uid is taken, or the registry cannot take the change.
    pub async fn create_webhook(&self, draft: WebhookDraft) -> Result<Written, Error> {
        let WebhookDraft { settings, by } = draft;
        let of_types = type_warnings(&self.registry.load(), &settings);
        let webhook = self.writer.by(&by).create(settings).await?;
        Ok(written(webhook, of_types))
    }

    /// The webhook that [`create_webhook`](Self::create_webhook) would make.
    ///
    /// # Errors
    /// None that a client can cause.
    pub fn preview_new(&self, draft: WebhookDraft) -> Result<Preview, Error> {
        Preview::of(None, draft.settings, &self.default_retry)
    }

    /// One webhook.
    ///
    /// # Errors
    /// If it is not there for the caller.
    pub fn read_webhook(&self, principal: &Principal, of: WebhookRef<'_>) -> Result<Arc<Webhook>, Error> {
        Operation::ReadWebhook.permit(principal.role)?;
        self.live(principal, of)
    }

    /// Replaces a webhook. A field that the document does not name goes back to its default, but for secret, status, owner
    /// and uid.
    ///
    /// # Errors
    /// Each field that is wrong; a webhook that is not there, or not of the expected version.
    pub async fn replace_webhook(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        document: Map<String, Value>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<Written, Error> {
        let rules = self.rules(principal);
        let replace = |webhook: &Webhook| {
            let settings = read(document.clone(), Purpose::Replace(webhook), &rules)?;
            self.known_types(webhook, settings).map(Some)
        };
        self.change_webhook(principal, of, expected, replace).await
    }

    /// The webhook that [`replace_webhook`](Self::replace_webhook) would make of the present one.
    ///
    /// # Errors
    /// Each field that is wrong; a webhook that is not there.
    pub fn preview_replacement(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        document: Map<String, Value>,
    ) -> Result<Preview, Error> {
        Operation::ChangeWebhook.permit(principal.role)?;
        let webhook = self.live(principal, of)?;
        let settings = read(document, Purpose::Replace(&webhook), &self.rules(principal))?;
        let settings = self.known_types(&webhook, settings)?;
        Preview::of(Some(&webhook), settings, &self.default_retry)
    }

    /// Changes the fields that the document names (RFC 7396).
    ///
    /// # Errors
    /// Each field that is wrong; a webhook that is not there, or not of the expected version.
    pub async fn patch_webhook(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        document: Map<String, Value>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<Written, Error> {
        let rules = self.rules(principal);
        let patch = |webhook: &Webhook| {
            let settings = read(document.clone(), Purpose::Patch(webhook), &rules)?;
            self.known_types(webhook, settings).map(Some)
        };
        self.change_webhook(principal, of, expected, patch).await
    }

    /// Deletes a webhook.
    ///
    /// # Errors
    /// A webhook that is not there, or not of the expected version.
    pub async fn delete_webhook(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<(), Error> {
        Operation::DeleteWebhook.permit(principal.role)?;
        let webhook = self.live(principal, of)?;
        let version = ExpectedVersion::bind(expected, webhook.version)?;
        match self.writer.by(principal).remove(webhook.no, version).await {
            Err(ChangeError::Changed) => Err(Error::changed_meanwhile()),
            removed => Ok(removed?),
        }
    }

    /// Holds deliveries. A paused webhook stays paused.
    ///
    /// # Errors
    /// A webhook that is neither active nor paused, not there, or not of the expected version.
    pub async fn pause_webhook(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<Written, Error> {
        let pause = |webhook: &Webhook| match webhook.status {
            WebhookStatus::Active => {
                Ok(Some(WebhookSettings { status: WebhookStatus::Paused, ..webhook.settings.clone() }))
            }
            WebhookStatus::Paused => Ok(None),
            WebhookStatus::Inactive | WebhookStatus::Failed => {
                Err(Error::new(ErrorKind::Conflict, "only an active webhook can be paused; resume it first"))
            }
        };
        self.change_webhook(principal, of, expected, pause).await
    }

    /// Makes a webhook active, whatever its status was.
    ///
    /// # Errors
    /// A webhook that is not there, or not of the expected version.
    pub async fn resume_webhook(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<Written, Error> {
        let resume = |webhook: &Webhook| {
            let stays = webhook.status == WebhookStatus::Active;
            Ok((!stays).then(|| WebhookSettings { status: WebhookStatus::Active, ..webhook.settings.clone() }))
        };
        self.change_webhook(principal, of, expected, resume).await
    }

    /// Changes a webhook as `change` says of its present state (`None`: not at all). The change is made anew if another one
    /// came between and the caller expects no version.
    async fn change_webhook(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        expected: Option<&ExpectedVersion>,
        change: impl Fn(&Webhook) -> Result<Option<WebhookSettings>, Error>,
    ) -> Result<Written, Error> {
        Operation::ChangeWebhook.permit(principal.role)?;
        for _ in 0..CHANGE_TRIES {
            let webhook = self.live(principal, of)?;
            // What could not be done in any case is refused first (RFC 9110, 13.2.1).
            let settings = change(&webhook)?;
            ExpectedVersion::bind(expected, webhook.version)?;
            let changed = match settings {
                None => Ok(webhook),
                Some(settings) => self.writer.by(principal).replace(webhook.no, webhook.version, settings).await,
            };
            match changed {
                Err(ChangeError::Changed) => {}
                changed => {
                    let webhook = changed?;
                    let of_types = type_warnings(&self.registry.load(), &webhook);
                    return Ok(written(webhook, of_types));
                }
            }
        }
        Err(ChangeError::Changed.into())
    }

    /// The settings, if the catalogue takes the types that they newly name.
    fn known_types(&self, webhook: &Webhook, settings: WebhookSettings) -> Result<WebhookSettings, Error> {
        unknown_types(&self.registry.load(), Some(&webhook.settings), &settings).map(|()| settings)
    }

    fn rules<'a>(&'a self, principal: &'a Principal) -> Rules<'a> {
        let registry = self.registry.load_full();
        Rules { check_url: &self.check_url, default_retry: &self.default_retry, principal, registry }
    }
}

fn written(webhook: Arc<Webhook>, of_types: Vec<String>) -> Written {
    let warnings = warnings(&webhook).into_iter().chain(of_types).collect();
    Written { webhook, warnings }
}

/// Warnings about a webhook that is valid and yet likely not what its user meant.
fn warnings(webhook: &Webhook) -> Vec<String> {
    let mut warnings = Vec::new();
    match &*webhook.subscriptions {
        _ if !webhook.events.is_empty() => {}
        [] => warnings.push("no events: nothing will match".to_owned()),
        subscriptions if subscriptions.iter().all(|subscription| !subscription.is_active) => {
            warnings.push("no events and no active subscription: nothing will match".to_owned());
        }
        _ => {}
    }
    if webhook.auth.is_some() && !webhook.endpoint.tls {
        warnings.push("auth goes to an http endpoint: whoever is on the way reads it".to_owned());
    }
    warnings
}
