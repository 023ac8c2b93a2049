//! `/health`, `/ready`, `/metrics`: what the process says of itself.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::StatusCode;

use crate::http::{Manage, Response, reply};
use crate::runtime::Metrics;
use crate::runtime::metrics::Summary;

/// State of the process: its phases, and its parts as app's probe sees them.
pub struct Health {
    starting: AtomicBool,
    draining: AtomicBool,
    probe: Box<dyn Fn() -> Vec<Part> + Send + Sync>,
    observe: Arc<dyn Fn() + Send + Sync>,
}

/// A part of the process.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Part {
    /// `log`, `state`, `dispatchers`, `disk`.
    pub name: &'static str,
    /// How it does.
    pub state: PartState,
    /// Why, in words without secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Whether events can be taken as far as this part is asked.
    #[serde(skip)]
    pub ready: bool,
}

/// How a part does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PartState {
    /// As it should.
    Ok,
    /// Not as it should, and it will mend by itself or by the operator's hand.
    Degraded,
    /// Only a restart helps.
    Failed,
}

#[derive(serde::Serialize)]
struct Report<'a> {
    status: PartState,
    parts: &'a [Part],
    #[serde(skip_serializing_if = "Option::is_none")]
    figures: Option<Figures>,
}

#[derive(serde::Serialize)]
struct Figures {
    ack: Summary,
    first_attempt: Summary,
    queue_depth: i64,
    oldest_pending_seconds: i64,
    deliveries_in_flight: i64,
    lagging_webhooks: i64,
    dead_letters: i64,
}

impl Health {
    /// A process that is starting; `probe` looks at its parts, quickly and without waiting; `observe` brings the figures
    /// up to date that change while nothing happens, and may read the disk.
    pub fn new(
        probe: impl Fn() -> Vec<Part> + Send + Sync + 'static,
        observe: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            starting: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            probe: Box::new(probe),
            observe: Arc::new(observe),
        }
    }

    /// Brings the figures up to date, before they are shown.
    pub(super) async fn observe(&self, manage: &Manage) {
        let observe = Arc::clone(&self.observe);
        // Should it panic, the figures of before are shown.
        let _ = manage.blocking(move || observe()).await;
    }

    /// Recovery is done.
    pub fn started(&self) {
        self.starting.store(false, Ordering::Release);
    }

    /// The stop has begun.
    pub fn drains(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether it is still starting.
    pub fn is_starting(&self) -> bool {
        self.starting.load(Ordering::Acquire)
    }

    /// Whether it is stopping.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// `/health`: 200, or 503 where a restart would help.
    pub(super) fn report(&self, figures_of: Option<&Metrics>) -> Response {
        let parts = (self.probe)();
        let is = |state| parts.iter().any(|part| part.state == state);
        let status = if is(PartState::Failed) {
            PartState::Failed
        } else if is(PartState::Degraded) {
            PartState::Degraded
        } else {
            PartState::Ok
        };
        let figures = figures_of.map(|metrics| Figures {
            ack: metrics.ack_latency.summary(),
            first_attempt: metrics.first_attempt_latency.summary(),
            queue_depth: metrics.queue_depth.get(),
            oldest_pending_seconds: metrics.oldest_pending_seconds.get(),
            deliveries_in_flight: metrics.in_flight.get(),
            lagging_webhooks: metrics.lagging_webhooks.get(),
            dead_letters: metrics.dead_letters.get(),
        });
        let code = if status == PartState::Failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        json(code, &Report { status, parts: &parts, figures })
    }

    /// `/ready`: 503 while starting, draining, or unable to take events.
    pub(super) fn readiness(&self) -> Response {
        let why = if self.is_starting() {
            "starting"
        } else if self.is_draining() {
            "draining"
        } else if (self.probe)().iter().all(|part| part.ready && part.state != PartState::Failed) {
            "ready"
        } else {
            "unable to take events"
        };
        let ready = why == "ready";
        let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json(code, &serde_json::json!({ "ready": ready, "status": why }))
    }
}

/// An answer of text and numbers, which always serialise.
fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    reply::json_bytes(status, serde_json::to_vec(value).unwrap_or_default().into())
}

impl fmt::Debug for Health {
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

    fn health(state: PartState, ready: bool) -> Health {
        Health::new(move || vec![Part { name: "log", state, detail: None, ready }], || {})
    }

    #[test]
    fn only_what_a_restart_would_mend_is_unhealthy() {
        for (state, status) in [(PartState::Ok, 200), (PartState::Degraded, 200), (PartState::Failed, 503)] {
            assert_eq!(health(state, true).report(None).status(), status, "{state:?}");
        }
    }

    #[test]
    fn it_is_ready_between_start_and_drain_while_it_can_write() {
        let full = health(PartState::Degraded, false);
        full.started();
        assert_eq!(full.readiness().status(), 503);
        let health = health(PartState::Ok, true);
        assert_eq!(health.readiness().status(), 503);
        health.started();
        assert_eq!(health.readiness().status(), 200);
        health.drains();
        assert_eq!(health.readiness().status(), 503);
    }
}
