//! `apply = "webhooks.toml"`: what a file declares is made in process, by the service, at the start and at each reload. A
//! server goes on without what is refused: its events must not wait for one webhook.

use crate::api;
use crate::model::{Principal, Role};
use crate::service::Service;
use crate::service::apply::{ApplyError, Declared, InProcess, Options, Outcome, apply};

/// Who changes things, in the audit log.
const NAME: &str = "the configuration file";

/// Applies a file, and logs what came of it.
pub(super) async fn run(service: &Service, declared: &Declared) {
    let principal = Principal { name: NAME.into(), ..Principal::new(None, Role::Admin) };
    let target = InProcess::new(service, principal, declared, api::describe);
    match apply(declared, &target, Options::default()).await {
        Ok(report) => {
            for item in &report.items {
                if let Outcome::Added { secret: Some(_) } = item.outcome {
                    tracing::info!(
                        webhook = item.name,
                        "a secret was made for a declared webhook; regenerate-secret shows another one"
                    );
                }
            }
            let [added, changed, unchanged, removed, left] = report.counts();
            tracing::info!(added, changed, unchanged, removed, left, "the declared webhooks are applied");
        }
        Err(ApplyError::Faults(faults)) => {
            for fault in faults {
                tracing::error!(%fault, "the declared webhooks are not applied");
            }
        }
        Err(error) => tracing::error!(%error, "the declared webhooks are not applied"),
    }
}
