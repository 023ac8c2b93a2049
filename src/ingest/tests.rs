//! Tests of drafts and their results, with a commit stage that behaves as a test defines.

use std::sync::Mutex;

use futures_util::FutureExt as _;
use hyper::HeaderMap;
use hyper::http::{HeaderName, HeaderValue};
use serde_json::value::RawValue;

use super::*;
use crate::handoff;
use crate::inbound::source::testing::build;
use crate::inbound::source::{ContentKind, Source};
use crate::limits::{CLIENT_ID_BYTES_MAX, INGEST_PERMIT_WAIT};
use crate::model::{
    DedupBy, DedupKey, DedupKind, EventHead, EventId, SourceId, Timestamp, WebhookNo, Webhooks, data_of, raw_of,
};
use crate::runtime::Clock;
use crate::signature::RequestParts;
use crate::storage::DurableEvent;

const NOW: Timestamp = Timestamp::from_millis(1_711_015_200_000);

/// Matches one webhook for each letter of the type, and commits as `CommitBehaviour` defines.
#[derive(Debug, Default, Clone)]
struct FakeCommit {
    answer: CommitBehaviour,
    submitted: Arc<Mutex<Vec<Submission>>>,
}

#[derive(Debug, Default, Clone, Copy)]
enum CommitBehaviour {
    /// Every second event is refused.
    #[default]
    Alternate,
    /// The queue is full.
    Full,
    /// The commit thread ends without a result.
    Never,
    /// The result of one event is missing.
    Short,
}

impl Matcher for FakeCommit {
    fn matching(&self, event_fields: &EventFields<'_>, _: Timestamp) -> MatchedWebhooks {
        (1..=event_fields.event_type.len() as u32).map(WebhookNo).collect::<Webhooks>().into()
    }
}

impl Submit for FakeCommit {
    fn submit(&self, mut submission: Submission) -> Result<(), (CommitError, Submission)> {
        let mut verdicts: handoff::CommitResults = (0..submission.events.len())
            .map(|n| match n % 2 {
                0 => Ok(Committed::new(DurableEvent::for_test(EventId::from_u128(n as u128 + 1)), false)),
                _ => Err(CommitError::KeyReused),
            })
            .collect();
        match self.answer {
            CommitBehaviour::Full => return Err((CommitError::Overloaded, submission)),
            CommitBehaviour::Never => return Ok(()),
            CommitBehaviour::Short => _ = verdicts.pop(),
            CommitBehaviour::Alternate => {}
        }
        let (reply, _) = CommitReply::direct();
        std::mem::replace(&mut submission.reply, reply).send(verdicts);
        self.submitted.lock().unwrap().push(submission);
        Ok(())
    }
}

/// `bytes` is the size of the ingest permits.
fn ingest(answer: CommitBehaviour, bytes: usize) -> (Ingest<FakeCommit, FakeCommit>, FakeCommit) {
    let fake = FakeCommit { answer, ..FakeCommit::default() };
    let ingest_permits = Arc::new(IngestPermits::new(bytes));
    (Ingest::new(fake.clone(), fake.clone(), ingest_permits, MemoryBudget::new(1 << 20)), fake)
}

fn draft<'a>(event_type: &'a str, data: &'a [u8]) -> EventDraft<'a> {
    EventDraft::new(("acme", event_type), EventOrigin::Application, NOW, data)
}

/// The events of a request with several events. `parts` are the data of each.
fn events(request: &Bytes, parts: &[std::ops::Range<usize>]) -> EventBatch {
    let (ingest, _) = ingest(CommitBehaviour::Alternate, 1 << 20);
    let mut builder = ingest.builder(request, parts.len());
    for part in parts {
        builder.add(&draft("a", &request[part.clone()]));
    }
    builder.finish()
}

#[tokio::test]
async fn each_event_has_its_result_and_its_webhooks() {
    let (ingest, fake) = ingest(CommitBehaviour::Alternate, 1 << 20);
    let request = Bytes::from_static(b"[1,2,3]");
    let mut builder = ingest.builder(&request, 3);
    for (event_type, at) in [("a", 1), ("ab", 3), ("abc", 5)] {
        builder.add(&draft(event_type, &request[at..=at]));
    }
    let verdicts = ingest.submit(builder.finish(), None).await.unwrap();
    let taken = |n, webhooks| IngestResult::Accepted {
        committed: Committed::new(DurableEvent::for_test(EventId::from_u128(n)), false),
        webhooks,
    };
    assert_eq!(verdicts[..], [taken(1, 1), IngestResult::Refused(CommitError::KeyReused), taken(3, 3)]);

    let submission = fake.submitted.lock().unwrap().pop().unwrap();
    assert_eq!((ingest.deliveries(), ingest.body_bytes()), (6, request.len()));
    let heads: Vec<_> = submission.events.iter().map(|event| EventHead::parse(&event.head).unwrap()).collect();
    assert_eq!(heads.iter().map(|head| head.event.event_type).collect::<Vec<_>>(), ["a", "ab", "abc"]);
    assert_eq!(heads.iter().map(EventHead::webhook_count).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(submission.events.iter().map(|event| &event.body[..]).collect::<Vec<_>>(), [b"1", b"2", b"3"]);
    let start = submission.events[0].head.as_ptr();
    assert_eq!(start.wrapping_add(submission.events[0].head.len()), submission.events[1].head.as_ptr(), "one buffer");
    drop(submission);
    assert_eq!((ingest.deliveries(), ingest.body_bytes()), (0, 0));
}

#[tokio::test]
async fn a_batch_that_the_log_does_not_take_is_refused_as_a_whole() {
    let request = Bytes::from_static(b"[1,2]");
    for (answer, why) in [
        (CommitBehaviour::Full, CommitError::Overloaded),
        (CommitBehaviour::Never, CommitError::Poisoned),
        (CommitBehaviour::Short, CommitError::Poisoned),
    ] {
        let (ingest, _) = ingest(answer, 1 << 20);
        assert_eq!(ingest.submit(events(&request, &[1..2, 3..4]), None).await.unwrap_err(), why, "{answer:?}");
        let verdict = ingest.submit_event(&draft("a", b"1"), &request, None).await;
        assert_eq!(verdict, IngestResult::Refused(why), "{answer:?}");
    }
    let (ingest, fake) = ingest(CommitBehaviour::Full, 1 << 20);
    assert!(ingest.submit(events(&request, &[]), None).await.unwrap().is_empty(), "nothing is submitted");
    assert!(fake.submitted.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_event_waits_for_a_permit_for_a_limited_time() {
    let (ingest, fake) = ingest(CommitBehaviour::Alternate, 2 * 1024);
    let request = Bytes::from(vec![b'1'; 1024]);
    let taken = IngestResult::Accepted {
        committed: Committed::new(DurableEvent::for_test(EventId::from_u128(1)), false),
        webhooks: 1,
    };
    for _ in 0..2 {
        assert_eq!(ingest.submit_event(&draft("a", &request), &request, None).await, taken);
    }
    let clock = Clock::system(Timestamp::default());
    let before = clock.instant();
    assert_eq!(
        ingest.submit_event(&draft("a", &request), &request, None).await,
        IngestResult::Refused(CommitError::Overloaded)
    );
    assert_eq!(clock.instant() - before, INGEST_PERMIT_WAIT);

    let given_up = ingest.submit_event(&draft("a", &request), &request, None);
    assert!(given_up.now_or_never().is_none(), "a caller that goes away leaves nothing behind");
    let waiting = ingest.submit_event(&draft("a", &request), &request, None);
    tokio::pin!(waiting);
    assert!((&mut waiting).now_or_never().is_none());
    drop(fake.submitted.lock().unwrap().pop());
    assert_eq!(waiting.await, taken);
    assert_eq!(fake.submitted.lock().unwrap().len(), 2);
}

#[test]
fn small_data_are_copied_and_large_data_share_the_requests_buffer() {
    let shares =
        |request: &Bytes, event: &handoff::AdmittedEvent| request.as_ptr_range().contains(&event.body.as_ptr());
    let small = Bytes::from(vec![b' '; 4 * 1024]);
    let batch = events(&small, &[0..8, 8..16]);
    assert_eq!((batch.events.iter().any(|event| shares(&small, event)), batch.bytes), (false, small.len()));
    let large = Bytes::from(vec![b' '; 4 * 1024 + 1]);
    let batch = events(&large, &[0..8, 8..16]);
    assert_eq!((batch.events.iter().all(|event| shares(&large, event)), batch.bytes), (true, large.len()));

    // Data in another buffer are copied and counted.
    let (ingest, _) = ingest(CommitBehaviour::Alternate, 1 << 20);
    let mut builder = ingest.builder(&large, 1);
    builder.add(&draft("a", b"1234"));
    let batch = builder.finish();
    assert_eq!((&batch.events[0].body[..], batch.bytes), (&b"1234"[..], large.len() + 4));
}

#[test]
fn the_requests_body_follows_data_that_were_extracted_from_it() {
    let request = Bytes::from_static(b"a=1");
    let draft = EventDraft { raw: Some(&request), ..draft("a", br#"{"a":"1"}"#) };
    let event = build_for(Webhooks::from_slice(&[WebhookNo(9)]), &draft, &request);
    assert_eq!(data_of(&event.head, &event.body), &br#"{"a":"1"}"#[..]);
    assert_eq!(raw_of(&event.head, &event.body), &b"a=1"[..]);
    assert_eq!(EventHead::parse(&event.head).unwrap().webhooks()[..], [WebhookNo(9)]);
}

#[tokio::test]
async fn an_operational_event_is_submitted_like_other_events() {
    let (ingest, fake) = ingest(CommitBehaviour::Alternate, 1 << 20);
    let event = |id: &str, correlation_id: Option<&str>| OperationalEvent {
        id: id.into(),
        tenant: "acme".into(),
        event_type: "hooktide.webhook.failing".into(),
        timestamp: Timestamp::from_millis(5),
        resource_id: "whk_1".into(),
        user_id: None,
        correlation_id: correlation_id.map(Into::into),
        data: RawValue::from_string(r#"{"n":1}"#.to_owned()).unwrap(),
    };
    ingest.submit_operational(&[event("x", None)], NOW).await.unwrap();
    let refused = ingest.submit_operational(&[event("x", None), event("y", Some("c"))], NOW).await;
    assert_eq!(refused, Err(CommitError::KeyReused));

    let submitted = fake.submitted.lock().unwrap();
    assert_eq!(ingest.body_bytes(), 3 * r#"{"n":1}"#.len());
    let heads: Vec<_> =
        submitted.iter().flat_map(|one| &one.events).map(|e| EventHead::parse(&e.head).unwrap()).collect();
    let first = heads[0].event;
    assert_eq!((first.source, first.external_id, first.correlation_id), ("hooktide", Some("x"), "x"));
    assert_eq!((first.timestamp, first.received_at), (Timestamp::from_millis(5), NOW));
    assert_eq!((first.dedup, heads[2].event.correlation_id), (heads[1].event.dedup, "c"));
    assert_ne!(first.dedup, heads[2].event.dedup);
    let as_client = EventDraft { dedup_by: Some(DedupBy::Id("x")), ..draft("a", b"1") };
    assert_ne!(
        build_for(Webhooks::new(), &as_client, &Bytes::new()).dedup.map(|(key, ..)| key),
        first.dedup.map(|d| d.0)
    );
}

/// The keys of an event that a source receives.
type DedupKeys = (Option<(DedupKey, DedupKind, u64)>, Option<DedupKey>);

fn keys(source: &Source, headers: &HeaderMap, body: &'static [u8]) -> DedupKeys {
    let request = RequestParts { method: "POST", url: "https://a.example/", query: None, path: "", headers, body };
    let intake = source.intake(&request, ContentKind::Json, None, None).unwrap();
    let origin = EventOrigin::Source { id: source.id, name: &source.name };
    let draft = EventDraft {
        dedup_by: intake.dedup_by(),
        nonce: intake.nonce.as_deref(),
        ..EventDraft::new((&source.tenant, &intake.event_type), origin, NOW, body)
    };
    let event = build_for(Webhooks::new(), &draft, &Bytes::from_static(body));
    let head = EventHead::parse(&event.head).unwrap().event;
    assert_eq!((head.dedup, head.nonce), (event.dedup.map(|(key, kind, _)| (key, kind)), event.nonce));
    (event.dedup, event.nonce)
}

fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
    all.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).unwrap())).collect()
}

#[test]
fn the_recipe_defines_which_events_are_duplicates() {
    let by = |more: &str| build(&format!("name = \"a\"\nkind = \"none\"\n{more}")).unwrap();
    let (none, one, two) = (headers(&[]), headers(&[("x-id", "1")]), headers(&[("x-id", "2")]));
    let id = by("id = \"header:X-Id\"");
    let both = by("id = \"header:X-Id\"\ndedup = \"id+body\"");
    let body = by("dedup = \"body\"");
    for (source, same_id, same_body) in [(&id, true, false), (&both, false, false), (&body, false, true)] {
        let first = keys(source, &one, b"1").0;
        assert!(first.is_some() && first == keys(source, &one, b"1").0);
        assert_eq!(first == keys(source, &one, b"2").0, same_id);
        assert_eq!(first == keys(source, &two, b"1").0, same_body);
    }
    let without = keys(&id, &none, b"1").0;
    assert_eq!(without, keys(&id, &none, b"1").0, "without an id the body says it");
    assert_ne!(without, keys(&id, &none, b"2").0);
    // Ids that differ behind the stored part are different ids.
    let long = "x".repeat(CLIENT_ID_BYTES_MAX);
    let long = [headers(&[("x-id", &long)]), headers(&[("x-id", &format!("{long}y"))])];
    assert_ne!(keys(&id, &long[0], b"1").0, keys(&id, &long[1], b"1").0);
}

#[test]
fn nonces_and_ids_have_separate_keys() {
    let mailgun = build("name = \"mail\"\nkind = \"mailgun\"\nsecrets = [\"a-long-secret\"]").unwrap();
    let event = |body| keys(&mailgun, &headers(&[]), body);
    let first = event(br#"{"signature":{"token":"a"},"event-data":{"id":"1"}}"#);
    let same = event(br#"{"signature":{"token":"a"},"event-data":{"id":"2"}}"#);
    let other = event(br#"{"signature":{"token":"b"},"event-data":{"id":"1"}}"#);
    assert!(first.1.is_some() && first.1 == same.1 && first.1 != other.1);
    assert!(first.0 != same.0 && first.0 == other.0);
    let empty = event(br#"{"signature":{"token":""},"event-data":{"id":"1"}}"#);
    assert!(empty.1.is_none(), "nothing is nobody's token");

    // PayPal signs the transmission's id and the body's checksum, so another body can have the same checksum.
    let paypal = build("name = \"pay\"\nkind = \"paypal\"\nsecrets = [\"8PT597110X687430LKGECATA\"]").unwrap();
    let headers = headers(&[("paypal-transmission-id", "t-1")]);
    let (one, two) = (keys(&paypal, &headers, br#"{"id":"1"}"#), keys(&paypal, &headers, br#"{"id":"2"}"#));
    assert!(one.1.is_some() && one.1 == two.1 && one.0 != two.0);
    // The same id from another source is a different key, and it is no id here.
    let duplicate = Source { id: SourceId::from_u128(99), ..paypal };
    assert_ne!(keys(&duplicate, &headers, br#"{"id":"1"}"#).1, one.1);
    assert_ne!(one.1, keys(&duplicate, &headers, br#"{"id":"t-1"}"#).0.map(|(key, ..)| key));
}
