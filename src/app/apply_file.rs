//! `apply = "webhooks.toml"`: the service applies the declared webhooks at the start and at each reload. If the service
//! refuses them the server continues, because the events must not wait for one webhook.

use crate::api;
use crate::model::{Principal, Role};
use crate::service::Service;
use crate::service::apply::{ApplyError, ApplyOptions, ApplyOutcome, DeclarationFile, InProcessTarget, apply};

/// The actor in the audit log.
const NAME: &str = "the configuration file";

/// Applies a file of declared webhooks, and logs the result.
pub(super) async fn run(service: &Service, declared: &DeclarationFile) {
    let principal = Principal { name: NAME.into(), ..Principal::new(None, Role::Admin) };
    let target = InProcessTarget::new(service, principal, declared, api::describe);
    match apply(declared, &target, ApplyOptions::default()).await {
        Ok(report) => {
            for item in &report.items {
                if let ApplyOutcome::Added { secret: Some(_) } = item.outcome {
                    tracing::info!(
                        webhook = item.name,
                        "a secret was made for a declared webhook; regenerate-secret shows another one"
                    );
                }
            }
            let [added, changed, unchanged, removed, left] = report.counts();
            tracing::info!(added, changed, unchanged, removed, left, "the declared webhooks are applied");
        }
        Err(ApplyError::Invalid(faults)) => {
            for fault in faults {
                tracing::error!(%fault, "the declared webhooks are not applied");
            }
        }
        Err(error) => tracing::error!(%error, "the declared webhooks are not applied"),
    }
}
