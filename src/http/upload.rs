//! Transfers the body of a management request from the worker that reads it to the management threads.
//!
//! The worker sends the parts through a bounded channel. When the channel is full, the worker stops reading from the socket,
//! so the client has to wait.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use tokio::sync::mpsc;

use super::body_budget::{BodyBudget, BodyOwner};
use super::connection::ConnectionMonitor;
use super::incoming::{BodyChunks, BodyLimits, ReceivedBody, collect_body, declared_length, next};
use super::request::invalid;
use super::{Problem, Response};
use crate::limits::UPLOAD_PARTS_MAX;

/// The receiver of a request body, for the management threads.
#[derive(Debug)]
pub struct Upload {
    parts: mpsc::Receiver<UploadPart>,
    declared: Option<usize>,
    max_bytes: usize,
    budget: Arc<BodyBudget>,
    /// The tenant of the caller. `None`: all tenants.
    tenant: Option<Arc<str>>,
}

/// The sender of a request body, for the worker.
#[derive(Debug)]
pub struct UploadFeeder {
    incoming: Incoming,
    parts: mpsc::Sender<UploadPart>,
}

#[derive(Debug)]
enum UploadPart {
    Bytes(Result<Bytes, Problem>),
    /// The body is complete. A dropped sender does not imply this.
    End,
}

/// Creates the channel for a body of at most `max_bytes` bytes, from a caller of this tenant.
///
/// # Errors
/// 413 when the declared length exceeds `max_bytes`.
pub fn open(
    incoming: Incoming,
    max_bytes: usize,
    budget: &Arc<BodyBudget>,
    tenant: Option<Arc<str>>,
) -> Result<(UploadFeeder, Upload), Problem> {
    let declared = declared_length(&incoming, max_bytes)?;
    let (sender, parts) = mpsc::channel(UPLOAD_PARTS_MAX);
    let upload = Upload { parts, declared, max_bytes, budget: Arc::clone(budget), tenant };
    Ok((UploadFeeder { incoming, parts: sender }, upload))
}

impl Upload {
    /// Reads the complete body.
    ///
    /// # Errors
    /// As for [`incoming::read`](super::incoming::read).
    pub async fn read(self) -> Result<ReceivedBody<Arc<BodyBudget>>, Problem> {
        let Self { parts, declared, max_bytes, budget, tenant } = self;
        let owner = BodyOwner::Tenant(tenant.as_deref());
        collect_body(parts, declared, BodyLimits::fixed(max_bytes), (budget, owner)).await
    }
}

impl BodyChunks for mpsc::Receiver<UploadPart> {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        match self.recv().await {
            Some(UploadPart::Bytes(bytes)) => bytes.map(Some),
            Some(UploadPart::End) => Ok(None),
            None => Err(invalid("the connection ended before the body")),
        }
    }
}

impl UploadFeeder {
    /// Forwards the body until `answer` is ready, and returns the answer. If this future is dropped, the receiver gets an
    /// incomplete body.
    pub async fn forward_until(
        self,
        answer: impl Future<Output = Result<Response, Problem>>,
        monitor: &ConnectionMonitor,
    ) -> Result<Response, Problem> {
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            () = self.run(monitor) => {}
            answer = &mut answer => return answer,
        }
        monitor.response_offloaded();
        answer.await
    }

    async fn run(mut self, monitor: &ConnectionMonitor) {
        if self.incoming.is_end_stream() {
            mark_complete(monitor);
        }
        // An error means that the receiver was dropped.
        while let Ok(slot) = self.parts.reserve().await {
            match next(&mut self.incoming, monitor).await {
                Ok(Some(bytes)) => {
                    slot.send(UploadPart::Bytes(Ok(bytes)));
                    if self.incoming.is_end_stream() {
                        mark_complete(monitor);
                    } else {
                        monitor.body_paused();
                    }
                }
                Ok(None) => {
                    mark_complete(monitor);
                    slot.send(UploadPart::End);
                    return;
                }
                Err(problem) => {
                    monitor.body_paused();
                    slot.send(UploadPart::Bytes(Err(problem)));
                    return;
                }
            }
        }
    }
}

/// Records that the request is complete and only its response is missing.
fn mark_complete(monitor: &ConnectionMonitor) {
    monitor.body_finished();
    monitor.response_offloaded();
}
