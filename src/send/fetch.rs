//! Downloads a public document with one GET request: over HTTPS, within the egress rules, without redirects, with a
//! size limit.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use rustls::ClientConfig;
use url::Url;

use super::client::hyper_error;
use super::connect::Connector;
use super::dns::DnsResolver;
use super::resolve::Resolve;
use crate::outbound::{self, DeliveryBody, Endpoint, EndpointError, SharedEgressGuard};

use crate::limits::{FETCH_BYTES_MAX, FETCH_TIMEOUT};
use crate::model::AttemptError;
use crate::model::header::JSON;

/// Downloads documents. A fetcher may be shared between threads, but the future of [`Self::get`] is not `Send`.
pub struct Fetcher<R = DnsResolver> {
    connector: Connector<R>,
    /// To whom lookups of names are charged: to no tenant, because anyone may cause a fetch.
    tenant: Arc<str>,
}

/// Why a document could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The URL is invalid, or the egress rules forbid it.
    #[error(transparent)]
    Address(#[from] EndpointError),
    /// The URL is `http://`.
    #[error("only https is fetched")]
    Plain,
    /// The egress rules forbid an address of the host name.
    #[error("refused by the egress guard: {0}")]
    Forbidden(Box<str>),
    /// There was no connection or no complete response.
    #[error("{0}")]
    Broken(Box<str>),
    /// Not done within [`FETCH_TIMEOUT`].
    #[error("not done within {} s", FETCH_TIMEOUT.as_secs())]
    Timeout,
    /// The response has another status than 200, such as a redirect.
    #[error("answered {0}, where only 200 is taken")]
    Status(u16),
    /// The response is larger than [`FETCH_BYTES_MAX`].
    #[error("more than {FETCH_BYTES_MAX} bytes")]
    TooLarge,
}

impl FetchError {
    /// Whether a later try may succeed: there was no response, or one with status 429 or 5xx.
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
            AttemptError::Dropped
            | AttemptError::PayloadGone
            | AttemptError::Unsigned(_)
            | AttemptError::Undeliverable(_) => Self::Broken("not done".into()),
        }
    }
}

impl<R: Resolve> Fetcher<R> {
    /// A fetcher that resolves names with `resolver`. `tls` comes from [`super::tls_config`].
    pub fn new(guard: SharedEgressGuard, tls: Arc<ClientConfig>, resolver: R) -> Self {
        Self { connector: Connector::new(guard, tls, resolver), tenant: "".into() }
    }

    /// The body at a URL, within [`FETCH_TIMEOUT`] and [`FETCH_BYTES_MAX`].
    ///
    /// # Errors
    /// For everything but a complete response with status 200 from an address that the egress rules allow.
    pub async fn get(&self, url: &Url) -> Result<Vec<u8>, FetchError> {
        self.fetch(url, None).await
    }

    /// The answer to a POST of JSON, within the same limits.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub async fn post_json(&self, url: &Url, json: String) -> Result<Vec<u8>, FetchError> {
        self.fetch(url, Some(json)).await
    }

    async fn fetch(&self, url: &Url, json: Option<String>) -> Result<Vec<u8>, FetchError> {
        // The fragment is for the client.
        let endpoint = Endpoint::try_new(&url[..url::Position::AfterQuery], &self.connector.guard())?;
        if !endpoint.tls {
            return Err(FetchError::Plain);
        }
        // Boxed: the future of a TLS handshake is large, and fetches are rare.
        match tokio::time::timeout(FETCH_TIMEOUT, Box::pin(self.exchange(&endpoint, json))).await {
            Ok(done) => done,
            Err(_) => Err(FetchError::Timeout),
        }
    }

    async fn exchange(&self, endpoint: &Endpoint, json: Option<String>) -> Result<Vec<u8>, FetchError> {
        let mut connection = self.connector.connect(endpoint, None, &self.tenant).await?;
        let (method, body) = match json {
            None => (Method::GET, DeliveryBody::none()),
            Some(json) => (Method::POST, DeliveryBody::new(json.into(), Bytes::new(), Bytes::new())),
        };
        let mut request = Request::new(body);
        if method == Method::POST {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        }
        *request.method_mut() = method;
        *request.uri_mut() = endpoint.target.clone().into();
        let headers = request.headers_mut();
        headers.insert(HOST, endpoint.authority.clone());
        headers.insert(USER_AGENT, outbound::USER_AGENT);
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let response = connection.request(request, || {}).await.map_err(|why| hyper_error(&why))?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let (mut bytes, mut body) = (Vec::new(), response.into_body());
        while let Some(frame) = connection.frame(&mut body).await {
            // Trailers are ignored.
            let Ok(data) = frame.map_err(|why| hyper_error(&why))?.into_data() else { continue };
            if bytes.len() + data.len() > FETCH_BYTES_MAX {
                return Err(FetchError::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }
}
