//! Which path leads where, on which listener (API section 2).

use hyper::Method;

use crate::api::Problem;

/// What a listener answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Surface {
    /// All, as there is no other listener.
    Whole,
    /// What is for senders, beside an admin listener.
    Public,
    /// The rest.
    Admin,
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// `POST /api/v1/events`.
    Publish,
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

/// Paths are matched as they came: nothing is decoded and no dots are resolved, so no spelling reaches another route.
///
/// # Errors
/// 404, and 405 with what is allowed.
pub(super) fn route(method: &Method, path: &str, surface: Surface) -> Result<Route, Problem> {
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        return Err(Problem::method_not_allowed("GET, HEAD, POST, PUT, PATCH, DELETE"));
    }
    let is_get = matches!(*method, Method::GET | Method::HEAD);
    let readable = |route| if is_get { Ok(route) } else { Err(Problem::method_not_allowed("GET, HEAD")) };
    match path {
        "/api/v1/events" if surface == Surface::Public && *method != Method::POST => {
            Err(Problem::method_not_allowed("POST"))
        }
        "/api/v1/events" if surface == Surface::Admin && *method == Method::POST => {
            Err(Problem::method_not_allowed("GET, HEAD"))
        }
        "/api/v1/events" if *method == Method::POST => Ok(Route::Publish),
        "/health" | "/api/v1/health" => readable(Route::Health),
        "/ready" | "/api/v1/health/ready" => readable(Route::Ready),
        "/api/v1/health/live" => readable(Route::Live),
        _ if surface == Surface::Public => Err(Problem::not_found("path")),
        "/metrics" => readable(Route::Metrics),
        "/docs" => readable(Route::Document),
        _ if path.starts_with("/openapi.") || path.starts_with("/docs/") => readable(Route::Document),
        _ if path.starts_with("/api/v1/") => Ok(Route::Management),
        _ => Err(Problem::not_found("path")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_listener_has_its_routes() {
        use Route::{Document, Health, Live, Management, Metrics, Publish, Ready};
        use Surface::{Admin, Public, Whole};
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
