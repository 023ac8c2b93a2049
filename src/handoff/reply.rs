//! Answers on their way back: all that a commit answers to one thread go in one message, and so wake it once. Without this
//! each answer costs a wake-up of the thread that waits for it.

use smallvec::SmallVec;
use tokio::sync::{mpsc, oneshot};

use super::Verdicts;
use crate::limits::DESK_QUEUE;

type Answers = Vec<(oneshot::Sender<Verdicts>, Verdicts)>;

/// Where the answers for one thread are handed in.
#[derive(Debug, Clone)]
pub struct ReplyRouter(mpsc::Sender<Answers>);

/// The thread's side of its desk.
#[derive(Debug)]
pub struct Clerk(mpsc::Receiver<Answers>);

/// Where the answer to one submission goes.
#[derive(Debug)]
pub struct Reply {
    to: oneshot::Sender<Verdicts>,
    desk: Option<ReplyRouter>,
}

/// The answers of one commit, sorted by desk.
#[derive(Debug, Default)]
pub struct Round(SmallVec<[(Option<ReplyRouter>, Answers); 4]>);

impl ReplyRouter {
    /// A desk, and the clerk that must run on its thread.
    pub fn open() -> (Self, Clerk) {
        let (to, from) = mpsc::channel(DESK_QUEUE);
        (Self(to), Clerk(from))
    }

    /// A reply by way of this desk, and what waits for it.
    pub fn reply(&self) -> (Reply, oneshot::Receiver<Verdicts>) {
        let (to, answer) = oneshot::channel();
        (Reply { to, desk: Some(self.clone()) }, answer)
    }
}

impl Clerk {
    /// Gives out what is handed in, as long as there is somebody to hand it in.
    pub async fn run(mut self) {
        while let Some(answers) = self.0.recv().await {
            give_out(answers);
        }
    }
}

impl Reply {
    /// A reply that goes straight to who waits for it.
    pub fn direct() -> (Self, oneshot::Receiver<Verdicts>) {
        let (to, answer) = oneshot::channel();
        (Self { to, desk: None }, answer)
    }

    /// Answers. A client that went away has no need of its answer.
    pub fn give(self, verdicts: Verdicts) {
        let _ = self.to.send(verdicts);
    }
}

impl Round {
    /// Adds an answer to those for its desk.
    pub fn add(&mut self, reply: Reply, verdicts: Verdicts) {
        let Reply { to, desk } = reply;
        let is_same = |other: &Option<ReplyRouter>| match (other, &desk) {
            (Some(other), Some(desk)) => other.0.same_channel(&desk.0),
            (other, desk) => other.is_none() && desk.is_none(),
        };
        match self.0.iter_mut().find(|(other, _)| is_same(other)) {
            Some((_, answers)) => answers.push((to, verdicts)),
            None => self.0.push((desk, vec![(to, verdicts)])),
        }
    }

    /// Hands all answers in, one message per desk. Never waits.
    pub fn hand_in(self) {
        for (desk, answers) in self.0 {
            match desk {
                None => give_out(answers),
                // A clerk that is behind, or gone, is passed by.
                Some(desk) => match desk.0.try_send(answers) {
                    Ok(()) => {}
                    Err(mpsc::error::TrySendError::Full(answers) | mpsc::error::TrySendError::Closed(answers)) => {
                        give_out(answers);
                    }
                },
            }
        }
    }
}

fn give_out(answers: Answers) {
    for (to, verdicts) in answers {
        // A client that went away has no need of its answer.
        let _ = to.send(verdicts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handoff::Refused;

    #[tokio::test]
    async fn every_answer_reaches_who_waits_for_it_whatever_its_desk_does() {
        let ((open, clerk), (gone, dropped)) = (ReplyRouter::open(), ReplyRouter::open());
        drop(dropped);
        let (mut round, mut waiting) = (Round::default(), Vec::new());
        for n in 0..9 {
            let (reply, answer) = match n % 3 {
                0 => open.reply(),
                1 => gone.reply(),
                _ => Reply::direct(),
            };
            round.add(reply, [Err(Refused::Overloaded); 1].repeat(n + 1).into());
            waiting.push(answer);
        }
        assert_eq!(round.0.len(), 3);
        round.hand_in();
        tokio::spawn(clerk.run());
        for (n, answer) in waiting.into_iter().enumerate() {
            assert_eq!(answer.await.unwrap().len(), n + 1);
        }
    }
}
