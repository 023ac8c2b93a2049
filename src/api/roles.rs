//! The least role for each route and method, checked before anything else of a request is looked at. Each operation of the
//! service checks the role again.

use hyper::Method;

use super::route::{Route, Spelling};
use crate::http::Problem;
use crate::model::Role;
use crate::service::access;

/// Refuses who may not.
pub(super) fn authorise(role: Role, route: Route<'_>, method: &Method) -> Result<(), Problem> {
    Ok(access::authorise(role, least_role(route, method))?)
}

/// The least role that may. Of tenants, only a key of tenant `*` may make one; that is not a matter of roles.
fn least_role(route: Route<'_>, method: &Method) -> Role {
    let is_read = method == Method::GET;
    match route {
        // Who else may come in, and who did what.
        Route::Keys | Route::Key(_) | Route::Audit => Role::Admin,
        // What holds for the whole tenant.
        Route::Tenants | Route::EventTypes(Spelling::EventTypes) | Route::EventType(_) if !is_read => Role::Admin,
        // It changes nothing; it is a POST because of its body.
        Route::FilterTest => Role::Viewer,
        _ if is_read => Role::Viewer,
        _ => Role::Member,
    }
}
