//! From what is there to what is declared: read, have each change previewed, and carry it out.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::subscriptions::{Step, steps};
use super::target::{Document, Target, TargetError};
use super::{ApplyError, Declared, Difference, Item, MARK, Outcome, Report, Webhook};

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
pub async fn apply(declared: &Declared, target: &impl Target, options: Options) -> Result<Report, ApplyError> {
    let run = Run { declared, target, is_dry: options.dry_run };
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

struct Run<'a, T> {
    declared: &'a Declared,
    target: &'a T,
    is_dry: bool,
}

/// What is to become of a webhook.
struct Plan<'a> {
    /// Its place in the file.
    n: usize,
    webhook: &'a Webhook,
    body: Document,
    /// `None`: it is new.
    changes: Option<Vec<Difference>>,
    rotates: bool,
    steps: Vec<Step>,
}

impl<T: Target> Run<'_, T> {
    /// A refusal names each field where it stands in the file.
    fn good<R>(&self, answer: Result<R, TargetError>, at: &[String]) -> Result<R, ApplyError> {
        let refusal = match answer {
            Ok(answer) => return Ok(answer),
            Err(TargetError::Failed(failed)) => return Err(failed.into()),
            Err(TargetError::Refused(refusal)) => refusal,
        };
        let mut faults = Vec::with_capacity(refusal.errors.len().max(1));
        for error in refusal.errors {
            let parts = error.pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"));
            let path: Vec<_> = at.iter().cloned().chain(parts).collect();
            faults.push(self.declared.fault(&path, error.detail));
        }
        if faults.is_empty() {
            faults.push(self.declared.fault(at, refusal.message));
        }
        Err(ApplyError::Faults(faults))
    }

    async fn event_types(&self, report: &mut Report) -> Result<(), ApplyError> {
        for (n, body) in self.declared.event_types.iter().enumerate() {
            let at = ["event_types".to_owned(), n.to_string()];
            let name = body["name"].as_str().unwrap_or_default().to_owned();
            let present = self.good(self.target.event_type(&name).await, &at)?;
            let differences = present.as_ref().map(|present| different_type(present, body));
            if differences.as_ref().is_none_or(|differences| !differences.is_empty()) {
                self.good(self.target.put_event_type(&name, body, self.is_dry).await, &at)?;
            }
            let outcome = outcome(differences, None);
            report.items.push(Item { kind: EVENT_TYPE, name, outcome });
        }
        Ok(())
    }

    /// What would become of a webhook.
    async fn plan<'w>(&self, n: usize, webhook: &'w Webhook) -> Result<Plan<'w>, ApplyError> {
        let (at, uid) = (place(n), &webhook.uid);
        let body = self.body(webhook);
        let wanted = webhook.subscriptions.as_deref();
        let Some(present) = self.good(self.target.webhook(uid).await, &at)? else {
            let mut new = body;
            if let Some(secret) = &webhook.secret {
                new.insert("secret".to_owned(), secret.reveal().into());
            }
            self.good(self.target.check_new_webhook(&new).await, &at)?;
            let steps = steps(&[], wanted.unwrap_or_default()).0;
            return Ok(Plan { n, webhook, body: new, changes: None, rotates: false, steps });
        };
        let preview = self.good(self.target.preview_webhook(uid, &body).await, &at)?;
        let value = |of: &Document, field: &str| of.get(field).filter(|value| !value.is_null()).cloned();
        let difference = |field: &String| Difference {
            field: field.clone(),
            from: value(&present, field),
            to: value(&preview.document, field),
        };
        let mut changes: Vec<_> = preview.changed.iter().map(difference).collect();
        let rotates = webhook.secret.as_ref().is_some_and(|secret| !fits_hint(secret.reveal(), &present));
        if rotates {
            changes.push(Difference { field: "secret".to_owned(), from: None, to: None });
        }
        let mut plan = Plan { n, webhook, body, changes: None, rotates, steps: Vec::new() };
        if let Some(wanted) = wanted {
            let present = self.good(self.target.subscriptions(uid).await, &at)?;
            let (steps, differences) = steps(&present, wanted);
            changes.extend(differences);
            plan.steps = steps;
        }
        Ok(Plan { changes: Some(changes), ..plan })
    }

    /// The webhook's document, marked as this file's.
    fn body(&self, webhook: &Webhook) -> Document {
        let mut body = webhook.body.clone();
        body.insert("uid".to_owned(), webhook.uid.as_str().into());
        let metadata = body.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(metadata) = metadata {
            metadata.insert(MARK.to_owned(), self.declared.set.as_str().into());
        }
        body
    }

    async fn carry_out(&self, plan: Plan<'_>) -> Result<Item, ApplyError> {
        let Plan { n, webhook, mut body, changes, rotates, steps } = plan;
        let (at, uid) = (place(n), &webhook.uid);
        let mut secret = None;
        if !self.is_dry {
            let is_new = changes.is_none();
            if is_new {
                if let Some(tenant) = &self.declared.tenant {
                    body.insert("tenant".to_owned(), tenant.as_str().into());
                }
                let made = self.good(self.target.create_webhook(&body).await, &at)?;
                // One that the file refers to is known already.
                secret = made.filter(|_| webhook.secret.is_none()).map(|secret| secret.reveal().to_owned());
            } else if changes.iter().flatten().any(|change| is_field(&change.field)) {
                self.good(self.target.replace_webhook(uid, &body).await, &at)?;
            }
            if let Some(given) = webhook.secret.as_ref().filter(|_| rotates) {
                let secret_at: Vec<_> = at.iter().cloned().chain(["secret".to_owned()]).collect();
                self.good(self.target.set_secret(uid, given).await, &secret_at)?;
            }
            self.subscribe(uid, &at, steps).await?;
        }
        Ok(Item { kind: WEBHOOK, name: webhook.uid.clone(), outcome: outcome(changes, secret) })
    }

    async fn subscribe(&self, uid: &str, at: &[String], steps: Vec<Step>) -> Result<(), ApplyError> {
        let at =
            |n: usize| -> Vec<_> { at.iter().cloned().chain(["subscriptions".to_owned(), n.to_string()]).collect() };
        for step in steps {
            let (answer, n) = match step {
                Step::Make(n, document) => (self.target.create_subscription(uid, &document).await, n),
                Step::Replace(n, id, document) => (self.target.replace_subscription(uid, &id, &document).await, n),
                Step::Remove(id) => (self.target.delete_subscription(uid, &id).await, 0),
            };
            self.good(answer, &at(n))?;
        }
        Ok(())
    }

    /// Webhooks that an earlier file of this set made, and this one does not name.
    async fn prune(&self, prune: bool, report: &mut Report) -> Result<(), ApplyError> {
        let declared: HashSet<_> = self.declared.webhooks.iter().map(|webhook| webhook.uid.as_str()).collect();
        for webhook in self.good(self.target.webhooks().await, &[])? {
            let text = |key: &str| webhook.get(key).and_then(Value::as_str);
            let Some(uid) = text("uid") else { continue };
            let set = webhook.get("metadata").and_then(|metadata| metadata[MARK].as_str());
            if set != Some(&self.declared.set) || declared.contains(uid) {
                continue;
            }
            // Without a tenant in the file, a key of all tenants would see everybody's.
            let tenant = text("tenant").unwrap_or_default();
            if self.declared.tenant.as_deref().unwrap_or(tenant) != tenant {
                continue;
            }
            if prune && !self.is_dry {
                self.good(self.target.delete_webhook(text("id").unwrap_or_default()).await, &[])?;
            }
            let outcome = if prune { Outcome::Removed } else { Outcome::Left };
            report.items.push(Item { kind: WEBHOOK, name: uid.to_owned(), outcome });
        }
        Ok(())
    }
}

fn place(n: usize) -> [String; 2] {
    ["webhooks".to_owned(), n.to_string()]
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
fn fits_hint(secret: &str, webhook: &Document) -> bool {
    let hint = webhook.get("secret_hint").and_then(Value::as_str).unwrap_or_default();
    let end = hint.rsplit('…').next().unwrap_or_default();
    secret.ends_with(end)
}

/// The fields of an event type that the file has otherwise; what it does not say is the default.
fn different_type(present: &Document, body: &Document) -> Vec<Difference> {
    let nothing = |value: &&Value| !value.is_null() && **value != Value::Bool(false);
    let difference = |field: &&str| {
        let (from, to) = (present.get(*field).filter(nothing), body.get(*field).filter(nothing));
        (from != to).then(|| Difference { field: (*field).to_owned(), from: from.cloned(), to: to.cloned() })
    };
    TYPE_FIELDS.iter().filter_map(difference).collect()
}
