//! A webhook's secret, made anew.

use super::route::WebhookRef;
use super::{Api, Call, Problem, Response};

impl Api {
    pub(super) async fn regenerate_secret(&self, _call: &Call, _of: WebhookRef<'_>) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }
}
