//! Which path leads where, on which listener (API section 2).

use hyper::Method;

use crate::http::{Problem, Surface};
use crate::model::path::{EVENTS, WEBHOOK_WORDS};
use crate::model::{WebhookId, path};

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// `POST /api/v1/events`.
    Publish,
    /// `POST /webhook/v1/{token}`.
    Partner(&'a str),
    /// Below `/api/v1/webhooks/`: if it is the name of a source, there, else to the management.
    Source {
        /// The first part of the path.
        name: &'a str,
        /// What follows it, without the slash before it.
        path: Option<&'a str>,
    },
    /// State of the parts.
    Health,
    /// Whether requests should be sent here.
    Ready,
    /// Whether the process runs.
    Live,
    /// Figures.
    Metrics,
    /// Documents that everybody may read.
    Document,
    /// Everything else.
    Management,
}

/// Paths are matched as they came: nothing is decoded and no dots are resolved, so no spelling reaches another route. The
/// management decodes `%3A` and `%40` within what it was given, which no word that is matched here has.
///
/// # Errors
/// 404, and 405 with what is allowed.
pub(super) fn route<'a>(method: &Method, path: &'a str, surface: Surface) -> Result<Route<'a>, Problem> {
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        return Err(Problem::method_not_allowed("GET, HEAD, POST, PUT, PATCH, DELETE"));
    }
    let is_get = matches!(*method, Method::GET | Method::HEAD);
    let readable = |route| if is_get { Ok(route) } else { Err(Problem::method_not_allowed("GET, HEAD")) };
    if surface != Surface::Admin
        && let Some(inbound) = inbound(method, path)
    {
        return inbound;
    }
    match path {
        EVENTS if surface == Surface::Public && *method != Method::POST => Err(Problem::method_not_allowed("POST")),
        EVENTS if surface == Surface::Admin && *method == Method::POST => Err(Problem::method_not_allowed("GET, HEAD")),
        EVENTS if *method == Method::POST => Ok(Route::Publish),
        "/health" | "/api/v1/health" => readable(Route::Health),
        "/ready" | "/api/v1/health/ready" => readable(Route::Ready),
        "/api/v1/health/live" => readable(Route::Live),
        _ if surface == Surface::Public => Err(Problem::not_found("path")),
        "/metrics" => readable(Route::Metrics),
        "/docs" => readable(Route::Document),
        _ if path.starts_with("/openapi.") || path.starts_with("/docs/") => readable(Route::Document),
        _ if path.starts_with(path::API) => Ok(Route::Management),
        _ => Err(Problem::not_found("path")),
    }
}

/// What may be a source's.
fn inbound<'a>(method: &Method, path: &'a str) -> Option<Result<Route<'a>, Problem>> {
    if let Some(token) = path.strip_prefix(path::PARTNER) {
        let is_one = !token.is_empty() && !token.contains('/');
        return is_one.then(|| match *method {
            Method::POST => Ok(Route::Partner(token)),
            _ => Err(Problem::method_not_allowed("POST")),
        });
    }
    let rest = path.strip_prefix(path::WEBHOOKS)?.strip_prefix('/')?;
    let (name, path) = rest.split_once('/').map_or((rest, None), |(name, path)| (name, Some(path)));
    // No source has a webhook's id, and so nobody but a source is asked for when one is posted to.
    let is_webhook = name.starts_with(WebhookId::PREFIX) && (path.is_some() || *method != Method::POST);
    let is_other = name.is_empty() || WEBHOOK_WORDS.contains(&name) || is_webhook;
    (!is_other).then_some(Ok(Route::Source { name, path }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_listener_has_its_routes() {
        use Route::{Document, Health, Live, Management, Metrics, Partner, Publish, Ready};
        use Surface::{Admin, Public, Whole};
        let source = |name, path| Ok(Route::Source { name, path });
        for (method, path, surface, want) in [
            (Method::POST, "/api/v1/events", Whole, Ok(Publish)),
            (Method::GET, "/api/v1/events", Whole, Ok(Management)),
            (Method::POST, "/api/v1/events", Public, Ok(Publish)),
            (Method::GET, "/api/v1/events", Public, Err(405)),
            (Method::POST, "/api/v1/events", Admin, Err(405)),
            (Method::GET, "/api/v1/events", Admin, Ok(Management)),
            (Method::HEAD, "/health", Public, Ok(Health)),
            (Method::GET, "/api/v1/health", Admin, Ok(Health)),
            (Method::POST, "/health", Whole, Err(405)),
            (Method::GET, "/ready", Public, Ok(Ready)),
            (Method::GET, "/api/v1/health/ready", Whole, Ok(Ready)),
            (Method::GET, "/api/v1/health/live", Whole, Ok(Live)),
            (Method::GET, "/metrics", Whole, Ok(Metrics)),
            (Method::GET, "/metrics", Public, Err(404)),
            (Method::GET, "/docs/errors", Whole, Ok(Document)),
            (Method::GET, "/openapi.json", Admin, Ok(Document)),
            (Method::GET, "/openapi.json", Public, Err(404)),
            (Method::PATCH, "/api/v1/webhooks/wh_1", Whole, Ok(Management)),
            (Method::PATCH, "/api/v1/webhooks/wh_1", Public, Err(404)),
            (Method::POST, "/api/v1/webhooks/wh_1", Whole, source("wh_1", None)),
            (Method::POST, "/api/v1/webhooks/wh_1/pause", Whole, Ok(Management)),
            (Method::POST, "/webhook/v1/abc", Whole, Ok(Partner("abc"))),
            (Method::POST, "/webhook/v1/abc", Public, Ok(Partner("abc"))),
            (Method::POST, "/webhook/v1/abc", Admin, Err(404)),
            (Method::GET, "/webhook/v1/abc", Whole, Err(405)),
            (Method::POST, "/webhook/v1/", Whole, Err(404)),
            (Method::POST, "/webhook/v1/a/b", Whole, Err(404)),
            (Method::POST, "/api/v1/webhooks/stripe", Whole, source("stripe", None)),
            (Method::GET, "/api/v1/webhooks/meta", Public, source("meta", None)),
            (Method::POST, "/api/v1/webhooks/shopify/orders/create", Public, source("shopify", Some("orders/create"))),
            (Method::POST, "/api/v1/webhooks/src_1", Whole, source("src_1", None)),
            (Method::POST, "/api/v1/webhooks/stripe", Admin, Ok(Management)),
            (Method::GET, "/api/v1/webhooks/events", Whole, Ok(Management)),
            (Method::GET, "/api/v1/webhooks/deliveries", Public, Err(404)),
            (Method::GET, "/api/v1/webhooks/", Whole, Ok(Management)),
            (Method::POST, "/api/v1/webhooks", Whole, Ok(Management)),
            (Method::TRACE, "/health", Whole, Err(405)),
            (Method::CONNECT, "", Whole, Err(405)),
            (Method::GET, "/", Whole, Err(404)),
            (Method::GET, "//health", Whole, Err(404)),
            (Method::GET, "/../health", Whole, Err(404)),
            (Method::GET, "/%68ealth", Whole, Err(404)),
            (Method::POST, "/api/v1/events/", Whole, Ok(Management)),
            (Method::OPTIONS, "*", Whole, Err(404)),
        ] {
            let got = route(&method, path, surface).map_err(|problem| problem.code.status().as_u16());
            assert_eq!(got, want, "{method} {path} on {surface:?}");
        }
    }
}
