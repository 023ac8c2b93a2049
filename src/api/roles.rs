//! Who may do what: the least role for each route and method, in one place. What a role may see of a tenant is
//! [`may_see`](super::may_see)'s.

use hyper::Method;

use super::route::{Route, Spelling};
use crate::http::{Problem, ProblemCode};
use crate::model::Role;

/// Refuses who may not.
pub(super) fn authorise(role: Role, route: Route<'_>, method: &Method) -> Result<(), Problem> {
    let least = least_role(route, method);
    if role >= least {
        return Ok(());
    }
    let detail = match (role, least) {
        (Role::Publisher, _) => "a publisher may only publish events",
        (_, Role::Admin) => "only an admin may do this",
        _ => "a viewer may only read",
    };
    Err(Problem::new(ProblemCode::Forbidden, detail))
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
