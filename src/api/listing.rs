//! What lists of deliveries and of dead letters have in common: what their path and their query ask for, and the answer.

use super::page::{Page, Query};
use super::search::{About, Filters, Found, Heads};
use super::{Api, Call, reply};
use crate::http::{Problem, Response};
use crate::model::{DeliveryId, WebhookId, WebhookNo};
use crate::service::{DeliveryStore, WebhookRef};
use crate::settle::Wanted;
use crate::storage::ReadLog;

/// What is asked for.
pub(super) struct Listing {
    pub(super) part: Part,
    /// The only webhook, if the path names one.
    pub(super) webhook: Option<WebhookNo>,
    pub(super) wanted: Wanted,
    pub(super) filters: Filters,
}

/// Which part of a list.
pub(super) struct Part {
    query: Query,
    page: Page,
}

impl Part {
    /// Rows to find.
    pub(super) fn rows(&self) -> usize {
        self.page.wanted()
    }
}

impl Api {
    /// A list over one webhook's, or over all that the caller may see.
    pub(super) fn listing(&self, call: &Call, of: Option<WebhookRef<'_>>) -> Result<Listing, Problem> {
        let query = Query::of(&call.parts.uri);
        let webhook = of.map(|of| self.service.known(&call.principal, of)).transpose()?.map(|known| known.no());
        let mut wanted = Wanted::all(match webhook {
            Some(webhook) => [webhook].into(),
            None => self.scope(call, &query)?,
        });
        let page = query.page()?;
        wanted.before = query.cursor::<DeliveryId>()?.unwrap_or(Wanted::END);
        let filters = Filters::of(&query)?;
        Ok(Listing { part: Part { query, page }, webhook, wanted, filters })
    }

    /// The page of what was found, each row as its webhook and its event make it appear.
    pub(super) async fn listed<T: Send + 'static, V: serde::Serialize>(
        &self,
        Part { query, page }: Part,
        found: Found<T>,
        id: fn(&T) -> DeliveryId,
        view: impl Fn(T, WebhookId, Option<About>) -> V,
    ) -> Result<Response, Problem> {
        let (mut rows, more) = page.cut(found.rows);
        let cursor = if more { rows.last().map(|(row, _)| id(row)) } else { found.next };
        let with_heads = move |_: &dyn DeliveryStore, log: &dyn ReadLog| {
            Heads::new(log).fill(&mut rows, |row| id(row).event)?;
            Ok(rows)
        };
        let rows = self.read(with_heads).await?;
        let registry = self.service.registry.load();
        let shown = |(row, about): (T, _)| {
            let webhook = registry.known(id(&row).webhook)?.id();
            Some(view(row, webhook, about))
        };
        let rows: Vec<_> = rows.into_iter().filter_map(shown).collect();
        reply::list(&rows, cursor.map(|place| query.next(&place)).as_ref())
    }
}
