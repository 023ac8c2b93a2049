//! `[[tenants]]`: defaults for the webhooks of each tenant, so that clients need not send them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::FileTenant;
use super::check::ConfigChecker;
use super::value::{CommaList, Count, Delay, Fraction, SecondsValue};
use crate::limits::{PROFILE_NAME_BYTES_MAX, RETRIES_MAX, RETRY_DELAY_MAX, SCHEDULE_DELAYS_MAX};
use crate::model::{RetryPolicy, TENANT_NAME_ALLOWED, TenantSettings, Visibility, is_tenant_name};

/// An entry as written. The check finds missing keys, because it can name the entry.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTenant {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry_policy: Option<RawPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) visibility: Option<Visibility>,
}

/// A retry policy as written: single delays, or the parameters of a backoff.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPolicy {
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<CommaList<Delay>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_retries: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_delay: Option<SecondsValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff: Option<Fraction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_delay: Option<SecondsValue>,
}

const SHORTEST: Duration = Duration::from_millis(1);

impl ConfigChecker<'_> {
    pub(super) fn tenants(&mut self, raw: &[RawTenant]) -> Vec<FileTenant> {
        let mut tenants: Vec<FileTenant> = Vec::with_capacity(raw.len());
        for (n, entry) in raw.iter().enumerate() {
            let at = |field: &str| format!("tenants[{n}].{field}");
            let name = &*entry.name;
            if !is_tenant_name(name) {
                self.wrong(&at("name"), format!("{name:?} is not a tenant: {TENANT_NAME_ALLOWED}"));
            } else if tenants.iter().any(|other| *other.name == *name) {
                self.wrong(&at("name"), format!("{name:?} is there twice"));
            }
            if let Some(profile) = entry.profile.as_deref().filter(|profile| !is_profile_name(profile)) {
                self.wrong(&at("profile"), format!("{profile:?} is not a profile's name, such as \"standard\""));
            }
            let retry_policy = entry.retry_policy.as_ref().and_then(|raw| self.policy(&at("retry_policy"), raw));
            let settings = TenantSettings {
                profile: entry.profile.as_deref().map(Into::into),
                retry_policy,
                visibility: entry.visibility.unwrap_or_default(),
            };
            tenants.push(FileTenant { name: name.into(), settings });
        }
        tenants
    }

    fn policy(&mut self, at: &str, raw: &RawPolicy) -> Option<RetryPolicy> {
        let delay = |check: &mut Self, key: &str, delay| {
            check.seconds(&format!("{at}.{key}"), delay, SHORTEST..=RETRY_DELAY_MAX)
        };
        match (&raw.schedule, raw.max_retries, raw.retry_delay) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (None, None, _) | (None, _, None) => {
                self.wrong(at, "expected schedule, or max_retries and retry_delay");
                None
            }
            (Some(schedule), None, None) => {
                if schedule.0.len() > SCHEDULE_DELAYS_MAX {
                    let problem = format!("{} delays; allowed is at most {SCHEDULE_DELAYS_MAX}", schedule.0.len());
                    self.wrong(&format!("{at}.schedule"), problem);
                }
                let delays = schedule.0.iter().map(|Delay(seconds)| delay(self, "schedule", *seconds)).collect();
                Some(RetryPolicy::Schedule(delays))
            }
            (None, Some(retries), Some(first)) => {
                let Fraction(backoff) = raw.backoff.unwrap_or(Fraction(2.0));
                if !(1.0..=10.0).contains(&backoff) {
                    self.wrong(&format!("{at}.backoff"), format!("{backoff}; allowed is 1 to 10"));
                }
                Some(RetryPolicy::Backoff {
                    max_retries: self.count(&format!("{at}.max_retries"), retries, 0..=RETRIES_MAX) as u16,
                    retry_delay: delay(self, "retry_delay", first),
                    backoff_permille: (backoff * 1000.0).round() as u32,
                    max_delay: raw.max_delay.map_or(RETRY_DELAY_MAX, |longest| delay(self, "max_delay", longest)),
                })
            }
        }
    }
}

/// Whether a profile can have this name.
fn is_profile_name(text: &str) -> bool {
    (1..=PROFILE_NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}
