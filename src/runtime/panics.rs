//! Counts the panics of the process.

use std::panic::{set_hook, take_hook};
use std::sync::Arc;

use super::Metrics;

/// Counts every panic of any thread from now on, and logs where it happened. The hook that was there before prints the
/// message.
pub fn count_panics(metrics: &Arc<Metrics>) {
    let (before, metrics) = (take_hook(), Arc::clone(metrics));
    set_hook(Box::new(move |panic| {
        metrics.panics.inc();
        let thread = std::thread::current();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(thread = thread.name().unwrap_or_default(), place, "a panic, which is a bug of this program");
        before(panic);
    }));
}
