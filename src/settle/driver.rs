//! Performs what the keeper says is to be done: writes to the store, messages to the shards, answers, calls of hooks.

use super::state::SettleState;
use super::step::{Input, Now, Output};
use super::{Callbacks, SettleError};
use crate::handoff::{Shards, ToSettle};
use crate::runtime::{Clock, Instant};
use crate::storage::delivery::{DeliveryStore, Flush, Flushed, LookupError};

/// A keeper with its store and the ways out. It has no thread and waits only for the disk.
pub(super) struct Driver {
    pub(super) keeper: SettleState,
    pub(super) store: Box<dyn DeliveryStore>,
    pub(super) shards: Shards,
    pub(super) clock: Clock,
    pub(super) hooks: Callbacks,
    /// A flush that is not durable yet, as the disk was full, with the time at which it was made.
    pub(super) under_way: Option<(Box<Flush>, Instant)>,
}

impl Driver {
    /// What the clocks show.
    pub(super) fn now(&self) -> Now {
        let instant = self.clock.instant();
        Now { steady: self.clock.steady_at(instant), wall: self.clock.now() }
    }

    /// Takes messages in.
    pub(super) fn take_in(&mut self, messages: Vec<ToSettle>) -> Result<(), LookupError> {
        let outputs = self.keeper.step(self.now(), Input::Messages(messages))?;
        self.perform(outputs)
    }

    /// Makes everything gathered durable, then answers. After an error the same flush can be tried again.
    pub(super) fn flush(&mut self) -> Result<(), SettleError> {
        self.write(Input::Flush)
    }

    /// The last writes, then closes the files.
    pub(super) fn finish(&mut self) -> Result<(), SettleError> {
        self.write(Input::Flush)?;
        self.write(Input::Finish)?;
        Ok(self.store.close()?)
    }

    /// After a full disk: every file anew.
    pub(super) fn reopen(&mut self) -> Result<(), SettleError> {
        Ok(self.store.reopen()?)
    }

    fn write(&mut self, input: Input) -> Result<(), SettleError> {
        // One that failed goes first; what it writes has left the keeper.
        self.write_under_way()?;
        let outputs = self.keeper.step(self.now(), input)?;
        self.perform(outputs)?;
        self.write_under_way()
    }

    fn write_under_way(&mut self) -> Result<(), SettleError> {
        let Some((flush, _)) = &mut self.under_way else { return Ok(()) };
        let flushed = self.store.flush(flush)?;
        if let Some((flush, begun)) = self.under_way.take() {
            self.learn(flush, flushed)?;
            self.keeper.metrics.flush_seconds.observe((self.clock.instant() - begun).as_secs_f64());
        }
        Ok(())
    }

    fn learn(&mut self, flush: Box<Flush>, flushed: Flushed) -> Result<(), LookupError> {
        let outputs = self.keeper.step(self.now(), Input::Flushed(flush, Box::new(flushed)))?;
        self.perform(outputs)
    }

    fn perform(&mut self, outputs: Vec<Output>) -> Result<(), LookupError> {
        for output in outputs {
            match output {
                Output::Flush(flush) => self.under_way = Some((flush, self.clock.instant())),
                Output::Tell(shard, message) => {
                    if let Err(message) = self.shards.try_tell(shard, message) {
                        self.keeper.step(self.keeper.now, Input::Untold(shard, message))?;
                    }
                }
                Output::Answer(answer) => answer.send(),
                Output::Disable(webhook, reason) => {
                    if !(self.hooks.disable)(webhook, reason) {
                        self.keeper.step(self.keeper.now, Input::NotDisabled(webhook, reason))?;
                    }
                }
                Output::RingOutbox => (self.hooks.outbox)(),
            }
        }
        Ok(())
    }
}
