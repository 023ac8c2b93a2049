//! The end of acknowledging: after a failed fsync nobody knows what the disk holds, so nothing is acknowledged any more,
//! and the process ends with a message; the restart reads what is there.

use std::sync::Arc;

use tokio::sync::watch;

use crate::runtime::Metrics;

/// Whether the log is poisoned, and why. Shared by all who may find out and all who must know.
#[derive(Debug, Clone)]
pub struct Poison(watch::Sender<Option<Arc<str>>>);

impl Default for Poison {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Poison {
    /// Poisons the log; the first reason stays.
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

    /// Whether it is.
    pub fn is_set(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Why it is.
    pub fn reason(&self) -> Option<Arc<str>> {
        self.0.borrow().clone()
    }

    /// To wait for it: changes once, to the reason.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.0.subscribe()
    }

    /// Poisons the log if the thread that holds the guard panics.
    pub(crate) fn guard(&self, thread: &'static str, metrics: Arc<Metrics>) -> Guard {
        Guard { poison: self.clone(), thread, metrics }
    }
}

/// See [`Poison::guard`].
#[derive(Debug)]
pub(crate) struct Guard {
    poison: Poison,
    thread: &'static str,
    metrics: Arc<Metrics>,
}

impl Drop for Guard {
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
