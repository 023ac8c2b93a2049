//! API keys: make, list, revoke.

use super::{Api, Call, Problem, Response};
use crate::model::KeyId;

impl Api {
    pub(super) async fn create_key(&self, _call: &Call) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }

    pub(super) fn list_keys(&self, _call: &Call) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }

    pub(super) fn read_key(&self, _call: &Call, _id: KeyId) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }

    pub(super) async fn revoke_key(&self, _call: &Call, _id: KeyId) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }
}
