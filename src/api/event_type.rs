//! Event types: the catalogue.

use super::{Api, Call, Problem, Response};

impl Api {
    pub(super) async fn create_event_type(&self, _call: &Call) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }

    pub(super) fn list_event_types(&self, _call: &Call) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }

    pub(super) fn read_event_type(&self, _call: &Call, _name: &str) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }

    pub(super) async fn put_event_type(&self, _call: &Call, _name: &str) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }

    pub(super) async fn delete_event_type(&self, _call: &Call, _name: &str) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }
}
