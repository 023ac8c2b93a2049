//! The load as a provider would send it: webhooks for one source, each with an id and a time of its own, and signed.
//!
//! The generator shares the cores with the server, so a request is made once for a connection, as in `traffic`: what is
//! signed are ranges of its bytes, and the signature is written over the one before it. Nothing is allocated per request.

use std::fmt::Write as _;
use std::ops::Range;

use data_encoding::{BASE64, HEXLOWER};
use ring::hmac;
use serde_json::{Map, Value, json};

use super::traffic::{GROUP_DIGITS, SEQ_DIGITS, write_digits};
use crate::inbound::provider::{RawRecipe, recipe};
use crate::model::Timestamp;
use crate::runtime::Clock;
use crate::signature::OneOrMany;
use crate::signature::standard::SECRET_PREFIX;
use crate::template::{Part, Template, TemplateError};

/// The source's name; its plain types are then those that the bench's webhooks ask for: `bench.` and the topic.
pub(super) const SOURCE: &str = "bench";
/// What its topics begin with.
const TOPIC: &str = "load.";
/// The URL that the source believes it has, for schemes that sign it.
const PUBLIC_URL: &str = "https://bench.invalid/hook";
/// Before the digits of an id.
const ID: &str = "bench-";
/// The key's bytes, and their text for schemes that take the text itself.
const KEY: &[u8] = b"a key of 32 bytes for the bench.";

/// A kind that the load can be.
#[derive(Debug, Clone)]
pub(super) struct Inbound {
    pub(super) kind: String,
    recipe: &'static RawRecipe,
}

/// A kind that it cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InboundError {
    #[error("--source {0}: no such kind of provider")]
    Unknown(String),
    #[error("--source {kind}: cannot be sent by the bench: {why}")]
    Unfit { kind: String, why: &'static str },
}

/// A request's head, what goes into its body's front, and how it is sealed once both have their digits.
#[derive(Debug)]
pub(super) struct Parts {
    /// Header lines, each with its line end.
    pub(super) headers: String,
    /// Members of the body, each with a comma.
    pub(super) members: String,
    seal: Spec,
}

/// What is signed, still in words.
#[derive(Debug, Clone)]
struct Spec {
    key: hmac::Key,
    is_hex: bool,
    signed: String,
    time: Option<Time>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    Seconds,
    Millis,
}

/// Markers that stand in a new request where digits and the signature go.
const TIME_SECONDS: &str = "1111111111";
const TIME_MILLIS: &str = "1111111111111";
const SIGNATURE_MARK: &str = "@signature@";

impl Time {
    const fn mark(self) -> &'static str {
        match self {
            Self::Seconds => TIME_SECONDS,
            Self::Millis => TIME_MILLIS,
        }
    }
}

/// Seals requests: writes id, time and signature into their bytes.
#[derive(Debug, Clone)]
pub(super) struct Seal {
    key: hmac::Key,
    is_hex: bool,
    /// What is signed, in order.
    pieces: Vec<Piece>,
    groups: Vec<usize>,
    ids: Vec<usize>,
    times: Vec<Range<usize>>,
    time: Option<Time>,
    signature: Range<usize>,
    clock: Clock,
}

#[derive(Debug, Clone)]
enum Piece {
    Text(Box<[u8]>),
    Range(Range<usize>),
}

impl Inbound {
    pub(super) fn try_new(kind: &str) -> Result<Self, InboundError> {
        let recipe = recipe(kind).ok_or_else(|| InboundError::Unknown(kind.to_owned()))?;
        let inbound = Self { kind: kind.to_owned(), recipe };
        inbound.parts().map(|_| inbound)
    }

    /// The server's configuration: this source alone, whose events stay as they come.
    pub(super) fn config(&self) -> String {
        let secret = self.secret();
        format!(
            "[[sources]]\nname = \"{SOURCE}\"\nkind = \"{}\"\nsecrets = [\"{secret}\"]\nurl = \"{PUBLIC_URL}\"\nevent_map = []\n",
            self.kind
        )
    }

    /// The key in the form that the kind wants.
    fn secret(&self) -> String {
        match self.recipe.verify.key.as_deref() {
            Some("hex") => HEXLOWER.encode(KEY),
            Some("base64") => BASE64.encode(KEY),
            Some("whsec") => format!("{SECRET_PREFIX}{}", BASE64.encode(KEY)),
            _ => String::from_utf8_lossy(KEY).into_owned(),
        }
    }

    /// How requests of this kind look.
    pub(super) fn parts(&self) -> Result<Parts, InboundError> {
        let scheme = &self.recipe.verify;
        let unfit = |why| InboundError::Unfit { kind: self.kind.clone(), why };
        if self.recipe.respond.is_some() || self.recipe.status.is_some() {
            return Err(unfit("it wants an answer of its own, which the bench does not count"));
        }
        if scheme.scheme != "hmac" || scheme.each.is_some() {
            return Err(unfit("only HMAC over whole requests is"));
        }
        if !matches!(scheme.encoding.as_deref(), Some("hex" | "base64")) {
            return Err(unfit("its signature is neither in hexadecimal nor in base64"));
        }
        let algorithm = match scheme.alg.as_deref() {
            Some("sha1") => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Some("sha512") => hmac::HMAC_SHA512,
            _ => hmac::HMAC_SHA256,
        };
        let time = match scheme.unit.as_deref() {
            _ if scheme.time.is_none() => None,
            Some("rfc3339") => return Err(unfit("its time is text of changing form")),
            Some("ms") => Some(Time::Millis),
            _ => Some(Time::Seconds),
        };
        let mut headers = String::from("user-agent: hooktide-bench\r\naccept: */*\r\n");
        let mut body = Value::Object(Map::new());
        let event_type = places(self.recipe.r#type.as_ref()).find(|place| *place != "path");
        let event_type = event_type.ok_or_else(|| unfit("its events have no type"))?;
        let group = "0".repeat(GROUP_DIGITS);
        put(event_type, &json!(format!("{TOPIC}{group}")), &mut headers, &mut body).ok_or_else(|| unfit("its type"))?;
        // Requests are JSON here: what stands in a form (of Slack's commands) is not there.
        for place in places(self.recipe.id.as_ref()).filter(|place| !place.starts_with("form:")) {
            let id = json!(format!("{ID}{}", "0".repeat(SEQ_DIGITS)));
            put(place, &id, &mut headers, &mut body).ok_or_else(|| unfit("its id"))?;
        }
        let mut sealed = String::new();
        if let (Some(place), Some(time)) = (scheme.time.as_deref(), time) {
            if let Some(prefix) = place.strip_prefix("sig:") {
                let _ = write!(sealed, "{prefix}{}{}", time.mark(), scheme.split.as_deref().unwrap_or_default());
            } else {
                let number = json!(time.mark().parse::<u64>().unwrap_or_default());
                put(place, &number, &mut headers, &mut body).ok_or_else(|| unfit("its time"))?;
            }
        }
        let _ = write!(sealed, "{}{SIGNATURE_MARK}", scheme.prefix.as_deref().unwrap_or_default());
        let place = places(scheme.sig.as_ref()).next().filter(|place| place.starts_with("header:"));
        let place = place.ok_or_else(|| unfit("its signature is not in a header"))?;
        put(place, &json!(sealed), &mut headers, &mut body).ok_or_else(|| unfit("its signature"))?;
        let text = body.to_string();
        // Without the braces around it.
        let members = &text[1..text.len() - 1];
        let members = if members.is_empty() { String::new() } else { format!("{members},") };
        let is_hex = scheme.encoding.as_deref() == Some("hex");
        let signed = scheme.signed.clone().unwrap_or_else(|| "{body}".into());
        let bytes = if scheme.key.is_none() { self.secret().into_bytes() } else { KEY.to_vec() };
        let parts =
            Parts { headers, members, seal: Spec { key: hmac::Key::new(algorithm, &bytes), is_hex, signed, time } };
        // All that is signed must be known before any request is.
        parts.seal.pieces(&[], 0).map(drop).map_err(unfit)?;
        Ok(parts)
    }
}

impl Parts {
    /// The bytes that the signature's mark makes longer.
    pub(super) fn sealed_headers(&self) -> String {
        self.headers.replace(SIGNATURE_MARK, &"0".repeat(self.seal.signature_len()))
    }

    /// How this request is sealed: found once, by its markers.
    pub(super) fn seal(&self, request: &[u8], head: usize) -> Seal {
        let find = |what: &str, within: Range<usize>| {
            let bytes = what.as_bytes();
            let matches = |at: &usize| request[*at..].starts_with(bytes);
            within.filter(matches).map(|at| at + bytes.len()).collect::<Vec<_>>()
        };
        let all = 0..request.len();
        let groups = find(&format!("{TOPIC}{}", "0".repeat(GROUP_DIGITS)), all.clone());
        let ids = find(&format!("{ID}{}", "0".repeat(SEQ_DIGITS)), all.clone());
        let times = self.seal.time.map(|time| (time.mark().len(), find(time.mark(), all.clone())));
        let times = times.into_iter().flat_map(|(len, ends)| ends.into_iter().map(move |end| end - len..end)).collect();
        let len = self.seal.signature_len();
        let end = find(&"0".repeat(len), 0..head).first().copied().unwrap_or(len);
        Seal {
            key: self.seal.key.clone(),
            is_hex: self.seal.is_hex,
            pieces: self.seal.pieces(request, head).unwrap_or_default(),
            groups: groups.into_iter().map(|end| end - GROUP_DIGITS).collect(),
            ids: ids.into_iter().map(|end| end - SEQ_DIGITS).collect(),
            times,
            time: self.seal.time,
            signature: end - len..end,
            clock: Clock::system(Timestamp::default()),
        }
    }
}

impl Spec {
    fn signature_len(&self) -> usize {
        let tag = self.key.algorithm().digest_algorithm().output_len();
        if self.is_hex { HEXLOWER.encode_len(tag) } else { BASE64.encode_len(tag) }
    }

    /// The signed template as ranges of a request whose body begins at `head`.
    fn pieces(&self, request: &[u8], head: usize) -> Result<Vec<Piece>, &'static str> {
        let placeholder = |name: &str| {
            Ok(match name {
                "body" => Piece::Range(head..request.len()),
                "method" => Piece::Text(b"POST".as_slice().into()),
                "url" | "url:unescaped" => Piece::Text(PUBLIC_URL.as_bytes().into()),
                "time" => Piece::Range(self.time.map_or(0..0, |time| value_at(request, time.mark()))),
                "id" => Piece::Range(value_at(request, &format!("{ID}{}", "0".repeat(SEQ_DIGITS)))),
                place => {
                    let names = place.strip_prefix("header:").ok_or("it signs values of the body by themselves")?;
                    let name = names.split('|').next().unwrap_or_default().to_ascii_lowercase();
                    Piece::Range(header_value(request, &name))
                }
            })
        };
        let template = Template::parse(&self.signed, placeholder).map_err(|error| match error {
            TemplateError::Placeholder { error, .. } => error,
            _ => "its signed text",
        })?;
        let piece = |part| match part {
            Part::Text(text) => Piece::Text(text.into_string().into_bytes().into()),
            Part::Placeholder(piece) => piece,
        };
        Ok(template.into_parts().into_iter().map(piece).collect())
    }
}

impl Seal {
    /// Writes what is this event's alone, and signs the whole.
    pub(super) fn close(&self, bytes: &mut [u8], seq: u64, group: u64) {
        for at in &self.groups {
            write_digits(&mut bytes[*at..][..GROUP_DIGITS], group);
        }
        for at in &self.ids {
            write_digits(&mut bytes[*at..][..SEQ_DIGITS], seq);
        }
        let now = self.clock.now();
        let now = match self.time {
            Some(Time::Millis) => now.as_millis(),
            _ => now.as_secs(),
        };
        for range in &self.times {
            write_digits(&mut bytes[range.clone()], now.unsigned_abs());
        }
        let mut context = hmac::Context::with_key(&self.key);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => context.update(text),
                Piece::Range(range) => context.update(&bytes[range.clone()]),
            }
        }
        let tag = context.sign();
        let place = &mut bytes[self.signature.clone()];
        if self.is_hex {
            HEXLOWER.encode_mut(tag.as_ref(), place);
        } else {
            BASE64.encode_mut(tag.as_ref(), place);
        }
    }
}

fn places(places: Option<&OneOrMany>) -> impl Iterator<Item = &str> {
    match places {
        None => &[],
        Some(OneOrMany::One(one)) => std::slice::from_ref(one),
        Some(OneOrMany::Many(several)) => several,
    }
    .iter()
    .map(String::as_str)
}

/// Puts a value into a header line or a member of the body, unless it is there; `None`: it can stand at neither.
fn put(place: &str, value: &Value, headers: &mut String, body: &mut Value) -> Option<()> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if let Some(names) = place.strip_prefix("header:") {
        let name = names.split('|').next()?.to_ascii_lowercase();
        if !headers.lines().any(|line| line.split(':').next() == Some(name.as_str())) {
            let _ = write!(headers, "{name}: {text}\r\n");
        }
        return Some(());
    }
    let mut at = body;
    for token in place.strip_prefix("json:/")?.split('/') {
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        at = at.as_object_mut().filter(|_| token.parse::<u64>().is_err())?.entry(token).or_insert(Value::Null);
    }
    if at.is_null() {
        *at = value.clone();
    }
    Some(())
}

/// Where a text stands first; nowhere in a request that is not made yet.
fn value_at(request: &[u8], what: &str) -> Range<usize> {
    let found = request.windows(what.len().max(1)).position(|window| window == what.as_bytes());
    found.map_or(0..0, |at| at..at + what.len())
}

/// Where the value of a header stands.
fn header_value(request: &[u8], name: &str) -> Range<usize> {
    let line = value_at(request, &format!("\r\n{name}: "));
    let length = request[line.end..].iter().position(|byte| *byte == b'\r').unwrap_or(0);
    line.end..line.end + length
}

#[cfg(test)]
mod tests {
    use super::super::traffic::{Mark, Template, Traffic};
    use super::*;
    use crate::inbound::provider::Recipe;
    use crate::model::Secret;
    use crate::signature::Outgoing;

    const TRAFFIC: Traffic = Traffic { webhooks: 6, fanout: 2, payload: 1024, batch: 1, failing: 0.0 };

    /// A request as a server reads it.
    fn parsed(request: &[u8]) -> Outgoing {
        let at = request.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let (head, body) = (std::str::from_utf8(&request[..at]).unwrap(), &request[at + 4..]);
        let mut outgoing =
            Outgoing { method: "POST".into(), url: PUBLIC_URL.into(), body: body.to_vec(), ..Outgoing::default() };
        for line in head.lines().skip(1) {
            let (name, value) = line.split_once(": ").unwrap();
            let name: http::HeaderName = name.parse().unwrap();
            assert!(outgoing.headers.insert(name, value.parse().unwrap()).is_none(), "{line}");
        }
        outgoing
    }

    #[test]
    fn every_request_is_believed_and_says_what_is_counted() {
        let mut sent = Vec::new();
        for (kind, raw) in crate::inbound::provider::recipes() {
            let Ok(inbound) = Inbound::try_new(kind) else { continue };
            let recipe = Recipe::try_new(raw).unwrap();
            let key = recipe.scheme.key(&Secret::new(inbound.secret())).unwrap();
            let mut template = Template::inbound(&TRAFFIC, &inbound.parts().unwrap(), "127.0.0.1:1");
            let mut ids = Vec::new();
            for seq in [0, 7, 123_456_789] {
                let outgoing = parsed(template.stamp(seq, 99));
                assert_eq!(outgoing.body.len(), TRAFFIC.payload, "{kind}");
                assert_eq!(outgoing.headers["content-length"], TRAFFIC.payload.to_string().as_str());
                let request = outgoing.request();
                let now = Clock::system(Timestamp::default()).now();
                recipe.scheme.verify([&key], None, &request, now).unwrap_or_else(|e| panic!("{kind}: {e}"));
                serde_json::from_slice::<Value>(&outgoing.body).unwrap();
                assert_eq!(Mark::find(&outgoing.body), Some(Mark { seq, sent_us: 99 }), "{kind}");
                let (id, topic) = crate::inbound::source::id_and_topic(&recipe, &request);
                let event_type = crate::inbound::source::plain_type(SOURCE, topic.as_deref());
                for webhook in TRAFFIC.webhooks_of(seq) {
                    assert_eq!(event_type, TRAFFIC.pattern(webhook), "{kind}");
                }
                ids.push(id);
            }
            ids.dedup();
            assert!(ids.len() == 3 || recipe.id.is_empty(), "{kind}: {ids:?}");
            sent.push(kind);
        }
        for kind in ["stripe", "shopify", "github", "standard-webhooks", "square"] {
            assert!(sent.contains(&kind), "{kind}: {sent:?}");
        }
    }

    #[test]
    fn a_kind_that_cannot_be_sent_is_named() {
        assert_eq!(Inbound::try_new("nobody").unwrap_err(), InboundError::Unknown("nobody".into()));
        for kind in ["discord", "paypal", "telegram"] {
            assert!(matches!(Inbound::try_new(kind), Err(InboundError::Unfit { .. })), "{kind}");
        }
    }

    #[test]
    fn the_configuration_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bench.toml");
        for kind in ["stripe", "shopify", "standard-webhooks", "adyen-platform"] {
            std::fs::write(&file, Inbound::try_new(kind).unwrap().config()).unwrap();
            let loader = crate::config::Loader { file: Some(file.clone()), ..crate::config::Loader::default() };
            let setup = crate::app::Setup::load(&loader).unwrap();
            assert_eq!((setup.sources.len(), setup.sources[0].settings.name.as_str()), (1, SOURCE), "{kind}");
        }
    }
}
