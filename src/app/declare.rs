//! `apply = "webhooks.toml"`: what a file declares is brought about in process, by the interface's own handlers, at the start
//! and at each reload. A server goes on without what is refused: its events must not wait for one webhook.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Method, Request};
use serde_json::Value;

use crate::api::{Api, Call};
use crate::model::{Principal, Role, header};
use crate::service::apply::{ApplyError, CallFailed, Declared, Interface, Options, Outcome, apply};

/// Who changes things, in the audit log.
const NAME: &str = "the configuration file";
const REQUEST_ID: &str = "apply";

struct InProcess<'a>(&'a Api);

impl Interface for InProcess<'_> {
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(u16, Value), CallFailed> {
        let failed = |e: &dyn std::fmt::Display| CallFailed(e.to_string());
        let request = Request::builder().method(method).uri(path).header("content-type", header::JSON).body(());
        let (parts, ()) = request.map_err(|e| failed(&e))?.into_parts();
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let principal = Principal { name: NAME.into(), ..Principal::new(None, Role::Admin) };
        let response = self.0.handle(Call { parts, body, principal, request_id: REQUEST_ID.into() }).await;
        let status = response.status().as_u16();
        // It is whole in memory already, in one frame at most.
        let mut incoming = response.into_body();
        let frame = incoming.frame().await.transpose().map_err(|e| failed(&e))?;
        let bytes = frame.and_then(|frame| frame.into_data().ok()).unwrap_or_default();
        let answer = if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&bytes) };
        answer.map(|answer| (status, answer)).map_err(|e| failed(&e))
    }
}

/// Applies a file, and logs what came of it.
pub(super) async fn run(api: &Arc<Api>, declared: &Declared) {
    match apply(declared, &InProcess(api), Options::default()).await {
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
