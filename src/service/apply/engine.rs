//! The apply engine: reads each resource, previews its change and then applies it.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::subscriptions::{SubscriptionStep, steps};
use super::target::{ApplyTarget, JsonObject, TargetError};
use super::{
    ApplyError, ApplyItem, ApplyOutcome, ApplyReport, DeclarationFile, DeclaredWebhook, Difference, SET_METADATA_KEY,
};

/// The fields of an event type that are compared.
const TYPE_FIELDS: [&str; 7] =
    ["category", "description", "schema", "example", "deprecated", "replaced_by", "validate"];
const WEBHOOK: &str = "webhook";
const EVENT_TYPE: &str = "event type";

/// Options of an apply.
#[derive(Debug, Clone, Copy, Default)]
pub struct ApplyOptions {
    /// Change nothing. The report says what would be changed.
    pub dry_run: bool,
    /// Delete webhooks that the file no longer declares.
    pub prune: bool,
}

/// Makes the server's resources match the file.
///
/// Event types are created before webhooks are planned, because webhooks may name them. No webhook is changed while a
/// plan of any webhook has an error.
///
/// # Errors
/// All errors that were found, or the first call that failed.
pub async fn apply(
    declared: &DeclarationFile,
    target: &impl ApplyTarget,
    options: ApplyOptions,
) -> Result<ApplyReport, ApplyError> {
    let run = ApplyRun { declared, target, is_dry: options.dry_run };
    let mut report = ApplyReport::default();
    run.event_types(&mut report).await?;
    let mut plans = Vec::with_capacity(declared.webhooks.len());
    let mut errors = Vec::new();
    for (n, webhook) in declared.webhooks.iter().enumerate() {
        match run.plan(n, webhook).await {
            Ok(plan) => plans.push(plan),
            Err(ApplyError::Invalid(found)) => errors.extend(found),
            Err(error) => return Err(error),
        }
    }
    if !errors.is_empty() {
        return Err(ApplyError::Invalid(errors));
    }
    for plan in plans {
        report.items.push(run.apply_plan(plan).await?);
    }
    run.prune(options.prune || declared.prune, &mut report).await?;
    Ok(report)
}

struct ApplyRun<'a, T> {
    declared: &'a DeclarationFile,
    target: &'a T,
    is_dry: bool,
}

/// The planned changes of one webhook.
struct WebhookPlan<'a> {
    /// The index of the webhook in the file.
    n: usize,
    webhook: &'a DeclaredWebhook,
    body: JsonObject,
    /// The differences; `None` if the webhook is new.
    changes: Option<Vec<Difference>>,
    rotates: bool,
    steps: Vec<SubscriptionStep>,
}

impl<T: ApplyTarget> ApplyRun<'_, T> {
    /// Converts a refusal into errors that locate each field in the file.
    fn located<R>(&self, answer: Result<R, TargetError>, at: &[String]) -> Result<R, ApplyError> {
        let refusal = match answer {
            Ok(answer) => return Ok(answer),
            Err(TargetError::Failed(failed)) => return Err(failed.into()),
            Err(TargetError::Refused(refusal)) => refusal,
        };
        let mut errors = Vec::with_capacity(refusal.errors.len().max(1));
        for error in refusal.errors {
            let parts = error.pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"));
            let path: Vec<_> = at.iter().cloned().chain(parts).collect();
            errors.push(self.declared.error_at(&path, error.detail));
        }
        if errors.is_empty() {
            errors.push(self.declared.error_at(at, refusal.message));
        }
        Err(ApplyError::Invalid(errors))
    }

    async fn event_types(&self, report: &mut ApplyReport) -> Result<(), ApplyError> {
        for (n, body) in self.declared.event_types.iter().enumerate() {
            let at = ["event_types".to_owned(), n.to_string()];
            let name = body["name"].as_str().unwrap_or_default().to_owned();
            let present = self.located(self.target.event_type(&name).await, &at)?;
            let differences = present.as_ref().map(|present| different_type(present, body));
            if differences.as_ref().is_none_or(|differences| !differences.is_empty()) {
                self.located(self.target.put_event_type(&name, body, self.is_dry).await, &at)?;
            }
            let outcome = outcome(differences, None);
            report.items.push(ApplyItem { kind: EVENT_TYPE, name, outcome });
        }
        Ok(())
    }

    /// Plans the changes of a webhook. Nothing is changed.
    async fn plan<'w>(&self, n: usize, webhook: &'w DeclaredWebhook) -> Result<WebhookPlan<'w>, ApplyError> {
        let (at, uid) = (webhook_path(n), &webhook.uid);
        let body = self.body(webhook);
        let wanted = webhook.subscriptions.as_deref();
        let Some(present) = self.located(self.target.webhook(uid).await, &at)? else {
            let mut new = body;
            if let Some(secret) = &webhook.secret {
                new.insert("secret".to_owned(), secret.reveal().into());
            }
            self.located(self.target.check_new_webhook(&new).await, &at)?;
            let steps = steps(&[], wanted.unwrap_or_default()).0;
            return Ok(WebhookPlan { n, webhook, body: new, changes: None, rotates: false, steps });
        };
        let preview = self.located(self.target.preview_webhook(uid, &body).await, &at)?;
        let value = |of: &JsonObject, field: &str| of.get(field).filter(|value| !value.is_null()).cloned();
        let difference = |field: &String| Difference {
            field: field.clone(),
            from: value(&present, field),
            to: value(&preview.document, field),
        };
        let mut changes: Vec<_> = preview.changed.iter().map(difference).collect();
        let rotates = webhook.secret.as_ref().is_some_and(|secret| !matches_hint(secret.reveal(), &present));
        if rotates {
            changes.push(Difference { field: "secret".to_owned(), from: None, to: None });
        }
        let mut plan = WebhookPlan { n, webhook, body, changes: None, rotates, steps: Vec::new() };
        if let Some(wanted) = wanted {
            let present = self.located(self.target.subscriptions(uid).await, &at)?;
            let (steps, differences) = steps(&present, wanted);
            changes.extend(differences);
            plan.steps = steps;
        }
        Ok(WebhookPlan { changes: Some(changes), ..plan })
    }

    /// The document of the webhook, with the file's set in its metadata.
    fn body(&self, webhook: &DeclaredWebhook) -> JsonObject {
        let mut body = webhook.body.clone();
        body.insert("uid".to_owned(), webhook.uid.as_str().into());
        let metadata = body.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(metadata) = metadata {
            metadata.insert(SET_METADATA_KEY.to_owned(), self.declared.set.as_str().into());
        }
        body
    }

    async fn apply_plan(&self, plan: WebhookPlan<'_>) -> Result<ApplyItem, ApplyError> {
        let WebhookPlan { n, webhook, mut body, changes, rotates, steps } = plan;
        let (at, uid) = (webhook_path(n), &webhook.uid);
        let mut secret = None;
        if !self.is_dry {
            let is_new = changes.is_none();
            if is_new {
                if let Some(tenant) = &self.declared.tenant {
                    body.insert("tenant".to_owned(), tenant.as_str().into());
                }
                let made = self.located(self.target.create_webhook(&body).await, &at)?;
                // A secret that the file refers to is already known to the user.
                secret = made.filter(|_| webhook.secret.is_none()).map(|secret| secret.reveal().to_owned());
            } else if changes.iter().flatten().any(|change| is_field(&change.field)) {
                self.located(self.target.replace_webhook(uid, &body).await, &at)?;
            }
            if let Some(given) = webhook.secret.as_ref().filter(|_| rotates) {
                let secret_at: Vec<_> = at.iter().cloned().chain(["secret".to_owned()]).collect();
                self.located(self.target.set_secret(uid, given).await, &secret_at)?;
            }
            self.subscribe(uid, &at, steps).await?;
        }
        Ok(ApplyItem { kind: WEBHOOK, name: webhook.uid.clone(), outcome: outcome(changes, secret) })
    }

    async fn subscribe(&self, uid: &str, at: &[String], steps: Vec<SubscriptionStep>) -> Result<(), ApplyError> {
        let at =
            |n: usize| -> Vec<_> { at.iter().cloned().chain(["subscriptions".to_owned(), n.to_string()]).collect() };
        for step in steps {
            let (answer, n) = match step {
                SubscriptionStep::Create(n, document) => (self.target.create_subscription(uid, &document).await, n),
                SubscriptionStep::Replace(n, id, document) => {
                    (self.target.replace_subscription(uid, &id, &document).await, n)
                }
                SubscriptionStep::Delete(id) => (self.target.delete_subscription(uid, &id).await, 0),
            };
            self.located(answer, &at(n))?;
        }
        Ok(())
    }

    /// Reports webhooks of the file's set that the file no longer declares, and deletes them if `prune` is set.
    async fn prune(&self, prune: bool, report: &mut ApplyReport) -> Result<(), ApplyError> {
        let declared: HashSet<_> = self.declared.webhooks.iter().map(|webhook| webhook.uid.as_str()).collect();
        for webhook in self.located(self.target.webhooks().await, &[])? {
            let text = |key: &str| webhook.get(key).and_then(Value::as_str);
            let Some(uid) = text("uid") else { continue };
            let set = webhook.get("metadata").and_then(|metadata| metadata[SET_METADATA_KEY].as_str());
            if set != Some(&self.declared.set) || declared.contains(uid) {
                continue;
            }
            // If the file names no tenant, a key of all tenants sees the webhooks of every tenant.
            let tenant = text("tenant").unwrap_or_default();
            if self.declared.tenant.as_deref().unwrap_or(tenant) != tenant {
                continue;
            }
            if prune && !self.is_dry {
                self.located(self.target.delete_webhook(text("id").unwrap_or_default()).await, &[])?;
            }
            let outcome = if prune { ApplyOutcome::Removed } else { ApplyOutcome::NotPruned };
            report.items.push(ApplyItem { kind: WEBHOOK, name: uid.to_owned(), outcome });
        }
        Ok(())
    }
}

fn webhook_path(n: usize) -> [String; 2] {
    ["webhooks".to_owned(), n.to_string()]
}

/// Whether a difference concerns the webhook itself, and not its secret or a subscription.
fn is_field(field: &str) -> bool {
    field != "secret" && !field.starts_with("subscription ")
}

fn outcome(changes: Option<Vec<Difference>>, secret: Option<String>) -> ApplyOutcome {
    match changes {
        None => ApplyOutcome::Added { secret },
        Some(changes) if changes.is_empty() => ApplyOutcome::Unchanged,
        Some(changes) => ApplyOutcome::Changed(changes),
    }
}

/// Whether a secret matches the hint of the webhook: the last characters of the current secret. The API never returns
/// the secret.
fn matches_hint(secret: &str, webhook: &JsonObject) -> bool {
    let hint = webhook.get("secret_hint").and_then(Value::as_str).unwrap_or_default();
    let end = hint.rsplit('…').next().unwrap_or_default();
    secret.ends_with(end)
}

/// The fields of an event type that differ from the file. A field that the file omits has its default.
fn different_type(present: &JsonObject, body: &JsonObject) -> Vec<Difference> {
    let nothing = |value: &&Value| !value.is_null() && **value != Value::Bool(false);
    let difference = |field: &&str| {
        let (from, to) = (present.get(*field).filter(nothing), body.get(*field).filter(nothing));
        (from != to).then(|| Difference { field: (*field).to_owned(), from: from.cloned(), to: to.cloned() })
    };
    TYPE_FIELDS.iter().filter_map(difference).collect()
}
