//! Stops acknowledging events after a failed fsync.
//!
//! After a failed fsync the content of the disk is unknown. The server then acknowledges no more events and exits with
//! a message. The restart reads what the disk holds.

use std::sync::Arc;

use tokio::sync::watch;

use crate::runtime::Metrics;

/// A shared flag that says whether the log is poisoned, and why. Clones share the flag.
#[derive(Debug, Clone)]
pub struct Poison(watch::Sender<Option<Arc<str>>>);

impl Default for Poison {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Poison {
    /// Poisons the log. The first reason is kept; later reasons are ignored.
    pub fn set(&self, reason: &str) {
        let first = self.0.send_if_modified(|now| {
            let first = now.is_none();
            now.get_or_insert_with(|| reason.into());
            first
        });
        if first {
            tracing::error!(target: "hooktide::commit", reason, "the log is poisoned: nothing more is acknowledged");
        }
    }

    /// Returns whether the log is poisoned.
    pub fn is_set(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Returns why the log is poisoned, or `None` if it is not.
    pub fn reason(&self) -> Option<Arc<str>> {
        self.0.borrow().clone()
    }

    /// Returns a receiver to wait for the poisoning. Its value changes once, from `None` to the reason.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.0.subscribe()
    }

    /// Returns a guard that poisons the log if the thread that holds it panics. `thread` is the thread's name in the
    /// reason.
    pub(crate) fn guard(&self, thread: &'static str, metrics: Arc<Metrics>) -> PoisonGuard {
        PoisonGuard { poison: self.clone(), thread, metrics }
    }
}

/// Poisons the log when it is dropped during a panic. Created by [`Poison::guard`].
#[derive(Debug)]
pub(crate) struct PoisonGuard {
    poison: Poison,
    thread: &'static str,
    metrics: Arc<Metrics>,
}

impl Drop for PoisonGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.metrics.writable.set(0);
            self.poison.set(&format!("the {} thread panicked", self.thread));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays() {
        let poison = Poison::default();
        let watch = poison.watch();
        assert!(!poison.is_set());
        poison.set("fsync failed");
        poison.set("something else");
        assert!(poison.is_set() && watch.has_changed().unwrap());
        assert_eq!(watch.borrow().as_deref(), Some("fsync failed"));
    }

    #[test]
    fn a_panicking_thread_poisons() {
        let (poison, metrics) = (Poison::default(), Metrics::new().unwrap());
        let guard = poison.guard("commit", metrics);
        let thread = std::thread::spawn(move || {
            let _guard = guard;
            panic!("a bug");
        });
        assert!(thread.join().is_err());
        assert_eq!(poison.reason().as_deref(), Some("the commit thread panicked"));
    }
}
