//! The registry without its thread, for the simulation: the caller says when the writer processes its requests.

use super::writer::{RegistryOptions, Writer, open};
use super::writer_loop::WriterThread;
use super::{RegistryStoreError, Shared};

/// The writer with its inbox, and the handles of its callers.
pub(crate) struct SteppedRegistry {
    thread: WriterThread,
    pub(crate) shared: Shared,
    pub(crate) writer: Writer,
}

impl SteppedRegistry {
    pub(crate) fn open(options: RegistryOptions<'_>) -> Result<Self, RegistryStoreError> {
        let (thread, shared, writer) = open(options)?;
        Ok(Self { thread, shared, writer })
    }

    /// Processes the waiting requests as one batch. An error ends the real thread, and the process.
    pub(crate) fn process(&mut self) -> Result<(), RegistryStoreError> {
        let requests: Vec<_> = std::iter::from_fn(|| self.thread.inbox.try_recv().ok()).collect();
        if requests.is_empty() { Ok(()) } else { self.thread.process(requests) }
    }
}
