//! Authenticates the caller: the bearer of an API key or a token, or the user that a trusted proxy names.

use std::net::IpAddr;

use super::worker::Worker;
use super::{Management, RegistryReader};
use crate::auth::ForwardedIdentity;
use crate::http::request::{RequestHead, unauthenticated};
use crate::http::{Problem, ProblemCode};
use crate::ingest::Submit;
use crate::model::Principal;

impl<D: RegistryReader, S: Submit, M: Management> Worker<D, S, M> {
    /// Authenticates the caller. If the request has an `Authorization` header, the headers of a proxy are ignored.
    ///
    /// # Errors
    /// 401. The reason is given only if tokens are configured and the bearer contains a dot, as a token does.
    pub(super) fn authenticate(&self, head: &RequestHead<'_>, peer: IpAddr) -> Result<Principal, Problem> {
        let access = self.admit.access.load();
        if !head.has_credentials() {
            let forwarded = head.forwarded().ok_or_else(unauthenticated)?;
            let forwarded = ForwardedIdentity { user: forwarded.user, org: forwarded.org };
            return access.forwarded_principal(peer, forwarded).ok_or_else(unauthenticated);
        }
        let (bearer, now) = (head.bearer()?, self.admit.clock.now());
        if let Some(principal) = self.admit.registry.authenticate_api_key(bearer, now) {
            return Ok(principal);
        }
        match access.verify_bearer(bearer, now).filter(|_| bearer.contains('.')) {
            Some(read) => read.map_err(|error| Problem::new(ProblemCode::Unauthenticated, error.to_string())),
            None => Err(unauthenticated()),
        }
    }

    /// Adds the visibility of the tenant and the request id to a principal, for the management API.
    pub(super) fn with_request_context(&self, mut principal: Principal, request_id: &str) -> Principal {
        if let Some(tenant) = principal.tenant.as_deref() {
            principal.visibility = self.admit.registry.visibility(tenant);
        }
        principal.request_id = Some(request_id.into());
        principal
    }
}
