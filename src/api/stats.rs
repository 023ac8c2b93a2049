//! Figures of a tenant by event type.

use super::{Api, Call, Problem, Response};

impl Api {
    pub(super) async fn stats(&self, _call: &Call) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }
}
