//! Test deliveries, to a receiver inside the test.

use super::*;

impl World {
    fn received(&self) -> (String, String) {
        let received = self.test_sender.received.lock().unwrap();
        let last = received.last().unwrap();
        (last.event_type.to_string(), String::from_utf8(last.data.to_vec()).unwrap())
    }
}

#[tokio::test]
async fn the_response_is_the_attempt_regardless_of_the_status() {
    let world = world();
    let place = made(&world).await;
    let got = ask().send(&world, "POST", &format!("{place}/test")).await;
    let no = WebhookNo(world.test_sender.received.lock().unwrap()[0].webhook.no.0);
    let id = DeliveryId { event: EventId::from_u128(7), webhook: no };
    let expected = json!({
        "success": false, "status": 418, "headers": {"via": "one, two"}, "body": "I am a teapot", "truncated": false,
        "latency_ms": 12, "error": "the endpoint answered 418",
        "request": {"headers": {"x-team": "a", "authorization": "***"}, "body": "{}"},
        "delivery_id": id.to_string(), "event_id": id.event.to_string(), "event_type": "order.test",
    });
    assert_eq!((got.status, got.body), (200, expected));
    let (_, data) = world.received();
    assert_eq!(serde_json::from_str::<Value>(&data).unwrap()["test"], true);
    assert_eq!(&*world.test_sender.received.lock().unwrap()[0].correlation_id, "req_1");
}

#[tokio::test]
async fn a_test_delivery_uses_the_example_of_the_catalogue() {
    let world = world();
    let place = made(&world).await;
    let body = json!({"name": "order.created", "example": {"order_id": "ord_1"}});
    assert_eq!(ask().json(&body).send(&world, "POST", "/api/v1/event-types").await.status, 201);
    for (body, expected) in [
        (json!({"event_type": "order.created"}), json!({"order_id": "ord_1"})),
        (json!({"event_type": "order.created", "data": {"n": 1}}), json!({"n": 1})),
    ] {
        let got = ask().json(&body).send(&world, "POST", &format!("{place}/test")).await;
        assert_eq!(got.status, 200, "{}", got.body);
        assert_eq!(serde_json::from_str::<Value>(&world.received().1).unwrap(), expected);
    }
}

#[tokio::test]
async fn type_and_data_are_the_callers_or_fit_the_webhook() {
    let world = world();
    for (events, expected) in [
        (json!(["*"]), "webhook.test"),
        (json!([]), "webhook.test"),
        (json!(["order.*"]), "order.test"),
        (json!(["order.*", "user.created", "user.deleted"]), "user.created"),
    ] {
        let got = create(&world, &json!({"url": "https://example.com/hook", "events": events})).await;
        let place = format!("{WEBHOOKS}/{}/test", got.text("id"));
        assert_eq!(ask().json(&json!({"unknown": 1})).send(&world, "POST", &place).await.status, 200);
        assert_eq!(world.received().0, expected, "{events}");
    }
    let place = format!("{}/test", made(&world).await);
    let body = r#"{"event_type": "a.b", "data": {"n":  1.50}}"#;
    let ask_with =
        |body: &str| Ask { body: body.as_bytes().to_vec(), ..ask().header("content-type", "application/json") };
    assert_eq!(ask_with(body).send(&world, "POST", &place).await.status, 200);
    assert_eq!(world.received(), ("a.b".to_owned(), r#"{"n":  1.50}"#.to_owned()), "byte for byte");
    assert_eq!(ask_with(r#"{"data": null}"#).send(&world, "POST", &place).await.status, 200);
    assert_eq!(world.received().1, "null");
    for wrong in [r#"{"event_type": "a b"}"#, r#"{"event_type": 1}"#] {
        assert_eq!(ask_with(wrong).send(&world, "POST", &place).await.wrong(), ["/event_type"]);
    }
}

#[tokio::test]
async fn a_viewer_and_too_frequent_tests_are_refused() {
    let world = world();
    let place = format!("{}/test", made(&world).await);
    assert_eq!(ask().role(Role::Viewer).send(&world, "POST", &place).await.status, 403);
    assert_eq!(ask().tenant(Some("other")).send(&world, "POST", &place).await.status, 404);
    assert!(world.test_sender.received.lock().unwrap().is_empty());
    for (refused, status, code) in [
        (TestRefused::WebhookBusy, 429, "rate_limited"),
        (TestRefused::TenantBusy, 429, "rate_limited"),
        (TestRefused::Busy, 503, "overloaded"),
        (TestRefused::Stopping, 503, "draining"),
    ] {
        *world.test_sender.refuses.lock().unwrap() = Some(refused);
        let got = ask().send(&world, "POST", &place).await;
        assert_eq!((got.status, got.text("code"), got.header("retry-after")), (status, code, "1"));
    }
}
