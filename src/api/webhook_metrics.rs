//! Figures of a webhook.

use super::route::WebhookRef;
use super::{Api, Call, Problem, Response};

impl Api {
    pub(super) async fn webhook_metrics(&self, _call: &Call, _of: WebhookRef<'_>) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }
}
