//! The delay before the next attempt. The functions are pure: the random number is a parameter.

use std::time::Duration;

use crate::limits::RETRY_DELAY_MAX;
use crate::model::RetryPolicy;

/// Jitter spreads a delay over 80 to 120 % of itself, so that deliveries that failed together are not retried together.
const JITTER_PERMILLE: u64 = 200;

/// The delay before the next attempt after `attempts` failed ones, without jitter. `None` if the policy allows no more
/// attempts.
pub fn scheduled_delay(policy: &RetryPolicy, attempts: u16) -> Option<Duration> {
    let retry = attempts.checked_sub(1)?;
    match policy {
        RetryPolicy::Schedule(delays) => delays.get(usize::from(retry)).map(|delay| (*delay).min(RETRY_DELAY_MAX)),
        RetryPolicy::Backoff { max_retries, retry_delay, backoff_permille, max_delay } => {
            if retry >= *max_retries {
                return None;
            }
            let growth = (f64::from(*backoff_permille) / 1000.0).powi(i32::from(retry));
            let limit = (*max_delay).min(RETRY_DELAY_MAX);
            // A very large product is infinite, which `Duration` cannot hold, so `min` is applied first.
            let seconds = (retry_delay.as_secs_f64() * growth).min(limit.as_secs_f64());
            Some(Duration::try_from_secs_f64(seconds).unwrap_or(limit))
        }
    }
}

/// Applies jitter to `delay`. `random` is any 64 random bits.
pub fn jittered(delay: Duration, random: u64) -> Duration {
    let permille = 1000 - JITTER_PERMILLE + random % (2 * JITTER_PERMILLE + 1);
    let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(ms / 1000 * permille + ms % 1000 * permille / 1000).min(RETRY_DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn backoff(max_retries: u16, delay_s: u64, permille: u32, max_s: u64) -> RetryPolicy {
        RetryPolicy::Backoff {
            max_retries,
            retry_delay: Duration::from_secs(delay_s),
            backoff_permille: permille,
            max_delay: Duration::from_secs(max_s),
        }
    }

    #[test]
    fn delays_by_table() {
        let schedule = RetryPolicy::Schedule([5, 60, 300].map(Duration::from_secs).as_slice().into());
        for (policy, attempts, seconds) in [
            (&schedule, 0, None),
            (&schedule, 1, Some(5)),
            (&schedule, 3, Some(300)),
            (&schedule, 4, None),
            (&backoff(3, 60, 2000, 86_400), 1, Some(60)),
            (&backoff(3, 60, 2000, 86_400), 3, Some(240)),
            (&backoff(3, 60, 2000, 86_400), 4, None),
            (&backoff(9, 60, 2000, 100), 3, Some(100)),
            (&backoff(0, 60, 2000, 100), 1, None),
            (&backoff(u16::MAX, 60, 9000, u64::MAX), u16::MAX, Some(24 * 60 * 60)),
        ] {
            assert_eq!(
                scheduled_delay(policy, attempts),
                seconds.map(Duration::from_secs),
                "{policy:?} after {attempts}"
            );
        }
    }

    proptest! {
        #[test]
        fn jitter_is_at_most_a_fifth_either_way(ms in 0u64..=86_400_000, random: u64) {
            let delay = jittered(Duration::from_millis(ms), random).as_millis() as u64;
            prop_assert!(delay >= (ms * 8 / 10).saturating_sub(1), "{delay} of {ms}");
            prop_assert!(delay <= (ms * 12 / 10).min(RETRY_DELAY_MAX.as_millis() as u64), "{delay} of {ms}");
        }

        #[test]
        fn a_backoff_never_shrinks_nor_passes_its_limit(
            retries in 1u16..100, delay in 0u64..1000, permille in 1000u32..5000, max in 1000u64..100_000,
        ) {
            let policy = backoff(retries, delay, permille, max);
            let delays: Vec<_> = (1..=retries).filter_map(|n| scheduled_delay(&policy, n)).collect();
            prop_assert_eq!(delays.len(), usize::from(retries));
            prop_assert!(delays.is_sorted());
            prop_assert!(delays.iter().all(|d| *d <= Duration::from_secs(max).min(RETRY_DELAY_MAX)));
        }
    }
}
