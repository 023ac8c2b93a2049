//! Tests a filter, or all rules of a webhook, on an event.

use hyper::StatusCode;
use serde::Serialize;

use super::{Api, ManagementRequest, body, reply};
use crate::filter::RuleResult;
use crate::http::{Problem, Response};
use crate::json::Pointer;

/// Whether the event matches, and the verdict of each rule.
#[derive(Serialize)]
struct View<'a> {
    matches: bool,
    rules: &'a [RuleResult<'a>],
}

impl Api {
    /// Body: `{"filter":{…}}` or `{"webhook_id":"…"}`, with `{"event":{…}}` or `{"event_id":"…"}`.
    pub(super) async fn test_filter(&self, request: &ManagementRequest) -> Result<Response, Problem> {
        let document = body::sample(&request.parts.headers, &request.body, false)?;
        let event = Pointer::try_new("/event").ok().and_then(|event| event.find(&request.body));
        let found = self.service.test_filter(&request.principal, document, event).await?;
        reply::json(StatusCode::OK, &View { matches: found.matches, rules: &found.rules })
    }
}
