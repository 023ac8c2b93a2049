//! Names to addresses.

use std::io;
use std::net::IpAddr;

/// Resolves names: the system, or a test's own answers. Not `Send`: a shard is one thread.
#[expect(async_fn_in_trait, reason = "used by one thread, which needs no Send bound")]
pub trait Resolve: 'static {
    /// All addresses of a name, in the order in which they should be tried. The caller bounds the time.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver (`getaddrinfo`, on a thread of the runtime's blocking pool), asked at each connection: it has the
/// caches, the hosts file and the order of RFC 6724.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|at| at.ip()).collect())
    }
}
