//! One GET of what somebody publishes: over HTTPS, within the egress guard, without redirects, and of a bounded size.

use std::sync::Arc;

use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use rustls::ClientConfig;
use url::Url;

use super::client::broken;
use super::connect::Connector;
use super::resolve::{Resolve, SystemResolver};
use crate::outbound::{self, Endpoint, EndpointError, Envelope, SharedGuard};

use crate::limits::{FETCH_BYTES_MAX, FETCH_TIMEOUT};
use crate::model::AttemptError;

/// See the module. It may be shared between threads; what [`Self::get`] gives stays in its own.
pub struct Fetcher<R = SystemResolver> {
    connector: Connector<R>,
}

/// Why there is nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The address is none, or one that the egress guard forbids.
    #[error(transparent)]
    Address(#[from] EndpointError),
    /// `http://`.
    #[error("only https is fetched")]
    Plain,
    /// The egress guard forbids where its name leads.
    #[error("refused by the egress guard: {0}")]
    Forbidden(Box<str>),
    /// No connection, or no whole answer.
    #[error("{0}")]
    Broken(Box<str>),
    /// Not done within [`FETCH_TIMEOUT`].
    #[error("not done within {} s", FETCH_TIMEOUT.as_secs())]
    Timeout,
    /// Another answer than 200; a redirect is one.
    #[error("answered {0}, where only 200 is taken")]
    Status(u16),
    /// The answer has no end in sight.
    #[error("more than {FETCH_BYTES_MAX} bytes")]
    TooLarge,
}

impl FetchError {
    /// Whether it may go well another time: there was no answer, or one that says so.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Forbidden(_) | Self::Broken(_) | Self::Timeout => true,
            Self::Status(status) => *status >= 500 || *status == 429,
            Self::Address(_) | Self::Plain | Self::TooLarge => false,
        }
    }
}

impl From<AttemptError> for FetchError {
    fn from(why: AttemptError) -> Self {
        match why {
            AttemptError::Egress(why) => Self::Forbidden(why),
            AttemptError::Connect(why) => Self::Broken(why),
            AttemptError::Timeout => Self::Timeout,
            AttemptError::Status(status) => Self::Status(status),
            AttemptError::Dropped | AttemptError::PayloadGone | AttemptError::Unsigned(_) => {
                Self::Broken("not done".into())
            }
        }
    }
}

impl Fetcher {
    /// A fetcher that asks the system for addresses; `tls` from [`super::tls_config`].
    pub fn new(guard: SharedGuard, tls: Arc<ClientConfig>) -> Self {
        Self::with_resolver(guard, tls, SystemResolver)
    }
}

impl<R: Resolve> Fetcher<R> {
    /// A fetcher that asks `resolver` for addresses.
    pub fn with_resolver(guard: SharedGuard, tls: Arc<ClientConfig>, resolver: R) -> Self {
        Self { connector: Connector::new(guard, tls, resolver) }
    }

    /// The body at this address, within [`FETCH_TIMEOUT`] and [`FETCH_BYTES_MAX`].
    ///
    /// # Errors
    /// For anything but an answer of 200, in full, from an address that deliveries may go to.
    pub async fn get(&self, url: &Url) -> Result<Vec<u8>, FetchError> {
        let endpoint = Endpoint::try_new(url.as_str(), &self.connector.guard())?;
        if !endpoint.tls {
            return Err(FetchError::Plain);
        }
        // Boxed: a TLS handshake is large, and this is rare.
        match tokio::time::timeout(FETCH_TIMEOUT, Box::pin(self.exchange(&endpoint))).await {
            Ok(done) => done,
            Err(_) => Err(FetchError::Timeout),
        }
    }

    async fn exchange(&self, endpoint: &Endpoint) -> Result<Vec<u8>, FetchError> {
        let mut connection = self.connector.connect(endpoint, None).await?;
        let mut request = Request::new(Envelope::none());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = endpoint.target.clone().into();
        let headers = request.headers_mut();
        headers.insert(HOST, endpoint.authority.clone());
        headers.insert(USER_AGENT, outbound::USER_AGENT);
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let response = connection.request(request, || {}).await.map_err(|why| broken(&why))?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let (mut bytes, mut body) = (Vec::new(), response.into_body());
        while let Some(frame) = connection.frame(&mut body).await {
            // Trailers have nothing to say.
            let Ok(data) = frame.map_err(|why| broken(&why))?.into_data() else { continue };
            if bytes.len() + data.len() > FETCH_BYTES_MAX {
                return Err(FetchError::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }
}
