//! Who asks: the bearer of an API key or a token, or the user that a trusted proxy names.

use std::net::IpAddr;

use super::service::Worker;
use super::{Directory, Management};
use crate::auth::Forwarded;
use crate::http::request::{Head, unauthenticated};
use crate::http::{Problem, ProblemCode};
use crate::ingest::Submit;
use crate::model::Principal;

impl<D: Directory, S: Submit, M: Management> Worker<D, S, M> {
    /// Who asks. Credentials count alone: what headers say beside them is not looked at.
    ///
    /// # Errors
    /// 401, with the reason where the caller has shown that it is worth telling.
    pub(super) fn authenticate(&self, head: &Head<'_>, peer: IpAddr) -> Result<Principal, Problem> {
        let access = self.admit.access.load();
        if !head.has_credentials() {
            let said = head.forwarded().ok_or_else(unauthenticated)?;
            let said = Forwarded { user: said.user, org: said.org };
            return access.forwarded(peer, said).ok_or_else(unauthenticated);
        }
        let (bearer, now) = (head.bearer()?, self.admit.clock.now());
        if let Some(principal) = self.admit.directory.authenticate(bearer, now) {
            return Ok(principal);
        }
        match access.bearer(bearer, now).filter(|_| bearer.contains('.')) {
            Some(read) => read.map_err(|error| Problem::new(ProblemCode::Unauthenticated, error.to_string())),
            None => Err(unauthenticated()),
        }
    }

    /// What the interface has to know of whoever asks: what it sees of its tenant, and in which request it asks.
    pub(super) fn introduced(&self, mut principal: Principal, request_id: &str) -> Principal {
        if let Some(tenant) = principal.tenant.as_deref() {
            principal.visibility = self.admit.directory.visibility(tenant);
        }
        principal.request_id = Some(request_id.into());
        principal
    }
}
