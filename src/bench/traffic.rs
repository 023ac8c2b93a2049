//! The traffic: which event goes to which webhooks, and the bytes of a request.
//!
//! Events are numbered from 0. Webhooks stand in groups of `fanout`; the event `n` has the type of group `n % groups` and
//! goes to every webhook of it. Its number and the time it was sent stand in `data` with a fixed width, so that a request
//! is made once for a connection and only digits change, and so that a sink knows at once what arrived: no id has to be
//! carried from answers to sinks.

use super::inbound::{Parts, SOURCE, Seal};

/// Digits of an event's number, of a time in microseconds, of a group.
pub(super) const SEQ_DIGITS: usize = 12;
const SENT_DIGITS: usize = 16;
pub(super) const GROUP_DIGITS: usize = 7;
/// What stands before the number and, right after it, before the time.
const SEQ_KEY: &[u8] = br#""seq":""#;
const SENT_KEY: &[u8] = br#"","sent":""#;
/// How far into a body the number may stand: any envelope puts less than this before `data`.
const SEQ_WITHIN: usize = 512;

/// The shape of the load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Traffic {
    pub(super) webhooks: u32,
    /// Webhooks that each event goes to; divides `webhooks`.
    pub(super) fanout: u32,
    /// Bytes of an event's `data`.
    pub(super) payload: usize,
    /// Events in a request.
    pub(super) batch: u32,
    /// Share of webhooks whose endpoint fails.
    pub(super) failing: f64,
}

impl Traffic {
    fn groups(&self) -> u32 {
        self.webhooks.checked_div(self.fanout).unwrap_or(1)
    }

    /// The pattern that a webhook asks for.
    pub(super) fn pattern(&self, webhook: u32) -> String {
        match webhook.checked_div(self.fanout) {
            Some(group) => format!("bench.load.{group:0GROUP_DIGITS$}"),
            None => format!("bench.idle.{webhook:0GROUP_DIGITS$}"),
        }
    }

    /// Whether a webhook's endpoint fails; the failing ones are spread evenly.
    pub(super) fn fails(&self, webhook: u32) -> bool {
        let failing_before = |n: u32| (f64::from(n) * self.failing).floor();
        failing_before(webhook + 1) > failing_before(webhook)
    }

    /// The webhooks that an event goes to.
    pub(super) fn webhooks_of(&self, seq: u64) -> std::ops::Range<u32> {
        let first = (seq % u64::from(self.groups())) as u32 * self.fanout;
        first..first + self.fanout
    }

    /// Where a delivery is counted: each event has `fanout` places in a row.
    pub(super) fn place(&self, seq: u64, webhook: u32) -> usize {
        seq as usize * self.fanout as usize + (webhook % self.fanout.max(1)) as usize
    }
}

/// Whom events are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// The webhooks in turn.
    Webhooks,
    /// The dead one.
    Dead,
}

impl Audience {
    /// What the dead webhook asks for.
    pub(super) const DEAD_PATTERN: &'static str = "bench.dead.*";

    const fn type_prefix(self) -> &'static str {
        match self {
            Self::Webhooks => "bench.load.",
            Self::Dead => "bench.dead.",
        }
    }
}

/// A request, of which only digits change.
#[derive(Debug, Clone)]
pub(super) struct Template {
    bytes: Vec<u8>,
    events: Vec<Places>,
    groups: u64,
    /// Of a provider's webhook.
    seal: Option<Seal>,
}

/// Where an event's digits stand.
#[derive(Debug, Clone, Copy)]
struct Places {
    group: Option<usize>,
    seq: usize,
    sent: usize,
}

impl Template {
    /// A request for a server at `host` that believes `key`.
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
        for places in &mut events {
            places.group = places.group.map(|at| at + head);
            places.seq += head;
            places.sent += head;
        }
        Self { bytes, events, groups: u64::from(traffic.groups()), seal: None }
    }

    /// A provider's webhook, whose body is the event's `data`.
    pub(super) fn inbound(traffic: &Traffic, parts: &Parts, host: &str) -> Self {
        let mut body = Vec::new();
        let (seq, sent) = append_data(&mut body, traffic.payload, &parts.members);
        let mut bytes = format!(
            "POST /api/v1/webhooks/{SOURCE} HTTP/1.1\r\nhost: {host}\r\n{}content-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            parts.sealed_headers(),
            body.len()
        )
        .into_bytes();
        let head = bytes.len();
        bytes.append(&mut body);
        let seal = parts.seal(&bytes, head);
        // The group stands where the seal knows.
        let places = Places { group: None, seq: head + seq, sent: head + sent };
        Self { bytes, events: vec![places], groups: u64::from(traffic.groups()), seal: Some(seal) }
    }

    /// The request for the events from `first` on, sent (or due) at `sent_us`.
    pub(super) fn stamp(&mut self, first: u64, sent_us: u64) -> &[u8] {
        for (seq, places) in (first..).zip(&self.events) {
            if let Some(at) = places.group {
                write_digits(&mut self.bytes[at..][..GROUP_DIGITS], seq % self.groups);
            }
            write_digits(&mut self.bytes[places.seq..][..SEQ_DIGITS], seq);
            write_digits(&mut self.bytes[places.sent..][..SENT_DIGITS], sent_us);
        }
        if let Some(seal) = &self.seal {
            seal.close(&mut self.bytes, first, first % self.groups);
        }
        &self.bytes
    }
}

/// Appends one event whose `data` has `payload` bytes.
fn append_event(body: &mut Vec<u8>, audience: Audience, payload: usize) -> Places {
    body.extend_from_slice(br#"{"type":""#);
    body.extend_from_slice(audience.type_prefix().as_bytes());
    let group = Some(append_digits(body, GROUP_DIGITS));
    body.extend_from_slice(br#"","data":"#);
    let (seq, sent) = append_data(body, payload, "");
    body.push(b'}');
    Places { group, seq, sent }
}

/// Appends an object of `payload` bytes: the digits, `members`, then small objects as payloads have them. Gives where the
/// digits are.
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

/// What a delivered body says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The event's number.
    pub(super) seq: u64,
    /// When it was sent or due, in microseconds of the bench's clock.
    pub(super) sent_us: u64,
}

impl Mark {
    /// Reads the digits of a body, whatever envelope is around them.
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
    fn a_request_is_json_of_the_size_that_was_asked() {
        for payload in [128, 129, 200, 1024, 65_536] {
            let mut template = Template::new(&Traffic { payload, ..traffic(1) }, Audience::Webhooks, "h", "k");
            let request = template.stamp(7, 99).to_vec();
            let event: serde_json::Value = serde_json::from_slice(body(&request)).unwrap();
            assert_eq!(event["type"], "bench.load.0000001", "{payload}");
            let raw: std::collections::HashMap<&str, &serde_json::value::RawValue> =
                serde_json::from_slice(body(&request)).unwrap();
            assert_eq!(raw["data"].get().len(), payload);
            assert!(
                String::from_utf8_lossy(&request).contains(&format!("content-length: {}\r\n", body(&request).len()))
            );
            assert_eq!(Mark::find(body(&request)), Some(Mark { seq: 7, sent_us: 99 }));
        }
    }

    #[test]
    fn a_batch_numbers_its_events_in_a_row() {
        let mut template = Template::new(&traffic(3), Audience::Dead, "h", "k");
        let request = template.stamp(10, 1).to_vec();
        let events: Vec<serde_json::Value> = serde_json::from_slice(body(&request)).unwrap();
        let seqs: Vec<_> = events.iter().map(|e| e["data"]["seq"].as_str().unwrap().parse::<u64>().unwrap()).collect();
        assert_eq!(seqs, [10, 11, 12]);
        assert_eq!(events[0]["type"], "bench.dead.0000001");
    }

    #[test]
    fn a_webhook_asks_for_what_is_counted_for_it() {
        let traffic = traffic(1);
        let mut template = Template::new(&traffic, Audience::Webhooks, "h", "k");
        for seq in 0..7 {
            let request = template.stamp(seq, 0).to_vec();
            let event: serde_json::Value = serde_json::from_slice(body(&request)).unwrap();
            for webhook in 0..traffic.webhooks {
                let matches = event["type"] == traffic.pattern(webhook).as_str();
                assert_eq!(matches, traffic.webhooks_of(seq).contains(&webhook), "{seq} {webhook}");
            }
        }
        assert_eq!((traffic.place(0, 4), traffic.place(0, 5), traffic.place(1, 0)), (0, 1, 2));
    }

    #[test]
    fn the_failing_share_is_spread() {
        let quarter = Traffic { failing: 0.25, ..traffic(1) };
        assert_eq!((0..8).filter(|w| quarter.fails(*w)).collect::<Vec<_>>(), [3, 7]);
        assert!((0..8).all(|w| !traffic(1).fails(w)));
    }

    #[test]
    fn a_body_without_marks_has_none() {
        assert_eq!(Mark::find(b"{}"), None);
        assert_eq!(Mark::find(br#"{"seq":"12"#), None);
        assert_eq!(Mark::find(br#"{"seq":"00000000000x","sent":"0000000000000000""#), None);
    }
}
