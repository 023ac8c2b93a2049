//! Delivery statistics of a tenant by event type.

use hyper::StatusCode;
use serde::Serialize;

use super::page::Query;
use super::webhook_metrics::TypeView;
use super::{Api, ManagementRequest, reply};
use crate::http::{Problem, Response};
use crate::model::Timestamp;

#[derive(Serialize)]
struct StatsView<'a> {
    /// The start of the first counted hour.
    since: Timestamp,
    until: Timestamp,
    data: Vec<TypeView<'a>>,
}

impl Api {
    /// Returns the statistics. Parameters: `since` (whole hours, back to 24 hours ago), `tenant`.
    pub(super) async fn stats(&self, request: &ManagementRequest) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let since = query.time("since")?;
        let stats = self.service.tenant_statistics(&request.principal, query.tenant(), since).await?;
        let data = TypeView::all(&stats.types);
        reply::json(StatusCode::OK, &StatsView { since: stats.since, until: stats.until, data })
    }
}
