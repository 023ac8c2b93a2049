//! `?dry_run=true`: what a change of a webhook would come to, without making it.

use hyper::StatusCode;
use serde_json::{Map, Value};

use super::page::Query;
use super::webhook_view::View;
use super::{Api, Call, reply};
use crate::http::{Problem, ProblemCode, Response};
use crate::model::{RetryPolicy, Timestamp, WebhookId, WebhookNo};
use crate::outbound::{Webhook, WebhookSettings};

/// What a webhook that is not made yet does not have.
const MADE: [&str; 4] = ["id", "created_at", "updated_at", "secret_hint"];

/// Whether the caller wants to see what would come of it, and no more.
pub(super) fn is_dry_run(call: &Call) -> Result<bool, Problem> {
    Query::of(&call.parts.uri).parse("dry_run", "expected true or false").map(Option::unwrap_or_default)
}

impl Api {
    /// A webhook as it would be, and which of its fields would be others. `old` is the one that it would replace.
    pub(super) fn preview(&self, old: Option<&Webhook>, settings: WebhookSettings) -> Result<Response, Problem> {
        let new = if let Some(old) = old {
            let (created_at, updated_at) = (old.created_at, old.updated_at);
            Webhook { no: old.no, id: old.id, settings, created_at, updated_at, version: old.version }
        } else {
            let (created_at, updated_at) = (Timestamp::default(), Timestamp::default());
            let (no, id) = (WebhookNo(u32::MAX), WebhookId::from_u128(0));
            Webhook { no, id, settings, created_at, updated_at, version: 0 }
        };
        let mut shown = fields(&new, &self.service.default_retry)?;
        let changed = if let Some(old) = old {
            changed(&fields(old, &self.service.default_retry)?, &shown, old, &new)
        } else {
            shown.retain(|name, _| !MADE.contains(&name.as_str()));
            shown.keys().cloned().collect()
        };
        shown.insert("changed".to_owned(), changed.into());
        reply::json(StatusCode::OK, &shown)
    }
}

/// The names of the fields that differ. Of what is hidden the values count, not what is shown of them.
fn changed(before: &Map<String, Value>, after: &Map<String, Value>, old: &Webhook, new: &Webhook) -> Vec<String> {
    let is_other = |name: &str| match name {
        "headers" => old.headers != new.headers,
        "auth" => old.auth != new.auth,
        "tls" => old.tls.as_ref().map(|tls| tls.settings()) != new.tls.as_ref().map(|tls| tls.settings()),
        _ => false,
    };
    let differs = |name: &String| before.get(name) != after.get(name) || is_other(name);
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    after.keys().chain(gone).filter(|name| differs(name)).cloned().collect()
}

fn fields(webhook: &Webhook, default_retry: &RetryPolicy) -> Result<Map<String, Value>, Problem> {
    match serde_json::to_value(View::of(webhook, default_retry)) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => Err(Problem::new(ProblemCode::Internal, "the answer could not be written")),
    }
}
