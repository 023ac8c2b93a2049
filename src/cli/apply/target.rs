//! The target of `apply` that calls a running server: the method and path of each step, and the meaning of a response.

use hyper::Method;
use serde_json::{Value, json};
use url::form_urlencoded::byte_serialize;

use crate::cli::Client;
use crate::limits::PAGE_ROWS_MAX;
use crate::model::{FieldError, Secret};
use crate::service::apply::{ApplyTarget, JsonObject, TargetCallFailed, TargetError, TargetRefusal};
use crate::service::webhook::WebhookPreview;

const WEBHOOKS: &str = "/api/v1/webhooks";
const DRY_RUN: &str = "dry_run=true";

/// A call of the HTTP API.
pub(super) trait ApiCall {
    /// Returns the status and the body of the response; `null` for an empty body.
    fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> impl Future<Output = Result<(u16, Value), TargetCallFailed>>;
}

impl ApiCall for Client {
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(u16, Value), TargetCallFailed> {
        let (status, bytes) =
            self.call_any_status(method, path, body).await.map_err(|e| TargetCallFailed(e.to_string()))?;
        let answer = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap_or_default() };
        Ok((status.as_u16(), answer))
    }
}

/// A server, called over HTTP.
#[derive(Debug)]
pub(super) struct HttpTarget<'a, C> {
    /// Makes the calls.
    pub(super) client: &'a C,
    /// The tenant of the file, if it names one.
    pub(super) tenant: Option<&'a str>,
}

impl<C: ApiCall> HttpTarget<'_, C> {
    /// The path with the file's tenant and `query` as its query.
    fn path(&self, path: &str, query: &str) -> String {
        let tenant = self.tenant.map(|tenant| format!("tenant={}", escaped(tenant)));
        let query = [tenant.as_deref().unwrap_or_default(), query].into_iter().filter(|part| !part.is_empty());
        let query = query.collect::<Vec<_>>().join("&");
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
    }

    /// Reads an object; `None` if it does not exist (404).
    async fn read(&self, path: &str) -> Result<Option<JsonObject>, TargetError> {
        match self.client.call(Method::GET, &self.path(path, ""), None).await? {
            (404, _) => Ok(None),
            answer => success_body(answer).map(object).map(Some),
        }
    }

    /// Sends a request that creates or changes an object.
    async fn write(
        &self,
        method: Method,
        path: &str,
        query: &str,
        body: Option<&Value>,
    ) -> Result<JsonObject, TargetError> {
        success_body(self.client.call(method, &self.path(path, query), body).await?).map(object)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &str,
        body: &JsonObject,
    ) -> Result<JsonObject, TargetError> {
        self.write(method, path, query, Some(&Value::Object(body.clone()))).await
    }

    /// Reads all pages of a list.
    async fn all(&self, path: &str) -> Result<Vec<JsonObject>, TargetError> {
        let mut rows = Vec::new();
        let mut query = format!("limit={PAGE_ROWS_MAX}");
        loop {
            let mut page = success_body(self.client.call(Method::GET, &self.path(path, &query), None).await?)?;
            if let Some(Value::Array(data)) = page.get_mut("data") {
                rows.extend(data.drain(..).map(object));
            }
            let Some(cursor) = page["next_cursor"].as_str() else { return Ok(rows) };
            query = format!("limit={PAGE_ROWS_MAX}&cursor={}", escaped(cursor));
        }
    }
}

impl<C: ApiCall> ApplyTarget for HttpTarget<'_, C> {
    async fn event_type(&self, name: &str) -> Result<Option<JsonObject>, TargetError> {
        self.read(&event_type_path(name)).await
    }

    async fn put_event_type(&self, name: &str, document: &JsonObject, dry_run: bool) -> Result<(), TargetError> {
        let query = if dry_run { DRY_RUN } else { "" };
        self.send(Method::PUT, &event_type_path(name), query, document).await.map(drop)
    }

    async fn webhook(&self, uid: &str) -> Result<Option<JsonObject>, TargetError> {
        self.read(&webhook_path(uid)).await
    }

    async fn webhooks(&self) -> Result<Vec<JsonObject>, TargetError> {
        self.all(WEBHOOKS).await
    }

    async fn check_new_webhook(&self, document: &JsonObject) -> Result<(), TargetError> {
        self.send(Method::POST, WEBHOOKS, DRY_RUN, document).await.map(drop)
    }

    async fn create_webhook(&self, document: &JsonObject) -> Result<Option<Secret>, TargetError> {
        let made = self.send(Method::POST, WEBHOOKS, "", document).await?;
        Ok(made.get("secret").and_then(Value::as_str).map(Secret::new))
    }

    async fn preview_webhook(&self, uid: &str, document: &JsonObject) -> Result<WebhookPreview, TargetError> {
        let mut document = self.send(Method::PUT, &webhook_path(uid), DRY_RUN, document).await?;
        let names = document.remove("changed");
        let names = names.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        Ok(WebhookPreview { changed: names.iter().filter_map(Value::as_str).map(str::to_owned).collect(), document })
    }

    async fn replace_webhook(&self, uid: &str, document: &JsonObject) -> Result<(), TargetError> {
        self.send(Method::PUT, &webhook_path(uid), "", document).await.map(drop)
    }

    async fn set_secret(&self, uid: &str, secret: &Secret) -> Result<(), TargetError> {
        let body = json!({ "secret": secret.reveal() });
        let path = format!("{}/regenerate-secret", webhook_path(uid));
        self.write(Method::POST, &path, "", Some(&body)).await.map(drop)
    }

    async fn delete_webhook(&self, id: &str) -> Result<(), TargetError> {
        self.write(Method::DELETE, &webhook_path(id), "", None).await.map(drop)
    }

    async fn subscriptions(&self, uid: &str) -> Result<Vec<JsonObject>, TargetError> {
        self.all(&subscriptions_path(uid)).await
    }

    async fn create_subscription(&self, uid: &str, document: &JsonObject) -> Result<(), TargetError> {
        self.send(Method::POST, &subscriptions_path(uid), "", document).await.map(drop)
    }

    async fn replace_subscription(&self, uid: &str, id: &str, document: &JsonObject) -> Result<(), TargetError> {
        self.send(Method::PUT, &format!("{}/{id}", subscriptions_path(uid)), "", document).await.map(drop)
    }

    async fn delete_subscription(&self, uid: &str, id: &str) -> Result<(), TargetError> {
        self.write(Method::DELETE, &format!("{}/{id}", subscriptions_path(uid)), "", None).await.map(drop)
    }
}

/// The body of a 2xx response. Any other status is an error with the response's problem details.
fn success_body((status, answer): (u16, Value)) -> Result<Value, TargetError> {
    if (200..300).contains(&status) {
        return Ok(answer);
    }
    let text = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
    let errors = answer["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let error = |error: &Value| FieldError::new(text(error, "pointer"), text(error, "detail"));
    let code = answer["code"].as_str().unwrap_or("no code");
    let message = format!("the server answered {status} {code}: {}", text(&answer, "detail"));
    Err(TargetError::Refused(TargetRefusal { errors: errors.iter().map(error).collect(), message }))
}

fn object(answer: Value) -> JsonObject {
    match answer {
        Value::Object(document) => document,
        _ => JsonObject::new(),
    }
}

fn event_type_path(name: &str) -> String {
    format!("/api/v1/event-types/{}", escaped(name))
}

fn webhook_path(id: &str) -> String {
    format!("{WEBHOOKS}/{id}")
}

fn subscriptions_path(uid: &str) -> String {
    format!("{}/subscriptions", webhook_path(uid))
}

fn escaped(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}
