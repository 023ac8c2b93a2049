//! Deliveries whose filters were too costly are dead letters from the start.

use super::testing::World;
use crate::handoff::SettleCommand;
use crate::model::{DeadReason, DeliveryId, DeliveryStatus, EventId, WebhookNo};

const EXHAUSTED: &str = "hooktide.delivery.exhausted";

fn reasons(world: &World, webhook: u32) -> Vec<(EventId, DeadReason)> {
    world.letters(webhook).into_iter().map(|dead| (dead.id.event, dead.reason)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_delivery_with_a_too_costly_filter_is_a_dead_letter_that_can_be_replayed() {
    let mut world = World::new();
    let event = world.announce_costly(&[1], &[2, 3]);
    world.flush();
    assert_eq!(reasons(&world, 2), [(event, DeadReason::FilterTooCostly)]);
    assert_eq!(reasons(&world, 3), [(event, DeadReason::FilterTooCostly)]);
    assert!(reasons(&world, 1).is_empty());
    assert_eq!(world.records.stats(WebhookNo(2)).dead, 1);
    let emitted: Vec<_> = world.emitted.lock().unwrap().drain(..).collect();
    assert_eq!(emitted, [(WebhookNo(2), EXHAUSTED), (WebhookNo(3), EXHAUSTED)]);
    let id = DeliveryId { webhook: WebhookNo(2), event };
    assert_eq!(DeadReason::FilterTooCostly.status(), DeliveryStatus::Abandoned);
    let replay = |reply| SettleCommand::ReplayDead { webhook: id.webhook, events: Some(vec![event]), reply };
    assert_eq!(world.ask(replay), 1);
    assert!(reasons(&world, 2).is_empty());
    tokio::time::advance(std::time::Duration::from_millis(1)).await;
    assert_eq!(world.due(2).len(), 1, "it is delivered without its filter");
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_the_flush_loses_no_too_costly_delivery() {
    let mut world = World::new();
    let announced = world.announce_costly(&[1], &[2]);
    let logged = world.append_costly(&[], &[2]);
    let wide = world.append_costly(&[1, 3, 4, 5, 6], &[2]);
    for _ in 0..2 {
        world = world.crash();
        let found: Vec<_> = reasons(&world, 2);
        assert_eq!(found.len(), 3);
        for event in [announced, logged, wide] {
            assert!(found.contains(&(event, DeadReason::FilterTooCostly)));
        }
        assert_eq!(world.ready(1).len(), 2);
        assert_eq!(world.ready(2), [], "nothing waits for the webhook");
    }
    assert_eq!(world.records.stats(WebhookNo(2)).dead, 3, "counted once");
}
