//! Scenarios of settle. Time is tokio's paused clock, and the test plays the shard.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::testing::{HOUR, World, permit_of};
use super::{DeliveryQuery, JobKind, JobState};
use crate::handoff::{
    BacklogRow, DisableReason, RefillKind, ReplayFilter, SettleCommand, ToSettle, ToShard, WebhookBacklog,
};
use crate::model::DeliveryStatus::{Abandoned, Delivered, Failed, Pending, Retrying};
use crate::model::{DeadReason, Decision, DeliveryId, EventId, Timestamp, WebhookNo};
use crate::runtime::IngestPermits;
use crate::storage::delivery::RefillRequest;
use crate::storage::delivery::testing::{attempt, failed};

const MINUTE: Duration = Duration::from_secs(60);

fn id(webhook: u32, event: EventId) -> DeliveryId {
    DeliveryId { webhook: WebhookNo(webhook), event }
}

fn everything() -> ReplayFilter {
    ReplayFilter { tenant: "default".into(), ..ReplayFilter::default() }
}

#[tokio::test(start_paused = true)]
async fn a_restart_neither_advances_nor_skips_a_scheduled_retry() {
    let mut world = World::new();
    let event = world.announce(&[1]);
    let at = world.retry(1, event, 3, HOUR);
    world.flush();
    for _ in 0..3 {
        world = world.crash();
        assert_eq!(world.notifications(), [WebhookBacklog { webhook: WebhookNo(1), ready: false, due: Some(at) }]);
        assert!(world.due(1).is_empty() && world.ready(1).is_empty());
        world = world.reopen();
    }
    tokio::time::advance(HOUR).await;
    assert!(world.due(1).is_empty(), "the millisecond itself is left to the next look");
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(world.due(1), [BacklogRow { event, attempts: 3, base: 0 }]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_history_and_state_sends_again_and_loses_nothing() {
    let mut only_in_history = 0;
    for room in 0.. {
        let mut world = World::new();
        let event = world.announce(&[1]);
        world.flush();
        world.settle(1, event, Some(attempt(1)), Decision::Delivered);
        world.disk.set_room(room);
        if world.driver.flush().is_ok() {
            assert!(only_in_history > 0, "the crash came between the two at some write");
            return;
        }
        world.disk.set_room(-1);
        world = world.crash();
        only_in_history += u32::from(!world.records.attempts(id(1, event)).unwrap().is_empty());
        assert_eq!(world.ready(1), [event]);
        world.settle(1, event, Some(attempt(1)), Decision::Delivered);
        world.flush();
        assert_eq!(world.records.attempts(id(1, event)).unwrap(), [attempt(1)]);
        assert_eq!(world.records.delivery(id(1, event)).unwrap().unwrap().status, Delivered);
        assert!(world.ready(1).is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn permits_are_released_only_when_the_outcome_or_row_is_durable() {
    let ingest_permits = IngestPermits::new(1 << 20);
    let mut world = World::new();
    let event = world.announce_with(&[1, 2, 3], permit_of(&ingest_permits));
    world.settle(1, event, Some(attempt(1)), Decision::Delivered);
    world.retry(2, event, 1, MINUTE);
    world.flush();
    assert_eq!(ingest_permits.deliveries(), 1, "one is still outstanding");
    world.spill(3, event);
    assert_eq!(ingest_permits.deliveries(), 1, "told, not durable");
    world.flush();
    assert_eq!(ingest_permits.deliveries(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_deliveries_beyond_the_list_limit_get_rows_that_a_late_outcome_removes() {
    let ingest_permits = IngestPermits::new(1 << 20);
    let mut world = World::new();
    let events: Vec<_> = (0..12).map(|_| world.announce_with(&[1], permit_of(&ingest_permits))).collect();
    world.flush();
    assert_eq!(ingest_permits.deliveries(), 8);
    assert_eq!(world.ready(1), events[..4]);
    world.settle(1, events[0], Some(attempt(1)), Decision::Delivered);
    world.spill(1, events[1]);
    world.flush();
    assert_eq!(world.ready(1), events[1..4]);
    assert_eq!(world.records.depth(), 11);
    let outstanding = world.ask(|reply| SettleCommand::Sync { webhook: None, event: None, limit: 3, reply });
    assert_eq!(outstanding, [11, 10, 9].map(|n| (events[n], WebhookNo(1))));
}

#[tokio::test(start_paused = true)]
async fn a_wide_event_becomes_rows_by_a_job_that_survives_a_crash() {
    let ingest_permits = IngestPermits::new(1 << 20);
    let mut world = World::new();
    let webhooks: Vec<u32> = (0..10).collect();
    let event = world.announce_with(&webhooks, permit_of(&ingest_permits));
    world.driver.flush().unwrap();
    assert_eq!(ingest_permits.deliveries(), 0);
    let jobs = world.records.jobs().unwrap();
    assert_eq!((jobs[0].done, jobs[0].total, &jobs[0].kind), (3, Some(10), &JobKind::Wide { event }));
    world = world.crash();
    for no in webhooks {
        assert_eq!(world.ready(no), [event]);
    }
    assert!(world.records.jobs().unwrap().is_empty(), "nobody asks for it when it is done");
    assert_eq!(world.records.depth(), 10);
}

#[tokio::test(start_paused = true)]
async fn shards_are_notified_of_rows_that_they_did_not_write() {
    let mut world = World::new();
    world.notifications();
    world.announce(&[0, 1, 2, 3, 4]);
    world.flush();
    let notified = world.notifications();
    assert_eq!(notified.len(), 5);
    assert!(notified.iter().all(|waiting| waiting.ready && waiting.due.is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_a_full_shard_refused_is_sent_once_later() {
    let mut world = World::new();
    while world.driver.shards.try_send(0, ToShard::Changed(<_>::default())).is_ok() {}
    for _ in 0..2 {
        world.announce(&[0, 1, 2, 3, 4]);
        world.flush();
    }
    assert!(!world.is_idle());
    assert!(world.notifications().is_empty());
    world.driver.flush().unwrap();
    assert!(world.is_idle());
    assert_eq!(world.notifications().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_refill_of_due_rows_ends_before_the_flush_so_that_its_cursor_skips_no_row() {
    let mut world = World::new();
    let (first, second) = (world.announce(&[1]), world.announce(&[1]));
    world.retry(1, first, 1, Duration::from_millis(5));
    tokio::time::advance(Duration::from_millis(10)).await;
    let now = world.clock.steady();
    let after = (Timestamp::from_millis(0), EventId::MIN);
    let far = RefillKind::Due { after, until: Timestamp::from_millis(i64::MAX) };
    let refilled = world.refill(1, far, 9);
    assert_eq!(refilled.rows, [BacklogRow { event: first, attempts: 1, base: 0 }]);
    let RefillKind::Due { until, after: cursor } = refilled.kind else { panic!("{refilled:?}") };
    assert_eq!(until.as_millis(), now.as_millis() - 1);
    assert!(refilled.end && refilled.next_due.is_none());
    world.settle(1, second, Some(failed(1, 500)), Decision::Retry { at: now });
    tokio::time::advance(Duration::from_millis(1)).await;
    let refilled = world.refill(1, RefillKind::Due { after: cursor, until: world.clock.steady() }, 9);
    assert_eq!(refilled.rows, [BacklogRow { event: second, attempts: 1, base: 0 }]);
}

#[tokio::test(start_paused = true)]
async fn a_replay_includes_what_its_filter_selects_and_skips_pending_deliveries() {
    let mut world = World::new();
    let events: Vec<_> = (0..5).map(|_| world.announce(&[1, 2])).collect();
    for event in &events[..4] {
        world.settle(1, *event, Some(attempt(1)), Decision::Delivered);
    }
    world.settle(2, events[0], Some(failed(1, 500)), Decision::Dead(DeadReason::Exhausted));
    world.flush();
    let filter = ReplayFilter { types: vec!["order.created".into()], ..everything() };
    let asked_at = world.clock.now();
    let no = world.ask(|reply| SettleCommand::Replay { filter, reply });
    tokio::time::advance(Duration::from_millis(1)).await;
    let due: Vec<_> = world.due(1).into_iter().map(|row| row.event).collect();
    assert_eq!(due, events[..4]);
    assert_eq!(world.due(2), [BacklogRow { event: events[0], attempts: 1, base: 1 }]);
    assert!(world.records.dead_letter(id(2, events[0])).unwrap().is_none());
    let jobs = world.records.jobs().unwrap();
    assert_eq!((jobs[0].no, jobs[0].state, jobs[0].done), (no, JobState::Done, 5));
    assert_eq!(jobs[0].created_at, asked_at);

    let other = ReplayFilter { types: vec!["invoice.*".into()], ..everything() };
    world.ask(|reply| SettleCommand::Replay { filter: other, reply });
    let one = ReplayFilter { event: Some(events[4].to_string().into()), webhook: Some(7), ..everything() };
    world.ask(|reply| SettleCommand::Replay { filter: one, reply });
    tokio::time::advance(Duration::from_millis(1)).await;
    let done: Vec<_> = world.records.jobs().unwrap().iter().map(|job| job.done).collect();
    assert_eq!(done, [1, 0, 5]);
    assert_eq!(world.due(7), [BacklogRow { event: events[4], attempts: 0, base: 0 }]);
}

#[tokio::test(start_paused = true)]
async fn a_replay_restarts_the_schedule_and_continues_the_attempt_numbers() {
    let mut world = World::new();
    let event = world.announce(&[1]);
    world.retry(1, event, 1, MINUTE);
    world.settle(1, event, Some(failed(2, 500)), Decision::Dead(DeadReason::Exhausted));
    world.flush();
    let events = Some(vec![event]);
    assert_eq!(world.ask(|reply| SettleCommand::ReplayDead { webhook: WebhookNo(1), events, reply }), 1);
    let record = world.records.delivery(id(1, event)).unwrap().unwrap();
    assert_eq!((record.status, record.attempt_count), (Pending, 2));

    world.retry(1, event, 3, MINUTE);
    world = world.reopen();
    tokio::time::advance(2 * MINUTE).await;
    assert_eq!(world.due(1), [BacklogRow { event, attempts: 3, base: 2 }]);
    let record = world.records.delivery(id(1, event)).unwrap().unwrap();
    assert_eq!((record.status, record.attempt_count), (Retrying, 3));

    world.settle(1, event, Some(attempt(4)), Decision::Delivered);
    world.flush();
    let record = world.records.delivery(id(1, event)).unwrap().unwrap();
    assert_eq!((record.status, record.attempt_count), (Delivered, 4));

    world.ask(|reply| SettleCommand::Replay { filter: everything(), reply });
    tokio::time::advance(MINUTE).await;
    assert_eq!(world.due(1), [BacklogRow { event, attempts: 4, base: 4 }]);
    world.settle(1, event, None, Decision::Dead(DeadReason::Expired));
    world.flush();
    assert_eq!(world.records.dead_letter(id(1, event)).unwrap().unwrap().attempts, 4, "it ended without a fifth");
    assert_eq!(world.records.attempts(id(1, event)).unwrap().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_replay_can_be_cancelled_and_an_abandon_job_cannot() {
    let mut world = World::new();
    for _ in 0..8 {
        let event = world.announce(&[1]);
        world.settle(1, event, Some(attempt(1)), Decision::Delivered);
    }
    world.flush();
    let (reply, _answer) = tokio::sync::oneshot::channel();
    world.take_in(ToSettle::Command(SettleCommand::Replay { filter: everything(), reply }));
    world.driver.flush().unwrap();
    assert!(world.evaluate_replay());
    world.driver.flush().unwrap();
    let job = world.records.jobs().unwrap()[0].no;
    assert!(world.ask(|reply| SettleCommand::CancelJob { job, reply }));
    assert!(!world.ask(|reply| SettleCommand::CancelJob { job, reply }));
    assert_eq!(world.records.jobs().unwrap()[0].state, JobState::Cancelled);
    assert_eq!(world.records.depth(), 3, "the step that was evaluated before the cancellation is dropped");
    let abandon = SettleCommand::Abandon { webhook: WebhookNo(1), reason: DeadReason::Disabled };
    world.take_in(ToSettle::Command(abandon));
    assert!(!world.ask(|reply| SettleCommand::CancelJob { job: job + 1, reply }));
    assert_eq!(world.records.depth(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_was_evaluated_before_a_crash_is_evaluated_again() {
    let mut world = World::new();
    let event = world.announce(&[1]);
    world.settle(1, event, Some(attempt(1)), Decision::Delivered);
    world.flush();
    let (reply, _answer) = tokio::sync::oneshot::channel();
    world.take_in(ToSettle::Command(SettleCommand::Replay { filter: everything(), reply }));
    world.driver.flush().unwrap();
    assert!(world.evaluate_replay());
    let mut world = world.crash();
    world.flush();
    let jobs = world.records.jobs().unwrap();
    assert_eq!((jobs[0].state, jobs[0].done, world.records.depth()), (JobState::Done, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn tenants_take_turns_however_many_replays_one_of_them_starts() {
    let mut world = World::new();
    for _ in 0..8 {
        let event = world.announce(&[1]);
        world.settle(1, event, Some(attempt(1)), Decision::Delivered);
    }
    world.flush();
    let mut start = |tenant: &str| {
        let filter = ReplayFilter { tenant: tenant.into(), types: vec!["none.such".into()], ..everything() };
        let (reply, _answer) = tokio::sync::oneshot::channel();
        world.take_in(ToSettle::Command(SettleCommand::Replay { filter, reply }));
    };
    (0..20).for_each(|_| start("busy"));
    start("quiet");
    world.driver.flush().unwrap();
    // Each replay needs a step that finds the end of the log after the step that reads the events.
    for _ in 0..4 {
        assert!(world.evaluate_replay());
        world.driver.flush().unwrap();
    }
    let ended = world.records.jobs().unwrap().into_iter().find(|job| !job.is_running());
    assert!(matches!(ended.unwrap().kind, JobKind::Replay(filter) if &*filter.tenant == "quiet"));
}

#[tokio::test(start_paused = true)]
async fn pending_deliveries_of_a_deleted_webhook_are_abandoned() {
    let mut world = World::new();
    let events: Vec<_> = (0..5).map(|_| world.announce(&[1])).collect();
    events[..3].iter().for_each(|event| world.spill(1, *event));
    world.flush();
    world.abandoned.lock().unwrap().insert(WebhookNo(1), DeadReason::Removed);
    world.retry(1, events[3], 1, MINUTE);
    world.spill(1, events[4]);
    world.flush();
    world = world.reopen();
    let letters = world.letters(1);
    assert_eq!(letters.len(), 5);
    assert!(letters.iter().all(|letter| letter.reason == DeadReason::Removed));
    assert_eq!(world.records.depth(), 0);
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_failed_webhook_are_abandoned_at_the_start_if_a_crash_lost_the_command() {
    let mut world = World::new();
    let (waits, listed) = (world.announce(&[1]), world.announce(&[1, 2]));
    world.retry(1, waits, 1, HOUR);
    world.flush();
    world.abandoned.lock().unwrap().insert(WebhookNo(1), DeadReason::Disabled);
    world = world.crash();
    let letters = world.letters(1);
    let seen: Vec<_> = letters.iter().map(|letter| (letter.id.event, letter.reason, letter.attempts)).collect();
    assert_eq!(seen, [(listed, DeadReason::Disabled, 0), (waits, DeadReason::Disabled, 1)]);
    assert!(world.notifications().iter().all(|waiting| waiting.webhook == WebhookNo(2)));
    assert_eq!((world.ready(1), world.ready(2)), (vec![], vec![listed]));

    assert_eq!(
        world.ask(|reply| SettleCommand::ReplayDead { webhook: WebhookNo(1), events: Some(vec![waits]), reply }),
        0
    );
    world.abandoned.lock().unwrap().clear();
    assert_eq!(
        world.ask(|reply| SettleCommand::ReplayDead { webhook: WebhookNo(1), events: Some(vec![waits]), reply }),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn an_attempt_under_way_does_not_bring_back_what_was_abandoned_but_its_success_counts() {
    let mut world = World::new();
    let (lost, won) = (world.announce(&[1]), world.announce(&[1]));
    world.spill(1, lost);
    world.spill(1, won);
    let abandon = SettleCommand::Abandon { webhook: WebhookNo(1), reason: DeadReason::Disabled };
    world.take_in(ToSettle::Command(abandon));
    world.flush();
    world.retry(1, lost, 1, MINUTE);
    world.settle(1, won, Some(attempt(1)), Decision::Delivered);
    world.flush();
    let status = |event| world.records.delivery(id(1, event)).unwrap().unwrap().status;
    assert_eq!(status(lost), Abandoned);
    assert_eq!(status(won), Delivered);
    assert_eq!(world.records.depth(), 0);
}

/// The job that abandons the deliveries takes several steps, and the webhook is resumed before the last one.
#[tokio::test(start_paused = true)]
async fn events_accepted_after_a_resume_are_not_abandoned() {
    let mut world = World::new();
    let before: Vec<_> = (0..8).map(|_| world.announce(&[1])).collect();
    for event in &before {
        world.spill(1, *event);
    }
    let abandon = SettleCommand::Abandon { webhook: WebhookNo(1), reason: DeadReason::Disabled };
    world.take_in(ToSettle::Command(abandon));
    world.driver.flush().unwrap();
    let after = world.announce(&[1]);
    world.spill(1, after);
    world.flush();
    let status = |event: &EventId| world.records.delivery(id(1, *event)).unwrap().unwrap().status;
    assert!(before.iter().all(|event| status(event) == Abandoned));
    assert_eq!(status(&after), Pending);
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_deleted_by_age() {
    let mut world = World::new();
    let (old, young) = (world.announce(&[1]), world.announce(&[1]));
    world.settle(1, old, Some(failed(1, 500)), Decision::Dead(DeadReason::Exhausted));
    world.flush();
    tokio::time::advance(40 * HOUR).await;
    world.settle(1, young, Some(failed(1, 500)), Decision::Dead(DeadReason::Exhausted));
    world.flush();
    assert!(world.is_idle());
    tokio::time::advance(9 * HOUR).await;
    assert!(!world.is_idle());
    world.flush();
    let left = world.letters(1);
    assert_eq!(left.iter().map(|letter| letter.id.event).collect::<Vec<_>>(), [young]);
}

#[tokio::test(start_paused = true)]
async fn pending_deliveries_become_dead_letters_when_their_bodies_expire() {
    let mut world = World::new();
    let events: Vec<_> = (0..6).map(|_| world.announce(&[1, 9])).collect();
    for event in &events {
        world.spill(1, *event);
        world.retry(9, *event, 2, MINUTE);
    }
    world.flush();
    world.take_in(ToSettle::Command(SettleCommand::Expire { events: events[1..5].to_vec() }));
    world.flush();
    assert_eq!(world.ready(1), [events[0], events[5]]);
    let letters = world.letters(9);
    assert_eq!(letters.len(), 4);
    assert!(letters.iter().all(|letter| letter.reason == DeadReason::Expired && letter.attempts == 2));
    assert_eq!(world.records.stats(WebhookNo(1)).dead, 4);
}

#[tokio::test(start_paused = true)]
async fn a_webhook_is_disabled_when_all_attempts_fail() {
    let mut world = World::new();
    let (one, two) = (world.announce(&[1]), world.announce(&[2]));
    world.settle(1, one, Some(failed(1, 410)), Decision::Dead(DeadReason::Gone));
    world.retry(2, two, 1, HOUR);
    assert!(world.disabled.lock().unwrap().is_empty(), "what is not durable is not acted on");
    world.flush();
    assert_eq!(*world.disabled.lock().unwrap(), [(WebhookNo(1), DisableReason::Gone)]);
    tokio::time::advance(25 * HOUR).await;
    world.retry(2, two, 2, HOUR);
    assert_eq!(world.disabled.lock().unwrap().len(), 1, "what is not durable is not acted on");
    world.flush();
    let asked = world.disabled.lock().unwrap().clone();
    assert_eq!(asked, [(WebhookNo(1), DisableReason::Gone), (WebhookNo(2), DisableReason::Failing)]);
}

#[tokio::test(start_paused = true)]
async fn a_list_of_deliveries_merges_rows_dead_letters_and_history_newest_first() {
    let mut world = World::new();
    let events: Vec<_> = (0..4).map(|_| world.announce(&[1])).collect();
    world.settle(1, events[0], Some(attempt(1)), Decision::Delivered);
    world.settle(1, events[1], Some(failed(1, 500)), Decision::Dead(DeadReason::Exhausted));
    let at = world.retry(1, events[2], 1, MINUTE);
    world.spill(1, events[3]);
    world.flush();
    let query = DeliveryQuery::all([WebhookNo(1)]);
    let page = world.records.deliveries(&query, 3).unwrap();
    let seen: Vec<_> = page.rows.iter().map(|record| (record.id.event, record.status)).collect();
    assert_eq!(seen, [(events[3], Pending), (events[2], Retrying), (events[1], Failed)]);
    assert_eq!(page.rows[1].next_retry_at, Some(at));
    assert_eq!(page.rows[1].last.as_ref().unwrap().http_status, Some(500));
    let rest = world.records.deliveries(&DeliveryQuery { before: page.next.unwrap(), ..query }, 3).unwrap();
    assert_eq!(
        rest.rows.iter().map(|record| (record.id.event, record.status)).collect::<Vec<_>>(),
        [(events[0], Delivered)]
    );
    assert_eq!(rest.next, None);
    let of_event = world.records.of_event(events[0], &[WebhookNo(1), WebhookNo(5)]).unwrap();
    assert_eq!(of_event.iter().map(|record| record.status).collect::<Vec<_>>(), [Delivered, Pending]);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_at_any_write_loses_no_pending_change() {
    for room in 0.. {
        let mut world = World::new();
        let events: Vec<_> = (0..3).map(|_| world.announce(&[1, 2])).collect();
        world.settle(1, events[0], Some(attempt(1)), Decision::Delivered);
        world.retry(2, events[0], 1, MINUTE);
        world.spill(1, events[1]);
        world.disk.set_room(room);
        let done = world.driver.flush();
        world.disk.set_room(-1);
        if done.is_ok() {
            assert!(room > 5, "the disk was full at each of some writes");
            return;
        }
        assert!(done.unwrap_err().is_disk_full());
        world.driver.reopen().unwrap();
        world.flush();
        assert!(world.driver.under_way.is_none());
        world = world.crash();
        assert_eq!(world.ready(1), events[1..], "room for {room} writes");
        assert_eq!(world.ready(2), events[1..]);
        assert_eq!(world.records.attempts(id(1, events[0])).unwrap(), [attempt(1)]);
        tokio::time::advance(2 * MINUTE).await;
        assert_eq!(world.due(2), [BacklogRow { event: events[0], attempts: 1, base: 0 }]);
    }
}

#[tokio::test(start_paused = true)]
async fn statistics_and_high_water_marks_survive_a_stop() {
    let mut world = World::new();
    let event = world.announce(&[1]);
    world.settle(1, event, Some(attempt(1)), Decision::Delivered);
    tokio::time::advance(HOUR).await;
    let steady = world.clock.steady();
    world = world.reopen();
    assert_eq!(world.records.stats(WebhookNo(1)).delivered, 1);
    let disk = world.disk.crash();
    drop(world);
    let opened = World::open(&disk);
    assert_eq!((opened.last_event(), opened.steady()), (event, steady));
    assert_eq!(opened.counts().unwrap().webhooks, 1);
}

#[tokio::test(start_paused = true)]
async fn an_ordered_refill_returns_rows_in_order_up_to_the_first_unwritten_event() {
    let mut world = World::new();
    let events: Vec<_> = (0..3).map(|_| world.announce(&[1])).collect();
    let due = world.retry(1, events[0], 1, Duration::from_secs(60));
    world.spill(1, events[1]);
    world.spill(1, events[2]);
    world.flush();
    let all = RefillKind::Ordered { after: EventId::MIN };
    let refilled = world.refill(1, all, 2);
    assert_eq!(refilled.rows.iter().map(|row| row.event).collect::<Vec<_>>(), events[..2]);
    assert_eq!((&*refilled.not_before, refilled.end), (&[(events[0], due)][..], false));
    let rest = world.refill(1, refilled.kind, 2);
    assert_eq!((rest.rows.len(), rest.rows[0].event, rest.end), (1, events[2], true));
    // A job still writes the rows of the second event for other webhooks.
    let ask = RefillRequest { webhook: WebhookNo(1), kind: all, rows: 9 };
    let now = world.clock.steady();
    let refilled = world.reader.refill(&[ask], now, Some(events[1])).unwrap().remove(0);
    assert_eq!((refilled.rows.len(), refilled.rows[0].event, refilled.end), (1, events[0], false));
}

#[tokio::test(start_paused = true)]
async fn a_refused_disable_request_is_repeated_once_per_webhook() {
    let mut world = World::new();
    world.registry_has_room.store(false, Ordering::Relaxed);
    for _ in 0..3 {
        let event = world.announce(&[1]);
        world.settle(1, event, Some(failed(1, 410)), Decision::Dead(DeadReason::Gone));
    }
    world.flush();
    assert!(world.disabled.lock().unwrap().is_empty() && !world.is_idle());
    world.registry_has_room.store(true, Ordering::Relaxed);
    world.flush();
    assert_eq!(*world.disabled.lock().unwrap(), [(WebhookNo(1), DisableReason::Gone)]);
    assert!(world.is_idle());
}

#[tokio::test(start_paused = true)]
async fn the_failing_time_continues_over_a_restart() {
    let mut world = World::new();
    let event = world.announce(&[1]);
    world.retry(1, event, 1, HOUR);
    world = world.reopen();
    tokio::time::advance(Duration::from_millis(24 * 3_600_000 - 1)).await;
    world.retry(1, event, 2, HOUR);
    world.flush();
    assert!(world.disabled.lock().unwrap().is_empty());
    tokio::time::advance(Duration::from_millis(1)).await;
    world.retry(1, event, 3, HOUR);
    world.flush();
    assert_eq!(*world.disabled.lock().unwrap(), [(WebhookNo(1), DisableReason::Failing)]);
}

#[tokio::test(start_paused = true)]
async fn a_webhook_is_disabled_after_its_own_disable_after() {
    let mut world = World::new();
    world.disable_after.lock().unwrap().insert(WebhookNo(2), HOUR);
    for webhook in [1, 2] {
        for _ in 0..2 {
            let event = world.announce(&[webhook]);
            world.retry(webhook, event, 1, Duration::from_secs(60));
            world.flush();
            tokio::time::advance(HOUR).await;
        }
    }
    assert_eq!(*world.disabled.lock().unwrap(), [(WebhookNo(2), DisableReason::Failing)]);
}
