//! Name resolution.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

/// Resolves host names: by DNS, or to fixed addresses in tests. The future is not `Send`, because a shard is one thread.
#[expect(async_fn_in_trait, reason = "used by one thread, which needs no Send bound")]
pub trait Resolve: 'static {
    /// All addresses of a host name, in the order in which they should be tried. The lookup is charged to `tenant`. The
    /// caller applies a timeout, and drops the future to cancel the lookup.
    ///
    /// # Errors
    /// If the name does not exist or the servers do not answer.
    async fn resolve(&self, host: &str, tenant: &Arc<str>) -> io::Result<Vec<IpAddr>>;
}
