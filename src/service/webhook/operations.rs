//! Webhooks: create, read, change, delete, pause, resume, preview.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::preview::WebhookPreview;
use super::settings::{Purpose, SettingsContext, read};
use super::{type_warnings, unknown_types};
use crate::limits::CHANGE_ATTEMPTS_MAX;
use crate::model::{EndpointPause, EndpointState, Principal, Timestamp, WebhookStatus};
use crate::outbound::{Webhook, WebhookSettings};
use crate::registry::ChangeError;
use crate::service::stored_response::changed_webhook;
use crate::service::{Error, ErrorKind, ExpectedVersion, Operation, ResponseRecorder, Service, WebhookRef};

/// A validated webhook, ready to be created.
#[derive(Debug)]
pub struct WebhookDraft {
    settings: WebhookSettings,
    by: Principal,
}

/// A webhook that was created or changed.
#[derive(Debug, Clone)]
pub struct SavedWebhook {
    /// The current webhook.
    pub webhook: Arc<Webhook>,
    /// Warnings about settings that are valid but probably not intended.
    pub warnings: Vec<String>,
}

/// Options of a change of a webhook.
#[derive(Debug, Default)]
struct ChangeOptions {
    /// Whether the change also ends the pause of the endpoint.
    lifts_pause: bool,
    /// Stores the response for repeated requests, also if nothing changes.
    record: Option<ResponseRecorder<SavedWebhook>>,
}

impl Service {
    /// Validates the document of a new webhook.
    ///
    /// # Errors
    /// If the role is too low. Invalid fields are listed by JSON pointer.
    pub fn draft_webhook(&self, principal: &Principal, document: Map<String, Value>) -> Result<WebhookDraft, Error> {
        Operation::CreateWebhook.permit(principal.role)?;
        let settings = read(document, Purpose::Create, &self.rules(principal))?;
        unknown_types(&self.registry.load(), None, &settings)?;
        Ok(WebhookDraft { settings, by: principal.clone() })
    }

    /// Creates a webhook. The keys of the result contain its secret.
    ///
    /// `record` stores the response for repeated requests.
    ///
    /// # Errors
    /// If the uid is taken, or the registry accepts no changes.
    pub async fn create_webhook(
        &self,
        draft: WebhookDraft,
        record: Option<ResponseRecorder<SavedWebhook>>,
    ) -> Result<SavedWebhook, Error> {
        let WebhookDraft { settings, by } = draft;
        let of_types = type_warnings(&self.registry.load(), &settings);
        let warned = of_types.clone();
        let answer = record
            .map(|record| record.of_change(move |changed| Some(written(changed_webhook(changed)?, warned.clone()))));
        let webhook = self.writer.on_behalf_of(&by).recording(answer).create(settings).await?;
        Ok(written(webhook, of_types))
    }

    /// Previews the webhook that [`create_webhook`](Self::create_webhook) would create.
    ///
    /// # Errors
    /// Only internal errors.
    pub fn preview_new(&self, draft: WebhookDraft) -> Result<WebhookPreview, Error> {
        WebhookPreview::of(None, draft.settings, &self.default_retry)
    }

    /// Reads a webhook.
    ///
    /// # Errors
    /// If the role is too low, or the webhook does not exist for the caller.
    pub fn read_webhook(&self, principal: &Principal, of: WebhookRef<'_>) -> Result<Arc<Webhook>, Error> {
        Operation::ReadWebhook.permit(principal.role)?;
        self.live_webhook(principal, of)
    }

    /// Checks whether a webhook exists for the caller, who may change it.
    ///
    /// # Errors
    /// If the role is too low, or the webhook does not exist for the caller.
    pub fn may_change_webhook(&self, principal: &Principal, of: WebhookRef<'_>) -> Result<(), Error> {
        Operation::ChangeWebhook.permit(principal.role)?;
        self.live_webhook(principal, of).map(drop)
    }

    /// Replaces a webhook. Fields that the document omits return to their defaults, except secret, status, owner and
    /// uid.
    ///
    /// # Errors
    /// If the role is too low, a field is invalid, the webhook does not exist, or its version is not the expected one.
    pub async fn replace_webhook(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        document: Map<String, Value>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<SavedWebhook, Error> {
        let rules = self.rules(principal);
        let replace = |webhook: &Webhook| {
            let settings = read(document.clone(), Purpose::Replace(webhook), &rules)?;
            self.known_types(webhook, settings).map(Some)
        };
        self.change_webhook(principal, of, expected, replace).await
    }

    /// Previews the webhook after [`replace_webhook`](Self::replace_webhook).
    ///
    /// # Errors
    /// If the role is too low, a field is invalid, or the webhook does not exist.
    pub fn preview_replacement(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        document: Map<String, Value>,
    ) -> Result<WebhookPreview, Error> {
        Operation::ChangeWebhook.permit(principal.role)?;
        let webhook = self.live_webhook(principal, of)?;
        let settings = read(document, Purpose::Replace(&webhook), &self.rules(principal))?;
        let settings = self.known_types(&webhook, settings)?;
        WebhookPreview::of(Some(&webhook), settings, &self.default_retry)
    }

    /// Changes the fields that the document names (RFC 7396).
    ///
    /// # Errors
    /// If the role is too low, a field is invalid, the webhook does not exist, or its version is not the expected one.
    pub async fn patch_webhook(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        document: Map<String, Value>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<SavedWebhook, Error> {
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
    /// If the role is too low, the webhook does not exist, or its version is not the expected one.
    pub async fn delete_webhook(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<(), Error> {
        Operation::DeleteWebhook.permit(principal.role)?;
        let webhook = self.live_webhook(principal, of)?;
        let version = ExpectedVersion::bind(expected, webhook.version)?;
        match self.writer.on_behalf_of(principal).remove(webhook.no, version).await {
            Err(ChangeError::Changed) => Err(Error::changed_meanwhile()),
            removed => Ok(removed?),
        }
    }

    /// Pauses a webhook: its deliveries wait. A paused webhook is not changed.
    ///
    /// `record` stores the response for repeated requests.
    ///
    /// # Errors
    /// If the role is too low, the webhook is neither active nor paused, does not exist, or its version is not the
    /// expected one.
    pub async fn pause_webhook(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        expected: Option<&ExpectedVersion>,
        record: Option<ResponseRecorder<SavedWebhook>>,
    ) -> Result<SavedWebhook, Error> {
        let pause = |webhook: &Webhook| match webhook.status {
            WebhookStatus::Active => {
                Ok(Some(WebhookSettings { status: WebhookStatus::Paused, ..webhook.settings.clone() }))
            }
            WebhookStatus::Paused => Ok(None),
            WebhookStatus::Inactive | WebhookStatus::Failed => {
                Err(Error::new(ErrorKind::Conflict, "only an active webhook can be paused; resume it first"))
            }
        };
        let how = ChangeOptions { lifts_pause: false, record };
        self.change_webhook_with(principal, of, expected, pause, how).await
    }

    /// Makes a webhook active, whatever its status was, and ends the pause and the circuit breaker of its endpoint.
    ///
    /// `record` stores the response for repeated requests.
    ///
    /// # Errors
    /// If the role is too low, the webhook does not exist, or its version is not the expected one.
    pub async fn resume_webhook(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        expected: Option<&ExpectedVersion>,
        record: Option<ResponseRecorder<SavedWebhook>>,
    ) -> Result<SavedWebhook, Error> {
        let resume = |webhook: &Webhook| {
            let stays = webhook.status == WebhookStatus::Active && self.endpoint_state(webhook).is_none();
            Ok((!stays).then(|| WebhookSettings { status: WebhookStatus::Active, ..webhook.settings.clone() }))
        };
        let how = ChangeOptions { lifts_pause: true, record };
        self.change_webhook_with(principal, of, expected, resume, how).await
    }

    /// The state of a webhook's endpoint. `None`: neither paused nor failing.
    pub(in crate::service) fn endpoint_state(&self, webhook: &Webhook) -> Option<EndpointState> {
        let state = self.statistics.endpoint_state(webhook.no)?;
        (state.address_version == webhook.address_version).then_some(state)
    }

    /// The pause of a webhook's endpoint, with its end by the wall clock.
    pub fn pause_of(&self, webhook: &Webhook) -> Option<EndpointPause> {
        let (now, steady) = (self.clock.now().as_millis(), self.clock.steady().as_millis());
        let pause = self.endpoint_state(webhook)?.pause_at(Timestamp::from_millis(steady))?;
        // Two clocks that agree are read one after the other.
        let offset = Some(now - steady).filter(|offset| offset.abs() > 5).unwrap_or_default();
        Some(EndpointPause { until: Timestamp::from_millis(pause.until.as_millis().saturating_add(offset)), ..pause })
    }

    /// Changes a webhook. `change` returns the new settings, or `None` for no change. After a concurrent change the
    /// call is repeated, unless the caller expects a version.
    async fn change_webhook(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        expected: Option<&ExpectedVersion>,
        change: impl Fn(&Webhook) -> Result<Option<WebhookSettings>, Error>,
    ) -> Result<SavedWebhook, Error> {
        self.change_webhook_with(principal, of, expected, change, ChangeOptions::default()).await
    }

    /// Like [`Self::change_webhook`], with options.
    async fn change_webhook_with(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        expected: Option<&ExpectedVersion>,
        change: impl Fn(&Webhook) -> Result<Option<WebhookSettings>, Error>,
        ChangeOptions { lifts_pause, record }: ChangeOptions,
    ) -> Result<SavedWebhook, Error> {
        Operation::ChangeWebhook.permit(principal.role)?;
        for _ in 0..CHANGE_ATTEMPTS_MAX {
            let webhook = self.live_webhook(principal, of)?;
            // An invalid request is refused before its precondition is checked (RFC 9110, section 13.2.1).
            let settings = change(&webhook)?;
            ExpectedVersion::bind(expected, webhook.version)?;
            let (no, version) = (webhook.no, webhook.version);
            let warned = type_warnings(&self.registry.load(), &webhook);
            let answer = record.clone().map(|record| {
                record.of_change(move |changed| Some(written(changed_webhook(changed)?, warned.clone())))
            });
            let is_recorded = answer.is_some();
            let writer = self.writer.on_behalf_of(principal).recording(answer);
            let changed = match settings {
                None if is_recorded => writer.keep(no, version).await,
                None => Ok(webhook),
                Some(settings) if lifts_pause => writer.resume(no, version, settings).await,
                Some(settings) => writer.replace(no, version, settings).await,
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

    /// Returns the settings if the catalogue accepts the event types that they add.
    fn known_types(&self, webhook: &Webhook, settings: WebhookSettings) -> Result<WebhookSettings, Error> {
        unknown_types(&self.registry.load(), Some(&webhook.settings), &settings).map(|()| settings)
    }

    fn rules<'a>(&'a self, principal: &'a Principal) -> SettingsContext<'a> {
        let registry = self.registry.load_full();
        SettingsContext { check_url: &self.check_url, default_retry: &self.default_retry, principal, registry }
    }
}

fn written(webhook: Arc<Webhook>, of_types: Vec<String>) -> SavedWebhook {
    let warnings = warnings(&webhook).into_iter().chain(of_types).collect();
    SavedWebhook { webhook, warnings }
}

/// Warnings about settings that are valid but probably not intended.
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
