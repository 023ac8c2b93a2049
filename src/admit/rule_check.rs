//! Runs the checks of bodies against rules: the rules of partners and the schemas of event types.
//!
//! The work of a check is computed before the check. It is charged to the tenant whose rules they are, the memory of the
//! parsed body is taken from the room for bodies, and a check with much work runs on a thread of its own.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::{Admit, RegistryReader};
use crate::http::{Problem, ProblemCode};
use crate::inbound::source::CheckWork;
use crate::limits::{
    FILTER_UNCHARGED_WORK, MANAGE_RETRY_AFTER, SCHEMA_CHECK_WAIT, SCHEMA_CHECKS_AT_ONCE, SCHEMA_INLINE_WORK_MAX,
};

/// Bounds the checks with much work that run at the same time.
#[derive(Debug, Clone)]
pub struct RuleCheckTurns(Arc<Semaphore>);

impl Default for RuleCheckTurns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SCHEMA_CHECKS_AT_ONCE)))
    }
}

impl<D: RegistryReader, S, M> Admit<D, S, M> {
    /// Runs a check of this work for a tenant.
    ///
    /// # Errors
    /// 429 if the tenant used up its work of the last second, 503 if there is no room for the parsed body or no turn.
    pub(super) async fn run_check<T: Send + 'static>(
        &self,
        tenant: &str,
        work: CheckWork,
        check: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        if work.units > FILTER_UNCHARGED_WORK {
            let (budget, now) = (self.registry.tenant_work(tenant), self.clock.now());
            if budget.available(now) == 0 {
                let detail = "the checks of this tenant's rules did too much work in the last second";
                return Err(Problem::new(ProblemCode::RateLimited, detail).retry_after(MANAGE_RETRY_AFTER));
            }
            budget.charge(now, work.units);
        }
        let room = self.bodies.reserve(work.tree_bytes)?;
        if work.units <= SCHEMA_INLINE_WORK_MAX {
            return Ok(check());
        }
        let overloaded = || Problem::new(ProblemCode::Overloaded, "too many large bodies are being checked");
        let turn = tokio::time::timeout(SCHEMA_CHECK_WAIT, Arc::clone(&self.rule_checks.0).acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok).ok_or_else(|| overloaded().retry_after(MANAGE_RETRY_AFTER))?;
        // The thread keeps turn and room until the check ends, also if the request is gone before.
        let run = move || {
            let checked = check();
            drop((turn, room));
            checked
        };
        let failed = |_| Problem::new(ProblemCode::Internal, "the body could not be checked");
        tokio::task::spawn_blocking(run).await.map_err(failed)
    }
}

/// The text as a part of the body, or a copy if it is not a part of it.
pub(super) fn part_of(body: &Bytes, text: &str) -> Bytes {
    let (whole, part) = (body.as_ptr_range(), text.as_bytes().as_ptr_range());
    if whole.start <= part.start && part.end <= whole.end && !text.is_empty() {
        body.slice_ref(text.as_bytes())
    } else {
        Bytes::copy_from_slice(text.as_bytes())
    }
}
