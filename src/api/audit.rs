//! The audit log: who changed what, when.

use super::{Api, Call, Problem, Response};

impl Api {
    pub(super) async fn list_audit(&self, _call: &Call) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }
}
