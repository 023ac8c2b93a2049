//! Figures of a tenant by event type.

use hyper::StatusCode;
use serde::Serialize;

use super::page::Query;
use super::webhook_metrics::TypeView;
use super::{Api, Call, reply};
use crate::http::{Problem, Response};
use crate::model::Timestamp;

#[derive(Serialize)]
struct Stats<'a> {
    /// The beginning of the first hour that is counted.
    since: Timestamp,
    until: Timestamp,
    data: Vec<TypeView<'a>>,
}

impl Api {
    /// Parameters: `since` (whole hours, back to 24 hours ago), `tenant`.
    pub(super) async fn stats(&self, call: &Call) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let since = query.time("since")?;
        let figures = self.service.tenant_figures(&call.principal, query.tenant(), since).await?;
        let data = TypeView::all(&figures.types);
        reply::json(StatusCode::OK, &Stats { since: figures.since, until: figures.until, data })
    }
}
