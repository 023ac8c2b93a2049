//! The way of commit results back to the requests.
//!
//! All results of one commit for one thread are sent in one message, which wakes the thread once. Without this, each
//! result would cost a wakeup of the waiting thread.

use smallvec::SmallVec;
use tokio::sync::{mpsc, oneshot};

use super::CommitResults;
use crate::limits::REPLY_QUEUE;

type Answers = Vec<(oneshot::Sender<CommitResults>, CommitResults)>;

/// Sends commit results to the requests of one thread.
#[derive(Debug, Clone)]
pub struct ReplyRouter(mpsc::Sender<Answers>);

/// The receiving end of a [`ReplyRouter`], which runs on the thread of the requests.
#[derive(Debug)]
pub struct ReplyReceiver(mpsc::Receiver<Answers>);

/// The channel for the commit results of one submission.
#[derive(Debug)]
pub struct CommitReply {
    to: oneshot::Sender<CommitResults>,
    router: Option<ReplyRouter>,
}

/// The results of one commit, grouped by router.
#[derive(Debug, Default)]
pub struct ReplyBatch(SmallVec<[(Option<ReplyRouter>, Answers); 4]>);

impl ReplyRouter {
    /// Creates a router, and the receiver that must run on the thread of the requests.
    pub fn open() -> (Self, ReplyReceiver) {
        let (to, from) = mpsc::channel(REPLY_QUEUE);
        (Self(to), ReplyReceiver(from))
    }

    /// Creates a reply that goes through this router, and the receiver of the results.
    pub fn reply(&self) -> (CommitReply, oneshot::Receiver<CommitResults>) {
        let (to, answer) = oneshot::channel();
        (CommitReply { to, router: Some(self.clone()) }, answer)
    }
}

impl ReplyReceiver {
    /// Passes results to the waiting requests, until all routers are dropped.
    pub async fn run(mut self) {
        while let Some(answers) = self.0.recv().await {
            send_answers(answers);
        }
    }
}

impl CommitReply {
    /// Creates a reply that goes directly to the waiting request, and the receiver of the results.
    pub fn direct() -> (Self, oneshot::Receiver<CommitResults>) {
        let (to, answer) = oneshot::channel();
        (Self { to, router: None }, answer)
    }

    /// Sends the results directly. Does nothing if the client has gone away.
    pub fn send(self, results: CommitResults) {
        let _ = self.to.send(results);
    }
}

impl ReplyBatch {
    /// Adds the results of a submission to those of its router.
    pub fn add(&mut self, reply: CommitReply, results: CommitResults) {
        let CommitReply { to, router } = reply;
        let is_same = |other: &Option<ReplyRouter>| match (other, &router) {
            (Some(other), Some(router)) => other.0.same_channel(&router.0),
            (other, router) => other.is_none() && router.is_none(),
        };
        match self.0.iter_mut().find(|(other, _)| is_same(other)) {
            Some((_, answers)) => answers.push((to, results)),
            None => self.0.push((router, vec![(to, results)])),
        }
    }

    /// Sends all results, in one message for each router. Never waits.
    pub fn send(self) {
        for (router, answers) in self.0 {
            match router {
                None => send_answers(answers),
                // If the receiver is overloaded or gone, the results are sent directly.
                Some(router) => match router.0.try_send(answers) {
                    Ok(()) => {}
                    Err(mpsc::error::TrySendError::Full(answers) | mpsc::error::TrySendError::Closed(answers)) => {
                        send_answers(answers);
                    }
                },
            }
        }
    }
}

fn send_answers(answers: Answers) {
    for (to, results) in answers {
        // The send fails if the client has gone away.
        let _ = to.send(results);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handoff::CommitError;

    #[tokio::test]
    async fn every_result_reaches_its_request_even_if_its_receiver_is_gone() {
        let ((open, receiver), (gone, dropped)) = (ReplyRouter::open(), ReplyRouter::open());
        drop(dropped);
        let (mut batch, mut waiting) = (ReplyBatch::default(), Vec::new());
        for n in 0..9 {
            let (reply, answer) = match n % 3 {
                0 => open.reply(),
                1 => gone.reply(),
                _ => CommitReply::direct(),
            };
            batch.add(reply, [Err(CommitError::Overloaded); 1].repeat(n + 1).into());
            waiting.push(answer);
        }
        assert_eq!(batch.0.len(), 3);
        batch.send();
        tokio::spawn(receiver.run());
        for (n, answer) in waiting.into_iter().enumerate() {
            assert_eq!(answer.await.unwrap().len(), n + 1);
        }
    }
}
