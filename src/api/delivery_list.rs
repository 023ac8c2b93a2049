//! Deliveries of all webhooks of a tenant; one of them tried again.

use super::{Api, Call, Problem, Response};
use crate::model::DeliveryId;

impl Api {
    pub(super) async fn list_all_deliveries(&self, _call: &Call) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }

    pub(super) async fn retry_delivery(&self, _call: &Call, _id: DeliveryId) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }
}
