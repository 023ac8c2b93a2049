//! The health and readiness of the process, for `/health` and `/ready`. Refreshes the gauges of `/metrics`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::StatusCode;

use crate::http::{ManagementHandle, Response, reply};
use crate::runtime::Metrics;
use crate::runtime::metrics::LatencySummary;

/// The state of the process: starting and draining, and the state of its components.
pub struct ProcessHealth {
    starting: AtomicBool,
    draining: AtomicBool,
    probe: Box<dyn Fn() -> Vec<ComponentHealth> + Send + Sync>,
    refresh: Arc<dyn Fn() + Send + Sync>,
}

/// The state of one component of the process.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ComponentHealth {
    /// The name: `log`, `state`, `dispatchers`, `disk`, `queues` or `stages`.
    pub name: &'static str,
    /// The state.
    pub state: ComponentState,
    /// The reason of the state, without secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Whether this component can accept events.
    #[serde(skip)]
    pub ready: bool,
}

/// The state of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ComponentState {
    /// The component works.
    Ok,
    /// The component has a problem that resolves by itself or that the operator can resolve without a restart.
    Degraded,
    /// The component needs a restart of the process.
    Failed,
}

#[derive(serde::Serialize)]
struct HealthReport<'a> {
    status: ComponentState,
    parts: &'a [ComponentHealth],
    #[serde(rename = "figures", skip_serializing_if = "Option::is_none")]
    stats: Option<HealthStats>,
}

#[derive(serde::Serialize)]
struct HealthStats {
    ack: LatencySummary,
    first_attempt: LatencySummary,
    queue_depth: i64,
    oldest_pending_seconds: i64,
    deliveries_in_flight: i64,
    #[serde(rename = "lagging_webhooks")]
    spilled_webhooks: i64,
    dead_letters: i64,
}

impl ProcessHealth {
    /// Creates the state of a starting process. `probe` returns the state of the components, quickly and without waiting.
    /// `refresh` updates the gauges that change without an event, and may read the disk.
    pub fn new(
        probe: impl Fn() -> Vec<ComponentHealth> + Send + Sync + 'static,
        refresh: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            starting: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            probe: Box::new(probe),
            refresh: Arc::new(refresh),
        }
    }

    /// Updates the gauges before they are shown.
    pub(super) async fn refresh_gauges(&self, threads: &ManagementHandle) {
        let refresh = Arc::clone(&self.refresh);
        // If it panics, the previous values are shown.
        let _ = threads.blocking(move || refresh()).await;
    }

    /// Records that the start is complete.
    pub fn started(&self) {
        self.starting.store(false, Ordering::Release);
    }

    /// Records that the shutdown has begun.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the process is starting.
    pub fn is_starting(&self) -> bool {
        self.starting.load(Ordering::Acquire)
    }

    /// Whether the process is shutting down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// The response of `/health`: 200, or 503 if a component needs a restart. `metrics` adds statistics to the response.
    pub(super) fn report(&self, metrics: Option<&Metrics>) -> Response {
        let parts = (self.probe)();
        let is = |state| parts.iter().any(|part| part.state == state);
        let status = if is(ComponentState::Failed) {
            ComponentState::Failed
        } else if is(ComponentState::Degraded) {
            ComponentState::Degraded
        } else {
            ComponentState::Ok
        };
        let process_stats = metrics.map(|metrics| HealthStats {
            ack: metrics.ack_latency.summary(),
            first_attempt: metrics.first_attempt_latency.summary(),
            queue_depth: metrics.queue_depth.get(),
            oldest_pending_seconds: metrics.oldest_pending_seconds.get(),
            deliveries_in_flight: metrics.in_flight.get(),
            spilled_webhooks: metrics.spilled_webhooks.get(),
            dead_letters: metrics.dead_letters.get(),
        });
        let code = if status == ComponentState::Failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        json(code, &HealthReport { status, parts: &parts, stats: process_stats })
    }

    /// The response of `/ready`: 200, or 503 while the process is starting, draining, or unable to accept events.
    pub(super) fn readiness(&self) -> Response {
        let why = if self.is_starting() {
            "starting"
        } else if self.is_draining() {
            "draining"
        } else if (self.probe)().iter().all(|part| part.ready && part.state != ComponentState::Failed) {
            "ready"
        } else {
            "unable to take events"
        };
        let ready = why == "ready";
        let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json(code, &serde_json::json!({ "ready": ready, "status": why }))
    }
}

/// A JSON response. `value` consists of text and numbers, which always serialize.
fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    reply::json_bytes(status, serde_json::to_vec(value).unwrap_or_default().into())
}

impl fmt::Debug for ProcessHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("starting", &self.starting)
            .field("draining", &self.draining)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(state: ComponentState, ready: bool) -> ProcessHealth {
        ProcessHealth::new(move || vec![ComponentHealth { name: "log", state, detail: None, ready }], || {})
    }

    #[test]
    fn only_a_failed_component_makes_the_process_unhealthy() {
        for (state, status) in
            [(ComponentState::Ok, 200), (ComponentState::Degraded, 200), (ComponentState::Failed, 503)]
        {
            assert_eq!(health(state, true).report(None).status(), status, "{state:?}");
        }
    }

    #[test]
    fn the_process_is_ready_between_start_and_drain_while_it_can_write() {
        let full = health(ComponentState::Degraded, false);
        full.started();
        assert_eq!(full.readiness().status(), 503);
        let health = health(ComponentState::Ok, true);
        assert_eq!(health.readiness().status(), 503);
        health.started();
        assert_eq!(health.readiness().status(), 200);
        health.start_draining();
        assert_eq!(health.readiness().status(), 503);
    }
}
