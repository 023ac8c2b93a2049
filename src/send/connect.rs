//! Makes connections: resolves, checks every address, connects to those that were checked, and checks the socket.

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
use super::resolve::Resolve;
use crate::limits::{CONNECT_TIMEOUT, DNS_TIMEOUT, TLS_TIMEOUT};
use crate::model::AttemptError;
use crate::outbound::tls::{EndpointTls, client_config};
use crate::outbound::{Endpoint, Forbidden, Guard, SharedGuard, is_localhost};

/// Addresses of a name that are tried; all that a name has are checked.
const ADDRESSES_TRIED: usize = 4;
/// TLS sessions remembered, over all receivers.
const TLS_SESSIONS: usize = 1_024;

/// Makes connections for one shard.
pub(super) struct Connector<R> {
    guard: SharedGuard,
    tls: TlsConnector,
    resolver: R,
}

/// Why the TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// `egress.ca_file` cannot be read or is no PEM.
    #[error("egress.ca_file {path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: pem::Error,
    },
    /// `egress.ca_file` holds nothing to trust.
    #[error("egress.ca_file {0}: expected at least one certificate in PEM")]
    Empty(PathBuf),
    /// rustls takes no such configuration or certificate.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The TLS configuration of all shards: the public authorities of webpki-roots and those in `ca_file`, session resumption,
/// HTTP/1.1 only.
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
    /// A connector within these egress rules.
    pub(super) fn new(guard: SharedGuard, tls: Arc<ClientConfig>, resolver: R) -> Self {
        Self { guard, tls: tls.into(), resolver }
    }

    /// The egress rules in force.
    pub(super) fn guard(&self) -> arc_swap::Guard<Arc<Guard>> {
        self.guard.load()
    }

    /// A new connection to an endpoint, with TLS settings of its own if it has some.
    pub(super) async fn connect(
        &self,
        endpoint: &Endpoint,
        own: Option<&EndpointTls>,
    ) -> Result<Box<Connection>, AttemptError> {
        let addresses = self.addresses(endpoint).await?;
        let socket = self.open(&addresses).await?;
        let socket =
            if endpoint.tls { self.encrypt(&endpoint.host, own, socket).await? } else { Socket::Plain(socket) };
        Connection::new(socket).await.map_err(|why| failed("HTTP", why))
    }

    /// The addresses of a host, every one of them checked: one that is forbidden refuses the name.
    pub(super) async fn addresses(&self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, AttemptError> {
        let ips: Vec<IpAddr> = match endpoint.host.parse() {
            Ok(ip) => vec![ip],
            Err(_) if is_localhost(&endpoint.host) => self.loopback(),
            Err(_) => within(DNS_TIMEOUT, "name resolution", self.resolver.resolve(&endpoint.host)).await?,
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

    /// The loopback addresses that are open: where only 127.0.0.0/8 is, `localhost` must not fail for ::1.
    fn loopback(&self) -> Vec<IpAddr> {
        let all = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let open: Vec<_> = all.into_iter().filter(|ip| self.guard.load().check(*ip).is_ok()).collect();
        if open.is_empty() { all.to_vec() } else { open }
    }

    /// Connects to the first address that answers. They share the time, so that one that swallows packets leaves some for
    /// the next.
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

    /// The last word is the socket's own: where it leads is what was checked, whatever was resolved.
    fn check_socket(&self, socket: TcpStream) -> Result<TcpStream, AttemptError> {
        let ends = socket.peer_addr().and_then(|peer| Ok((peer, socket.local_addr()?)));
        let (peer, local) = ends.map_err(|why| failed("connect", why))?;
        self.guard.load().check_connected(peer, local).map_err(|why| refused(&why))?;
        // A request goes out in one piece, and what is small must not wait for an acknowledgement.
        socket.set_nodelay(true).map_err(|why| failed("connect", why))?;
        Ok(socket)
    }

    async fn encrypt(&self, host: &str, own: Option<&EndpointTls>, socket: TcpStream) -> Result<Socket, AttemptError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|why| failed("TLS", why))?;
        let own =
            own.map(|own| own.config(self.tls.config())).transpose().map_err(|why| failed("TLS settings", why))?;
        let own = own.map(TlsConnector::from);
        let connect = own.as_ref().unwrap_or(&self.tls).connect(name, socket);
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

fn refused(why: &Forbidden) -> AttemptError {
    AttemptError::Egress(why.to_string().into())
}
