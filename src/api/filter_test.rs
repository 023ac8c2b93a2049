//! Tests a filter, or all rules of a webhook, on an event.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Api, ManagementRequest, body, reply};
use crate::filter::RuleResult;
use crate::http::{Problem, Response};

/// Whether the event matches, and the verdict of each rule.
#[derive(Serialize)]
struct View<'a> {
    matches: bool,
    rules: &'a [RuleResult<'a>],
}

impl Api {
    /// Body: `{"filter":{…}}` or `{"webhook_id":"…"}`, with `{"event":{…}}` or `{"event_id":"…"}`.
    pub(super) async fn test_filter(&self, request: &ManagementRequest) -> Result<Response, Problem> {
        let document = body::object(&request.parts.headers, &request.body, false)?;
        let texts: BTreeMap<String, &RawValue> = serde_json::from_slice(&request.body).unwrap_or_default();
        let event = texts.get("event").copied();
        let found = self.service.test_filter(&request.principal, document, event).await?;
        reply::json(StatusCode::OK, &View { matches: found.matches, rules: &found.rules })
    }
}
