//! Lists of deliveries, and the commands on them: retry, discard, recover, replay.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::testing::{HOUR, World};
use super::{DeliveryQuery, JobKind, JobState};
use crate::handoff::{BacklogRow, ReplayFilter, RetryResult, SettleCommand};
use crate::model::DeliveryStatus::{Delivered, Failed, Pending, Retrying};
use crate::model::{DeadReason, Decision, DeliveryId, DeliveryStatus, EventId, WebhookNo};
use crate::storage::delivery::testing::{attempt, failed};

const MINUTE: Duration = Duration::from_secs(60);

fn id(webhook: u32, event: EventId) -> DeliveryId {
    DeliveryId { event, webhook: WebhookNo(webhook) }
}

fn die(world: &mut World, webhook: u32, event: EventId) {
    world.settle(webhook, event, Some(failed(1, 500)), Decision::Dead(DeadReason::Exhausted));
}

fn status(world: &World, webhook: u32, event: EventId) -> DeliveryStatus {
    world.records.delivery(id(webhook, event)).unwrap().unwrap().status
}

/// All pages of a list, with the given page size.
fn pages(world: &World, mut query: DeliveryQuery, limit: usize) -> Vec<(DeliveryId, DeliveryStatus)> {
    let mut seen = Vec::new();
    loop {
        let page = world.records.deliveries(&query, limit).unwrap();
        assert!(page.rows.len() <= limit);
        seen.extend(page.rows.iter().map(|record| (record.id, record.status)));
        let Some(next) = page.next else { return seen };
        assert!(next < query.before, "a page that moves on");
        query.before = next;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The webhooks 1, 65 and 129 share a bucket of history. Webhook 7 is never queried.
    #[test]
    fn a_list_over_many_webhooks_matches_the_single_records_newest_first(
        deliveries in prop::collection::vec((0usize..5, 0u8..5, 1u128..15), 1..40),
        limit in 1usize..12,
        reopen: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _in = runtime.enter();
        let mut world = World::new();
        let mut model = BTreeMap::new();
        for (n, (webhook, fate, _)) in deliveries.iter().enumerate() {
            let webhook = [1, 2, 65, 129, 7][*webhook];
            let event = world.announce(&[webhook]);
            let status = match fate {
                0 => {
                    world.spill(webhook, event);
                    Pending
                }
                1 => {
                    world.retry(webhook, event, 1, HOUR);
                    Retrying
                }
                2 => {
                    die(&mut world, webhook, event);
                    Failed
                }
                _ => {
                    world.settle(webhook, event, Some(attempt(1)), Decision::Delivered);
                    Delivered
                }
            };
            if n % 5 == 4 {
                world.flush();
            }
            if webhook != 7 {
                model.insert(id(webhook, event), status);
            }
        }
        world.flush();
        if reopen {
            world = world.reopen();
        }
        let query = DeliveryQuery::all([1, 2, 65, 129].map(WebhookNo));
        let expected: Vec<_> = model.iter().rev().map(|(id, status)| (*id, *status)).collect();
        prop_assert_eq!(pages(&world, query.clone(), limit), expected.clone());
        for status in [Pending, Retrying, Failed] {
            let of: Vec<_> = expected.iter().filter(|(_, is)| *is == status).copied().collect();
            prop_assert_eq!(pages(&world, DeliveryQuery { status: Some(status), ..query.clone() }, limit), of);
        }
        let (first, before) = (EventId::from_u128(deliveries[0].2), id(65, EventId::from_u128(20)));
        let within: Vec<_> = expected.iter().filter(|(id, _)| id.event >= first && *id < before).copied().collect();
        prop_assert_eq!(pages(&world, DeliveryQuery { first, before, ..query.clone() }, limit), within);
        let letters = world.records.dead_letters(&query, 1_000).unwrap();
        let dead: Vec<_> = letters.rows.iter().map(|letter| (letter.id, Failed)).collect();
        prop_assert_eq!(dead, expected.into_iter().filter(|(_, is)| *is == Failed).collect::<Vec<_>>());
        prop_assert_eq!(letters.next, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_manual_retry_of_a_finished_delivery_starts_a_new_schedule() {
    let mut world = World::new();
    let (dead, done) = (world.announce(&[1]), world.announce(&[1]));
    die(&mut world, 1, dead);
    world.settle(1, done, Some(attempt(2)), Decision::Delivered);
    world.flush();
    world.notifications();
    for event in [dead, done] {
        assert_eq!(world.ask(|reply| SettleCommand::Retry { id: id(1, event), reply }), RetryResult::Scheduled);
        assert_eq!(
            world.ask(|reply| SettleCommand::Retry { id: id(1, event), reply }),
            RetryResult::AlreadyPending,
            "it is due"
        );
        assert_eq!(status(&world, 1, event), Pending);
    }
    assert!(world.letters(1).is_empty());
    assert!(world.notifications().iter().all(|waiting| waiting.due == Some(world.clock.steady())));
    tokio::time::advance(Duration::from_millis(1)).await;
    let rows = [BacklogRow { event: dead, attempts: 1, base: 1 }, BacklogRow { event: done, attempts: 2, base: 2 }];
    assert_eq!(world.due(1), rows);
}

#[tokio::test(start_paused = true)]
async fn a_manual_retry_makes_a_scheduled_retry_due_now_and_keeps_its_schedule() {
    let mut world = World::new();
    let event = world.announce(&[1]);
    world.retry(1, event, 3, HOUR);
    // The command comes in the same flush as the attempt before it.
    assert_eq!(world.ask(|reply| SettleCommand::Retry { id: id(1, event), reply }), RetryResult::Scheduled);
    assert_eq!(status(&world, 1, event), Retrying);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(world.due(1), [BacklogRow { event, attempts: 3, base: 0 }]);
    world = world.crash();
    assert_eq!(world.due(1), [BacklogRow { event, attempts: 3, base: 0 }], "once, at its new time");
}

#[tokio::test(start_paused = true)]
async fn pending_unknown_and_webhookless_deliveries_are_not_retried() {
    let mut world = World::new();
    let (listed, row) = (world.announce(&[1]), world.announce(&[1]));
    let wide = world.announce(&[1, 2, 3, 4, 5]);
    world.spill(1, row);
    let mut answers = Vec::new();
    for event in [listed, row, wide] {
        let (reply, answer) = tokio::sync::oneshot::channel();
        world.take_in(crate::handoff::ToSettle::Command(SettleCommand::Retry { id: id(1, event), reply }));
        answers.push(answer);
    }
    world.flush();
    for mut answer in answers {
        assert_eq!(answer.try_recv().unwrap(), RetryResult::AlreadyPending);
    }
    let unknown = id(9, listed);
    assert_eq!(world.ask(|reply| SettleCommand::Retry { id: unknown, reply }), RetryResult::NotFound);
    world.abandoned.lock().unwrap().insert(WebhookNo(1), DeadReason::Disabled);
    let asked = world.ask(|reply| SettleCommand::Retry { id: id(1, row), reply });
    assert_eq!(asked, RetryResult::Abandoned(DeadReason::Disabled));
}

#[tokio::test(start_paused = true)]
async fn a_discarded_dead_letter_is_gone_from_the_list_and_from_the_count() {
    let mut world = World::new();
    let events: Vec<_> = (0..3).map(|_| world.announce(&[1])).collect();
    for event in &events {
        die(&mut world, 1, *event);
    }
    world.flush();
    assert_eq!(world.driver.state.metrics.dead_letters.get(), 3);
    let (webhook, gone) = (WebhookNo(1), vec![events[1], EventId::from_u128(99)]);
    assert_eq!(world.ask(|reply| SettleCommand::Discard { webhook, events: gone.clone(), reply }), 1);
    assert_eq!(world.ask(|reply| SettleCommand::Discard { webhook, events: gone, reply }), 0);
    assert_eq!(world.letters(1).iter().map(|letter| letter.id.event).collect::<Vec<_>>(), [events[2], events[0]]);
    assert_eq!(world.driver.state.metrics.dead_letters.get(), 2);
    assert_eq!(status(&world, 1, events[1]), Failed, "history still knows how it ended");
    let failed = DeliveryQuery { status: Some(Failed), ..DeliveryQuery::all([webhook]) };
    assert_eq!(pages(&world, failed, 9).len(), 2);
    assert_eq!(world.ask(|reply| SettleCommand::ReplayDead { webhook, events: Some(vec![events[0]]), reply }), 1);
    assert_eq!(world.driver.state.metrics.dead_letters.get(), 1);
    world = world.reopen();
    assert_eq!((world.letters(1).len(), world.driver.state.metrics.dead_letters.get()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_recovery_replays_failures_and_advances_pending_retries_even_over_a_crash() {
    let mut world = World::new();
    let old: Vec<_> = (0..4).map(|_| world.announce(&[1])).collect();
    for event in &old {
        die(&mut world, 1, *event);
    }
    world.flush();
    tokio::time::advance(HOUR).await;
    let since = world.clock.now();
    let died: Vec<_> = (0..4).map(|_| world.announce(&[1])).collect();
    for event in &died {
        die(&mut world, 1, *event);
    }
    let waits: Vec<_> = (0..4).map(|_| world.announce(&[1, 2])).collect();
    for event in &waits {
        world.retry(1, *event, 2, HOUR);
        world.retry(2, *event, 2, HOUR);
    }
    world.flush();
    let (reply, mut answer) = tokio::sync::oneshot::channel();
    let command = SettleCommand::Recover { webhook: WebhookNo(1), since, reply };
    world.take_in(crate::handoff::ToSettle::Command(command));
    world.driver.flush().unwrap();
    let no = answer.try_recv().unwrap();
    assert!(world.records.jobs().unwrap()[0].is_running(), "it takes several steps");
    world = world.crash();
    let job = world.records.jobs().unwrap().remove(0);
    assert_eq!((job.no, job.state, job.done), (no, JobState::Done, 8));
    assert_eq!(job.kind, JobKind::Recover { webhook: WebhookNo(1), since: Some(since) });
    assert_eq!(job.ended_at, Some(world.clock.now()));
    tokio::time::advance(Duration::from_millis(1)).await;
    let mut due = world.due(1);
    due.sort_by_key(|row| row.event);
    let again = died.iter().map(|event| BacklogRow { event: *event, attempts: 1, base: 1 });
    let hurried = waits.iter().map(|event| BacklogRow { event: *event, attempts: 2, base: 0 });
    assert_eq!(due, again.chain(hurried).collect::<Vec<_>>());
    assert!(world.due(2).is_empty(), "another webhook's");
    assert_eq!(world.letters(1).len(), old.len());
}

#[tokio::test(start_paused = true)]
async fn a_replay_includes_the_requested_webhooks() {
    let mut world = World::new();
    let event = world.announce(&[1, 2]);
    for webhook in [1, 2] {
        world.settle(webhook, event, Some(attempt(1)), Decision::Delivered);
    }
    world.flush();
    *world.replay_targets.matching.lock().unwrap() = vec![2, 3];
    *world.replay_targets.held.lock().unwrap() = vec![2, 4];
    let all = ReplayFilter { tenant: "default".into(), ..ReplayFilter::default() };
    let one = ReplayFilter { event: Some(event.to_string().into()), ..all.clone() };
    for (filter, expected) in [
        (all.clone(), vec![1]),
        (ReplayFilter { include_paused: true, ..all.clone() }, vec![1, 2]),
        (ReplayFilter { include_unmatched: true, ..all.clone() }, vec![1, 3]),
        (ReplayFilter { include_unmatched: true, include_paused: true, ..one.clone() }, vec![1, 2, 3]),
        (ReplayFilter { webhook: Some(1), ..all.clone() }, vec![1]),
        (ReplayFilter { webhook: Some(3), ..all.clone() }, vec![]),
        (ReplayFilter { webhook: Some(3), include_unmatched: true, ..all.clone() }, vec![3]),
        (ReplayFilter { webhook: Some(4), include_paused: true, ..one.clone() }, vec![4]),
        (ReplayFilter { webhook: Some(4), ..one }, vec![]),
        (ReplayFilter { since: Some(world.clock.now().plus(HOUR)), ..all }, vec![]),
    ] {
        world.ask(|reply| SettleCommand::Replay { filter: filter.clone(), reply });
        tokio::time::advance(MINUTE).await;
        let job = world.records.jobs().unwrap().remove(0);
        assert_eq!((job.state, job.looked_at, job.done), (JobState::Done, 1, expected.len() as u64), "{filter:?}");
        let to: Vec<u32> = (1..=4).filter(|webhook| world.due(*webhook).len() == 1).collect();
        assert_eq!(to, expected, "{filter:?}");
        for webhook in to {
            let number = world.records.delivery(id(webhook, event)).unwrap().unwrap().attempt_count + 1;
            world.settle(webhook, event, Some(attempt(number)), Decision::Delivered);
        }
        world.flush();
    }
}
