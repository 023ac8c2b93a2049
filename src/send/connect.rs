//! Makes connections: resolves the host, checks every address, connects to a checked address, and checks the connected
//! socket.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, client};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::connection::{Connection, Socket};
use super::metered_tcp::MeteredTcp;
use super::resolve::Resolve;
use crate::limits::{CONNECT_TIMEOUT, DNS_TIMEOUT, TLS_TIMEOUT};
use crate::model::AttemptError;
use crate::outbound::tls::{EndpointTls, client_config};
use crate::outbound::{EgressGuard, Endpoint, ForbiddenAddress, SharedEgressGuard, is_localhost};

/// The most addresses of a name that are tried. All addresses of the name are checked.
const ADDRESSES_TRIED: usize = 4;
/// The most TLS sessions that are kept for resumption, over all receivers.
const TLS_SESSIONS: usize = 1_024;

/// Makes connections for one shard.
pub(super) struct Connector<R> {
    guard: SharedEgressGuard,
    tls: TlsConnector,
    resolver: R,
}

/// Why the TLS configuration is invalid.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// `egress.ca_file` cannot be read or is not PEM.
    #[error("egress.ca_file {path}: {why}")]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The reason.
        why: pem::Error,
    },
    /// `egress.ca_file` has no certificate.
    #[error("egress.ca_file {0}: expected at least one certificate in PEM")]
    Empty(PathBuf),
    /// rustls rejects the configuration or a certificate.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The TLS configuration of all shards. It trusts the public authorities of webpki-roots and those in `ca_file`,
/// resumes sessions, and offers only HTTP/1.1.
///
/// # Errors
/// If `ca_file` cannot be read or has no certificate, or if rustls rejects the result.
pub fn tls_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        let bad = |why| TlsError::File { path: path.to_owned(), why };
        let public = roots.len();
        for certificate in CertificateDer::pem_file_iter(path).map_err(bad)? {
            roots.add(certificate.map_err(bad)?)?;
        }
        if roots.len() == public {
            return Err(TlsError::Empty(path.to_owned()));
        }
    }
    let mut config = client_config(roots)?;
    config.resumption = client::Resumption::in_memory_sessions(TLS_SESSIONS);
    Ok(Arc::new(config))
}

impl<R: Resolve> Connector<R> {
    /// A connector that obeys the rules of `guard`.
    pub(super) fn new(guard: SharedEgressGuard, tls: Arc<ClientConfig>, resolver: R) -> Self {
        Self { guard, tls: tls.into(), resolver }
    }

    /// The current egress rules.
    pub(super) fn guard(&self) -> arc_swap::Guard<Arc<EgressGuard>> {
        self.guard.load()
    }

    /// Makes a connection to an endpoint. `custom_tls` are the webhook's own TLS settings, if it has any. The lookup of
    /// the name is charged to `tenant`.
    pub(super) async fn connect(
        &self,
        endpoint: &Endpoint,
        custom_tls: Option<&EndpointTls>,
        tenant: &Arc<str>,
    ) -> Result<Box<Connection>, AttemptError> {
        let addresses = self.addresses(endpoint, tenant).await?;
        let socket = self.open(&addresses).await?;
        let socket =
            if endpoint.tls { self.encrypt(&endpoint.host, custom_tls, socket).await? } else { Socket::Plain(socket) };
        Connection::new(socket).await.map_err(|why| failed("HTTP", why))
    }

    /// The addresses of an endpoint. All of them are checked: one forbidden address rejects the name.
    pub(super) async fn addresses(
        &self,
        endpoint: &Endpoint,
        tenant: &Arc<str>,
    ) -> Result<Vec<SocketAddr>, AttemptError> {
        let ips: Vec<IpAddr> = match endpoint.host.parse() {
            Ok(ip) => vec![ip],
            Err(_) if is_localhost(&endpoint.host) => self.loopback(),
            Err(_) => within(DNS_TIMEOUT, "name resolution", self.resolver.resolve(&endpoint.host, tenant)).await?,
        };
        if ips.is_empty() {
            return Err(failed("name resolution", "the name has no address"));
        }
        let guard = self.guard.load();
        ips.into_iter()
            .map(|ip| {
                let target = SocketAddr::new(ip.to_canonical(), endpoint.port);
                guard.check_target(target).map(|()| target).map_err(|why| refused(&why))
            })
            .collect()
    }

    /// The loopback addresses that the egress rules allow. If they allow only 127.0.0.0/8, `localhost` must not fail
    /// because of ::1.
    fn loopback(&self) -> Vec<IpAddr> {
        let all = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let open: Vec<_> = all.into_iter().filter(|ip| self.guard.load().check_address(*ip).is_ok()).collect();
        if open.is_empty() { all.to_vec() } else { open }
    }

    /// Connects to the first address that accepts. The addresses share the timeout, so that an address that drops
    /// packets leaves time for the next one.
    async fn open(&self, addresses: &[SocketAddr]) -> Result<TcpStream, AttemptError> {
        let tried = &addresses[..addresses.len().min(ADDRESSES_TRIED)];
        let share = CONNECT_TIMEOUT / tried.len().max(1) as u32;
        let mut last = failed("connect", "no address");
        for address in tried {
            match within(share, "connect", TcpStream::connect(address)).await {
                Ok(socket) => return self.check_socket(socket),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    /// Checks the addresses of the connected socket itself. They are decisive, whatever the name resolved to.
    fn check_socket(&self, socket: TcpStream) -> Result<TcpStream, AttemptError> {
        let ends = socket.peer_addr().and_then(|peer| Ok((peer, socket.local_addr()?)));
        let (peer, local) = ends.map_err(|why| failed("connect", why))?;
        self.guard.load().check_connected(peer, local).map_err(|why| refused(&why))?;
        // A request is written at once, and a small write must not wait for an acknowledgement.
        socket.set_nodelay(true).map_err(|why| failed("connect", why))?;
        Ok(socket)
    }

    async fn encrypt(
        &self,
        host: &str,
        custom_tls: Option<&EndpointTls>,
        socket: TcpStream,
    ) -> Result<Socket, AttemptError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|why| failed("TLS", why))?;
        let custom_tls = custom_tls
            .map(|custom_tls| custom_tls.config(self.tls.config()))
            .transpose()
            .map_err(|why| failed("TLS settings", why))?;
        let custom_tls = custom_tls.map(TlsConnector::from);
        let connect = custom_tls.as_ref().unwrap_or(&self.tls).connect(name, MeteredTcp::new(socket));
        let socket = within(TLS_TIMEOUT, "TLS handshake", connect).await?;
        Ok(Socket::Tls(Box::new(socket)))
    }
}

async fn within<T, E: std::error::Error>(
    limit: Duration,
    step: &str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, AttemptError> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.map_err(|why| failed(step, why)),
        Err(_) => Err(failed(step, format_args!("not done within {} s", limit.as_secs_f32()))),
    }
}

fn failed(step: &str, why: impl std::fmt::Display) -> AttemptError {
    AttemptError::Connect(format!("{step}: {why}").into())
}

fn refused(why: &ForbiddenAddress) -> AttemptError {
    AttemptError::Egress(why.to_string().into())
}
