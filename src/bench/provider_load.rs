//! Generates the load as a provider sends it: signed webhooks for one source, each with its own id and time.
//!
//! The generator shares the cores with the server. As in `traffic`, a request is built once per connection. The
//! signature covers byte ranges of that request and overwrites the previous signature. Nothing is allocated per
//! request.

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
use crate::template::{Template, TemplateError, TemplatePart};

/// Name of the source. Its default event types are the types that the bench's webhooks match: `bench.` and the topic.
pub(super) const SOURCE: &str = "bench";
/// Prefix of the topics.
const TOPIC: &str = "load.";
/// Public URL of the source, for schemes that sign the URL.
const PUBLIC_URL: &str = "https://bench.invalid/hook";
/// Prefix of a delivery id, before the digits.
const ID: &str = "bench-";
/// The key's bytes. Schemes that use the secret's text as the key use the same text.
const KEY: &[u8] = b"a key of 32 bytes for the bench.";

/// A provider kind whose webhooks the bench can send.
#[derive(Debug, Clone)]
pub(super) struct ProviderLoad {
    pub(super) kind: String,
    recipe: &'static RawRecipe,
}

/// A provider kind whose webhooks the bench cannot send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProviderLoadError {
    #[error("--source {0}: no such kind of provider")]
    Unknown(String),
    #[error("--source {kind}: cannot be sent by the bench: {why}")]
    Unsupported { kind: String, why: &'static str },
}

/// The parts of a provider's request: header lines, body members, and the signing specification.
#[derive(Debug)]
pub(super) struct LoadRequestParts {
    /// Header lines, each with its line end.
    pub(super) headers: String,
    /// Members of the JSON body, each with a trailing comma.
    pub(super) members: String,
    signer: SigningSpec,
}

/// What is signed, as a template. [`RequestSigner`] is the compiled form.
#[derive(Debug, Clone)]
struct SigningSpec {
    key: hmac::Key,
    is_hex: bool,
    signed: String,
    time: Option<TimeUnit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimeUnit {
    Seconds,
    Millis,
}

/// Markers in a new request, at the places of digits and signature.
const TIME_SECONDS: &str = "1111111111";
const TIME_MILLIS: &str = "1111111111111";
const SIGNATURE_MARKER: &str = "@signature@";

impl TimeUnit {
    const fn marker(self) -> &'static str {
        match self {
            Self::Seconds => TIME_SECONDS,
            Self::Millis => TIME_MILLIS,
        }
    }
}

/// Writes the id, the time and the signature into the bytes of a request.
#[derive(Debug, Clone)]
pub(super) struct RequestSigner {
    key: hmac::Key,
    is_hex: bool,
    /// The signed pieces, in order.
    pieces: Vec<SignedPiece>,
    groups: Vec<usize>,
    ids: Vec<usize>,
    times: Vec<Range<usize>>,
    time: Option<TimeUnit>,
    signature: Range<usize>,
    clock: Clock,
}

#[derive(Debug, Clone)]
enum SignedPiece {
    Text(Box<[u8]>),
    Range(Range<usize>),
}

impl ProviderLoad {
    pub(super) fn try_new(kind: &str) -> Result<Self, ProviderLoadError> {
        let recipe = recipe(kind).ok_or_else(|| ProviderLoadError::Unknown(kind.to_owned()))?;
        let load = Self { kind: kind.to_owned(), recipe };
        load.parts().map(|_| load)
    }

    /// The server's configuration: only this source, with an empty event map.
    pub(super) fn config(&self) -> String {
        let secret = self.secret();
        format!(
            "[[sources]]\nname = \"{SOURCE}\"\nkind = \"{}\"\nsecrets = [\"{secret}\"]\nurl = \"{PUBLIC_URL}\"\nevent_map = []\n",
            self.kind
        )
    }

    /// The secret in the format that the provider kind expects.
    fn secret(&self) -> String {
        match self.recipe.verify.key.as_deref() {
            Some("hex") => HEXLOWER.encode(KEY),
            Some("base64") => BASE64.encode(KEY),
            Some("whsec") => format!("{SECRET_PREFIX}{}", BASE64.encode(KEY)),
            _ => String::from_utf8_lossy(KEY).into_owned(),
        }
    }

    /// Builds the parts of a request of this kind. The error names the feature that the bench does not support.
    pub(super) fn parts(&self) -> Result<LoadRequestParts, ProviderLoadError> {
        let scheme = &self.recipe.verify;
        let unsupported = |why| ProviderLoadError::Unsupported { kind: self.kind.clone(), why };
        if self.recipe.respond.is_some() || self.recipe.status.is_some() {
            return Err(unsupported("it wants an answer of its own, which the bench does not count"));
        }
        if scheme.scheme != "hmac" || scheme.each.is_some() {
            return Err(unsupported("only HMAC over whole requests is"));
        }
        if !matches!(scheme.encoding.as_deref(), Some("hex" | "base64")) {
            return Err(unsupported("its signature is neither in hexadecimal nor in base64"));
        }
        let algorithm = match scheme.alg.as_deref() {
            Some("sha1") => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Some("sha512") => hmac::HMAC_SHA512,
            _ => hmac::HMAC_SHA256,
        };
        let time = match scheme.unit.as_deref() {
            _ if scheme.time.is_none() => None,
            Some("rfc3339") => return Err(unsupported("its time is text of changing form")),
            Some("ms") => Some(TimeUnit::Millis),
            _ => Some(TimeUnit::Seconds),
        };
        let mut headers = String::from("user-agent: hooktide-bench\r\naccept: */*\r\n");
        let mut body = Value::Object(Map::new());
        let event_type = places(self.recipe.r#type.as_ref()).find(|place| *place != "path");
        let event_type = event_type.ok_or_else(|| unsupported("its events have no type"))?;
        let group = "0".repeat(GROUP_DIGITS);
        put(event_type, &json!(format!("{TOPIC}{group}")), &mut headers, &mut body)
            .ok_or_else(|| unsupported("its type"))?;
        // The bench sends JSON, so places in a form (Slack commands) do not exist.
        for place in places(self.recipe.id.as_ref()).filter(|place| !place.starts_with("form:")) {
            let id = json!(format!("{ID}{}", "0".repeat(SEQ_DIGITS)));
            put(place, &id, &mut headers, &mut body).ok_or_else(|| unsupported("its id"))?;
        }
        let mut signature_value = String::new();
        if let (Some(place), Some(time)) = (scheme.time.as_deref(), time) {
            if let Some(prefix) = place.strip_prefix("sig:") {
                // The time is the first element, which has no prefix.
                let prefix = if prefix == "[0]" { "" } else { prefix };
                let _ =
                    write!(signature_value, "{prefix}{}{}", time.marker(), scheme.split.as_deref().unwrap_or_default());
            } else {
                let number = json!(time.marker().parse::<u64>().unwrap_or_default());
                put(place, &number, &mut headers, &mut body).ok_or_else(|| unsupported("its time"))?;
            }
        }
        let _ = write!(signature_value, "{}{SIGNATURE_MARKER}", scheme.prefix.as_deref().unwrap_or_default());
        let place = places(scheme.sig.as_ref()).next().filter(|place| place.starts_with("header:"));
        let place = place.ok_or_else(|| unsupported("its signature is not in a header"))?;
        put(place, &json!(signature_value), &mut headers, &mut body).ok_or_else(|| unsupported("its signature"))?;
        let text = body.to_string();
        // Without the enclosing braces.
        let members = &text[1..text.len() - 1];
        let members = if members.is_empty() { String::new() } else { format!("{members},") };
        let is_hex = scheme.encoding.as_deref() == Some("hex");
        let signed = scheme.signed.clone().unwrap_or_else(|| "{body}".into());
        let bytes = if scheme.key.is_none() { self.secret().into_bytes() } else { KEY.to_vec() };
        let parts = LoadRequestParts {
            headers,
            members,
            signer: SigningSpec { key: hmac::Key::new(algorithm, &bytes), is_hex, signed, time },
        };
        // Checks now that every placeholder of the signed template is supported.
        parts.signer.pieces(&[], 0).map(drop).map_err(unsupported)?;
        Ok(parts)
    }
}

impl LoadRequestParts {
    /// The header lines with the signature marker replaced by zeros of the signature's length.
    pub(super) fn headers_with_signature_space(&self) -> String {
        self.headers.replace(SIGNATURE_MARKER, &"0".repeat(self.signer.signature_len()))
    }

    /// Builds the signer of this request. The places are found once, by the markers.
    pub(super) fn signer(&self, request: &[u8], head: usize) -> RequestSigner {
        let find = |what: &str, within: Range<usize>| {
            let bytes = what.as_bytes();
            let matches = |at: &usize| request[*at..].starts_with(bytes);
            within.filter(matches).map(|at| at + bytes.len()).collect::<Vec<_>>()
        };
        let all = 0..request.len();
        let groups = find(&format!("{TOPIC}{}", "0".repeat(GROUP_DIGITS)), all.clone());
        let ids = find(&format!("{ID}{}", "0".repeat(SEQ_DIGITS)), all.clone());
        let times = self.signer.time.map(|time| (time.marker().len(), find(time.marker(), all.clone())));
        let times = times.into_iter().flat_map(|(len, ends)| ends.into_iter().map(move |end| end - len..end)).collect();
        let len = self.signer.signature_len();
        let end = find(&"0".repeat(len), 0..head).first().copied().unwrap_or(len);
        RequestSigner {
            key: self.signer.key.clone(),
            is_hex: self.signer.is_hex,
            pieces: self.signer.pieces(request, head).unwrap_or_default(),
            groups: groups.into_iter().map(|end| end - GROUP_DIGITS).collect(),
            ids: ids.into_iter().map(|end| end - SEQ_DIGITS).collect(),
            times,
            time: self.signer.time,
            signature: end - len..end,
            clock: Clock::system(Timestamp::default()),
        }
    }
}

impl SigningSpec {
    fn signature_len(&self) -> usize {
        let tag = self.key.algorithm().digest_algorithm().output_len();
        if self.is_hex { HEXLOWER.encode_len(tag) } else { BASE64.encode_len(tag) }
    }

    /// The signed template as ranges of a request whose body starts at `head`.
    fn pieces(&self, request: &[u8], head: usize) -> Result<Vec<SignedPiece>, &'static str> {
        let placeholder = |name: &str| {
            Ok(match name {
                "body" => SignedPiece::Range(head..request.len()),
                "method" => SignedPiece::Text(b"POST".as_slice().into()),
                "url" | "url:unescaped" => SignedPiece::Text(PUBLIC_URL.as_bytes().into()),
                "time" => SignedPiece::Range(self.time.map_or(0..0, |time| value_at(request, time.marker()))),
                "id" => SignedPiece::Range(value_at(request, &format!("{ID}{}", "0".repeat(SEQ_DIGITS)))),
                place => {
                    let names = place.strip_prefix("header:").ok_or("it signs values of the body by themselves")?;
                    let name = names.split('|').next().unwrap_or_default().to_ascii_lowercase();
                    SignedPiece::Range(header_value(request, &name))
                }
            })
        };
        let template = Template::parse(&self.signed, placeholder).map_err(|error| match error {
            TemplateError::Placeholder { error, .. } => error,
            _ => "its signed text",
        })?;
        let piece = |part| match part {
            TemplatePart::Text(text) => SignedPiece::Text(text.into_string().into_bytes().into()),
            TemplatePart::Placeholder(piece) => piece,
        };
        Ok(template.into_parts().into_iter().map(piece).collect())
    }
}

impl RequestSigner {
    /// Writes the group, id and time of an event into the request and signs it.
    pub(super) fn sign(&self, bytes: &mut [u8], seq: u64, group: u64) {
        for at in &self.groups {
            write_digits(&mut bytes[*at..][..GROUP_DIGITS], group);
        }
        for at in &self.ids {
            write_digits(&mut bytes[*at..][..SEQ_DIGITS], seq);
        }
        let now = self.clock.now();
        let now = match self.time {
            Some(TimeUnit::Millis) => now.as_millis(),
            _ => now.as_secs(),
        };
        for range in &self.times {
            write_digits(&mut bytes[range.clone()], now.unsigned_abs());
        }
        let mut context = hmac::Context::with_key(&self.key);
        for piece in &self.pieces {
            match piece {
                SignedPiece::Text(text) => context.update(text),
                SignedPiece::Range(range) => context.update(&bytes[range.clone()]),
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

/// Adds a value as a header line or body member, unless the place is already set; `None` if `place` is neither.
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

/// Range of the first occurrence of a text; an empty range if the text does not occur.
fn value_at(request: &[u8], what: &str) -> Range<usize> {
    let found = request.windows(what.len().max(1)).position(|window| window == what.as_bytes());
    found.map_or(0..0, |at| at..at + what.len())
}

/// Range of the value of a header.
fn header_value(request: &[u8], name: &str) -> Range<usize> {
    let line = value_at(request, &format!("\r\n{name}: "));
    let length = request[line.end..].iter().position(|byte| *byte == b'\r').unwrap_or(0);
    line.end..line.end + length
}

#[cfg(test)]
mod tests {
    use super::super::traffic::{EventStamp, EventTemplate, Traffic};
    use super::*;
    use crate::inbound::provider::Recipe;
    use crate::model::Secret;
    use crate::signature::OutgoingRequest;

    const TRAFFIC: Traffic = Traffic { webhooks: 6, fanout: 2, payload: 1024, batch: 1, failing: 0.0 };

    /// Parses a request as a server does.
    fn parsed(request: &[u8]) -> OutgoingRequest {
        let at = request.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let (head, body) = (std::str::from_utf8(&request[..at]).unwrap(), &request[at + 4..]);
        let mut outgoing = OutgoingRequest {
            method: "POST".into(),
            url: PUBLIC_URL.into(),
            body: body.to_vec(),
            ..OutgoingRequest::default()
        };
        for line in head.lines().skip(1) {
            let (name, value) = line.split_once(": ").unwrap();
            let name: http::HeaderName = name.parse().unwrap();
            assert!(outgoing.headers.insert(name, value.parse().unwrap()).is_none(), "{line}");
        }
        outgoing
    }

    #[test]
    fn every_request_is_verified_and_carries_its_number() {
        let mut sent = Vec::new();
        for (kind, raw) in crate::inbound::provider::recipes() {
            let Ok(load) = ProviderLoad::try_new(kind) else { continue };
            let recipe = Recipe::try_new(raw).unwrap();
            let key = recipe.scheme.key(&Secret::new(load.secret())).unwrap();
            let mut template = EventTemplate::provider_webhook(&TRAFFIC, &load.parts().unwrap(), "127.0.0.1:1");
            let mut ids = Vec::new();
            for seq in [0, 7, 123_456_789] {
                let outgoing = parsed(template.stamp(seq, 99));
                assert_eq!(outgoing.body.len(), TRAFFIC.payload, "{kind}");
                assert_eq!(outgoing.headers["content-length"], TRAFFIC.payload.to_string().as_str());
                let request = outgoing.request();
                let now = Clock::system(Timestamp::default()).now();
                recipe.scheme.verify([&key], None, &request, now).unwrap_or_else(|e| panic!("{kind}: {e}"));
                serde_json::from_slice::<Value>(&outgoing.body).unwrap();
                assert_eq!(EventStamp::find(&outgoing.body), Some(EventStamp { seq, sent_us: 99 }), "{kind}");
                let (id, topic) = crate::inbound::source::id_and_topic(&recipe, &request);
                let event_type = crate::inbound::source::default_event_type(SOURCE, topic.as_deref());
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
    fn an_unsupported_kind_is_an_error() {
        assert_eq!(ProviderLoad::try_new("nobody").unwrap_err(), ProviderLoadError::Unknown("nobody".into()));
        for kind in ["discord", "paypal", "telegram"] {
            assert!(matches!(ProviderLoad::try_new(kind), Err(ProviderLoadError::Unsupported { .. })), "{kind}");
        }
    }

    #[test]
    fn the_configuration_of_a_source_is_valid() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bench.toml");
        for kind in ["stripe", "shopify", "standard-webhooks", "adyen-platform"] {
            std::fs::write(&file, ProviderLoad::try_new(kind).unwrap().config()).unwrap();
            let loader = crate::config::Loader { file: Some(file.clone()), ..crate::config::Loader::default() };
            let setup = crate::app::CompiledConfig::load(&loader).unwrap();
            assert_eq!((setup.sources.len(), setup.sources[0].settings.name.as_str()), (1, SOURCE), "{kind}");
        }
    }
}
