//! Defines which event goes to which webhooks, and the bytes of a request.
//!
//! Events are numbered from 0. Webhooks form groups of `fanout`. Event `n` has the type of group `n % groups` and goes
//! to every webhook of that group. The event's number and its send time are in `data` with a fixed width. A request is
//! therefore built once per connection, and only digits change. The sink reads the number from the body, so event ids
//! are not passed from the load to the sink.

use super::provider_load::{LoadRequestParts, RequestSigner, SOURCE};

/// Number of digits of an event's number, of a time in microseconds, and of a group.
pub(super) const SEQ_DIGITS: usize = 12;
const SENT_DIGITS: usize = 16;
pub(super) const GROUP_DIGITS: usize = 7;
/// The bytes before the number, and the bytes between the number and the time.
const SEQ_KEY: &[u8] = br#""seq":""#;
const SENT_KEY: &[u8] = br#"","sent":""#;
/// Maximum offset of the number in a body. Every envelope puts fewer bytes before `data`.
const SEQ_WITHIN: usize = 512;

/// The parameters of the traffic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Traffic {
    pub(super) webhooks: u32,
    /// Number of webhooks that each event goes to. It divides `webhooks`.
    pub(super) fanout: u32,
    /// Size of an event's `data` in bytes.
    pub(super) payload: usize,
    /// Number of events in a request.
    pub(super) batch: u32,
    /// Share of the webhooks whose endpoint fails.
    pub(super) failing: f64,
}

impl Traffic {
    fn groups(&self) -> u32 {
        self.webhooks.checked_div(self.fanout).unwrap_or(1)
    }

    /// The event type pattern of a webhook.
    pub(super) fn pattern(&self, webhook: u32) -> String {
        match webhook.checked_div(self.fanout) {
            Some(group) => format!("bench.load.{group:0GROUP_DIGITS$}"),
            None => format!("bench.idle.{webhook:0GROUP_DIGITS$}"),
        }
    }

    /// Whether a webhook's endpoint fails. The failing webhooks are spread evenly.
    pub(super) fn fails(&self, webhook: u32) -> bool {
        let failing_before = |n: u32| (f64::from(n) * self.failing).floor();
        failing_before(webhook + 1) > failing_before(webhook)
    }

    /// The webhooks that an event goes to.
    pub(super) fn webhooks_of(&self, seq: u64) -> std::ops::Range<u32> {
        let first = (seq % u64::from(self.groups())) as u32 * self.fanout;
        first..first + self.fanout
    }

    /// Index at which a delivery is counted. Each event has `fanout` consecutive indexes.
    pub(super) fn delivery_index(&self, seq: u64, webhook: u32) -> usize {
        seq as usize * self.fanout as usize + (webhook % self.fanout.max(1)) as usize
    }
}

/// The webhooks that the events are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// All groups of webhooks, in turn.
    Webhooks,
    /// The dead webhook.
    Dead,
}

impl Audience {
    /// The event type pattern of the dead webhook.
    pub(super) const DEAD_PATTERN: &'static str = "bench.dead.*";

    const fn type_prefix(self) -> &'static str {
        match self {
            Self::Webhooks => "bench.load.",
            Self::Dead => "bench.dead.",
        }
    }
}

/// A prebuilt request in which only digits change.
#[derive(Debug, Clone)]
pub(super) struct EventTemplate {
    bytes: Vec<u8>,
    events: Vec<DigitOffsets>,
    groups: u64,
    /// The signer of a provider's webhook; `None` for `POST /api/v1/events`.
    signer: Option<RequestSigner>,
}

/// Offsets of an event's digits in the request.
#[derive(Debug, Clone, Copy)]
struct DigitOffsets {
    group: Option<usize>,
    seq: usize,
    sent: usize,
}

impl EventTemplate {
    /// Builds a `POST /api/v1/events` request for a server at `host` with the API key `key`.
    pub(super) fn new(traffic: &Traffic, audience: Audience, host: &str, key: &str) -> Self {
        let mut body = Vec::new();
        let mut events = Vec::new();
        for n in 0..traffic.batch {
            body.extend_from_slice(if n == 0 && traffic.batch > 1 { b"[" } else { b"" });
            body.extend_from_slice(if n > 0 { b"," } else { b"" });
            events.push(append_event(&mut body, audience, traffic.payload));
        }
        body.extend_from_slice(if traffic.batch > 1 { b"]" } else { b"" });
        let mut bytes = format!(
            "POST /api/v1/events HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        let head = bytes.len();
        bytes.append(&mut body);
        for offsets in &mut events {
            offsets.group = offsets.group.map(|at| at + head);
            offsets.seq += head;
            offsets.sent += head;
        }
        Self { bytes, events, groups: u64::from(traffic.groups()), signer: None }
    }

    /// Builds a provider's webhook request. Its body is the event's `data`.
    pub(super) fn provider_webhook(traffic: &Traffic, parts: &LoadRequestParts, host: &str) -> Self {
        let mut body = Vec::new();
        let (seq, sent) = append_data(&mut body, traffic.payload, &parts.members);
        let mut bytes = format!(
            "POST /api/v1/webhooks/{SOURCE} HTTP/1.1\r\nhost: {host}\r\n{}content-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            parts.headers_with_signature_space(),
            body.len()
        )
        .into_bytes();
        let head = bytes.len();
        bytes.append(&mut body);
        let signer = parts.signer(&bytes, head);
        // The signer knows the places of the group.
        let offsets = DigitOffsets { group: None, seq: head + seq, sent: head + sent };
        Self { bytes, events: vec![offsets], groups: u64::from(traffic.groups()), signer: Some(signer) }
    }

    /// Writes the numbers of the events from `first` on and their send (or due) time. Returns the request.
    pub(super) fn stamp(&mut self, first: u64, sent_us: u64) -> &[u8] {
        for (seq, offsets) in (first..).zip(&self.events) {
            if let Some(at) = offsets.group {
                write_digits(&mut self.bytes[at..][..GROUP_DIGITS], seq % self.groups);
            }
            write_digits(&mut self.bytes[offsets.seq..][..SEQ_DIGITS], seq);
            write_digits(&mut self.bytes[offsets.sent..][..SENT_DIGITS], sent_us);
        }
        if let Some(signer) = &self.signer {
            signer.sign(&mut self.bytes, first, first % self.groups);
        }
        &self.bytes
    }
}

/// Appends one event whose `data` has `payload` bytes. Returns the offsets of its digits.
fn append_event(body: &mut Vec<u8>, audience: Audience, payload: usize) -> DigitOffsets {
    body.extend_from_slice(br#"{"type":""#);
    body.extend_from_slice(audience.type_prefix().as_bytes());
    let group = Some(append_digits(body, GROUP_DIGITS));
    body.extend_from_slice(br#"","data":"#);
    let (seq, sent) = append_data(body, payload, "");
    body.push(b'}');
    DigitOffsets { group, seq, sent }
}

/// Appends an object of `payload` bytes: the digits, `members`, and then small objects as in typical payloads. Returns
/// the offsets of number and time.
fn append_data(body: &mut Vec<u8>, payload: usize, members: &str) -> (usize, usize) {
    let data = body.len();
    body.push(b'{');
    body.extend_from_slice(SEQ_KEY);
    let seq = append_digits(body, SEQ_DIGITS);
    body.extend_from_slice(SENT_KEY);
    let sent = append_digits(body, SENT_DIGITS);
    body.extend_from_slice(br#"","#);
    body.extend_from_slice(members.as_bytes());
    body.extend_from_slice(br#""items":["#);
    let (item, pad) = (br#"{"sku":"HT-1048","quantity":3,"price":19.99},"#, br#"{"pad":""}]}"#);
    while body.len() - data + item.len() + pad.len() <= payload {
        body.extend_from_slice(item);
    }
    body.extend_from_slice(br#"{"pad":""#);
    let fill = payload.saturating_sub(body.len() - data + br#""}]}"#.len());
    body.resize(body.len() + fill, b'x');
    body.extend_from_slice(br#""}]}"#);
    (seq, sent)
}

fn append_digits(body: &mut Vec<u8>, digits: usize) -> usize {
    let at = body.len();
    body.resize(at + digits, b'0');
    at
}

pub(super) fn write_digits(place: &mut [u8], number: u64) {
    let mut rest = number;
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// The number and time of an event, read from a delivered body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EventStamp {
    /// Number of the event.
    pub(super) seq: u64,
    /// Time at which the event was sent or due, in microseconds of the bench's clock.
    pub(super) sent_us: u64,
}

impl EventStamp {
    /// Finds the digits in a body with any envelope; `None` if there are none.
    pub(super) fn find(body: &[u8]) -> Option<Self> {
        let front = &body[..body.len().min(SEQ_WITHIN)];
        let at = front.windows(SEQ_KEY.len()).position(|window| window == SEQ_KEY)? + SEQ_KEY.len();
        let seq = read_digits(body.get(at..at + SEQ_DIGITS)?)?;
        let rest = body[at + SEQ_DIGITS..].strip_prefix(SENT_KEY)?;
        Some(Self { seq, sent_us: read_digits(rest.get(..SENT_DIGITS)?)? })
    }
}

fn read_digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0_u64, |number, digit| {
        digit.is_ascii_digit().then(|| number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(batch: u32) -> Traffic {
        Traffic { webhooks: 6, fanout: 2, payload: 1024, batch, failing: 0.0 }
    }

    fn body(request: &[u8]) -> &[u8] {
        let at = request.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        &request[at + 4..]
    }

    #[test]
    fn a_request_is_json_of_the_requested_size() {
        for payload in [128, 129, 200, 1024, 65_536] {
            let mut template = EventTemplate::new(&Traffic { payload, ..traffic(1) }, Audience::Webhooks, "h", "k");
            let request = template.stamp(7, 99).to_vec();
            let event: serde_json::Value = serde_json::from_slice(body(&request)).unwrap();
            assert_eq!(event["type"], "bench.load.0000001", "{payload}");
            let raw: std::collections::HashMap<&str, &serde_json::value::RawValue> =
                serde_json::from_slice(body(&request)).unwrap();
            assert_eq!(raw["data"].get().len(), payload);
            assert!(
                String::from_utf8_lossy(&request).contains(&format!("content-length: {}\r\n", body(&request).len()))
            );
            assert_eq!(EventStamp::find(body(&request)), Some(EventStamp { seq: 7, sent_us: 99 }));
        }
    }

    #[test]
    fn a_batch_numbers_its_events_consecutively() {
        let mut template = EventTemplate::new(&traffic(3), Audience::Dead, "h", "k");
        let request = template.stamp(10, 1).to_vec();
        let events: Vec<serde_json::Value> = serde_json::from_slice(body(&request)).unwrap();
        let seqs: Vec<_> = events.iter().map(|e| e["data"]["seq"].as_str().unwrap().parse::<u64>().unwrap()).collect();
        assert_eq!(seqs, [10, 11, 12]);
        assert_eq!(events[0]["type"], "bench.dead.0000001");
    }

    #[test]
    fn the_pattern_of_a_webhook_matches_the_events_counted_for_it() {
        let traffic = traffic(1);
        let mut template = EventTemplate::new(&traffic, Audience::Webhooks, "h", "k");
        for seq in 0..7 {
            let request = template.stamp(seq, 0).to_vec();
            let event: serde_json::Value = serde_json::from_slice(body(&request)).unwrap();
            for webhook in 0..traffic.webhooks {
                let matches = event["type"] == traffic.pattern(webhook).as_str();
                assert_eq!(matches, traffic.webhooks_of(seq).contains(&webhook), "{seq} {webhook}");
            }
        }
        assert_eq!(
            (traffic.delivery_index(0, 4), traffic.delivery_index(0, 5), traffic.delivery_index(1, 0)),
            (0, 1, 2)
        );
    }

    #[test]
    fn failing_webhooks_are_spread_evenly() {
        let quarter = Traffic { failing: 0.25, ..traffic(1) };
        assert_eq!((0..8).filter(|w| quarter.fails(*w)).collect::<Vec<_>>(), [3, 7]);
        assert!((0..8).all(|w| !traffic(1).fails(w)));
    }

    #[test]
    fn a_body_without_digits_has_no_stamp() {
        assert_eq!(EventStamp::find(b"{}"), None);
        assert_eq!(EventStamp::find(br#"{"seq":"12"#), None);
        assert_eq!(EventStamp::find(br#"{"seq":"00000000000x","sent":"0000000000000000""#), None);
    }
}
