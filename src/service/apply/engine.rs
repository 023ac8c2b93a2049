//! From what is there to what is declared: read, have each change previewed, and carry it out.

use std::collections::HashSet;

use hyper::Method;
use serde_json::{Map, Value, json};
use url::form_urlencoded::byte_serialize;

use super::subscriptions::{Step, steps};
use super::{ApplyError, Declared, Difference, Fault, Interface, Item, MARK, Outcome, Report, Webhook};
use crate::limits::PAGE_ROWS_MAX;
use crate::model::path::{EVENT_TYPES, WEBHOOKS};

/// What of an event type is compared.
const TYPE_FIELDS: [&str; 7] =
    ["category", "description", "schema", "example", "deprecated", "replaced_by", "validate"];
const WEBHOOK: &str = "webhook";
const EVENT_TYPE: &str = "event type";

/// How a file is applied.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Nothing is changed; the report says what would be.
    pub dry_run: bool,
    /// What the file declares no more is removed.
    pub prune: bool,
}

/// Makes things as the file declares them.
///
/// # Errors
/// Everything that was found wrong. Event types are made before webhooks are looked at, which may name them; no webhook is
/// touched while one has a fault that can be seen beforehand.
pub async fn apply(declared: &Declared, interface: &impl Interface, options: Options) -> Result<Report, ApplyError> {
    let run = Run { declared, interface, is_dry: options.dry_run };
    let mut report = Report::default();
    run.event_types(&mut report).await?;
    let mut plans = Vec::with_capacity(declared.webhooks.len());
    let mut faults = Vec::new();
    for (n, webhook) in declared.webhooks.iter().enumerate() {
        match run.plan(n, webhook).await {
            Ok(plan) => plans.push(plan),
            Err(ApplyError::Faults(found)) => faults.extend(found),
            Err(error) => return Err(error),
        }
    }
    if !faults.is_empty() {
        return Err(ApplyError::Faults(faults));
    }
    for plan in plans {
        report.items.push(run.carry_out(plan).await?);
    }
    run.prune(options.prune || declared.prune, &mut report).await?;
    Ok(report)
}

struct Run<'a, I> {
    declared: &'a Declared,
    interface: &'a I,
    is_dry: bool,
}

/// What is to become of a webhook.
struct Plan<'a> {
    /// Its place in the file.
    n: usize,
    webhook: &'a Webhook,
    body: Value,
    /// `None`: it is new.
    changes: Option<Vec<Difference>>,
    rotates: bool,
    steps: Vec<Step>,
}

impl<I: Interface> Run<'_, I> {
    /// The path with the file's tenant.
    fn path(&self, path: &str, query: &str) -> String {
        let tenant = self.declared.tenant.as_deref().map(|tenant| {
            let escaped: String = byte_serialize(tenant.as_bytes()).collect();
            format!("tenant={escaped}")
        });
        let query = [tenant.as_deref().unwrap_or_default(), query].into_iter().filter(|part| !part.is_empty());
        let query = query.collect::<Vec<_>>().join("&");
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
    }

    /// A thing, if it is there.
    async fn read(&self, path: &str, at: &[String]) -> Result<Option<Value>, ApplyError> {
        match self.interface.call(Method::GET, &self.path(path, ""), None).await? {
            (404, _) => Ok(None),
            answer => self.good(answer, at).map(Some),
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        query: &str,
        body: Option<&Value>,
        at: &[String],
    ) -> Result<Value, ApplyError> {
        let answer = self.interface.call(method, &self.path(path, query), body).await?;
        self.good(answer, at)
    }

    /// An answer that is no refusal; of a refusal each field is named where it stands in the file.
    fn good(&self, (status, answer): (u16, Value), at: &[String]) -> Result<Value, ApplyError> {
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let errors = answer["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        let fault = |error: &Value| {
            let pointer = error["pointer"].as_str().unwrap_or_default();
            let parts = pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"));
            let path: Vec<_> = at.iter().cloned().chain(parts).collect();
            self.declared.fault(&path, error["detail"].as_str().unwrap_or_default())
        };
        let mut faults: Vec<Fault> = errors.iter().map(fault).collect();
        if faults.is_empty() {
            let code = answer["code"].as_str().unwrap_or("no code");
            let detail = answer["detail"].as_str().unwrap_or_default();
            faults.push(self.declared.fault(at, format!("the server answered {status} {code}: {detail}")));
        }
        Err(ApplyError::Faults(faults))
    }

    async fn event_types(&self, report: &mut Report) -> Result<(), ApplyError> {
        for (n, body) in self.declared.event_types.iter().enumerate() {
            let at = ["event_types".to_owned(), n.to_string()];
            let name = body["name"].as_str().unwrap_or_default().to_owned();
            let path = format!("{EVENT_TYPES}/{}", escaped(&name));
            let present = self.read(&path, &at).await?;
            let differences = present.as_ref().map(|present| different_type(present, body));
            if differences.as_ref().is_none_or(|differences| !differences.is_empty()) {
                let query = if self.is_dry { "dry_run=true" } else { "" };
                self.call(Method::PUT, &path, query, Some(&Value::Object(body.clone())), &at).await?;
            }
            let outcome = outcome(differences, None);
            report.items.push(Item { kind: EVENT_TYPE, name, outcome });
        }
        Ok(())
    }

    /// What would become of a webhook.
    async fn plan<'w>(&self, n: usize, webhook: &'w Webhook) -> Result<Plan<'w>, ApplyError> {
        let at = place(n);
        let path = webhook_path(&webhook.uid);
        let body = self.body(webhook);
        let wanted = webhook.subscriptions.as_deref();
        let Some(present) = self.read(&path, &at).await? else {
            let mut new = body.clone();
            if let (Some(secret), Some(fields)) = (&webhook.secret, new.as_object_mut()) {
                fields.insert("secret".to_owned(), secret.reveal().into());
            }
            self.call(Method::POST, WEBHOOKS, "dry_run=true", Some(&new), &at).await?;
            let steps = steps(&[], wanted.unwrap_or_default()).0;
            return Ok(Plan { n, webhook, body: new, changes: None, rotates: false, steps });
        };
        let preview = self.call(Method::PUT, &path, "dry_run=true", Some(&body), &at).await?;
        let names = preview["changed"].as_array().map(Vec::as_slice).unwrap_or_default();
        let value = |of: &Value, field: &str| of.get(field).filter(|value| !value.is_null()).cloned();
        let difference = |field: &str| Difference {
            field: field.to_owned(),
            from: value(&present, field),
            to: value(&preview, field),
        };
        let mut changes: Vec<_> = names.iter().filter_map(Value::as_str).map(difference).collect();
        let rotates = webhook.secret.as_ref().is_some_and(|secret| !fits_hint(secret.reveal(), &present));
        if rotates {
            changes.push(Difference { field: "secret".to_owned(), from: None, to: None });
        }
        let mut plan = Plan { n, webhook, body, changes: None, rotates, steps: Vec::new() };
        if let Some(wanted) = wanted {
            let present = self.all(&format!("{path}/subscriptions"), &at).await?;
            let (steps, differences) = steps(&present, wanted);
            changes.extend(differences);
            plan.steps = steps;
        }
        Ok(Plan { changes: Some(changes), ..plan })
    }

    /// The webhook as the interface takes it, marked as this file's.
    fn body(&self, webhook: &Webhook) -> Value {
        let mut body = webhook.body.clone();
        body.insert("uid".to_owned(), webhook.uid.as_str().into());
        let metadata = body.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(metadata) = metadata {
            metadata.insert(MARK.to_owned(), self.declared.set.as_str().into());
        }
        Value::Object(body)
    }

    async fn carry_out(&self, plan: Plan<'_>) -> Result<Item, ApplyError> {
        let Plan { n, webhook, mut body, changes, rotates, steps } = plan;
        let (at, path) = (place(n), webhook_path(&webhook.uid));
        let mut secret = None;
        if !self.is_dry {
            let is_new = changes.is_none();
            if is_new {
                if let (Some(tenant), Some(fields)) = (&self.declared.tenant, body.as_object_mut()) {
                    fields.insert("tenant".to_owned(), tenant.as_str().into());
                }
                let made = self.call(Method::POST, WEBHOOKS, "", Some(&body), &at).await?;
                // One that the file refers to is known already.
                secret = made["secret"].as_str().filter(|_| webhook.secret.is_none()).map(str::to_owned);
            } else if changes.iter().flatten().any(|change| is_field(&change.field)) {
                self.call(Method::PUT, &path, "", Some(&body), &at).await?;
            }
            if let Some(given) = webhook.secret.as_ref().filter(|_| rotates) {
                let body = json!({ "secret": given.reveal() });
                let secret_at: Vec<_> = at.iter().cloned().chain(["secret".to_owned()]).collect();
                self.call(Method::POST, &format!("{path}/regenerate-secret"), "", Some(&body), &secret_at).await?;
            }
            self.subscribe(&path, &at, steps).await?;
        }
        Ok(Item { kind: WEBHOOK, name: webhook.uid.clone(), outcome: outcome(changes, secret) })
    }

    async fn subscribe(&self, path: &str, at: &[String], steps: Vec<Step>) -> Result<(), ApplyError> {
        let all = format!("{path}/subscriptions");
        let at =
            |n: usize| -> Vec<_> { at.iter().cloned().chain(["subscriptions".to_owned(), n.to_string()]).collect() };
        for step in steps {
            match step {
                Step::Make(n, body) => self.call(Method::POST, &all, "", Some(&body), &at(n)).await?,
                Step::Replace(n, id, body) => {
                    self.call(Method::PUT, &format!("{all}/{id}"), "", Some(&body), &at(n)).await?
                }
                Step::Remove(id) => self.call(Method::DELETE, &format!("{all}/{id}"), "", None, &at(0)).await?,
            };
        }
        Ok(())
    }

    /// Webhooks that an earlier file of this set made, and this one does not name.
    async fn prune(&self, prune: bool, report: &mut Report) -> Result<(), ApplyError> {
        let declared: HashSet<_> = self.declared.webhooks.iter().map(|webhook| webhook.uid.as_str()).collect();
        for webhook in self.all(WEBHOOKS, &[]).await? {
            let Some(uid) = webhook["uid"].as_str() else { continue };
            if webhook["metadata"][MARK] != self.declared.set.as_str() || declared.contains(uid) {
                continue;
            }
            // Without a tenant in the file, a key of all tenants would see everybody's.
            let tenant = webhook["tenant"].as_str().unwrap_or_default();
            if self.declared.tenant.as_deref().unwrap_or(tenant) != tenant {
                continue;
            }
            if prune && !self.is_dry {
                let id = webhook["id"].as_str().unwrap_or_default();
                self.call(Method::DELETE, &webhook_path(id), "", None, &[]).await?;
            }
            let outcome = if prune { Outcome::Removed } else { Outcome::Left };
            report.items.push(Item { kind: WEBHOOK, name: uid.to_owned(), outcome });
        }
        Ok(())
    }

    /// All rows of a list.
    async fn all(&self, path: &str, at: &[String]) -> Result<Vec<Value>, ApplyError> {
        let mut rows = Vec::new();
        let mut query = format!("limit={PAGE_ROWS_MAX}");
        loop {
            let mut page = self.call(Method::GET, path, &query, None, at).await?;
            if let Some(Value::Array(data)) = page.get_mut("data") {
                rows.append(data);
            }
            let Some(cursor) = page["next_cursor"].as_str() else { return Ok(rows) };
            query = format!("limit={PAGE_ROWS_MAX}&cursor={}", escaped(cursor));
        }
    }
}

fn place(n: usize) -> [String; 2] {
    ["webhooks".to_owned(), n.to_string()]
}

fn webhook_path(id: &str) -> String {
    format!("{WEBHOOKS}/{id}")
}

fn escaped(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

/// Whether a difference is of the webhook itself.
fn is_field(field: &str) -> bool {
    field != "secret" && !field.starts_with("subscription ")
}

fn outcome(changes: Option<Vec<Difference>>, secret: Option<String>) -> Outcome {
    match changes {
        None => Outcome::Added { secret },
        Some(changes) if changes.is_empty() => Outcome::Unchanged,
        Some(changes) => Outcome::Changed(changes),
    }
}

/// A secret is never told, so it is known by its hint: the last characters of the one in force.
fn fits_hint(secret: &str, webhook: &Value) -> bool {
    let hint = webhook["secret_hint"].as_str().unwrap_or_default();
    let end = hint.rsplit('…').next().unwrap_or_default();
    secret.ends_with(end)
}

/// The fields of an event type that the file has otherwise; what it does not say is the default.
fn different_type(present: &Value, body: &Map<String, Value>) -> Vec<Difference> {
    let nothing = |value: &&Value| !value.is_null() && **value != Value::Bool(false);
    let difference = |field: &&str| {
        let (from, to) = (present.get(*field).filter(nothing), body.get(*field).filter(nothing));
        (from != to).then(|| Difference { field: (*field).to_owned(), from: from.cloned(), to: to.cloned() })
    };
    TYPE_FIELDS.iter().filter_map(difference).collect()
}
