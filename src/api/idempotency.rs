//! `Idempotency-Key` of the management API: a repeated request gets the response of the first one.
//!
//! The responses are kept on the disk, in the transaction of the change that they report, without secrets: see
//! [`crate::service::stored_response`]. Memory has only the keys of requests in flight. Idempotency keys of events are
//! separate: they are in the log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use ring::digest::{Context, SHA256};

use super::Api;
use crate::http::{Body, ManagementRequest, Problem, ProblemCode, Response};
use crate::limits::CLIENT_ID_BYTES_MAX;
use crate::model::header::IDEMPOTENCY_KEY;
use crate::service::ResponseStore;
use crate::storage::IdempotencyKey;

type Hash = [u8; 32];

/// The idempotency keys of requests in flight, each with the fingerprint of its request.
#[derive(Debug, Default)]
pub(super) struct KeysInFlight(Mutex<HashMap<Hash, Hash>>);

/// The result of claiming a key.
#[derive(Debug)]
pub(super) enum ClaimResult {
    /// The request is the first with this key, or it has no key. It must be executed.
    First(KeyClaim),
    /// The key has a stored response.
    Replay(Response),
}

/// The exclusive claim to a key, until it is dropped.
#[derive(Debug)]
pub(super) struct KeyClaim {
    of: Option<(Arc<KeysInFlight>, IdempotencyKey)>,
}

impl Api {
    /// Claims the key of a request. A key is unique within its tenant and path. `store` has the responses of the route.
    ///
    /// # Errors
    /// 400 for an invalid key, 422 for a key that was used with another body, 409 while the first request is in flight.
    pub(super) async fn claim(
        &self,
        request: &ManagementRequest,
        store: ResponseStore,
    ) -> Result<ClaimResult, Problem> {
        let tenant = request.principal.tenant.as_deref().unwrap_or("*");
        let scope = [tenant, request.parts.uri.path()];
        let Some(key) = key_of(&request.parts.headers)?.map(|key| hashed(scope, key, &request.body)) else {
            return Ok(ClaimResult::First(KeyClaim { of: None }));
        };
        let claim = self.keys_in_flight.claim(key.clone())?;
        match self.service.stored_response(store, key.hash).await? {
            None => Ok(ClaimResult::First(claim)),
            Some(stored) if stored.fingerprint != key.fingerprint => Err(reused()),
            Some(stored) => decode(&stored.response).map(ClaimResult::Replay).ok_or_else(|| {
                Problem::new(ProblemCode::Conflict, "the stored response is of another version; use another key")
            }),
        }
    }

    /// Runs the work of a request to its end, even if the client disconnects.
    pub(super) async fn complete(
        &self,
        claim: KeyClaim,
        work: impl Future<Output = Result<Response, Problem>> + Send + 'static,
    ) -> Result<Response, Problem> {
        let running = self.background.spawn(async move {
            let response = work.await;
            drop(claim);
            response
        });
        running.await.unwrap_or_else(|_| Err(Problem::new(ProblemCode::Internal, "it could not be made")))
    }
}

impl KeysInFlight {
    fn claim(self: &Arc<Self>, key: IdempotencyKey) -> Result<KeyClaim, Problem> {
        let mut keys = self.lock();
        match keys.get(&key.hash) {
            None => {
                keys.insert(key.hash, key.fingerprint);
                Ok(KeyClaim { of: Some((Arc::clone(self), key)) })
            }
            Some(fingerprint) if *fingerprint != key.fingerprint => Err(reused()),
            Some(_) => {
                Err(Problem::new(ProblemCode::Conflict, "the first request with this Idempotency-Key is in flight"))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Hash, Hash>> {
        // Each change under the lock is complete, so the state is consistent even if another thread panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyClaim {
    /// The claimed key. `None` if the request has none.
    pub(super) fn key(&self) -> Option<IdempotencyKey> {
        self.of.as_ref().map(|(_, key)| key.clone())
    }
}

impl Drop for KeyClaim {
    fn drop(&mut self) {
        if let Some((all, key)) = self.of.take() {
            all.lock().remove(&key.hash);
        }
    }
}

fn reused() -> Problem {
    Problem::new(ProblemCode::IdempotencyKeyReused, "this Idempotency-Key came with another body")
}

/// The idempotency key of a request. `None` without the header.
///
/// # Errors
/// 400 for a key that is empty, too long, or not printable ASCII.
pub(super) fn key_of(headers: &HeaderMap) -> Result<Option<&[u8]>, Problem> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY).map(HeaderValue::as_bytes) else { return Ok(None) };
    if (1..=CLIENT_ID_BYTES_MAX).contains(&key.len()) && key.iter().all(|b| (0x20..0x7F).contains(b)) {
        return Ok(Some(key));
    }
    let detail = format!("Idempotency-Key: expected 1 to {CLIENT_ID_BYTES_MAX} characters of ASCII");
    Err(Problem::new(ProblemCode::InvalidRequest, detail))
}

/// The hashes of a key. The fingerprint also covers the key, which is stored nowhere: so the stored fingerprint does not
/// let anyone guess a secret in the body.
fn hashed(scope: [&str; 2], key: &[u8], body: &[u8]) -> IdempotencyKey {
    let [tenant, path] = scope;
    let parts = [tenant.as_bytes(), path.as_bytes(), key];
    IdempotencyKey { hash: hash(parts), fingerprint: hash(parts.into_iter().chain([body])), tenant: tenant.into() }
}

fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The stored form of a response, as text: the status, a line for each header, an empty line, the body. `None` for a
/// response that failed or that is streamed.
pub(super) fn encode(response: Result<Response, Problem>) -> Option<Vec<u8>> {
    let response = response.ok()?;
    let mut text = response.status().as_str().as_bytes().to_vec();
    for (name, value) in response.headers() {
        text.push(b'\n');
        text.extend(name.as_str().as_bytes());
        text.push(b':');
        text.extend(value.as_bytes());
    }
    text.extend(b"\n\n");
    text.extend(response.body().complete_bytes()?);
    Some(text)
}

/// The response of a stored form. `None` if this program cannot read it.
fn decode(stored: &[u8]) -> Option<Response> {
    let end = stored.windows(2).position(|window| window == b"\n\n")?;
    let mut lines = stored[..end].split(|byte| *byte == b'\n');
    let mut response = Response::new(Body::from(Bytes::copy_from_slice(&stored[end + 2..])));
    *response.status_mut() = StatusCode::from_bytes(lines.next()?).ok()?;
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        response.headers_mut().append(name, HeaderValue::from_bytes(&line[colon + 1..]).ok()?);
    }
    Some(response)
}

#[cfg(test)]
mod tests {
    use hyper::header::{ETAG, LOCATION};

    use super::*;
    use crate::http::reply;

    fn key(text: &str, body: &str) -> IdempotencyKey {
        hashed(["default", "/a"], text.as_bytes(), body.as_bytes())
    }

    #[test]
    fn a_key_is_claimed_once_at_a_time() {
        let all = Arc::new(KeysInFlight::default());
        let claim = all.claim(key("k", "body")).unwrap();
        assert_eq!(claim.key(), Some(key("k", "body")));
        assert_eq!(all.claim(key("k", "body")).unwrap_err().code, ProblemCode::Conflict);
        assert_eq!(all.claim(key("k", "other")).unwrap_err().code, ProblemCode::IdempotencyKeyReused);
        assert!(all.claim(key("l", "other")).is_ok());
        drop(claim);
        assert!(all.claim(key("k", "other")).is_ok());
        assert!(all.lock().is_empty());
    }

    #[test]
    fn a_key_belongs_to_its_tenant_and_path() {
        let hashes = [["default", "/a"], ["default", "/b"], ["acme", "/a"]].map(|scope| hashed(scope, b"k", b"").hash);
        assert!(hashes[0] != hashes[1] && hashes[0] != hashes[2] && hashes[1] != hashes[2]);
    }

    #[test]
    fn a_stored_response_reads_back() {
        let mut response = reply::created(StatusCode::CREATED, "/api/v1/webhooks/wh_1", &["a\n\nb"]).unwrap();
        reply::set_header(&mut response, ETAG, "\"1\"");
        let read = decode(&encode(Ok(response)).unwrap()).unwrap();
        assert_eq!(read.status(), StatusCode::CREATED);
        assert_eq!(
            (&read.headers()[LOCATION], &read.headers()[ETAG]),
            (&"/api/v1/webhooks/wh_1".parse().unwrap(), &"\"1\"".parse().unwrap())
        );
        assert_eq!(read.body().complete_bytes().unwrap(), &br#"["a\n\nb"]"#[..]);
        assert!(encode(Err(reused())).is_none() && decode(b"9\n\n").is_none());
    }

    #[test]
    fn an_empty_or_long_key_is_refused() {
        for bad in ["", &"x".repeat(CLIENT_ID_BYTES_MAX + 1)] {
            let headers = [("idempotency-key".parse().unwrap(), bad.parse().unwrap())].into_iter().collect();
            assert_eq!(key_of(&headers).unwrap_err().code, ProblemCode::InvalidRequest);
        }
    }
}
