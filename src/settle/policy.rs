//! The retry decision after an attempt. The function is pure: outcome, policy, time and a random number are parameters.

use std::time::Duration;

use super::backoff::{jittered, scheduled_delay};
use crate::handoff::RetryDecision;
use crate::limits::RETRY_DELAY_MAX;
use crate::model::{AttemptError, DeadReason, Decision, RetryOn, RetryPolicy, Timestamp};

/// The shortest retry delay. A due time is never before a position up to which a reader has already read.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(1);

/// Decides what follows an attempt.
///
/// `attempts` includes this attempt, `now` is the scheduling clock's time, `random` is any 64 random bits. The delay is
/// the scheduled one with jitter, or `Retry-After` of a 429 or 503 response if that is longer, up to a day. A failure
/// that `retry_on` does not include is not retried.
pub fn decide(
    result: &Result<(), AttemptError>,
    retry_after: Option<Duration>,
    attempts: u16,
    policy: &RetryPolicy,
    retry_on: RetryOn,
    now: Timestamp,
    random: u64,
) -> RetryDecision {
    let error = match result {
        Ok(()) => return RetryDecision { decision: Decision::Delivered, pause_webhook_until: None, disable: false },
        Err(error) => error,
    };
    let dead = |reason, pause_webhook_until| RetryDecision {
        decision: Decision::Dead(reason),
        pause_webhook_until,
        disable: reason == DeadReason::Gone,
    };
    match error {
        AttemptError::Status(410) => return dead(DeadReason::Gone, None),
        AttemptError::PayloadGone => return dead(DeadReason::Expired, None),
        AttemptError::Undeliverable(_) => return dead(DeadReason::NotRetryable, None),
        _ => {}
    }
    let retry_after = clamp_retry_after(error, retry_after);
    let pauses = matches!(error, AttemptError::Status(429 | 502 | 503 | 504));
    // `Retry-After` also pauses the webhook's other deliveries, whether or not this one is retried.
    let pause_until = retry_after.map(|after| now.plus(after));
    if !kind(error).is_none_or(|kind| retry_on.contains(kind)) {
        return dead(DeadReason::NotRetryable, pause_until);
    }
    let Some(delay) = scheduled_delay(policy, attempts) else {
        return dead(DeadReason::Exhausted, pause_until);
    };
    let at = now.plus(jittered(delay, random).max(retry_after.unwrap_or_default()).max(RETRY_DELAY_MIN));
    RetryDecision { decision: Decision::Retry { at }, pause_webhook_until: pauses.then_some(at), disable: false }
}

/// The `Retry-After` of a 429 or 503 response, at most a day. The header of other responses does not count.
fn clamp_retry_after(error: &AttemptError, retry_after: Option<Duration>) -> Option<Duration> {
    match error {
        AttemptError::Status(429 | 503) => retry_after.map(|after| after.min(RETRY_DELAY_MAX)),
        _ => None,
    }
}

/// The `retry_on` value that a failure belongs to. `None`: an internal failure, which is retried whatever the policy
/// says. A redirect, or another status that is no success, counts as a 4xx. An address that the egress guard forbids
/// counts as a connection failure.
fn kind(error: &AttemptError) -> Option<RetryOn> {
    match error {
        AttemptError::Status(429) => Some(RetryOn::TOO_MANY_REQUESTS),
        AttemptError::Status(500..=599) => Some(RetryOn::SERVER_ERROR),
        AttemptError::Status(_) => Some(RetryOn::CLIENT_ERROR),
        AttemptError::Timeout => Some(RetryOn::TIMEOUT),
        AttemptError::Connect(_) | AttemptError::Egress(_) => Some(RetryOn::CONNECT),
        AttemptError::Dropped
        | AttemptError::PayloadGone
        | AttemptError::Unsigned(_)
        | AttemptError::Undeliverable(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    /// Jitter of exactly nothing: 800 + 200 permille.
    const EVEN: u64 = 200;

    fn policy() -> RetryPolicy {
        RetryPolicy::Schedule([10, 100].map(Duration::from_secs).as_slice().into())
    }

    #[test]
    fn verdicts_by_table() {
        let status = |s| Err(AttemptError::Status(s));
        let retry = |s: u64| Decision::Retry { at: NOW.plus(Duration::from_secs(s)) };
        let pause = |s: u64| Some(NOW.plus(Duration::from_secs(s)));
        let cases = [
            (Ok(()), None, 1, Decision::Delivered, None, false),
            (Ok(()), Some(9), 3, Decision::Delivered, None, false),
            (status(500), None, 1, retry(10), None, false),
            (status(500), Some(50), 1, retry(10), None, false),
            (status(500), None, 2, retry(100), None, false),
            (status(500), None, 3, Decision::Dead(DeadReason::Exhausted), None, false),
            (status(302), None, 1, retry(10), None, false),
            (status(429), Some(50), 1, retry(50), pause(50), false),
            (status(503), Some(5), 1, retry(10), pause(10), false),
            (status(503), Some(999_999), 1, retry(86_400), pause(86_400), false),
            (status(503), Some(50), 3, Decision::Dead(DeadReason::Exhausted), pause(50), false),
            (status(504), Some(50), 1, retry(10), pause(10), false),
            (status(410), None, 1, Decision::Dead(DeadReason::Gone), None, true),
            (Err(AttemptError::PayloadGone), None, 1, Decision::Dead(DeadReason::Expired), None, false),
            (Err(AttemptError::Timeout), None, 1, retry(10), None, false),
            (
                Err(AttemptError::Undeliverable("".into())),
                None,
                1,
                Decision::Dead(DeadReason::NotRetryable),
                None,
                false,
            ),
        ];
        for (result, after, attempts, decision, pause_webhook_until, disable) in cases {
            let verdict = decide(&result, after.map(Duration::from_secs), attempts, &policy(), RetryOn::ALL, NOW, EVEN);
            assert_eq!(
                verdict,
                RetryDecision { decision, pause_webhook_until, disable },
                "{result:?} {after:?} {attempts}"
            );
        }
    }

    #[test]
    fn a_failure_outside_retry_on_is_not_retried() {
        let status = |s| AttemptError::Status(s);
        let words = |list: &[&str]| {
            let named = RetryOn::WORDS.iter().filter(|(word, _)| list.contains(word));
            named.map(|(_, one)| *one).reduce(RetryOn::union).unwrap()
        };
        let connect = || AttemptError::Connect("refused".into());
        let cases = [
            (words(&["5xx"]), status(500), true),
            (words(&["5xx"]), status(599), true),
            (words(&["5xx"]), status(404), false),
            (words(&["5xx"]), status(429), false),
            (words(&["5xx"]), AttemptError::Timeout, false),
            (words(&["4xx"]), status(404), true),
            (words(&["4xx"]), status(429), false),
            (words(&["4xx"]), status(302), true),
            (words(&["5xx"]), status(302), false),
            (words(&["429"]), status(429), true),
            (words(&["429"]), status(400), false),
            (words(&["timeout"]), AttemptError::Timeout, true),
            (words(&["timeout"]), connect(), false),
            (words(&["connect"]), connect(), true),
            (words(&["connect"]), AttemptError::Egress("private".into()), true),
            (words(&["connect", "429"]), AttemptError::Timeout, false),
            // An internal failure is retried whatever the policy says.
            (words(&["429"]), AttemptError::Dropped, true),
            (RetryOn::ALL, status(302), true),
        ];
        for (retry_on, error, again) in cases {
            let verdict = decide(&Err(error.clone()), None, 1, &policy(), retry_on, NOW, EVEN);
            let dead = Decision::Dead(DeadReason::NotRetryable);
            assert_eq!(verdict.decision != dead, again, "{retry_on:?} {error:?}");
        }
        let gone = decide(&Err(status(410)), None, 1, &policy(), words(&["5xx"]), NOW, EVEN);
        assert_eq!((gone.decision, gone.disable), (Decision::Dead(DeadReason::Gone), true));
        let asked = Some(Duration::from_secs(50));
        let busy = decide(&Err(status(429)), asked, 1, &policy(), words(&["5xx"]), NOW, EVEN);
        assert_eq!(busy.pause_webhook_until, Some(NOW.plus(Duration::from_secs(50))), "the rest is held back");
    }

    proptest! {
        #[test]
        fn n_delays_make_n_plus_one_attempts(delays in prop::collection::vec(0u64..100_000, 0..20), random: u64) {
            let count = delays.len();
            let policy = RetryPolicy::Schedule(delays.into_iter().map(Duration::from_secs).collect());
            let mut attempts = 1;
            while let Decision::Retry { .. } =
                decide(&Err(AttemptError::Timeout), None, attempts, &policy, RetryOn::ALL, NOW, random).decision
            {
                attempts += 1;
            }
            prop_assert_eq!(usize::from(attempts), count + 1);
        }

        #[test]
        fn a_retry_is_later_than_now_and_within_a_day(
            status in 100u16..600, after in prop::option::of(0u64..200_000), delay_ms in 0u64..200_000_000, random: u64,
        ) {
            let policy = RetryPolicy::Schedule([Duration::from_millis(delay_ms)].as_slice().into());
            let result = Err(AttemptError::Status(status));
            let verdict = decide(&result, after.map(Duration::from_secs), 1, &policy, RetryOn::ALL, NOW, random);
            if let Decision::Retry { at } = verdict.decision {
                prop_assert!(at > NOW && at <= NOW.plus(RETRY_DELAY_MAX));
                if let (429 | 503, Some(after)) = (status, after) {
                    prop_assert!(at >= NOW.plus(Duration::from_secs(after).min(RETRY_DELAY_MAX)));
                }
                prop_assert_eq!(verdict.pause_webhook_until.is_some(), matches!(status, 429 | 502 | 503 | 504));
            } else {
                prop_assert_eq!(status, 410);
                prop_assert!(verdict.disable);
            }
        }
    }
}
