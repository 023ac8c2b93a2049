//! The body of a management request on its way from the worker that reads it to the threads that use it.
//!
//! The worker passes part by part through a bounded channel. While nobody takes a part, the worker reads nothing from the
//! socket, and the client has to wait.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use tokio::sync::mpsc;

use super::connection::Watch;
use super::incoming::{BodyRoom, Bounds, Complete, Parts, Share, gather, next};
use super::request::invalid;
use super::{Problem, Response};
use crate::limits::UPLOAD_PARTS_MAX;

/// The receiving end of a body.
#[derive(Debug)]
pub struct Upload {
    parts: mpsc::Receiver<Part>,
    declared: Option<usize>,
    most: usize,
    share: Share<Arc<BodyRoom>>,
}

/// The worker's end.
#[derive(Debug)]
pub struct Feed {
    incoming: Incoming,
    parts: mpsc::Sender<Part>,
}

#[derive(Debug)]
enum Part {
    Bytes(Result<Bytes, Problem>),
    /// The body is complete. A sender that is dropped does not say so.
    End,
}

/// Opens the way for a body of at most so many bytes.
///
/// # Errors
/// 413 when its length is declared and too large, 503 when too many bodies are being read.
pub fn open(incoming: Incoming, most: usize, room: &Arc<BodyRoom>) -> Result<(Feed, Upload), Problem> {
    let (declared, share) = Share::for_declared(&incoming, most, Arc::clone(room))?;
    let (sender, parts) = mpsc::channel(UPLOAD_PARTS_MAX);
    Ok((Feed { incoming, parts: sender }, Upload { parts, declared, most, share }))
}

impl Upload {
    /// The complete body.
    ///
    /// # Errors
    /// As of [`incoming::read`](super::incoming::read).
    pub async fn read(self) -> Result<Complete<Arc<BodyRoom>>, Problem> {
        let Self { parts, declared, most, share } = self;
        gather(parts, declared, Bounds::flat(most), share).await
    }
}

impl Parts for mpsc::Receiver<Part> {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        match self.recv().await {
            Some(Part::Bytes(bytes)) => bytes.map(Some),
            Some(Part::End) => Ok(None),
            None => Err(invalid("the connection ended before the body")),
        }
    }
}

impl Feed {
    /// Passes the body on, until `answer` is there. Dropped, it breaks the body off.
    pub async fn until(
        self,
        answer: impl Future<Output = Result<Response, Problem>>,
        watch: &Watch,
    ) -> Result<Response, Problem> {
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            () = self.run(watch) => {}
            answer = &mut answer => return answer,
        }
        watch.waits_elsewhere();
        answer.await
    }

    async fn run(mut self, watch: &Watch) {
        if self.incoming.is_end_stream() {
            completes(watch);
        }
        // An error means that the body is not wanted any more.
        while let Ok(place) = self.parts.reserve().await {
            match next(&mut self.incoming, watch).await {
                Ok(Some(bytes)) => {
                    place.send(Part::Bytes(Ok(bytes)));
                    if self.incoming.is_end_stream() {
                        completes(watch);
                    } else {
                        watch.body_pauses();
                    }
                }
                Ok(None) => {
                    completes(watch);
                    place.send(Part::End);
                    return;
                }
                Err(problem) => {
                    watch.body_pauses();
                    place.send(Part::Bytes(Err(problem)));
                    return;
                }
            }
        }
    }
}

/// The request is complete, and only its response is awaited.
fn completes(watch: &Watch) {
    watch.body_ends();
    watch.waits_elsewhere();
}
