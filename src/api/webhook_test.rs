//! A test delivery, with its attempt in the answer.

use super::route::WebhookRef;
use super::{Api, Call, Problem, Response};

impl Api {
    pub(super) async fn test_webhook(&self, _call: &Call, _of: WebhookRef<'_>) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }
}
