//! Lists of deliveries: of a webhook, and of all that the caller may see.

use std::sync::Arc;

use super::delivery::View;
use super::page::Query;
use super::route::WebhookRef;
use super::search::{Filters, Search};
use super::{Api, Call, Problem, Response, reply};
use crate::limits::CHECKPOINT_LIST_MAX;
use crate::model::{DeliveryId, WebhookNo};
use crate::registry::Known;
use crate::settle::Wanted;

impl Api {
    /// Filters: `status`, `event_type` or `type`, `event_id`, `since`, `until`, `q`.
    pub(super) async fn list_deliveries(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        let webhook = self.known(&call.principal, of)?.no();
        self.page_of_deliveries(&Query::of(&call.parts.uri), Some(webhook), [webhook].into()).await
    }

    /// The same, and `webhook_id`, `tenant`.
    pub(super) async fn list_all_deliveries(&self, call: &Call) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let webhooks = self.scope(call, &query)?;
        self.page_of_deliveries(&query, None, webhooks).await
    }

    async fn page_of_deliveries(
        &self,
        query: &Query,
        webhook: Option<WebhookNo>,
        webhooks: Arc<[WebhookNo]>,
    ) -> Result<Response, Problem> {
        let page = query.page()?;
        let mut wanted = Wanted::all(webhooks);
        wanted.before = query.cursor::<DeliveryId>()?.unwrap_or(Wanted::END);
        let filters = Filters::of(query)?;
        let waiting = self.deliveries.sync(webhook, None, CHECKPOINT_LIST_MAX).await?;
        let mut waiting: Vec<_> = waiting.into_iter().map(|(event, webhook)| DeliveryId { event, webhook }).collect();
        waiting.sort_unstable_by(|one, other| other.cmp(one));
        let rows = page.wanted();
        let found = self
            .read(move |store, log| Search { store, log, filters: &filters, rows }.deliveries(wanted, &waiting))
            .await?;
        let (rows, more) = page.cut(found.rows);
        let cursor = if more { rows.last().map(|(row, _)| row.id) } else { found.next };
        let rows = self.with_heads(rows, |row| row.id.event).await?;
        let registry = self.registry.load();
        let view = |(row, about): &(super::Delivery, _)| {
            let known = registry.known(row.id.webhook)?;
            Some(View::of(row, Known::id(known), Option::as_ref(about)))
        };
        let rows: Vec<_> = rows.iter().filter_map(view).collect();
        reply::list(&rows, cursor.map(|place| query.next(&place)).as_ref())
    }
}
