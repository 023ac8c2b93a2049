//! The flags for a webhook's fields, for `hooktide webhook add` and `update`.

use std::io::Read;

use serde_json::{Map, Value};

use super::error::CliError;
use super::webhook_auth::AuthArgs;
use super::{input, parse};
use crate::config::{Environment, parse_duration};

/// As the interface names them. What is not given is not sent; what is wrong, the server says.
#[derive(Debug, Default, clap::Args)]
pub(super) struct FieldArgs {
    /// Which events: a type, order.* or *; may be given several times
    #[arg(long = "event", value_name = "PATTERN", value_parser = parse::pattern)]
    events: Vec<String>,
    /// Id of your own, under which it is found as well
    #[arg(long)]
    uid: Option<String>,
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    /// A description for people
    #[arg(long)]
    description: Option<String>,
    /// The user who owns it
    #[arg(long, value_name = "ID")]
    user_id: Option<String>,
    /// Only events of this workspace
    #[arg(long, value_name = "ID")]
    workspace_id: Option<String>,
    /// Only events that pass: JSON, @FILE or -
    #[arg(long, value_name = "JSON")]
    filters: Option<String>,
    /// What a delivery looks like: standard, raw, or another one that the server knows
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Delays before each retry, such as 5s,1m,1h
    #[arg(long, value_name = "DELAYS", value_delimiter = ',', value_parser = seconds, conflicts_with = "retry_delay")]
    retry_schedule: Vec<f64>,
    /// Retries after the first attempt
    #[arg(long, value_name = "N")]
    max_retries: Option<u16>,
    /// Before the first retry, such as 60s; it grows with each. Needs --max-retries
    #[arg(long, value_name = "DELAY", value_parser = seconds, requires = "max_retries")]
    retry_delay: Option<f64>,
    /// What each delay is multiplied by, 1 to 10
    #[arg(long, value_name = "FACTOR", requires = "retry_delay")]
    backoff: Option<f64>,
    /// No delay is longer
    #[arg(long, value_name = "DELAY", value_parser = seconds, requires = "retry_delay")]
    max_delay: Option<f64>,
    /// Try again only after these failures
    #[arg(long, value_name = "KINDS", value_delimiter = ',', value_parser = ["5xx", "4xx", "429", "timeout", "connect"])]
    retry_on: Vec<String>,
    /// Seconds for one attempt
    #[arg(long, value_name = "SECONDS")]
    timeout_seconds: Option<f64>,
    /// Deliveries a second
    #[arg(long, value_name = "RATE")]
    rate_limit_rps: Option<f64>,
    /// Deliveries at once within that rate
    #[arg(long, value_name = "N")]
    burst: Option<u32>,
    /// Deliveries in flight at once
    #[arg(long, value_name = "N")]
    max_in_flight: Option<u16>,
    /// Strictly in order of acceptance, one at a time (--ordered false: not any more)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    ordered: Option<bool>,
    /// The same among events with the same value of this field only, such as customer.id
    #[arg(long, value_name = "PATH")]
    ordered_by: Option<String>,
    /// The circuit breaker, where it differs from the configured one: JSON, @FILE or -
    #[arg(long, value_name = "JSON")]
    breaker: Option<String>,
    /// Header of every delivery; may be given several times
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = pair)]
    headers: Vec<(String, String)>,
    /// Header whose value an environment variable holds, for passwords and tokens
    #[arg(long = "header-env", value_name = "NAME=VAR", value_parser = pair)]
    headers_env: Vec<(String, String)>,
    #[command(flatten)]
    auth: AuthArgs,
    /// What you want to remember with it: JSON, @FILE or -
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// active, paused or inactive
    #[arg(long, value_parser = ["active", "paused", "inactive"])]
    status: Option<String>,
}

impl FieldArgs {
    /// Number of options that read standard input.
    pub(super) fn inputs(&self) -> usize {
        let jsons = self.jsons().into_iter().filter(|(_, given)| *given == Some("-")).count();
        jsons + usize::from(self.auth.reads_input())
    }

    fn jsons(&self) -> [(&'static str, Option<&str>); 3] {
        [("filters", &self.filters), ("breaker", &self.breaker), ("metadata", &self.metadata)]
            .map(|(name, given)| (name, given.as_deref()))
    }

    /// Adds the given fields to `body`.
    pub(super) fn fill(
        &self,
        body: &mut Map<String, Value>,
        environment: &Environment,
        stdin: &mut dyn Read,
    ) -> Result<(), CliError> {
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        };
        set("events", (!self.events.is_empty()).then(|| self.events.clone().into()));
        for (name, text) in [
            ("uid", &self.uid),
            ("name", &self.name),
            ("description", &self.description),
            ("user_id", &self.user_id),
            ("workspace_id", &self.workspace_id),
            ("profile", &self.profile),
            ("ordered_by", &self.ordered_by),
            ("status", &self.status),
        ] {
            set(name, text.as_deref().map(Value::from));
        }
        for (name, json) in self.jsons() {
            set(name, json.map(|json| input::json(json, stdin)).transpose()?);
        }
        let retry = self.retry_policy();
        // Without a delay, this option changes only the number of retries of the current policy.
        set("max_retries", self.max_retries.filter(|_| self.retry_delay.is_none()).map(Value::from));
        set("retry_policy", (!retry.is_empty()).then(|| retry.into()));
        set("timeout_seconds", self.timeout_seconds.map(number));
        set("rate_limit_rps", self.rate_limit_rps.map(number));
        set("burst", self.burst.map(Value::from));
        set("max_in_flight", self.max_in_flight.map(Value::from));
        set("ordered", self.ordered.map(Value::from));
        let headers = self.headers(environment)?;
        set("headers", (!headers.is_empty()).then(|| headers.into()));
        set("auth", self.auth.auth(environment, stdin)?);
        set("tls", self.auth.tls()?);
        Ok(())
    }

    fn retry_policy(&self) -> Map<String, Value> {
        let mut retry = Map::new();
        if !self.retry_schedule.is_empty() {
            let delays: Vec<_> = self.retry_schedule.iter().copied().map(number).collect();
            retry.insert("schedule".to_owned(), delays.into());
        }
        if let (Some(delay), Some(retries)) = (self.retry_delay, self.max_retries) {
            retry.insert("max_retries".to_owned(), retries.into());
            retry.insert("retry_delay".to_owned(), number(delay));
        }
        for (name, value) in [("backoff", self.backoff), ("max_delay", self.max_delay)] {
            if let Some(value) = value {
                retry.insert(name.to_owned(), number(value));
            }
        }
        if !self.retry_on.is_empty() {
            retry.insert("retry_on".to_owned(), self.retry_on.clone().into());
        }
        retry
    }

    fn headers(&self, environment: &Environment) -> Result<Map<String, Value>, CliError> {
        let mut headers: Map<_, _> =
            self.headers.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
        for (name, variable) in &self.headers_env {
            let from = || format!("the variable {variable}");
            let value = environment.get(variable).ok_or_else(|| CliError::EmptySecret { from: from() })?;
            headers.insert(name.clone(), value.into());
        }
        Ok(headers)
    }
}

/// A number without a fraction becomes an integer, as the user wrote it.
fn number(n: f64) -> Value {
    if n.fract() == 0.0 && (0.0..1e15).contains(&n) { Value::from(n as u64) } else { Value::from(n) }
}

fn seconds(text: &str) -> Result<f64, String> {
    let duration = parse_duration(text).ok_or_else(|| "expected a delay such as 60, 5s, 1m or 2h".to_owned())?;
    Ok(duration.as_secs_f64())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let split = text.split_once('=').filter(|(name, _)| !name.is_empty());
    split.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "expected NAME=VALUE".to_owned())
}
