//! Protocol upgrades: the connection becomes a plain byte stream, for example for WebSocket (RFC 9110, section 7.8).
//!
//! A handler that accepts an upgrade spawns a task that waits for [`Upgrade::ready`], and responds with [`switching`]. Then
//! the task owns the connection, including its permit from the limit of open connections. No timeout of the server applies.
//! When the server stops, reads report the end of the stream, and writes work until the drain ends.

use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::Response;

/// The byte stream of an upgraded connection. It implements tokio's `AsyncRead` and `AsyncWrite`.
pub type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

/// A connection that is upgraded after its response is sent.
#[derive(Debug)]
pub struct Upgrade(OnUpgrade);

impl Upgrade {
    /// The upgrade that the request asks for. `None` if the request has no `Upgrade` header.
    pub fn of(parts: &Parts) -> Option<Self> {
        parts.headers.contains_key(UPGRADE).then(|| parts.extensions.get::<OnUpgrade>().cloned().map(Self))?
    }

    /// Waits until the response is sent, and returns the byte stream.
    ///
    /// # Errors
    /// When the connection ended, or the response was not created by [`switching`].
    pub async fn ready(self) -> Result<Upgraded, hyper::Error> {
        self.0.await.map(TokioIo::new)
    }
}

/// The response (101) that switches the connection to `protocol`.
pub fn switching(protocol: HeaderValue) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, protocol);
    response
}
