//! A filter, or all that a webhook asks for, tried on an event.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Api, Call, body, reply};
use crate::filter::Verdict;
use crate::http::{Problem, Response};

/// Whether the event passes, and what each rule says.
#[derive(Serialize)]
struct View<'a> {
    matches: bool,
    rules: &'a [Verdict<'a>],
}

impl Api {
    /// `{"filter":{…}}` or `{"webhook_id":"…"}`, with `{"event":{…}}` or `{"event_id":"…"}`.
    pub(super) async fn test_filter(&self, call: &Call) -> Result<Response, Problem> {
        let document = body::object(&call.parts.headers, &call.body, false)?;
        let texts: BTreeMap<String, &RawValue> = serde_json::from_slice(&call.body).unwrap_or_default();
        let event = texts.get("event").copied();
        let found = self.service.test_filter(&call.principal, document, event).await?;
        reply::json(StatusCode::OK, &View { matches: found.matches, rules: &found.rules })
    }
}
