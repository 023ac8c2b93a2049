//! Query parameters, and the pages of lists: `limit`, and `cursor` or `page`. Lists are newest first.

use std::str::FromStr;

use hyper::Uri;
use serde::Serialize;
use url::form_urlencoded;

use crate::http::reply::{self, NextPage};
use crate::http::{Problem, ProblemCode, Response};
use crate::limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, PAGE_SCAN_MAX};
use crate::model::Timestamp;
use crate::service::ListPage;
pub(super) use crate::service::PageRequest;

/// The parameters that must not be empty. `q` and `cursor` may be empty, because a form or a loop may send them without a
/// value.
const NON_EMPTY_PARAMETERS: [&str; 28] = [
    "action",
    "actor",
    "category",
    "deleted",
    "deprecated",
    "dry_run",
    "event_id",
    "event_type",
    "external_id",
    "failure_reason",
    "is_active",
    "kind",
    "limit",
    "org_id",
    "page",
    "resource_id",
    "role",
    "since",
    "source",
    "status",
    "target",
    "tenant",
    "type",
    "uid",
    "until",
    "user_id",
    "webhook_id",
    "workspace_id",
];

/// The query parameters of a request.
#[derive(Debug)]
pub(super) struct Query {
    path: String,
    pairs: Vec<(String, String)>,
}

impl Query {
    /// The response with a page of a list. `view` converts each row.
    pub(super) fn rows<'r, T, C: ToString, V: Serialize>(
        &self,
        found: &'r ListPage<T, C>,
        view: impl FnMut(&'r T) -> V,
    ) -> Result<Response, Problem> {
        let shown: Vec<_> = found.rows.iter().map(view).collect();
        reply::list(&shown, found.next.as_ref().map(|place| self.next(place)).as_ref())
    }

    /// Decodes the query of a URI.
    pub(super) fn of(uri: &Uri) -> Self {
        let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        Self { path: uri.path().to_owned(), pairs }
    }

    /// Refuses empty parameters. An empty filter must not widen a list to everything.
    ///
    /// # Errors
    /// 400 for the first empty parameter.
    pub(super) fn reject_empty(&self) -> Result<(), Problem> {
        match self.pairs.iter().find(|(key, value)| value.is_empty() && NON_EMPTY_PARAMETERS.contains(&key.as_str())) {
            None => Ok(()),
            Some((key, _)) => {
                Err(Problem::new(ProblemCode::InvalidRequest, format!("query parameter {key}: expected a value")))
            }
        }
    }

    /// The value of a parameter. `None` if it is missing or empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| &**value)
    }

    /// The parameter `tenant` or `org_id`.
    pub(super) fn tenant(&self) -> Option<&str> {
        self.get("tenant").or_else(|| self.get("org_id"))
    }

    /// Parses a parameter. `None` if it is missing or empty.
    ///
    /// # Errors
    /// 400 with the text `allowed` for an invalid value.
    pub(super) fn parse<T: FromStr>(&self, name: &str, allowed: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Problem::new(ProblemCode::InvalidRequest, format!("query parameter {name}: {allowed}"))),
        }
    }

    /// Parses a parameter as an RFC 3339 time.
    ///
    /// # Errors
    /// 400 for an invalid time.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        self.parse(name, "expected an RFC 3339 time such as 2026-01-31T12:00:00Z")
    }

    /// Parses the parameter `cursor`, which is the id of the last row of the previous page.
    ///
    /// # Errors
    /// 400 for an invalid cursor.
    pub(super) fn cursor<T: FromStr>(&self) -> Result<Option<T>, Problem> {
        self.parse("cursor", "expected what a list gave as next_cursor")
    }

    /// Parses the parameters `limit` and `page`.
    ///
    /// # Errors
    /// 400 for a value out of range, and for `page` together with `cursor`.
    pub(super) fn page(&self) -> Result<PageRequest, Problem> {
        let bad = |detail: String| Problem::new(ProblemCode::InvalidRequest, detail);
        let allowed = format!("expected 1 to {PAGE_ROWS_MAX}");
        let limit = self.parse("limit", &allowed)?.unwrap_or(PAGE_ROWS_DEFAULT);
        if !(1..=PAGE_ROWS_MAX).contains(&limit) {
            return Err(bad(format!("query parameter limit: {allowed}")));
        }
        let Some(page) = self.parse::<usize>("page", "expected a number from 1")? else {
            return Ok(PageRequest { limit, skip: 0 });
        };
        if self.get("cursor").is_some() {
            return Err(bad("query parameters page and cursor exclude each other".to_owned()));
        }
        if page == 0 || page.saturating_mul(limit) > PAGE_SCAN_MAX {
            return Err(bad(format!("query parameter page: expected 1 to {}", PAGE_SCAN_MAX / limit)));
        }
        Ok(PageRequest { limit, skip: (page - 1) * limit })
    }

    /// The link to the page after the row with this id.
    pub(super) fn next(&self, id: &impl ToString) -> NextPage {
        let cursor = id.to_string();
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (key, value) in self.pairs.iter().filter(|(key, _)| key != "cursor" && key != "page") {
            query.append_pair(key, value);
        }
        query.append_pair("cursor", &cursor);
        NextPage { link: format!("{}?{}", self.path, query.finish()), cursor }
    }
}
