//! Tenants: list, make.

use super::{Api, Call, Problem, Response};

impl Api {
    pub(super) async fn create_tenant(&self, _call: &Call) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }

    pub(super) fn list_tenants(&self, _call: &Call) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }
}
