//! Name resolution.

use std::io;
use std::net::IpAddr;

/// Resolves host names: the system's resolver, or fixed addresses in tests. The future is not `Send`, because a shard
/// is one thread.
#[expect(async_fn_in_trait, reason = "used by one thread, which needs no Send bound")]
pub trait Resolve: 'static {
    /// All addresses of a host name, in the order in which they should be tried. The caller applies a timeout.
    ///
    /// # Errors
    /// If the name does not exist or the resolver does not answer.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver: `getaddrinfo` on a thread of the runtime's blocking pool. It is called for each new
/// connection, because it has the caches, the hosts file and the address order of RFC 6724.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|at| at.ip()).collect())
    }
}
