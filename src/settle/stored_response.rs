//! Responses to requests with an idempotency key. A response is written by the flush of its change.

use super::shared_stats::LiveStats;
use super::state::SettleState;
use crate::handoff::SettleCommand;
use crate::storage::delivery::{ResponseNumber, UnwrittenResponse};
use crate::storage::{IdempotencyKey, NumberedResponse};

impl SettleState {
    /// Runs a command and adds its response to the flush, unless the command changes nothing.
    ///
    /// A caller that no longer waits may send its request again while the first one is still in the queue. The second
    /// command is dropped, so its caller gets no reply. The next request finds the response.
    pub(super) fn command_with_response(
        &mut self,
        command: SettleCommand,
        (key, response): (IdempotencyKey, NumberedResponse),
        counts: &mut LiveStats,
    ) {
        if self.is_answered(&key) {
            return;
        }
        let flush = &self.pending.flush;
        let number = match &command {
            SettleCommand::Replay { .. } | SettleCommand::Recover { .. } => Some(ResponseNumber::Known(self.next_job)),
            SettleCommand::ReplayDead { events: Some(_), .. } => {
                Some(ResponseNumber::Recovered(flush.answers.recovered))
            }
            SettleCommand::ReplayDead { events: None, .. } => Some(ResponseNumber::Total(flush.totals.len())),
            SettleCommand::Retry { .. } => Some(ResponseNumber::Retried(flush.answers.retried)),
            _ => None,
        };
        self.command(command, counts);
        let number = number.filter(|number| match number {
            // A retry whose result is known without a look at the row changes nothing.
            ResponseNumber::Retried(index) => *index < self.pending.flush.answers.retried,
            _ => true,
        });
        if let Some(number) = number {
            self.pending.flush.responses.push(UnwrittenResponse { key, response, number });
        }
    }

    /// Whether a command with this key is in the pending batch or has a stored response. A store that cannot be read
    /// counts as without response: the flush fails too.
    fn is_answered(&self, key: &IdempotencyKey) -> bool {
        let is_pending = self.pending.flush.responses.iter().any(|pending| pending.key.hash == key.hash);
        let is_stored = || self.reader.stored_response(&key.hash, self.now.steady).is_ok_and(|found| found.is_some());
        is_pending || is_stored()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::World;
    use super::*;
    use crate::handoff::{ReplayFilter, RetryResult, ToSettle};
    use crate::limits::IDEMPOTENCY_TTL;
    use crate::model::{DeadReason, Decision, DeliveryId, EventId, WebhookNo};
    use crate::storage::delivery::testing::failed;

    fn key(n: u8) -> IdempotencyKey {
        IdempotencyKey { hash: [n; 32], fingerprint: [n; 32], tenant: "acme".into() }
    }

    fn with_response(n: u8, command: SettleCommand) -> SettleCommand {
        let response = NumberedResponse::of(|number| Some(format!("response {number}").into_bytes())).unwrap();
        SettleCommand::WithResponse { command: Box::new(command), response: Box::new((key(n), response)) }
    }

    fn stored(world: &World, n: u8) -> Option<String> {
        let found = world.records.stored_response(&[n; 32], world.clock.steady()).unwrap()?;
        assert_eq!(found.fingerprint, [n; 32]);
        Some(String::from_utf8(found.response).unwrap())
    }

    /// Makes `count` dead letters of a webhook.
    fn dead_letters(world: &mut World, webhook: u32, count: usize) -> Vec<EventId> {
        let events: Vec<_> = (0..count).map(|_| world.announce(&[webhook])).collect();
        for event in &events {
            world.settle(webhook, *event, Some(failed(1, 500)), Decision::Dead(DeadReason::Exhausted));
        }
        world.flush();
        events
    }

    #[tokio::test(start_paused = true)]
    async fn each_command_keeps_its_response_with_its_number() {
        let mut world = World::new();
        let webhook = WebhookNo(1);
        let events = dead_letters(&mut world, 1, 4);
        let some = Some(vec![events[0], events[1]]);
        let replayed = world.ask(|reply| with_response(1, SettleCommand::ReplayDead { webhook, events: some, reply }));
        assert_eq!((replayed, stored(&world, 1).as_deref()), (2, Some("response 2")));
        let id = DeliveryId { event: events[2], webhook };
        let retried = world.ask(|reply| with_response(2, SettleCommand::Retry { id, reply }));
        assert_eq!((retried, stored(&world, 2).as_deref()), (RetryResult::Scheduled, Some("response 0")));
        let all = world.ask(|reply| with_response(3, SettleCommand::ReplayDead { webhook, events: None, reply }));
        assert_eq!((all, stored(&world, 3).as_deref()), (1, Some("response 1")));
        let filter = ReplayFilter { tenant: "default".into(), ..ReplayFilter::default() };
        let no = world.ask(|reply| with_response(4, SettleCommand::Replay { filter, reply }));
        assert_eq!(stored(&world, 4), Some(format!("response {no}")));
        let since = world.clock.now();
        let no = world.ask(|reply| with_response(5, SettleCommand::Recover { webhook, since, reply }));
        assert_eq!(stored(&world, 5), Some(format!("response {no}")));
        let world = world.crash();
        assert_eq!(stored(&world, 5), Some(format!("response {no}")));
        tokio::time::advance(IDEMPOTENCY_TTL + Duration::from_millis(1)).await;
        assert_eq!(stored(&world, 5), None);
    }

    /// The first caller no longer waited and sent its request again.
    #[tokio::test(start_paused = true)]
    async fn a_command_with_a_known_key_is_not_run_again() {
        let mut world = World::new();
        let replay = || {
            let filter = ReplayFilter { tenant: "default".into(), ..ReplayFilter::default() };
            let (reply, answer) = tokio::sync::oneshot::channel();
            (ToSettle::Command(with_response(1, SettleCommand::Replay { filter, reply })), answer)
        };
        let ((first, mut one), (second, mut two), (third, mut three)) = (replay(), replay(), replay());
        world.take_in(first);
        world.take_in(second);
        world.flush();
        world.take_in(third);
        world.flush();
        assert!(one.try_recv().is_ok() && two.try_recv().is_err() && three.try_recv().is_err());
        assert_eq!(world.records.jobs().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_that_is_not_scheduled_keeps_no_response() {
        let mut world = World::new();
        let webhook = WebhookNo(1);
        let waits = world.announce(&[1]);
        let unknown = DeliveryId { event: EventId::from_u128(77), webhook };
        for (n, id) in [(1, DeliveryId { event: waits, webhook }), (2, unknown)] {
            let result = world.ask(|reply| with_response(n, SettleCommand::Retry { id, reply }));
            assert_ne!(result, RetryResult::Scheduled);
            assert_eq!(stored(&world, n), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_crash_leaves_the_change_and_its_response_or_neither() {
        let (mut with, mut without) = (0, 0);
        for room in 0.. {
            let mut world = World::new();
            let events = dead_letters(&mut world, 1, 1);
            let (reply, _response) = tokio::sync::oneshot::channel();
            let command = SettleCommand::ReplayDead { webhook: WebhookNo(1), events: Some(events), reply };
            world.take_in(ToSettle::Command(with_response(1, command)));
            world.disk.set_room(room);
            let is_done = world.driver.flush().is_ok();
            world.disk.set_room(-1);
            world = world.crash();
            assert_eq!(stored(&world, 1).is_some(), world.letters(1).is_empty());
            with += u32::from(stored(&world, 1).is_some());
            without += u32::from(stored(&world, 1).is_none());
            if is_done {
                break;
            }
        }
        assert!(with > 0 && without > 0, "{with} {without}");
    }
}
