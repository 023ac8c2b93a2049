//! Settle and the health probe, started on what is there before them.

use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::callbacks::{self, Failures};
use super::server::Foundation;
use super::{health, operational};
use crate::admit::Health;
use crate::handoff::ToSettle;
use crate::settle;
use crate::{commit, registry};

impl Foundation {
    /// Settle, with the bell that it rings when operational events wait.
    pub(super) fn state(
        &self,
        opened: settle::Opened,
        (messages, bell): (Receiver<ToSettle>, Receiver<()>),
        dir: &Path,
        registry: &registry::Running,
        commit: &commit::Running,
        failed: &Arc<Failures>,
    ) -> Result<(settle::Running, Receiver<()>), settle::OpenError> {
        let (outbox, listener) = operational::bell();
        let running = opened.start(settle::Start {
            handle: self.settle.clone(),
            messages,
            bell,
            shards: self.shards.clone(),
            clock: self.clock.clone(),
            log: commit.log(),
            metrics: Arc::clone(&self.metrics),
            hooks: callbacks::of(registry, callbacks::ballast(&self.disk, dir), failed, outbox),
        })?;
        operational::reconcile(&registry.shared.load(), &running.records, &running.handle)?;
        Ok((running, listener))
    }

    /// The log's line for the start.
    pub(super) fn log_ready(&self, state: &settle::Running, registry: &registry::Running) {
        tracing::info!(
            dedup_keys = self.metrics.dedup_keys.get(),
            queue_depth = state.records.depth(),
            webhooks = registry.shared.load().active(),
            "ready"
        );
    }

    /// The probe over all parts.
    pub(super) fn health(
        &self,
        dir: &Path,
        state: &settle::Running,
        commit: &commit::Running,
        failed: &Arc<Failures>,
    ) -> Arc<Health> {
        let (records, metrics) = (state.records.clone(), Arc::clone(&self.metrics));
        let observe = health::observer(records, commit.log(), self.clock.clone(), metrics);
        let (disk, poison) = (Arc::clone(&self.disk), commit.poison().clone());
        health::of(dir, disk, poison, Arc::clone(failed), Arc::clone(&self.metrics), observe)
    }
}
