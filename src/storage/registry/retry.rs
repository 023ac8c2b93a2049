//! The retry policy in the rows of webhooks and tenants.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::RetryPolicy;

#[derive(Serialize, Deserialize)]
pub(super) enum RetryRow {
    #[serde(rename = "schedule_ms")]
    Schedule(Vec<u64>),
    #[serde(rename = "backoff")]
    Backoff { max_retries: u16, retry_delay_ms: u64, backoff_permille: u32, max_delay_ms: u64 },
}

impl RetryRow {
    pub(super) fn of(policy: &RetryPolicy) -> Self {
        let ms = |duration: &Duration| duration.as_millis() as u64;
        match policy {
            RetryPolicy::Schedule(delays) => Self::Schedule(delays.iter().map(ms).collect()),
            RetryPolicy::Backoff { max_retries, retry_delay, backoff_permille, max_delay } => Self::Backoff {
                max_retries: *max_retries,
                retry_delay_ms: ms(retry_delay),
                backoff_permille: *backoff_permille,
                max_delay_ms: ms(max_delay),
            },
        }
    }

    pub(super) fn policy(self) -> RetryPolicy {
        let ms = Duration::from_millis;
        match self {
            Self::Schedule(delays) => RetryPolicy::Schedule(delays.into_iter().map(ms).collect()),
            Self::Backoff { max_retries, retry_delay_ms, backoff_permille, max_delay_ms } => {
                let (retry_delay, max_delay) = (ms(retry_delay_ms), ms(max_delay_ms));
                RetryPolicy::Backoff { max_retries, retry_delay, backoff_permille, max_delay }
            }
        }
    }
}
