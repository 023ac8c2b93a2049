//! Everything of a webhook that failed since a time, delivered again.

use super::route::WebhookRef;
use super::{Api, Call, Problem, Response};

impl Api {
    pub(super) async fn recover(&self, _call: &Call, _of: WebhookRef<'_>) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }
}
