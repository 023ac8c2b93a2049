//! Starts settle and creates the health probe, after the shared resources, the registry and the log exist.

use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::callbacks::{self, ThreadFailures};
use super::server::SharedResources;
use super::{health, operational_events};
use crate::admit::ProcessHealth;
use crate::bus::EventBusHandle;
use crate::config::Config;
use crate::handoff::ToSettle;
use crate::http::Listeners;
use crate::outbound::EgressGuard;
use crate::settle;
use crate::{commit, registry};

impl SharedResources {
    /// Starts settle, and reconciles it with the registry. The returned receiver gets a message when operational events
    /// wait.
    pub(super) fn start_settle(
        &self,
        opened: settle::OpenedStore,
        (messages, wakeup): (Receiver<ToSettle>, Receiver<()>),
        dir: &Path,
        registry: &registry::RegistryThread,
        commit: &commit::CommitThreads,
        failed: &Arc<ThreadFailures>,
    ) -> Result<(settle::SettleThread, Receiver<()>), settle::OpenSettleError> {
        let (outbox_wakeup, outbox_wakeups) = operational_events::wakeup_channel();
        let running = opened.start(settle::SettleDeps {
            handle: self.settle.clone(),
            messages,
            wakeup,
            shards: self.shards.clone(),
            clock: self.clock.clone(),
            log: commit.log(),
            metrics: Arc::clone(&self.metrics),
            callbacks: callbacks::settle_callbacks(
                registry,
                callbacks::ballast(&self.disk, dir),
                failed,
                outbox_wakeup,
                self.clock.clone(),
            ),
        })?;
        operational_events::reconcile(&registry.shared.load(), &running.records, &running.handle)?;
        Ok((running, outbox_wakeups))
    }

    /// Logs that the server is ready.
    pub(super) fn log_ready(&self, state: &settle::SettleThread, registry: &registry::RegistryThread) {
        tracing::info!(
            dedup_keys = self.metrics.dedup_keys.get(),
            queue_depth = state.records.depth(),
            webhooks = registry.shared.load().active(),
            "ready"
        );
    }

    /// The health probe of all parts.
    pub(super) fn health(
        &self,
        dir: &Path,
        state: &settle::SettleThread,
        commit: &commit::CommitThreads,
        (failed, bus): (&Arc<ThreadFailures>, Option<EventBusHandle>),
    ) -> Arc<ProcessHealth> {
        let (records, metrics) = (state.records.clone(), Arc::clone(&self.metrics));
        let observe = health::observer(records, commit.log(), self.clock.clone(), metrics);
        let (disk, poison) = (Arc::clone(&self.disk), commit.poison().clone());
        let (failed, metrics) = (Arc::clone(failed), Arc::clone(&self.metrics));
        let parts = health::HealthParts { disk, log: poison, failures: failed, metrics, commit: commit.handle(), bus };
        health::process_health(dir, parts, observe)
    }
}

/// The settings of settle.
pub(super) fn settle_options(config: &Config) -> settle::Options {
    settle::Options {
        dead_letter_retention: config.dead_letters.retention,
        disable_after: config.breaker.disable_after,
    }
}

/// The egress rules. They forbid deliveries to this server itself.
pub(super) fn guard(config: &Config, listeners: &Listeners) -> EgressGuard {
    EgressGuard::new(&config.egress, listeners.addresses().iter().copied().chain(listeners.admin_address()))
}
