//! Requests that leave HTTP: the connection becomes a plain stream of bytes, for WebSocket and the like (RFC 9110,
//! section 7.8).
//!
//! A handler that accepts an upgrade spawns a task that waits for [`Upgrade::ready`], and answers with [`switching`]. From
//! then on the connection is the task's, with its place among the connections that the server may have. No timeout of the
//! server applies to it. When the server stops, a read reports the end of the stream, and writes work until the drain ends.

use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::Response;

/// The bytes of a connection that left HTTP; implements tokio's `AsyncRead` and `AsyncWrite`.
pub type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

/// A connection that will leave HTTP when its response is sent.
#[derive(Debug)]
pub struct Upgrade(OnUpgrade);

impl Upgrade {
    /// The upgrade that the client asks for; `None` if it asks for none.
    pub fn of(parts: &Parts) -> Option<Self> {
        parts.headers.contains_key(UPGRADE).then(|| parts.extensions.get::<OnUpgrade>().cloned().map(Self))?
    }

    /// The bytes of the connection, once the response is sent.
    ///
    /// # Errors
    /// When the connection ended, or the response was not that of [`switching`].
    pub async fn ready(self) -> Result<Upgraded, hyper::Error> {
        self.0.await.map(TokioIo::new)
    }
}

/// The response that switches to `protocol`.
pub fn switching(protocol: HeaderValue) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, protocol);
    response
}
