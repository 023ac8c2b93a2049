//! A filter tried on an event.

use super::{Api, Call, Problem, Response};

impl Api {
    pub(super) async fn test_filter(&self, _call: &Call) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }
}
