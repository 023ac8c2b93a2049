//! Model endpoints, and the network in front of them.

use std::time::Duration;

use crate::handoff::AttemptOutcome;
use crate::model::AttemptError;
use crate::runtime::Random;

/// How an endpoint answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Fast,
    Slow,
    /// Every answer has this status.
    Fails(u16),
    /// Half of the answers are failures.
    Flaps,
    /// 429 with this `Retry-After` in seconds.
    TooMany(u64),
    /// 503 with this `Retry-After` in seconds.
    Unavailable(u64),
    /// Never answers.
    Hangs,
    /// Refuses connections.
    Refuses,
    /// Receives the request, but its answer is lost.
    LosesAnswers,
    /// 410 Gone.
    Gone,
}

/// An endpoint of a webhook.
#[derive(Debug)]
pub(super) struct ModelEndpoint {
    behaviour: Behaviour,
    /// Whether it always answers well.
    is_healthy: bool,
}

/// What an endpoint does with a request.
pub(super) struct EndpointAnswer {
    /// The time from the beginning of the attempt to its outcome.
    pub(super) after: Duration,
    /// `None`: the worker that makes the attempt panics.
    pub(super) outcome: Option<AttemptOutcome>,
    /// Whether the endpoint took the event.
    pub(super) has_taken: bool,
}

impl ModelEndpoint {
    pub(super) fn new(is_healthy: bool, random: &mut Random) -> Self {
        let mut endpoint = Self { behaviour: Behaviour::Fast, is_healthy };
        endpoint.change(random);
        endpoint
    }

    /// Takes another behaviour.
    pub(super) fn change(&mut self, random: &mut Random) {
        let seconds = random.between(1..=90);
        self.behaviour = match (self.is_healthy, random.between(0..=99)) {
            (true, 0..=79) | (false, 0..=39) => Behaviour::Fast,
            (true, _) | (_, 40..=49) => Behaviour::Slow,
            (_, 50..=59) => Behaviour::Fails([500, 400, 404, 502][random.between(0..=3) as usize]),
            (_, 60..=69) => Behaviour::Flaps,
            (_, 70..=76) => Behaviour::TooMany(seconds),
            (_, 77..=83) => Behaviour::Unavailable(seconds),
            (_, 84..=88) => Behaviour::Hangs,
            (_, 89..=93) => Behaviour::Refuses,
            (_, 94..=97) => Behaviour::LosesAnswers,
            _ => Behaviour::Gone,
        };
    }

    /// From now on every answer is good.
    pub(super) fn heal(&mut self) {
        *self = Self { behaviour: Behaviour::Fast, is_healthy: true };
    }

    pub(super) fn answer(&self, timeout: Duration, random: &mut Random) -> EndpointAnswer {
        let ms = |from, to, random: &mut Random| Duration::from_millis(random.between(from..=to)).min(timeout);
        let soon = ms(0, 40, random);
        let failed =
            |error, after| EndpointAnswer { after, outcome: Some(outcome(Err(error), None, after)), has_taken: false };
        // Few attempts fail in the network, or by a fault of this program.
        match random.between(0..=if self.is_healthy { 199 } else { 49 }) {
            0 => return failed(AttemptError::Connect("the network is down".into()), soon),
            1 => return EndpointAnswer { after: soon, outcome: None, has_taken: false },
            _ => {}
        }
        let taken = |after| EndpointAnswer { after, outcome: Some(outcome(Ok(()), None, after)), has_taken: true };
        let later = |status, seconds| EndpointAnswer {
            after: soon,
            outcome: Some(outcome(Err(AttemptError::Status(status)), Some(Duration::from_secs(seconds)), soon)),
            has_taken: false,
        };
        match self.behaviour {
            Behaviour::Fast => taken(soon),
            Behaviour::Slow => taken(ms(200, 4_000, random)),
            Behaviour::Flaps if random.between(0..=1) == 0 => taken(soon),
            Behaviour::Flaps => failed(AttemptError::Status(500), soon),
            Behaviour::Fails(status) => failed(AttemptError::Status(status), soon),
            Behaviour::TooMany(seconds) => later(429, seconds),
            Behaviour::Unavailable(seconds) => later(503, seconds),
            Behaviour::Hangs => failed(AttemptError::Timeout, timeout),
            Behaviour::Refuses => failed(AttemptError::Connect("refused".into()), soon),
            Behaviour::LosesAnswers => EndpointAnswer { has_taken: true, ..failed(AttemptError::Timeout, timeout) },
            Behaviour::Gone => failed(AttemptError::Status(410), soon),
        }
    }
}

fn outcome(result: Result<(), AttemptError>, retry_after: Option<Duration>, latency: Duration) -> AttemptOutcome {
    let http_status = match &result {
        Ok(()) => Some(200),
        Err(AttemptError::Status(status)) => Some(*status),
        Err(_) => None,
    };
    AttemptOutcome { result, http_status, retry_after, response: Box::default(), latency, sent_at: None }
}
