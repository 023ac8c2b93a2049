//! A small HTTP client. Each call uses its own connection; the response is limited in size and time.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use url::Url;

use super::error::CliError;
use super::{ClientArgs, ServerArgs};
use crate::config::{Config, Environment, KEY_VARIABLE, URL_VARIABLE};
use crate::limits::{CLI_ANSWER_BYTES_MAX, CLI_CALL_TIMEOUT};
use crate::model::Secret;
use crate::model::file::ADMIN_KEY;
use crate::model::header::JSON;

/// Default listen address of a server.
const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// A client of one server with one API key.
#[derive(Debug)]
pub(super) struct Client {
    url: Url,
    key: Secret,
    timeout: Duration,
}

/// The failure of a call.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("{url} cannot be reached: {source} (is the server running? --url names another one)")]
    Connect { url: Url, source: io::Error },
    #[error("the exchange with the server broke off: {0}")]
    Exchange(#[from] hyper::Error),
    #[error("the server did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("the server's answer is larger than {CLI_ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the server's answer is not what was expected: {0}")]
    Answer(#[from] serde_json::Error),
    #[error("this request cannot be sent: {0}")]
    Request(#[from] http::Error),
    #[error("{0}")]
    Refused(ErrorResponse),
}

/// A response with a status of 300 or above. The body is `application/problem+json` if it comes from Hooktide.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct ErrorResponse {
    #[serde(skip)]
    pub(super) status: StatusCode,
    title: Option<String>,
    detail: Option<String>,
    code: Option<String>,
    errors: Vec<ErrorResponseField>,
}

#[derive(Debug, serde::Deserialize)]
struct ErrorResponseField {
    pointer: String,
    detail: String,
}

impl fmt::Display for ErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.status.as_u16())?;
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        if let Some(text) = self.detail.as_ref().or(self.title.as_ref()) {
            write!(f, ": {text}")?;
        }
        // The detail already describes a single error.
        for violation in self.errors.iter().filter(|_| self.errors.len() > 1) {
            write!(f, "\n  {}: {}", violation.pointer, violation.detail)?;
        }
        Ok(())
    }
}

impl Client {
    /// A client with the server URL and key from the flags, the environment, or the configuration of the server on this
    /// machine, in this order. With `ingest`, which publishing commands set, the URL is the ingest listener; otherwise
    /// the management listener if the configuration has one.
    pub(super) fn try_new(args: &ClientArgs, environment: &Environment, ingest: bool) -> Result<Self, CliError> {
        let url = args.url.as_deref().or_else(|| environment.get(URL_VARIABLE));
        let key = args.key.as_deref().or_else(|| environment.get(KEY_VARIABLE));
        // The configuration is read only if the URL or the key is missing. A client of a remote server needs no
        // configuration here.
        let config = || {
            let (config, data_dir) = (args.config.clone(), args.data_dir.clone());
            let server = ServerArgs { config, data_dir, ..ServerArgs::default() };
            server.loader(false, environment.clone()).load_for_client()
        };
        let url = match url {
            Some(url) => url.to_owned(),
            None => local_url(&config()?, ingest),
        };
        let key = match key {
            Some(key) => Secret::new(key),
            None => read_key(&config()?.server.data_dir)?,
        };
        Self::new(&url, key)
    }

    /// A client for any URL, without a key.
    pub(super) fn without_key(text: &str) -> Result<Self, CliError> {
        Self::new(text, Secret::new(""))
    }

    fn new(text: &str, key: Secret) -> Result<Self, CliError> {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        url.map(|url| Self { url, key, timeout: CLI_CALL_TIMEOUT })
            .ok_or_else(|| CliError::Url { url: text.to_owned() })
    }

    /// The same client with another timeout.
    pub(super) fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sends GET.
    pub(super) async fn get(&self, path: &str) -> Result<Bytes, ClientError> {
        self.call(Method::GET, path, None).await
    }

    /// Sends POST with a JSON body.
    pub(super) async fn post(&self, path: &str, body: &impl Serialize) -> Result<Bytes, ClientError> {
        self.call(Method::POST, path, Some(serde_json::to_vec(body)?)).await
    }

    /// Sends PATCH with a JSON body.
    pub(super) async fn patch(&self, path: &str, body: &impl Serialize) -> Result<Bytes, ClientError> {
        self.call(Method::PATCH, path, Some(serde_json::to_vec(body)?)).await
    }

    /// Sends PUT with a JSON body.
    pub(super) async fn put(&self, path: &str, body: &impl Serialize) -> Result<Bytes, ClientError> {
        self.call(Method::PUT, path, Some(serde_json::to_vec(body)?)).await
    }

    /// Sends a request and returns the response with any status.
    pub(super) async fn call_any_status(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let body = body.map(serde_json::to_vec).transpose()?;
        self.exchange(self.request(method, path, body)?).await
    }

    /// Sends DELETE.
    pub(super) async fn delete(&self, path: &str) -> Result<Bytes, ClientError> {
        self.call(Method::DELETE, path, None).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Bytes, ClientError> {
        let (status, body) = self.exchange(self.request(method, path, body)?).await?;
        if status.is_success() {
            return Ok(body);
        }
        let refusal = serde_json::from_slice::<ErrorResponse>(&body).unwrap_or_default();
        Err(ClientError::Refused(ErrorResponse { status, ..refusal }))
    }

    /// Sends POST with this body and only these headers, and returns the response with any status. The target is the
    /// path of the client's URL with `query` as its query.
    pub(super) async fn post_raw(
        &self,
        headers: HeaderMap,
        query: Option<&str>,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("{}{query}", self.url.path()).parse().map_err(http::Error::from)?;
        *request.headers_mut() = headers;
        let host = HeaderValue::try_from(self.authority()).map_err(http::Error::from)?;
        request.headers_mut().insert(HOST, host);
        self.exchange(request).await
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), ClientError> {
        let exchange = async {
            let connect = |source| ClientError::Connect { url: self.url.clone(), source };
            let tcp = self.connect().await.map_err(connect)?;
            if self.url.scheme() == "https" {
                exchange(self.encrypt(tcp).await.map_err(connect)?, request).await
            } else {
                exchange(tcp, request).await
            }
        };
        tokio::time::timeout(self.timeout, Box::pin(exchange)).await.map_err(|_| ClientError::Timeout(self.timeout))?
    }

    fn request(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Request<Full<Bytes>>, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url.path().trim_end_matches('/')))
            .header(HOST, self.authority())
            .header(AUTHORIZATION, format!("Bearer {}", self.key.reveal()))
            .header(USER_AGENT, concat!("hooktide/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, JSON);
        let request = if body.is_some() { request.header(CONTENT_TYPE, JSON) } else { request };
        Ok(request.body(Full::new(Bytes::from(body.unwrap_or_default())))?)
    }

    fn authority(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        TcpStream::connect((host, self.url.port_or_known_default().unwrap_or(80))).await
    }

    async fn encrypt(&self, tcp: TcpStream) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let call = async {
        let response = sender.send_request(request).await?;
        answer(response).await
    };
    // The connection must be polled while the call runs. Its result after the call does not matter.
    let mut call = std::pin::pin!(call);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        done = &mut call => done,
        _ = &mut connection => call.await,
    }
}

async fn answer(response: Response<hyper::body::Incoming>) -> Result<(StatusCode, Bytes), ClientError> {
    let status = response.status();
    let mut incoming = response.into_body();
    let mut body = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if body.len() + data.len() > CLI_ANSWER_BYTES_MAX {
            return Err(ClientError::TooLarge);
        }
        body.extend_from_slice(&data);
    }
    Ok((status, body.freeze()))
}

/// URL of the listener of a server with this configuration, as reached from this machine.
pub(super) fn local_url(config: &Config, ingest: bool) -> String {
    let listen = config.server.listen.first().copied().unwrap_or(DEFAULT_ADDRESS);
    let mut address = config.server.admin_listen.filter(|_| !ingest).unwrap_or(listen);
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    format!("http://{address}")
}

fn read_key(data_dir: &Path) -> Result<Secret, CliError> {
    let path = data_dir.join(ADMIN_KEY);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Secret::new(text.trim())),
        Err(source) => Err(CliError::Key { path, source }),
    }
}
