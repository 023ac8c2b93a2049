//! A webhook's secret, made anew.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{ETAG, IF_MATCH};
use serde::Serialize;

use super::route::WebhookRef;
use super::webhook_fields::{Fields, Given};
use super::webhook_keys::new_secret;
use super::webhook_view::{View, etag};
use super::{Api, Call, Made, body, reply};
use crate::http::{Problem, ProblemCode, Response};
use crate::limits::{CHANGE_TRIES, SECRET_OVERLAP_DEFAULT, SECRET_OVERLAP_MAX};
use crate::model::{Secret, Timestamp};
use crate::outbound::{SigningKeys, Webhook, WebhookSettings};
use crate::registry::ChangeError;

/// The answer: the webhook, and its new secret, shown this once.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    webhook: View<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
}

impl Api {
    /// `{"overlap_seconds"?, "secret"?, "key_type"?}`: the secret before signs beside the new one until the overlap ends; one
    /// before that ends now.
    pub(super) async fn regenerate_secret(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        let webhook = self.live(&call.principal, of)?;
        let mut fields = Fields::new(body::object(&call.parts.headers, &call.body, true)?);
        let overlap = match fields.whole("overlap_seconds", 0..=SECRET_OVERLAP_MAX.as_secs()) {
            Given::Value(seconds) => Duration::from_secs(seconds),
            Given::Absent | Given::Null => SECRET_OVERLAP_DEFAULT,
        };
        let wanted = new_secret(&mut fields);
        let fresh = wanted.map(|wanted| wanted.like(&webhook.keys.current).key(&webhook.profile));
        let key = match fresh {
            Some(Ok(key)) if key.secret == webhook.keys.current.secret => {
                fields.wrong("/secret", "is the present secret; give another one, or none to have one made");
                None
            }
            Some(Ok(key)) => Some(key),
            // The body has no such field.
            Some(Err(("/profile", error))) => return Err(Problem::new(ProblemCode::Conflict, error.to_string())),
            Some(Err((field, error))) => {
                fields.wrong(field, error.to_string());
                None
            }
            None => None,
        };
        fields.finish("overlap_seconds, secret, key_type")?;
        reply::matches(&call.parts.headers, &etag(&webhook))?;
        let Some(key) = key else { return Err(Problem::new(ProblemCode::Internal, "no secret was made")) };
        let secret = key.secret;

        let (writer, clock, registry) = (self.writer.by(&call.principal), self.clock.clone(), self.registry.clone());
        let (no, default_retry) = (webhook.no, self.default_retry.clone());
        let version = call.parts.headers.contains_key(IF_MATCH).then_some(webhook.version);
        let make = async move {
            for _ in 0..CHANGE_TRIES {
                let found = registry.load().webhook(no).cloned();
                let webhook = found.ok_or_else(|| Problem::not_found("webhook"))?;
                let settings = replaced(&webhook, &secret, overlap, clock.now())?;
                let changed = writer.replace(no, version.unwrap_or(webhook.version), settings).await;
                match changed {
                    Err(ChangeError::Changed) if version.is_none() => {}
                    changed => {
                        let webhook = changed?;
                        let answer = |secret| {
                            let told = Told { webhook: View::of(&webhook, &default_retry), secret };
                            let mut response = reply::json(StatusCode::OK, &told)?;
                            reply::set(&mut response, ETAG, &etag(&webhook));
                            Ok::<_, Problem>(response)
                        };
                        return Ok(Made { answer: answer(Some(secret.reveal()))?, remembered: answer(None)? });
                    }
                }
            }
            Err::<Made, Problem>(ChangeError::Changed.into())
        };
        self.make(call, make).await
    }
}

/// The webhook's settings with another secret; its profile may have changed since that was made.
fn replaced(webhook: &Webhook, secret: &Secret, overlap: Duration, now: Timestamp) -> Result<WebhookSettings, Problem> {
    let key = webhook.profile.key(secret.clone());
    let key = key.map_err(|error| Problem::new(ProblemCode::Conflict, error.to_string()))?;
    let previous = (!overlap.is_zero()).then(|| (Arc::clone(&webhook.keys.current), now.plus(overlap)));
    let keys = SigningKeys { current: Arc::new(key), previous };
    Ok(WebhookSettings { keys, ..webhook.settings.clone() })
}
