//! Profiles and secrets of webhooks over the API.

use super::*;
use crate::outbound::Webhook;
use crate::outbound::profile::Profiles;

const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The first key of RFC 8032 section 7.1.
const WHSK: &str = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
const WHPK: &str = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

async fn with(world: &World, more: Value) -> Got {
    let mut body = json!({ "url": "https://example.com/hook", "events": ["*"] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    create(world, &body).await
}

async fn regenerate(world: &World, id: &str, body: Value) -> Got {
    ask().json(&body).send(world, "POST", &format!("/api/v1/webhooks/{id}/regenerate-secret")).await
}

fn live(world: &World, id: &str) -> Arc<Webhook> {
    Arc::clone(world.registry.load().webhook_by_id(id.parse().unwrap()).unwrap())
}

#[tokio::test]
async fn a_webhook_is_created_with_a_profile_and_the_secret_for_it() {
    let world = world();
    for (body, profile, secret, hint, public_key) in [
        (json!({}), "standard", "whsec_", "whsec_…", None),
        (json!({ "profile": null }), "standard", "whsec_", "whsec_…", None),
        (json!({ "secret": WHSEC }), "standard", WHSEC, "whsec_…LaSw", None),
        (json!({ "secret": WHSK }), "standard", WHSK, "whsk_…f2A=", Some(WHPK)),
        (json!({ "profile": "raw", "key_type": "hmac" }), "raw", "whsec_", "whsec_…", None),
        (json!({ "profile": "raw", "key_type": "ed25519" }), "raw", "whsk_", "whsk_…", Some("whpk_")),
        (json!({ "profile": "homechef" }), "homechef", "whsec_", "whsec_…", None),
        (json!({ "profile": "epic", "secret": "a secret of people" }), "epic", "a secret of people", "…ople", None),
    ] {
        let got = with(&world, body.clone()).await;
        assert_eq!(got.status, 201, "{body}: {}", got.body);
        assert_eq!(got.text("profile"), profile, "{body}");
        assert!(got.text("secret").starts_with(secret), "{body}");
        assert!(got.text("secret_hint").starts_with(hint), "{body}: {}", got.body);
        assert_eq!(got.body.get("public_key").is_some(), public_key.is_some(), "{body}");
        assert!(got.text("public_key").starts_with(public_key.unwrap_or_default()), "{body}");
        let read = ask().send(&world, "GET", &format!("/api/v1/webhooks/{}", got.text("id"))).await;
        assert_eq!(read.body["secret"], Value::Null);
        assert_eq!(read.body.get("public_key"), got.body.get("public_key"));
    }
}

#[tokio::test]
async fn errors_of_a_profile_or_a_secret_are_reported() {
    let world = world();
    for (body, pointer, words) in [
        (json!({ "profile": "mine" }), "/profile", "standard, raw, homechef, pyairtable, epic"),
        (json!({ "profile": 1 }), "/profile", "the name of a profile"),
        (json!({ "secret": "a secret of people" }), "/secret", "starts with"),
        (json!({ "secret": 1 }), "/secret", "text"),
        (json!({ "secret": "whsk_AAAA" }), "/secret", "Ed25519"),
        (json!({ "profile": "epic", "secret": "too short" }), "/secret", "16 to 256 characters, this one has 9"),
        (json!({ "key_type": "rsa" }), "/key_type", "hmac or ed25519"),
        (json!({ "key_type": "hmac", "secret": WHSEC }), "/key_type", "this one is given"),
        (json!({ "profile": "epic", "key_type": "ed25519" }), "/key_type", "a scheme of its own"),
        (
            json!({ "profile": "pyairtable", "headers": { "X-PyAirtable-Timestamp": "1" } }),
            "/headers/x-pyairtable-timestamp",
            "the webhook's profile sets this header",
        ),
    ] {
        let got = with(&world, body.clone()).await;
        assert_eq!(got.wrong(), [pointer], "{body}: {}", got.body);
        assert!(got.body["errors"][0]["detail"].as_str().unwrap().contains(words), "{}", got.body);
    }
}

#[tokio::test]
async fn another_profile_reads_the_same_secret_or_is_refused() {
    let world = world();
    let patch =
        async |id: &str, body: Value| ask().json(&body).send(&world, "PATCH", &format!("/api/v1/webhooks/{id}")).await;
    let made = with(&world, json!({ "profile": "epic", "secret": WHSEC })).await;
    let id = made.text("id");
    assert_eq!(patch(id, json!({ "profile": "standard" })).await.text("profile"), "standard");
    let got = patch(id, json!({ "name": "x" })).await;
    assert_eq!((got.status, got.text("profile")), (200, "standard"), "a patch leaves what it does not name");
    assert_eq!(live(&world, id).keys.current.secret.reveal(), WHSEC);
    assert_eq!(patch(id, json!({ "secret": WHSEC, "key_type": "hmac" })).await.wrong(), ["/secret", "/key_type"]);

    let made = with(&world, json!({ "profile": "epic", "secret": "a secret of people" })).await;
    let id = made.text("id");
    let got = patch(id, json!({ "profile": "standard" })).await;
    assert_eq!(got.wrong(), ["/profile"]);
    assert!(got.body.to_string().contains("regenerate-secret"), "{}", got.body);
    assert_eq!(patch(id, json!({ "profile": "homechef" })).await.text("profile"), "homechef");
    // PUT resets unnamed fields. The response says that the secret does not fit.
    let put = json!({ "url": "https://example.com/hook" });
    let got = ask().json(&put).send(&world, "PUT", &format!("/api/v1/webhooks/{id}")).await;
    assert_eq!(got.wrong(), ["/profile"]);
}

#[tokio::test]
async fn a_replaced_secret_signs_until_the_overlap_ends() {
    let world = world();
    let made = with(&world, json!({ "secret": WHSEC })).await;
    let id = made.text("id");
    let got = regenerate(&world, id, json!({})).await;
    assert_eq!(got.status, 200, "{}", got.body);
    assert!(got.text("secret").starts_with("whsec_") && got.text("secret") != WHSEC);
    assert_eq!(got.header("etag"), "\"2\"");
    assert!(got.text("previous_secret_ends_at").starts_with("2024-03-22T10:00:00"), "{}", got.body);
    let (current, previous) = (live(&world, id).keys.current.clone(), live(&world, id).keys.previous[0].clone());
    assert_eq!(current.secret.reveal(), got.text("secret"));
    assert_eq!(previous.0.secret.reveal(), WHSEC);
    let read = ask().send(&world, "GET", &format!("/api/v1/webhooks/{id}")).await;
    assert!(!read.body.to_string().contains(got.text("secret")) && !read.body.to_string().contains(WHSEC));

    // From HMAC to Ed25519: the secrets before stay valid.
    let asymmetric = regenerate(&world, id, json!({ "overlap_seconds": 60, "key_type": "ed25519" })).await;
    assert!(asymmetric.text("secret").starts_with("whsk_") && asymmetric.text("public_key").starts_with("whpk_"));
    let previous: Vec<_> = live(&world, id).keys.previous.iter().map(|(key, _)| key.secret.clone()).collect();
    assert_eq!(previous[0].reveal(), current.secret.reveal());
    assert_eq!(previous[1].reveal(), WHSEC, "the first one stays valid until its own end");
    let same_kind = regenerate(&world, id, json!({})).await;
    assert!(same_kind.text("secret").starts_with("whsk_"));
    assert_ne!(same_kind.text("public_key"), asymmetric.text("public_key"));
    // Without an overlap.
    let given = regenerate(&world, id, json!({ "overlap_seconds": 0, "secret": WHSEC })).await;
    assert_eq!((given.text("secret"), given.body.get("previous_secret_ends_at")), (WHSEC, None));
    assert!(live(&world, id).keys.previous.is_empty());
    // Without a body.
    let bare = ask().send(&world, "POST", &format!("/api/v1/webhooks/{id}/regenerate-secret")).await;
    assert_eq!(bare.status, 200, "{}", bare.body);
}

#[tokio::test]
async fn ten_secrets_before_stay_valid_each_until_its_own_end() {
    let world = world();
    let made = with(&world, json!({})).await;
    let (id, mut secrets) = (made.text("id"), vec![made.text("secret").to_owned()]);
    for n in 0..12 {
        let got = regenerate(&world, id, json!({ "overlap_seconds": 1_000 + n })).await;
        secrets.push(got.text("secret").to_owned());
    }
    let webhook = live(&world, id);
    let kept: Vec<_> = webhook.keys.previous.iter().map(|(key, _)| key.secret.reveal().to_owned()).collect();
    let newest_first: Vec<_> = secrets.iter().rev().skip(1).take(10).cloned().collect();
    assert_eq!(kept, newest_first);
    let ends: Vec<_> = webhook.keys.previous.iter().map(|(_, until)| *until).collect();
    assert!(ends.is_sorted_by(|one, next| one > next), "{ends:?}");
    // A secret that is used again is not also a previous one.
    let again = json!({ "secret": newest_first[3] });
    assert_eq!(regenerate(&world, id, again).await.status, 200);
    let webhook = live(&world, id);
    assert!(webhook.keys.previous.iter().all(|(key, _)| key.secret.reveal() != newest_first[3]));
    assert_eq!(webhook.keys.previous.len(), 10);
}

#[tokio::test]
async fn errors_of_a_new_secret_are_reported_and_change_nothing() {
    let world = world();
    let made = with(&world, json!({ "secret": WHSEC })).await;
    let id = made.text("id");
    for (body, pointer) in [
        (json!({ "overlap_seconds": -1 }), "/overlap_seconds"),
        (json!({ "overlap_seconds": 7_776_001 }), "/overlap_seconds"),
        (json!({ "overlap_seconds": "1h" }), "/overlap_seconds"),
        (json!({ "secret": "short" }), "/secret"),
        (json!({ "secret": WHSEC }), "/secret"),
        (json!({ "secret": 1 }), "/secret"),
        (json!({ "key_type": "rsa" }), "/key_type"),
        (json!({ "overlap": 1 }), "/overlap"),
    ] {
        assert_eq!(regenerate(&world, id, body.clone()).await.wrong(), [pointer], "{body}");
    }
    let path = format!("/api/v1/webhooks/{id}/regenerate-secret");
    for (asked, status) in
        [(ask().role(Role::Viewer), 403), (ask().tenant(Some("other")), 404), (ask().header("if-match", "\"9\""), 412)]
    {
        assert_eq!(asked.json(&json!({})).send(&world, "POST", &path).await.status, status);
    }
    assert_eq!((live(&world, id).keys.current.secret.reveal(), live(&world, id).version), (WHSEC, 1));
}

#[tokio::test]
async fn a_repeated_request_gets_the_response_without_the_secret() {
    let world = world();
    let made = with(&world, json!({})).await;
    let path = format!("/api/v1/webhooks/{}/regenerate-secret", made.text("id"));
    let again = async || ask().header("idempotency-key", "k").json(&json!({})).send(&world, "POST", &path).await;
    let (first, second) = (again().await, again().await);
    assert!(first.text("secret").starts_with("whsec_"));
    assert_eq!((second.status, second.body.get("secret")), (200, None));
    assert_eq!(first.text("secret_hint"), second.text("secret_hint"));
    assert_eq!(live(&world, made.text("id")).version, 2);
}

/// The first run changes what the repeat would be checked against: the version, and the present secret.
#[tokio::test]
async fn a_repeated_request_gets_its_response_whatever_its_first_run_changed() {
    let world = world();
    let made = with(&world, json!({})).await;
    let path = format!("/api/v1/webhooks/{}/regenerate-secret", made.text("id"));
    let post = async || {
        let asked = ask().header("idempotency-key", "k").header("if-match", "\"1\"");
        asked.json(&json!({ "secret": WHSEC })).send(&world, "POST", &path).await
    };
    let (first, second) = (post().await, post().await);
    assert_eq!((first.status, second.status), (200, 200), "{}", second.body);
    assert_eq!(first.header("etag"), second.header("etag"));
    assert_eq!(live(&world, made.text("id")).version, 2);
}

#[tokio::test]
async fn a_webhook_with_a_deleted_profile_keeps_it_and_gets_no_secret() {
    let world = world();
    let raw = toml_edit::de::from_str("[mine]\nenvelope = \"raw\"").unwrap();
    let mine = Profiles::try_new(&raw, None).unwrap();
    world.writer.set_profiles(mine.clone()).await.unwrap();
    let made = with(&world, json!({ "profile": "mine", "secret": WHSEC })).await;
    let id = made.text("id");
    world.writer.set_profiles(Profiles::default()).await.unwrap();
    assert!(!live(&world, id).profile.is_known());
    let got = regenerate(&world, id, json!({})).await;
    assert_eq!((got.status, got.text("code")), (409, "conflict"));
    let read = ask().send(&world, "GET", &format!("/api/v1/webhooks/{id}")).await;
    assert_eq!(read.text("profile"), "mine");
    // It can be written back as read, and a change of another field does not affect it.
    let got = ask()
        .json(&json!({ "profile": "mine", "name": "x" }))
        .send(&world, "PATCH", &format!("/api/v1/webhooks/{id}"))
        .await;
    assert_eq!((got.status, got.text("profile"), got.text("name")), (200, "mine", "x"), "{}", got.body);
    world.writer.set_profiles(mine).await.unwrap();
    assert!(live(&world, id).profile.is_known());
    assert_eq!(regenerate(&world, id, json!({})).await.status, 200);
}
