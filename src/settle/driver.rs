//! Performs the outputs of [`SettleState`]: writes to the store, messages to the shards, replies, callbacks.

use crossbeam_channel::Sender;

use super::replay::ReplayStepRequest;
use super::state::SettleState;
use super::step::{SettleInput, SettleOutput, SettleTime};
use super::{Callbacks, SettleError};
use crate::handoff::{Shards, ToSettle};
use crate::runtime::{Clock, Instant};
use crate::storage::delivery::{DeliveryStore, Flush, Flushed, LookupError};

/// The state machine with its store and the senders of its outputs. It has no thread and waits only for the disk.
pub(super) struct Driver {
    pub(super) state: SettleState,
    pub(super) store: Box<dyn DeliveryStore>,
    pub(super) shards: Shards,
    pub(super) clock: Clock,
    pub(super) callbacks: Callbacks,
    /// The requests of the replay thread. There is room, because one step is evaluated at a time.
    pub(super) replay_requests: Sender<ReplayStepRequest>,
    /// A flush that is not durable yet because the disk was full, with the time at which it was made.
    pub(super) under_way: Option<(Box<Flush>, Instant)>,
}

impl Driver {
    /// The current time of both clocks.
    pub(super) fn now(&self) -> SettleTime {
        let instant = self.clock.instant();
        SettleTime { steady: self.clock.steady_at(instant), wall: self.clock.now() }
    }

    /// Applies messages.
    pub(super) fn take_in(&mut self, messages: Vec<ToSettle>) -> Result<(), LookupError> {
        let outputs = self.state.step(self.now(), SettleInput::Messages(messages))?;
        self.perform(outputs)
    }

    /// Writes the pending batch durably, then sends the replies. After an error the same flush can be tried again.
    pub(super) fn flush(&mut self) -> Result<(), SettleError> {
        self.write(SettleInput::Flush)
    }

    /// Makes the last writes, then closes the files.
    pub(super) fn finish(&mut self) -> Result<(), SettleError> {
        self.write(SettleInput::Flush)?;
        self.write(SettleInput::Finish)?;
        Ok(self.store.close()?)
    }

    /// Reopens every file after a full disk.
    pub(super) fn reopen(&mut self) -> Result<(), SettleError> {
        Ok(self.store.reopen()?)
    }

    fn write(&mut self, input: SettleInput) -> Result<(), SettleError> {
        // A flush that failed goes first: the state no longer holds what it writes.
        self.write_under_way()?;
        let outputs = self.state.step(self.now(), input)?;
        self.perform(outputs)?;
        self.write_under_way()
    }

    fn write_under_way(&mut self) -> Result<(), SettleError> {
        let Some((flush, _)) = &mut self.under_way else { return Ok(()) };
        let flushed = self.store.flush(flush)?;
        if let Some((flush, begun)) = self.under_way.take() {
            self.apply_flushed(flush, flushed)?;
            self.state.metrics.flush_seconds.observe((self.clock.instant() - begun).as_secs_f64());
        }
        Ok(())
    }

    fn apply_flushed(&mut self, flush: Box<Flush>, flushed: Flushed) -> Result<(), LookupError> {
        let outputs = self.state.step(self.now(), SettleInput::Flushed(flush, Box::new(flushed)))?;
        self.perform(outputs)
    }

    fn perform(&mut self, outputs: Vec<SettleOutput>) -> Result<(), LookupError> {
        for output in outputs {
            match output {
                SettleOutput::Flush(flush) => self.under_way = Some((flush, self.clock.instant())),
                SettleOutput::SendToShard(shard, message) => {
                    if let Err(message) = self.shards.try_send(shard, message) {
                        self.state.step(self.state.now, SettleInput::ShardFull(shard, message))?;
                    }
                }
                SettleOutput::Reply(answer) => answer.send(),
                SettleOutput::Disable(webhook, reason) => {
                    if !(self.callbacks.disable)(webhook, reason) {
                        self.state.step(self.state.now, SettleInput::DisableRefused(webhook, reason))?;
                    }
                }
                SettleOutput::EvaluateReplay(request) => {
                    // The send fails only when the process ends. The next start continues the replay.
                    let _ = self.replay_requests.try_send(request);
                }
                SettleOutput::NotifyOutbox => (self.callbacks.notify_outbox)(),
            }
        }
        Ok(())
    }
}
