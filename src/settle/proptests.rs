//! Compares settle with a simple model of the pending deliveries, through stops and crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::testing::World;
use crate::handoff::{BacklogRow, RefillKind, ReplayFilter, RetryResult, SettleCommand, ToSettle};
use crate::model::{DeadReason, Decision, DeliveryId, EventId, Timestamp, WebhookNo};
use crate::storage::delivery::testing::{attempt, failed};

const WEBHOOKS: u32 = 6;

#[derive(Debug, Clone)]
enum Operation {
    Announce(BTreeSet<u32>),
    Deliver(usize),
    Retry(usize, u64),
    DeadLetter(usize),
    Spill(usize),
    RefillReady(u32),
    RefillDue(u32),
    RecoverDead(u32),
    RecoverOne(usize),
    Again(usize),
    Discard(usize),
    Abandon(u32),
    Replay,
    Advance(u64),
    Flush,
    Reopen,
    Crash,
    CrashBeforeAnnounce(BTreeSet<u32>),
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let webhooks = || prop::collection::btree_set(0..WEBHOOKS, 0..WEBHOOKS as usize);
    prop_oneof![
        8 => webhooks().prop_map(Announce),
        6 => any::<usize>().prop_map(Deliver),
        4 => (any::<usize>(), 1u64..5_000).prop_map(|(n, ms)| Retry(n, ms)),
        2 => any::<usize>().prop_map(DeadLetter),
        3 => any::<usize>().prop_map(Spill),
        2 => (0..WEBHOOKS).prop_map(RefillReady),
        2 => (0..WEBHOOKS).prop_map(RefillDue),
        1 => (0..WEBHOOKS).prop_map(RecoverDead),
        1 => any::<usize>().prop_map(RecoverOne),
        2 => any::<usize>().prop_map(Again),
        1 => any::<usize>().prop_map(Discard),
        1 => (0..WEBHOOKS).prop_map(Abandon),
        1 => Just(Replay),
        2 => (1u64..3_000).prop_map(Advance),
        3 => Just(Flush),
        1 => Just(Reopen),
        1 => Just(Crash),
        1 => webhooks().prop_map(CrashBeforeAnnounce),
    ]
}

type DeliveryKey = (u32, EventId);

/// A pending delivery: all attempts, those before the last replay, and the due time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WaitingDelivery {
    attempts: u16,
    base: u16,
    due: Option<Timestamp>,
}

/// The expected state when everything is durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    waits: BTreeMap<DeliveryKey, WaitingDelivery>,
    dead: BTreeSet<DeliveryKey>,
    /// Deliveries that the shard has in memory and may settle.
    held: BTreeSet<DeliveryKey>,
    all: BTreeSet<DeliveryKey>,
    /// Number and success of the last attempt.
    last: BTreeMap<DeliveryKey, (u16, bool)>,
}

impl Model {
    fn pick(&self, n: usize) -> Option<DeliveryKey> {
        (!self.held.is_empty()).then(|| *self.held.iter().nth(n % self.held.len()).unwrap())
    }
}

#[expect(clippy::too_many_lines, reason = "one arm for each operation")]
async fn check(mut world: World, operations: Vec<Operation>) {
    let mut model = Model::default();
    let mut durable = Model::default();
    let ready = WaitingDelivery { attempts: 0, base: 0, due: None };
    for operation in operations {
        match operation {
            Operation::Announce(webhooks) => {
                let event = world.announce(&webhooks.iter().copied().collect::<Vec<_>>());
                let is_wide = webhooks.len() > 4;
                for no in webhooks {
                    model.all.insert((no, event));
                    model.waits.insert((no, event), ready);
                    if !is_wide {
                        model.held.insert((no, event));
                    }
                }
            }
            Operation::Deliver(n) => {
                let Some(one) = model.pick(n) else { continue };
                let number = model.waits[&one].attempts + 1;
                world.settle(one.0, one.1, Some(attempt(number)), Decision::Delivered);
                model.held.remove(&one);
                model.last.insert(one, (number, true));
                model.waits.remove(&one);
            }
            Operation::Retry(n, ms) => {
                let Some(one) = model.pick(n) else { continue };
                let WaitingDelivery { attempts, base, .. } = model.waits[&one];
                let attempts = attempts + 1;
                let at = world.retry(one.0, one.1, attempts, Duration::from_millis(ms));
                model.held.remove(&one);
                model.waits.insert(one, WaitingDelivery { attempts, base, due: Some(at) });
                model.last.insert(one, (attempts, false));
            }
            Operation::DeadLetter(n) => {
                let Some(one) = model.pick(n) else { continue };
                let number = model.waits[&one].attempts + 1;
                let dead = Decision::Dead(DeadReason::Exhausted);
                world.settle(one.0, one.1, Some(failed(number, 500)), dead);
                model.held.remove(&one);
                model.waits.remove(&one);
                model.dead.insert(one);
                model.last.insert(one, (number, false));
            }
            Operation::Spill(n) => {
                // A shard spills only deliveries that have just arrived.
                let Some(one) = model.pick(n).filter(|one| model.waits[one] == ready) else { continue };
                world.spill(one.0, one.1);
                model.held.remove(&one);
            }
            Operation::RefillReady(no) => {
                let rows = world.drain(no, RefillKind::Ready { after: EventId::MIN });
                durable = model.clone();
                for row in rows {
                    let BacklogRow { event, attempts, base } = row;
                    assert_eq!(model.waits[&(no, event)], WaitingDelivery { attempts, base, due: None });
                    model.held.insert((no, row.event));
                }
            }
            Operation::RefillDue(no) => {
                let rows = world.due(no);
                durable = model.clone();
                for row in rows {
                    let waits = model.waits[&(no, row.event)];
                    assert_eq!((waits.attempts, waits.base), (row.attempts, row.base));
                    assert!(waits.due.unwrap() < world.clock.steady());
                    model.held.insert((no, row.event));
                }
            }
            Operation::RecoverDead(no) => {
                let count =
                    world.ask(|reply| SettleCommand::ReplayDead { webhook: WebhookNo(no), events: None, reply });
                let back: Vec<_> = model.dead.iter().filter(|one| one.0 == no).copied().collect();
                assert_eq!(count, back.len() as u64);
                recover(&world, &mut model, back);
                durable = model.clone();
            }
            Operation::RecoverOne(n) => {
                let Some(one) = model.dead.iter().nth(n % model.dead.len().max(1)).copied() else { continue };
                let (webhook, events) = (WebhookNo(one.0), Some(vec![one.1]));
                assert_eq!(world.ask(|reply| SettleCommand::ReplayDead { webhook, events, reply }), 1);
                recover(&world, &mut model, vec![one]);
                durable = model.clone();
            }
            Operation::Again(n) => {
                let Some(one) = model.all.iter().nth(n % model.all.len().max(1)).copied() else { continue };
                let id = DeliveryId { webhook: WebhookNo(one.0), event: one.1 };
                let retried = world.ask(|reply| SettleCommand::Retry { id, reply });
                let now = world.clock.steady();
                let is_known = model.dead.contains(&one) || model.last.contains_key(&one);
                let expected = match model.waits.get_mut(&one) {
                    Some(waits) if waits.due.is_some_and(|at| at > now) => {
                        waits.due = Some(now);
                        RetryResult::Scheduled
                    }
                    Some(_) => RetryResult::AlreadyPending,
                    None if is_known => {
                        recover(&world, &mut model, vec![one]);
                        RetryResult::Scheduled
                    }
                    None => RetryResult::NotFound,
                };
                assert_eq!(retried, expected, "{one:?}");
                durable = model.clone();
            }
            Operation::Discard(n) => {
                let Some(one) = model.dead.iter().nth(n % model.dead.len().max(1)).copied() else { continue };
                let (webhook, events) = (WebhookNo(one.0), vec![one.1]);
                assert_eq!(world.ask(|reply| SettleCommand::Discard { webhook, events, reply }), 1);
                model.dead.remove(&one);
                durable = model.clone();
            }
            Operation::Abandon(no) => {
                // The shard drops the deliveries of a disabled webhook from its memory.
                let held: Vec<_> = model.held.iter().filter(|one| one.0 == no).copied().collect();
                for one in held {
                    world.settle(one.0, one.1, None, Decision::Dead(DeadReason::Disabled));
                }
                let abandon = SettleCommand::Abandon { webhook: WebhookNo(no), reason: DeadReason::Disabled };
                world.take_in(ToSettle::Command(abandon));
                world.flush();
                let gone: Vec<_> = model.waits.keys().filter(|one| one.0 == no).copied().collect();
                for one in gone {
                    model.waits.remove(&one);
                    model.held.remove(&one);
                    model.dead.insert(one);
                }
                durable = model.clone();
            }
            Operation::Replay => {
                let types = vec!["order.*".into()];
                let filter = ReplayFilter { tenant: "default".into(), types, ..ReplayFilter::default() };
                world.flush();
                world.ask(|reply| SettleCommand::Replay { filter, reply });
                let again: Vec<_> = model.all.iter().filter(|one| !model.waits.contains_key(one)).copied().collect();
                recover(&world, &mut model, again);
                durable = model.clone();
            }
            Operation::Advance(ms) => tokio::time::advance(Duration::from_millis(ms)).await,
            Operation::Flush => {
                world.flush();
                durable = model.clone();
            }
            Operation::Reopen => {
                world.flush();
                world = world.reopen();
                model.held.clear();
                durable = model.clone();
                assert_holds(&mut world, &model).await;
            }
            Operation::Crash => {
                world = world.crash();
                settle_on_what_is_there(&world, &mut model, &durable);
                durable = model.clone();
            }
            Operation::CrashBeforeAnnounce(webhooks) => {
                let event = world.append(&webhooks.iter().copied().collect::<Vec<_>>());
                for no in webhooks {
                    model.all.insert((no, event));
                    model.waits.insert((no, event), ready);
                }
                world = world.crash();
                settle_on_what_is_there(&world, &mut model, &durable);
                durable = model.clone();
            }
        }
    }
    world.flush();
    world = world.reopen();
    assert_holds(&mut world, &model).await;
}

fn recover(world: &World, model: &mut Model, back: Vec<DeliveryKey>) {
    for one in back {
        model.dead.remove(&one);
        let attempts = model.last.get(&one).map_or(0, |(number, _)| *number);
        model.waits.insert(one, WaitingDelivery { attempts, base: attempts, due: Some(world.clock.steady()) });
    }
}

/// Checks the state after a crash. Pending deliveries are still pending, and durable outcomes are kept. An outcome that
/// was not durable may be lost or kept, and the model takes over what it finds.
fn settle_on_what_is_there(world: &World, model: &mut Model, durable: &Model) {
    model.held.clear();
    let mut found = Model { all: model.all.clone(), last: durable.last.clone(), ..Model::default() };
    for one in &model.all {
        let id = DeliveryId { webhook: WebhookNo(one.0), event: one.1 };
        let record = world.records.delivery(id).unwrap();
        let row = record.as_ref().filter(|record| {
            use crate::model::DeliveryStatus::{Pending, Retrying};
            matches!(record.status, Pending | Retrying)
        });
        let is_dead = record.as_ref().is_some_and(|record| record.dead.is_some());
        let was_known = durable.all.contains(one);
        if let Some(row) = row {
            let was = durable.waits.get(one).copied();
            let base = was.map_or(0, |was| was.base);
            let waits = WaitingDelivery { attempts: row.attempt_count, base, due: row.next_retry_at };
            assert!(!was_known || was.is_some() && was == Some(waits), "{one:?}: {was:?} became {waits:?}");
            found.waits.insert(*one, waits);
        } else {
            assert!(!model.waits.contains_key(one) || durable.dead.contains(one), "{one:?} is lost");
            assert!(!durable.waits.contains_key(one), "{one:?} was to be delivered and is lost");
        }
        if is_dead {
            assert!(durable.dead.contains(one), "{one:?} died without being told");
            found.dead.insert(*one);
        }
    }
    *model = found;
}

/// Checks that refills return each row once, and nothing else.
async fn assert_holds(world: &mut World, model: &Model) {
    tokio::time::advance(Duration::from_secs(10)).await;
    for no in 0..WEBHOOKS {
        let of = |is_due: bool| -> Vec<EventId> {
            let rows = model.waits.iter().filter(|(one, waits)| one.0 == no && waits.due.is_some() == is_due);
            rows.map(|(one, _)| one.1).collect()
        };
        assert_eq!(world.ready(no), of(false), "ready rows of {no}");
        let mut due: Vec<_> = world.due(no).into_iter().map(|row| row.event).collect();
        due.sort_unstable();
        assert_eq!(due, of(true), "due rows of {no}");
        let dead = world.letters(no);
        let dead: BTreeSet<_> = dead.into_iter().map(|letter| (no, letter.id.event)).collect();
        assert_eq!(dead, model.dead.iter().filter(|one| one.0 == no).copied().collect(), "dead letters of {no}");
    }
    assert_eq!(world.records.depth(), model.waits.len() as u64);
    for (one, (number, is_ok)) in &model.last {
        let id = DeliveryId { webhook: WebhookNo(one.0), event: one.1 };
        let record = world.records.delivery(id).unwrap().unwrap();
        let last = record.last.unwrap();
        assert_eq!((last.number, last.error.is_none()), (*number, *is_ok), "the last attempt of {one:?}");
        assert_eq!(record.attempt_count, *number, "{one:?}");
        let numbers: Vec<_> = world.records.attempts(id).unwrap().iter().map(|attempt| attempt.number).collect();
        assert_eq!(numbers, (1..=*number).collect::<Vec<_>>(), "each attempt of {one:?}, once");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_pending_delivery_is_never_lost_or_settled_twice(
        operations in prop::collection::vec(operation(), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async { check(World::new(), operations).await });
    }
}
