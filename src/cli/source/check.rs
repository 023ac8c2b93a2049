//! `hooktide source check`: reports in plain sentences what a source still needs.
//!
//! [`SourceFacts::fetch`] reads the facts from the server. [`SourceFacts::evaluate`] derives the findings from these
//! facts alone.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Write;
use std::process::ExitCode;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::super::client::ClientError;
use super::super::error::CliError;
use super::super::{Client, block_on, output};
use super::{SourceArgs, path, text, unreachable_reason};
use crate::config::Environment;
use crate::inbound::provider::{default_map, recipe};
use crate::limits::PAGE_ROWS_MAX;
use crate::model::EventPattern;
use crate::model::path::{EVENTS, WEBHOOKS};
use crate::signature::{RawScheme, Scheme};
use crate::template::Template;

/// Maximum number of event types in the finding about missing subscriptions. A provider may have hundreds.
const TYPES_NAMED_MAX: usize = 8;

/// Maximum number of pages of webhooks. The check looks for one matching webhook and does not count them all.
const PAGES_MAX: usize = 40;

/// What the server reports about a source.
#[derive(Debug, Default)]
struct SourceFacts {
    name: String,
    /// `None` if the source does not exist.
    source: Option<Value>,
    webhooks: Vec<Value>,
    /// The newest first.
    rejections: Vec<Value>,
    last_event: Option<Value>,
    /// Handshakes answered since the server's start; `None` if the server does not report them.
    handshakes: Option<u64>,
}

/// The result of the check.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize)]
struct Findings {
    /// What must be done before events arrive.
    lacks: Vec<String>,
    /// What is correct, and other information.
    notes: Vec<String>,
}

pub(super) fn run(one: &SourceArgs, environment: &Environment, out: &mut dyn Write) -> Result<ExitCode, CliError> {
    let client = Client::try_new(&one.client, environment, false)?;
    let facts = block_on(SourceFacts::fetch(&client, &one.name))?;
    let findings = facts.evaluate();
    let ready = findings.lacks.is_empty();
    if one.client.json {
        writeln!(
            out,
            "{}",
            json!({"name": one.name, "ready": ready, "lacks": findings.lacks, "notes": findings.notes})
        )?;
    } else {
        let name = output::visible(&facts.name);
        writeln!(out, "{name} {}", if ready { "is ready" } else { "is not ready" })?;
        findings.lacks.iter().try_for_each(|lack| writeln!(out, "  lacks: {}", output::visible(lack)))?;
        findings.notes.iter().try_for_each(|note| writeln!(out, "  {}", output::visible(note)))?;
    }
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl SourceFacts {
    async fn fetch(client: &Client, name: &str) -> Result<Self, CliError> {
        let mut facts = Self { name: name.to_owned(), ..Self::default() };
        facts.source = match client.get(&path(name, "")).await {
            Ok(answer) => Some(value(&answer)?),
            Err(ClientError::Refused(refusal)) if refusal.status == StatusCode::NOT_FOUND => return Ok(facts),
            Err(e) => return Err(e.into()),
        };
        let source = facts.source.as_ref().unwrap_or(&Value::Null);
        let (name, tenant) = (text(source, "name").to_owned(), text(source, "tenant").to_owned());
        let of_tenant = if tenant == "-" { String::new() } else { format!("&tenant={tenant}") };
        let mut cursor = String::new();
        for _ in 0..PAGES_MAX {
            let page = value(&client.get(&format!("{WEBHOOKS}?limit={PAGE_ROWS_MAX}{of_tenant}{cursor}")).await?)?;
            facts.webhooks.extend(rows(&page).iter().cloned());
            let Some(next) = page.get("next_cursor").and_then(Value::as_str) else { break };
            cursor = format!("&cursor={next}");
        }
        facts.rejections = rows(&value(&client.get(&path(&facts.name, "/rejections")).await?)?).to_vec();
        let events = client.get(&format!("{EVENTS}?source={name}&limit=1{of_tenant}")).await?;
        facts.last_event = rows(&value(&events)?).first().cloned();
        // The check also works with a key that may not read the metrics.
        let metrics = client.get("/metrics").await.ok();
        facts.handshakes = metrics.and_then(|metrics| handshakes(&String::from_utf8_lossy(&metrics), &name));
        Ok(facts)
    }

    fn evaluate(&self) -> Findings {
        let mut found = Findings::default();
        let Some(source) = &self.source else {
            let (name, add) = (&self.name, "hooktide source add");
            found.lacks.push(format!(
                "it is not configured: add [[sources]] with name = \"{name}\" to the file, or `{add} {name} --kind …`"
            ));
            return found;
        };
        self.check_state(source, &mut found);
        self.check_secret(source, &mut found);
        match unreachable_reason(text(source, "url")) {
            Some(why) => found.lacks.push(format!("a public URL: {why}")),
            None => found.notes.push(format!("the URL to give to the sender is {}", text(source, "url"))),
        }
        self.check_subscribers(source, &mut found);
        self.check_handshake(source, &mut found);
        self.check_traffic(&mut found);
        let warnings = source.get("warnings").and_then(Value::as_array).into_iter().flatten();
        found.notes.extend(warnings.filter_map(Value::as_str).map(|warning| format!("warning: {warning}")));
        found
    }

    fn check_state(&self, source: &Value, found: &mut Findings) {
        let name = &self.name;
        if source.get("deleted_at").is_some_and(|at| !at.is_null()) {
            found.lacks.push(format!("it has been deleted: `hooktide source restore {name}` brings it back"));
        }
        match text(source, "status").to_ascii_lowercase().as_str() {
            "active" => {}
            status => found.lacks.push(format!("it is {status}: `hooktide source enable {name}` lets requests in")),
        }
    }

    fn check_secret(&self, source: &Value, found: &mut Findings) {
        let hints = source.get("secret_hints").and_then(Value::as_array).map_or(0, Vec::len);
        if hints > 0 {
            found.notes.push(format!("{hints} secret{} in force", if hints == 1 { "" } else { "s" }));
        } else if needs_secret(source) {
            found.lacks.push(format!(
                "a secret: the one that the sender's settings show, `hooktide source rotate {} --secret -`",
                self.name
            ));
        } else if text(source, "kind") == "none" {
            found.notes.push("kind none: whoever knows the URL can send, nothing is verified".to_owned());
        }
    }

    /// Checks whether a webhook matches the event types of the source.
    fn check_subscribers(&self, source: &Value, found: &mut Findings) {
        let types = types(source);
        let wants = |webhook: &&Value| {
            let events = webhook.get("events").and_then(Value::as_array).into_iter().flatten();
            let patterns = events.filter_map(Value::as_str).filter_map(|text| EventPattern::try_new(text).ok());
            patterns.into_iter().any(|pattern| types.iter().any(|made| made.may_match(&pattern.to_string())))
        };
        let subscribed = self.webhooks.iter().filter(wants);
        let (on, off): (Vec<_>, Vec<_>) =
            subscribed.partition(|webhook| matches!(text(webhook, "status"), "active" | "paused"));
        if !on.is_empty() {
            found.notes.push(format!(
                "{} webhook{} may match its events",
                on.len(),
                if on.len() == 1 { "" } else { "s" }
            ));
            return;
        }
        let mut made: Vec<_> = types.iter().map(ProducedType::to_string).collect();
        made.dedup();
        let more = made.len().saturating_sub(TYPES_NAMED_MAX);
        made.truncate(TYPES_NAMED_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let made = made.join(", ") + &more;
        let disabled = if off.is_empty() { "" } else { " (those that would match are disabled)" };
        found.lacks.push(format!("a webhook: nobody subscribes to what its events become, {made}{disabled}"));
    }

    fn check_handshake(&self, source: &Value, found: &mut Findings) {
        let own = source.get("handshake").and_then(Value::as_str);
        let of_kind = || recipe(text(source, "kind")).and_then(|raw| raw.handshake.as_deref());
        let Some(form) = own.or_else(of_kind).filter(|form| !form.is_empty()) else { return };
        match self.handshakes {
            Some(n @ 1..) => found.notes.push(format!("its handshake was answered ({n} since the server's start)")),
            Some(0) if self.last_event.is_none() => found.lacks.push(format!(
                "its handshake ({form}): the provider asks whether the address is ours before it sends, and has not yet; enter the URL there"
            )),
            _ => {}
        }
    }

    /// Reports the last accepted event and the rejections.
    fn check_traffic(&self, found: &mut Findings) {
        let accepted = self.last_event.as_ref().map(|event| text(event, "received_at").to_owned());
        match (&self.last_event, &accepted) {
            (Some(event), Some(at)) => {
                found.notes.push(format!(
                    "the last event was accepted at {at}: {} ({})",
                    text(event, "type"),
                    text(event, "id")
                ));
            }
            _ => found.notes.push("no event has been accepted yet".to_owned()),
        }
        let Some(last) = self.rejections.first() else { return };
        let mut reasons = BTreeMap::<&str, usize>::new();
        for rejection in &self.rejections {
            *reasons.entry(text(rejection, "reason")).or_default() += 1;
        }
        // Of equally frequent reasons the latest one is shown.
        let common = self.rejections.iter().map(|one| text(one, "reason")).rev().max_by_key(|reason| reasons[reason]);
        let (all, common) = (self.rejections.len(), common.unwrap_or("-"));
        let summary = format!(
            "{all} request{} refused, the last at {} ({}); mostly, {} of {all}: {common}",
            if all == 1 { " was" } else { "s were" },
            text(last, "at"),
            last.get("status").unwrap_or(&Value::Null),
            reasons.get(common).copied().unwrap_or(0),
        );
        // RFC 3339 times in UTC sort as text.
        if accepted.is_none_or(|at| text(last, "at") > at.as_str()) {
            found.lacks.push(format!("a request that is believed since: {summary}"));
        } else {
            found.notes.push(summary);
        }
    }
}

fn value(answer: &[u8]) -> Result<Value, CliError> {
    Ok(serde_json::from_slice(answer).map_err(ClientError::Answer)?)
}

fn rows(page: &Value) -> &[Value] {
    page.get("data").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Number of handshakes of a source, from the Prometheus text; `None` if the text does not contain the counter.
fn handshakes(metrics: &str, name: &str) -> Option<u64> {
    let series = metrics.lines().filter(|line| line.starts_with("hooktide_inbound_total{"));
    let (source, result) = (format!("source=\"{name}\""), "result=\"handshake\"");
    let mut known = metrics.contains("hooktide_inbound_total").then_some(0);
    for line in series.filter(|line| line.contains(&source) && line.contains(result)) {
        let count = line.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok());
        known = count.map(|count| count as u64).or(known);
    }
    known
}

/// Whether the source's scheme needs a secret.
fn needs_secret(source: &Value) -> bool {
    let own = source.get("verify").and_then(|verify| serde_json::from_value::<RawScheme>(verify.clone()).ok());
    let of_kind = || recipe(text(source, "kind")).map(|raw| raw.verify.clone());
    let scheme = own.or_else(of_kind).and_then(|raw| Scheme::try_new(&raw).ok());
    scheme.is_some_and(|scheme| scheme.needs_secret())
}

/// An event type that a source can produce: an exact type, or every type with a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ProducedType {
    Exact(String),
    Prefix(String),
}

impl std::fmt::Display for ProducedType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Prefix(front) => write!(f, "{front}*"),
        }
    }
}

impl ProducedType {
    /// Whether a pattern can match such a type.
    fn may_match(&self, pattern: &str) -> bool {
        let front = pattern.strip_suffix('*');
        match (self, front) {
            (Self::Exact(text), None) => text == pattern,
            (Self::Exact(text), Some(front)) => text.starts_with(front),
            (Self::Prefix(made), None) => pattern.starts_with(made.as_str()),
            (Self::Prefix(made), Some(front)) => made.starts_with(front) || front.starts_with(made.as_str()),
        }
    }
}

/// The event types of a source: those of its own event map or of its kind's map, and the default types for events that
/// no rule matches.
fn types(source: &Value) -> Vec<ProducedType> {
    let name = text(source, "name");
    let kind = text(source, "kind");
    let own = source.get("event_map").and_then(Value::as_array).map(Vec::as_slice);
    let of_kind = || default_map(kind).or_else(|| recipe(kind).map(|raw| raw.event_map.as_slice()));
    let rules = own.or_else(of_kind).unwrap_or_default();
    let mut types = Vec::new();
    for template in rules.iter().filter_map(|rule| rule.get("type").and_then(Value::as_str)) {
        types.push(produced_type(template, name));
    }
    types.push(ProducedType::Prefix(format!("{name}.")));
    types
}

/// The type that a rule's type template produces for the source of this name.
fn produced_type(template: &str, source: &str) -> ProducedType {
    let names = Template::parse(template, |name| Ok::<_, Infallible>(name.to_owned()));
    let Ok(names) = names else { return ProducedType::Exact(template.to_owned()) };
    let mut front = String::new();
    // Stops at the first placeholder whose value only an event has.
    let whole = names.try_write(&mut front, |name, front| (*name == "source").then(|| front.push_str(source)));
    if whole.is_some() { ProducedType::Exact(front) } else { ProducedType::Prefix(front) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> SourceFacts {
        SourceFacts {
            name: "shop".into(),
            source: Some(json!({"name": "shop", "kind": "custom", "status": "active", "deleted_at": null,
                "url": "https://hooks.example.com/api/v1/webhooks/shop", "secret_hints": ["…4QIb"], "handshake": "slack-challenge",
                "event_map": [{"when": "orders/create", "type": "order.created"}, {"when": "*", "type": "{source}.x.{topic}"}]})),
            webhooks: vec![json!({"status": "active", "events": ["order.*"]})],
            rejections: Vec::new(),
            last_event: Some(
                json!({"id": "evt_1", "type": "order.created", "received_at": "2026-01-31T12:00:00.000Z"}),
            ),
            handshakes: Some(1),
        }
    }

    fn change(facts: &mut SourceFacts, name: &str, value: Value) {
        facts.source.as_mut().unwrap()[name] = value;
    }

    #[test]
    fn a_complete_source_is_ready() {
        let found = facts().evaluate();
        assert_eq!(found.lacks, [""; 0]);
        assert_eq!(
            found.notes,
            [
                "1 secret in force",
                "the URL to give to the sender is https://hooks.example.com/api/v1/webhooks/shop",
                "1 webhook may match its events",
                "its handshake was answered (1 since the server's start)",
                "the last event was accepted at 2026-01-31T12:00:00.000Z: order.created (evt_1)",
            ]
        );
    }

    #[test]
    fn each_lack_is_a_sentence() {
        type Change = fn(&mut SourceFacts);
        let cases: [(Change, &str); 9] = [
            (|facts| facts.source = None, "it is not configured: "),
            (|facts| change(facts, "status", json!("SUSPENDED")), "it is suspended: "),
            (|facts| change(facts, "deleted_at", json!("2026-01-31T12:00:00.000Z")), "it has been deleted: "),
            (
                |facts| change(facts, "url", json!("http://127.0.0.1:8080/x")),
                "a public URL: http://127.0.0.1:8080/x is an address of this machine",
            ),
            (
                |facts| change(facts, "url", json!("http://10.0.0.1/x")),
                "a public URL: http://10.0.0.1/x is an address of a private network",
            ),
            (
                |facts| facts.webhooks[0]["events"] = json!(["product.*"]),
                "a webhook: nobody subscribes to what its events become, order.created, shop.x.*, shop.*",
            ),
            (|facts| facts.webhooks[0]["status"] = json!("failed"), "a webhook: nobody subscribes"),
            (|facts| (facts.handshakes, facts.last_event) = (Some(0), None), "its handshake (slack-challenge): "),
            (
                |facts| {
                    facts.rejections = vec![json!({"at": "2026-01-31T12:00:01.000Z", "status": 401, "reason": "no"})];
                },
                "a request that is believed since: 1 request was refused, the last at 2026-01-31T12:00:01.000Z (401); mostly, 1 of 1: no",
            ),
        ];
        for (change, wanted) in cases {
            let mut facts = facts();
            change(&mut facts);
            let lacks = facts.evaluate().lacks;
            assert_eq!(lacks.len(), 1, "{lacks:?}");
            assert!(lacks[0].starts_with(wanted), "{lacks:?}");
        }
    }

    #[test]
    fn rejections_before_the_last_event_are_a_note_with_the_most_common_reason() {
        let rejection =
            |n: u32, reason| json!({"at": format!("2026-01-31T11:00:0{n}.000Z"), "status": 401, "reason": reason});
        let rejections = vec![rejection(3, "old"), rejection(2, "wrong"), rejection(1, "wrong")];
        let found = SourceFacts { rejections, ..facts() }.evaluate();
        assert_eq!(found.lacks, [""; 0]);
        let summary = "3 requests were refused, the last at 2026-01-31T11:00:03.000Z (401); mostly, 2 of 3: wrong";
        assert_eq!(found.notes.last().unwrap(), summary);
    }

    #[test]
    fn type_templates_give_the_produced_types() {
        let made = |template: &str| {
            types(&json!({"name": "shop", "event_map": [{"when": "*", "type": template}]}))[0].to_string()
        };
        for (template, becomes) in [
            ("a", "a"),
            ("{source}", "shop"),
            ("{source}.a", "shop.a"),
            ("{topic}", "*"),
            ("x.{topic}.{source}", "x.*"),
            ("{source}.{topic}.a", "shop.*"),
            // A placeholder of a newer server.
            ("a.{source}.{tenant}.{topic}", "a.shop.*"),
        ] {
            assert_eq!(made(template), becomes, "{template}");
        }
    }

    #[test]
    fn patterns_match_produced_types() {
        let below = ProducedType::Prefix("shop.".into());
        for (pattern, meets) in
            [("*", true), ("shop.*", true), ("shop.orders.*", true), ("shop.orders", true), ("sho.*", false)]
        {
            assert_eq!(below.may_match(pattern), meets, "{pattern}");
        }
        let one = ProducedType::Exact("order.created".into());
        for (pattern, meets) in
            [("*", true), ("order.*", true), ("order.created", true), ("order", false), ("order.created.*", false)]
        {
            assert_eq!(one.may_match(pattern), meets, "{pattern}");
        }
    }

    #[test]
    fn handshakes_are_counted_for_the_source_alone() {
        let metrics = "# TYPE hooktide_inbound_total counter\nhooktide_inbound_total{result=\"handshake\",source=\"slack\"} 3\n\
                       hooktide_inbound_total{result=\"accepted\",source=\"zoom\"} 9\n";
        assert_eq!(handshakes(metrics, "slack"), Some(3));
        assert_eq!(handshakes(metrics, "zoom"), Some(0));
        assert_eq!(handshakes("", "slack"), None);
    }
}
