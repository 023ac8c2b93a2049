//! Statistics and who may see them.

use std::sync::atomic::Ordering;

use super::*;
use crate::settle::{DeliveryStats as Counted, Hour, HourlyStatsRow, OTHER_TYPES, WebhookStats};

impl World {
    /// Records an attempt of a webhook of a tenant, the given number of hours ago.
    fn attempted(&self, tenant: &str, webhook: u32, hours_ago: u32, event_type: &str, is_success: bool) {
        let hour = Hour::of(self.clock.now()).before(hours_ago);
        let row = HourlyStatsRow::of_type(event_type, &Counted::of_attempt(is_success));
        let mut webhooks = self.statistics.webhooks.lock().unwrap();
        webhooks.entry((WebhookNo(webhook), hour)).or_default().merge(&row, 250);
        self.statistics.tenants.lock().unwrap().entry((tenant.to_owned(), hour)).or_default().merge(&row, 250);
    }
}

/// A world whose clock starts late enough for earlier hours.
async fn old_world() -> World {
    let world = world();
    tokio::time::advance(Duration::from_secs(100 * 3_600)).await;
    world
}

fn types(got: &Got) -> Vec<(&str, u64, u64)> {
    let row = |row: &'static str| move |of: &Value| of[row].as_u64().unwrap();
    let data = got.body["data"].as_array().unwrap().iter();
    data.map(|of| (of["event_type"].as_str().unwrap(), row("total")(of), row("attempts")(of))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_webhook_shows_its_statistics() {
    let world = old_world().await;
    let place = made(&world).await;
    world.attempted("default", 0, 0, "order.created", true);
    world.attempted("default", 0, 1, "order.created", false);
    world.attempted("default", 0, 23, "order.paid", true);
    world.attempted("default", 0, 24, "order.paid", true);
    world.attempted("default", 1, 0, "order.created", true);
    world.wait(EventId::from_u128(9), 0);
    *world.statistics.totals.lock().unwrap() = WebhookStats {
        delivered: 7,
        failed_attempts: 5,
        dead: 1,
        last_success: Some(Timestamp::from_millis(2_000)),
        ..WebhookStats::default()
    };
    for path in ["metrics", "stats"] {
        let got = ask().role(Role::Viewer).send(&world, "GET", &format!("{place}/{path}")).await;
        assert_eq!(got.status, 200, "{}", got.body);
        let body = &got.body;
        assert_eq!((got.text("health"), got.text("breaker"), got.text("status")), ("healthy", "closed", "active"));
        assert_eq!((&body["queue_depth"], &body["queue_depth_is_minimum"]), (&json!(4), &json!(false)));
        let totals = json!({"deliveries": 8, "successful": 7, "failed": 1, "attempts": 12, "failed_attempts": 5,
            "success_rate": 0.875});
        assert_eq!(body["totals"], totals);
        let latency = json!({"p50": 9.728, "p95": 9.728, "p99": 9.728});
        let day = json!({"deliveries": 2, "successful": 2, "failed": 0, "attempts": 3, "failed_attempts": 1,
            "success_rate": 1.0, "average_attempts": 1.0, "latency_ms": latency,
            "attempts_histogram": [{"attempts": 1, "deliveries": 2}]});
        assert_eq!(body["last_24h"], day);
        assert_eq!(body["last_success_at"], "1970-01-01T00:00:02.000Z");
        assert_eq!((&body["last_failure_at"], &body["failing_since"]), (&Value::Null, &Value::Null));
        let hourly = body["hourly"].as_array().unwrap();
        assert_eq!(hourly.len(), 24);
        let attempts: Vec<_> = hourly.iter().map(|hour| hour["attempts"].as_u64().unwrap()).collect();
        assert_eq!((attempts[0], attempts[22], attempts[23], attempts.iter().sum::<u64>()), (1, 1, 1, 3));
        assert_eq!(hourly[23]["hour"], Hour::of(world.clock.now()).start().to_string());
        assert_eq!(hourly[5]["latency_ms"], Value::Null);
        assert_eq!(body["event_types"][0]["event_type"], "order.created");
        assert_eq!(body["event_types"][0]["attempts"], 2);
        assert_eq!(body["event_types"][1]["event_type"], "order.paid");
    }
    world.statistics.breaker.store(2, Ordering::Relaxed);
    let got = ask().send(&world, "GET", &format!("{place}/metrics")).await;
    assert_eq!((got.text("health"), got.text("breaker")), ("failing", "open"));
    let got = ask().tenant(Some("other")).send(&world, "GET", &format!("{place}/metrics")).await;
    assert_eq!(got.status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_sees_only_its_own_event_types() {
    let world = old_world().await;
    for tenant in ["default", "other"] {
        let body = json!({"url": "https://example.com/hook", "tenant": tenant});
        assert_eq!(ask().tenant(None).json(&body).send(&world, "POST", WEBHOOKS).await.status, 201);
    }
    world.attempted("default", 0, 0, "order.created", true);
    world.attempted("default", 0, 0, "order.created", true);
    world.attempted("default", 0, 2, "order.paid", true);
    world.attempted("default", 0, 24, "order.paid", false);
    world.attempted("default", 0, 0, OTHER_TYPES, false);
    world.attempted("other", 1, 0, "secret.type", true);
    let stats = "/api/v1/stats";

    let got = ask().role(Role::Viewer).send(&world, "GET", stats).await;
    assert_eq!(types(&got), [("order.created", 2, 2), ("order.paid", 1, 1), ("*", 0, 1)]);
    assert_eq!(got.body["data"][0]["average_attempts"], 1.0);
    assert_eq!(got.body["data"][2]["success_rate"], Value::Null);
    let now = world.clock.now();
    assert_eq!(got.text("since"), Hour::of(now).before(23).start().to_string());
    assert_eq!(got.text("until"), now.to_string());

    let since = |hours: i64| {
        let at = Timestamp::from_millis(now.as_millis() - hours * 3_600_000);
        format!("{stats}?since={at}")
    };
    let got = ask().send(&world, "GET", &since(1)).await;
    assert_eq!(types(&got), [("order.created", 2, 2), ("*", 0, 1)]);
    let got = ask().send(&world, "GET", &since(1_000)).await;
    assert_eq!(types(&got), [("order.created", 2, 2), ("order.paid", 1, 2), ("*", 0, 1)], "what is kept at most");
    assert_eq!(ask().send(&world, "GET", &format!("{stats}?since=yesterday")).await.status, 400);

    let got = ask().tenant(Some("other")).send(&world, "GET", stats).await;
    assert_eq!(types(&got), [("secret.type", 1, 1)]);
    assert_eq!(ask().send(&world, "GET", &format!("{stats}?tenant=other")).await.status, 404);
    let got = ask().tenant(None).send(&world, "GET", &format!("{stats}?tenant=other")).await;
    assert_eq!(types(&got), [("secret.type", 1, 1)]);
    let got = ask().tenant(None).send(&world, "GET", stats).await;
    assert_eq!(types(&got).len(), 4, "a key for all tenants sees all");
    assert_eq!(ask().role(Role::Publisher).send(&world, "GET", stats).await.status, 403);
}
