//! The fields that control how often deliveries are made (API section 5): retries, rate limit, order, circuit breaker.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::filter::EventField;
use crate::json::PathError;
use crate::limits::{
    BREAKER_ATTEMPTS_MAX, BREAKER_DISABLE_MAX, BREAKER_DISABLE_MIN, BREAKER_OPEN_MAX, BREAKER_OPEN_MIN,
    BREAKER_RATIO_MIN, RETRIES_MAX, RETRY_DELAY_MAX, SCHEDULE_DELAYS_MAX,
};
use crate::model::{BreakerSettings, FieldError, RateLimit, RetryOn, RetryPolicy};
use crate::outbound::DeliveryOrder;
use crate::service::fields::{DocumentFields, FieldUpdate, number, pointer, whole};

const RATE: RangeInclusive<f64> = 0.01..=100_000.0;
const BURST: RangeInclusive<u64> = 1..=100_000;
/// The members of a backoff policy.
const BACKOFF: [&str; 4] = ["max_retries", "retry_delay", "backoff", "max_delay"];

/// The content of the field `retry_policy`.
#[derive(Debug)]
pub(crate) struct RetryPolicyField {
    /// The retry policy; `None` if the field sets none.
    pub(crate) policy: Option<RetryPolicy>,
    on: FieldUpdate<RetryOn>,
}

/// The values that the retry fields of a document fall back to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetryDefaults<'a> {
    /// The own policy of the webhook that is patched, if it has one.
    pub(crate) present: Option<&'a RetryPolicy>,
    /// The failures that the patched webhook retries.
    pub(crate) present_on: RetryOn,
    /// The policy for an absent field: the present policy in a patch, else the tenant's policy.
    pub(crate) absent: Option<&'a RetryPolicy>,
    /// The policy for `null`: the tenant's policy.
    pub(crate) null: Option<&'a RetryPolicy>,
    /// The configured policy, for webhooks without a policy of their own.
    pub(crate) default: &'a RetryPolicy,
}

impl RetryDefaults<'_> {
    /// Reads `retry_policy` and `max_retries`. `retry_policy` takes precedence; `max_retries` alone changes the number
    /// of retries of the policy in force.
    pub(crate) fn read(self, fields: &mut DocumentFields) -> (Option<RetryPolicy>, RetryOn) {
        let given = fields.retry_policy(self.present);
        let retries = fields.whole("max_retries", 0..=RETRIES_MAX);
        let (policy, on) = match given {
            FieldUpdate::Value(RetryPolicyField { policy, on }) => {
                (policy.map_or(FieldUpdate::Absent, FieldUpdate::Value), on)
            }
            FieldUpdate::Null => (FieldUpdate::Null, FieldUpdate::Null),
            FieldUpdate::Absent => (FieldUpdate::Absent, FieldUpdate::Absent),
        };
        let on = match on {
            FieldUpdate::Value(on) => on,
            FieldUpdate::Null => RetryOn::ALL,
            FieldUpdate::Absent => self.present_on,
        };
        let cut = |policy: Option<&RetryPolicy>, retries| Some(with_retries(policy.unwrap_or(self.default), retries));
        let policy = match (policy, retries) {
            (FieldUpdate::Value(policy), _) => Some(policy),
            (FieldUpdate::Null, FieldUpdate::Value(retries)) => cut(self.null, retries),
            (FieldUpdate::Absent, FieldUpdate::Value(retries)) => cut(self.absent, retries),
            (FieldUpdate::Null, _) | (_, FieldUpdate::Null) => self.null.cloned(),
            (FieldUpdate::Absent, FieldUpdate::Absent) => self.absent.cloned(),
        };
        (policy, on)
    }
}

/// Returns the policy with this number of retries. A schedule is cut, or extended with its last delay.
fn with_retries(policy: &RetryPolicy, retries: u64) -> RetryPolicy {
    match policy {
        RetryPolicy::Schedule(delays) => {
            let last = delays.last().copied().unwrap_or(Duration::from_secs(60));
            RetryPolicy::Schedule(
                delays.iter().copied().chain(std::iter::repeat(last)).take(retries as usize).collect(),
            )
        }
        RetryPolicy::Backoff { retry_delay, backoff_permille, max_delay, .. } => RetryPolicy::Backoff {
            max_retries: retries as u16,
            retry_delay: *retry_delay,
            backoff_permille: *backoff_permille,
            max_delay: *max_delay,
        },
    }
}

/// Reads `rate_limit_rps` and `burst`.
pub(crate) fn rate_limit(fields: &mut DocumentFields, present: Option<RateLimit>) -> Option<RateLimit> {
    let rate = fields.number("rate_limit_rps", RATE);
    let burst = fields.whole("burst", BURST);
    let no_rate = matches!(rate, FieldUpdate::Null);
    let per_second = rate.or(present.map(|limit| limit.per_second));
    let Some(per_second) = per_second else {
        if matches!(burst, FieldUpdate::Value(_))
            && fields.errors.iter().all(|error| error.pointer != "/rate_limit_rps")
        {
            fields.wrong("/burst", "needs rate_limit_rps");
        }
        return None;
    };
    // The default burst is the number of deliveries per second, at least one.
    let default = (per_second.ceil() as u32).max(1);
    let burst = match burst {
        FieldUpdate::Value(burst) => burst as u32,
        FieldUpdate::Absent if !no_rate => present.map_or(default, |limit| limit.burst),
        FieldUpdate::Absent | FieldUpdate::Null => default,
    };
    Some(RateLimit { per_second, burst })
}

/// Reads `ordered` and `ordered_by`. `ordered_by` implies `ordered`. Removing only `ordered_by` leaves the webhook in
/// order of acceptance; a webhook that is not ordered has no `ordered_by`.
pub(crate) fn order(fields: &mut DocumentFields, present: Option<&DeliveryOrder>) -> DeliveryOrder {
    let present = present.cloned().unwrap_or_default();
    let ordered = fields.flag("ordered");
    let by = fields.take("ordered_by", |value| {
        let path = value.as_str().ok_or(PathError).and_then(EventField::try_new);
        path.map(|field| DeliveryOrder::ByField(Arc::new(field))).map_err(|error| error.to_string())
    });
    match (ordered, by) {
        (FieldUpdate::Value(false), FieldUpdate::Value(_)) => {
            fields.wrong("/ordered", "contradicts ordered_by, which is an order: expected true, or one of them alone");
            fields.wrong("/ordered_by", "contradicts ordered: expected null where that is false");
            present
        }
        (_, FieldUpdate::Value(by)) => by,
        (FieldUpdate::Value(false), _) | (FieldUpdate::Null, FieldUpdate::Null) => DeliveryOrder::Any,
        (FieldUpdate::Value(true), FieldUpdate::Null) => DeliveryOrder::Acceptance,
        (FieldUpdate::Absent, FieldUpdate::Null) if present != DeliveryOrder::Any => DeliveryOrder::Acceptance,
        (FieldUpdate::Value(true), FieldUpdate::Absent) if present == DeliveryOrder::Any => DeliveryOrder::Acceptance,
        (FieldUpdate::Null, FieldUpdate::Absent) if present == DeliveryOrder::Acceptance => DeliveryOrder::Any,
        (
            FieldUpdate::Absent | FieldUpdate::Null | FieldUpdate::Value(true),
            FieldUpdate::Absent | FieldUpdate::Null,
        ) => present,
    }
}

impl DocumentFields {
    /// Reads `retry_policy`. A policy of the same type as the present one is merged with it.
    pub(crate) fn retry_policy(&mut self, present: Option<&RetryPolicy>) -> FieldUpdate<RetryPolicyField> {
        let read = |value: Value| match value {
            Value::Object(given) => Ok(given),
            _ => Err("expected an object".to_owned()),
        };
        let mut given = match self.take("retry_policy", read) {
            FieldUpdate::Value(given) => given,
            FieldUpdate::Null => return FieldUpdate::Null,
            FieldUpdate::Absent => return FieldUpdate::Absent,
        };
        let on = self.retry_on(&mut given);
        let policy = match given.remove("schedule") {
            Some(schedule) => self.schedule(&schedule),
            None if on == FieldUpdate::Absent || BACKOFF.iter().any(|key| given.contains_key(*key)) => {
                self.backoff(&mut given, present)
            }
            None => None,
        };
        for key in given.keys() {
            let detail =
                "unknown field; allowed: retry_on, and schedule or max_retries, retry_delay, backoff, max_delay";
            self.errors.push(FieldError::new(format!("/retry_policy{}", pointer(key)), detail));
        }
        FieldUpdate::Value(RetryPolicyField { policy, on })
    }

    fn retry_on(&mut self, given: &mut Map<String, Value>) -> FieldUpdate<RetryOn> {
        let at = "/retry_policy/retry_on";
        let allowed = || {
            let words: Vec<_> = RetryOn::WORDS.iter().map(|(word, _)| *word).collect();
            format!("expected a list of one or more of {}; max_retries 0 retries nothing", words.join(", "))
        };
        let words = match given.remove("retry_on") {
            None => return FieldUpdate::Absent,
            Some(Value::Null) => return FieldUpdate::Null,
            Some(Value::Array(words)) if !words.is_empty() => words,
            Some(_) => {
                self.wrong(at, allowed());
                return FieldUpdate::Null;
            }
        };
        let mut all: Option<RetryOn> = None;
        for (i, word) in words.iter().enumerate() {
            // A client may write a status code as a number.
            let text = word.as_u64().map(|n| n.to_string());
            let text = text.as_deref().or(word.as_str()).unwrap_or_default();
            match RetryOn::WORDS.iter().find(|(known, _)| *known == text) {
                Some((_, one)) => all = Some(all.map_or(*one, |all| all.union(*one))),
                None => self.wrong(format!("{at}/{i}"), allowed()),
            }
        }
        all.map_or(FieldUpdate::Null, FieldUpdate::Value)
    }

    fn schedule(&mut self, value: &Value) -> Option<RetryPolicy> {
        let at = "/retry_policy/schedule";
        let Some(delays) = value.as_array().filter(|delays| delays.len() <= SCHEDULE_DELAYS_MAX) else {
            self.wrong(at, format!("expected an array of at most {SCHEDULE_DELAYS_MAX} delays in seconds"));
            return None;
        };
        let read = |(i, value)| {
            seconds(value).map_err(|detail| self.errors.push(FieldError::new(format!("{at}/{i}"), detail))).ok()
        };
        let read: Vec<_> = delays.iter().enumerate().map(read).collect();
        read.into_iter().collect::<Option<Vec<_>>>().map(|delays| RetryPolicy::Schedule(delays.into()))
    }

    fn backoff(&mut self, given: &mut Map<String, Value>, present: Option<&RetryPolicy>) -> Option<RetryPolicy> {
        let (mut retries, mut delay, mut factor, mut longest) = match present {
            Some(RetryPolicy::Backoff { max_retries, retry_delay, backoff_permille, max_delay }) => {
                (Some(*max_retries), Some(*retry_delay), *backoff_permille, *max_delay)
            }
            _ => (None, None, 2_000, RETRY_DELAY_MAX),
        };
        let mut part = |key: &str, read: &mut dyn FnMut(&Value) -> Result<(), String>| {
            let Some(value) = given.remove(key) else { return true };
            read(&value)
                .map_err(|detail| self.errors.push(FieldError::new(format!("/retry_policy/{key}"), detail)))
                .is_ok()
        };
        let mut good = part("max_retries", &mut |v| whole(v, 0..=RETRIES_MAX).map(|n| retries = Some(n as u16)));
        good &= part("retry_delay", &mut |v| seconds(v).map(|d| delay = Some(d)));
        good &= part("backoff", &mut |v| number(v, 1.0..=10.0).map(|n| factor = (n * 1000.0).round() as u32));
        good &= part("max_delay", &mut |v| seconds(v).map(|d| longest = d));
        if !good {
            return None;
        }
        let (Some(max_retries), Some(retry_delay)) = (retries, delay) else {
            self.wrong("/retry_policy", "expected schedule, or max_retries and retry_delay");
            return None;
        };
        Some(RetryPolicy::Backoff { max_retries, retry_delay, backoff_permille: factor, max_delay: longest })
    }

    /// Reads `breaker`. A patch is merged with the present settings. A member that is `null` returns to the configured
    /// value.
    pub(crate) fn breaker(&mut self, present: Option<&BreakerSettings>) -> FieldUpdate<BreakerSettings> {
        let read = |value: Value| match value {
            Value::Object(given) => Ok(given),
            _ => Err("expected an object".to_owned()),
        };
        let given = match self.take("breaker", read) {
            FieldUpdate::Value(given) => given,
            FieldUpdate::Null => return FieldUpdate::Null,
            FieldUpdate::Absent => return FieldUpdate::Absent,
        };
        let mut part = Self::new(given);
        let attempts = 1..=u64::from(BREAKER_ATTEMPTS_MAX);
        let count = |given: FieldUpdate<u64>, present: Option<u16>| match given {
            FieldUpdate::Value(n) => Some(n as u16),
            FieldUpdate::Null => None,
            FieldUpdate::Absent => present,
        };
        let of = present.cloned().unwrap_or_default();
        let open = BREAKER_OPEN_MIN.as_secs_f64()..=BREAKER_OPEN_MAX.as_secs_f64();
        let breaker = BreakerSettings {
            window: count(part.whole("window", attempts.clone()), of.window),
            failure_ratio: part.number("failure_ratio", BREAKER_RATIO_MIN..=1.0).or(of.failure_ratio),
            min_attempts: count(part.whole("min_attempts", attempts.clone()), of.min_attempts),
            open_seconds: part.number("open_seconds", open).or(of.open_seconds),
            close_after: count(part.whole("close_after", attempts), of.close_after),
            disable_after_hours: part
                .take("disable_after_hours", |value| disable_after(&value))
                .or(of.disable_after_hours),
        };
        if let (Some(least), Some(window)) = (breaker.min_attempts, breaker.window)
            && least > window
        {
            part.wrong("/min_attempts", format!("expected at most the window, {window}"));
        }
        for key in part.unread.keys() {
            let detail = "unknown field; allowed: window, failure_ratio, min_attempts, open_seconds, close_after, \
                disable_after_hours";
            part.errors.push(FieldError::new(pointer(key), detail));
        }
        let below = |error: FieldError| FieldError { pointer: format!("/breaker{}", error.pointer), ..error };
        self.errors.extend(part.errors.into_iter().map(below));
        FieldUpdate::Value(breaker)
    }
}

/// Parses the hours of uninterrupted failure after which the webhook is disabled.
fn disable_after(value: &Value) -> Result<f64, String> {
    let hours = |duration: Duration| duration.as_secs_f64() / 3600.0;
    let (least, most) = (hours(BREAKER_DISABLE_MIN), hours(BREAKER_DISABLE_MAX));
    number(value, least..=most).map_err(|_| format!("expected hours, {least:.4} (a minute) to {most} (ten years)"))
}

/// Parses a delay of at least a millisecond and at most a day.
fn seconds(value: &Value) -> Result<Duration, String> {
    let longest = RETRY_DELAY_MAX.as_secs_f64();
    number(value, 0.001..=longest)
        .map(|n| Duration::from_millis((n * 1000.0).round() as u64))
        .map_err(|_| format!("expected seconds, 0.001 to {longest}"))
}
