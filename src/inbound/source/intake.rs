//! intake: what a request of a source becomes, decided without I/O.
//!
//! The order is the way in's (`admit/inbound`): a handshake that comes unsigned, the signature, a handshake that comes
//! signed, the event. Nothing of a body is believed before its signature was checked.

use std::borrow::Cow;
use std::hint::black_box;

use ring::hmac;
use serde_json::Value;
use smallvec::SmallVec;

use super::form::{form_object, push_text};
use super::plan::cut;
use super::{Breach, Incoming, Source, plain_type};
use crate::inbound::provider::{Answer, Dedup, Effect};
use crate::json::is_deeper;
use crate::limits::{CLIENT_ID_BYTES_MAX, JSON_DEPTH_MAX};
use crate::model::{DedupBy, Mapping, RESERVED_TYPES, Secret, Timestamp, is_event_type};
use crate::signature::{Ambiguous, Certificate, Place, Request, VerifyError};

/// The data of an event whose request had no body.
const NOTHING: &str = "null";

/// What a body is, by its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// JSON.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `text/plain`.
    Text,
    /// Nothing said: whatever it turns out to be.
    Unsaid,
    /// Anything else.
    Other,
}

/// An event on its way in.
#[derive(Debug)]
pub struct Intake<'a> {
    /// Its type.
    pub event_type: String,
    /// The provider's type in its own spelling.
    pub topic: Option<Cow<'a, str>>,
    /// What is delivered.
    pub data: Data<'a>,
    /// The sender's id, in its whole length.
    id: Option<Cow<'a, str>>,
    /// What the source's events are compared by, if they have an id.
    dedup: Dedup,
    /// What an event without an id is compared by.
    dedup_without_id: Option<DedupBy<'a>>,
    /// When it happened, where the sender says so.
    pub timestamp: Option<Timestamp>,
    /// What may come only once, beside the id.
    pub nonce: Option<Cow<'a, str>>,
    /// The recipe's values to keep, a JSON object.
    pub metadata: Option<String>,
    /// What the event map made of it.
    pub mapping: Mapping,
    /// Why the map could not be applied.
    pub map_error: Option<String>,
}

/// The data of an event: JSON.
#[derive(Debug, PartialEq, Eq)]
pub enum Data<'a> {
    /// The body as it came.
    Body(&'a str),
    /// A part of it.
    Part(&'a str),
    /// Something else: a form as an object, text as a string, what a map built.
    Made(String),
}

/// Why a request that is believed is no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A partner's body that is not JSON.
    #[error("{what} at byte {offset}")]
    NotJson {
        /// Where it stops being JSON.
        offset: usize,
        /// Why.
        what: Box<str>,
    },
    /// JSON that nobody should have to read.
    #[error("the body is nested deeper than {JSON_DEPTH_MAX}")]
    TooDeep,
    /// A form of more fields than any provider sends.
    #[error("the form has too many fields")]
    TooManyFields,
    /// Nobody can say which of the values counts.
    #[error(transparent)]
    Ambiguous(#[from] Ambiguous),
    /// What the source's rules say.
    #[error("the body breaks the source's rules")]
    Rules(Vec<Breach>),
}

impl Source {
    /// Whether a request may have more path below the source's URL.
    pub fn takes_path(&self) -> bool {
        self.plan.takes_topic_in_path()
            || self.secrets.iter().any(|secret| matches!(secret.when, Some((Place::Path, _))))
    }

    /// Whether a partner sends through it, to a URL with a token.
    pub fn is_partner(&self) -> bool {
        self.plan.is_partner()
    }

    /// Whether who sends was proved: by a signature, or by the token of the URL.
    pub fn is_verified(&self) -> bool {
        self.token.is_some() || self.recipe.scheme.checks()
    }

    /// Whether a body of this kind is taken. Providers send what their recipe says; of who signs in a way of their own
    /// nobody knows more than they do.
    pub fn takes(&self, content: Content) -> bool {
        let has_own_way = || matches!(self.settings.kind.as_str(), "custom" | "token" | "basic" | "none");
        match content {
            Content::Json | Content::Unsaid => true,
            _ if self.is_partner() => false,
            Content::Form => self.recipe.takes_forms,
            Content::Text => self.recipe.takes_text || has_own_way(),
            Content::Other => has_own_way(),
        }
    }

    /// Whether one of the source's secrets signed this request.
    ///
    /// # Errors
    /// Why it is not believed, for the person who sets the source up.
    pub fn verify(
        &self,
        request: &Request<'_>,
        certificate: Option<&Certificate>,
        now: Timestamp,
    ) -> Result<(), VerifyError> {
        let secrets = self
            .secrets_for(request, now)
            .map_err(|Ambiguous(name)| VerifyError::Ambiguous(format!("header:{name}").into()))?;
        self.recipe.scheme.verify(secrets.iter().map(|secret| &secret.key), certificate, request, now)
    }

    /// The answer to a handshake, before the signature is looked at or, once it was checked, behind it.
    pub fn handshake(&self, request: &Request<'_>, is_signed: bool, now: Timestamp) -> Option<Answer> {
        let handshake = self.recipe.handshake?;
        let secrets = self.secrets_for(request, now).ok()?;
        let secrets: SmallVec<[&Secret; 4]> = secrets.iter().map(|secret| &secret.secret).collect();
        let option = |name: &str| self.settings.options.get(name).cloned();
        let answer = if is_signed {
            handshake.signed(request, &secrets, &option)
        } else {
            handshake.unsigned(request, &secrets, &option)
        }?;
        // A secret is learned once, by a source that has none: later anybody could bring one.
        let may = !matches!(answer.effect, Effect::Learn(_)) || self.secrets.is_empty();
        may.then_some(answer)
    }

    /// The event that a request is. `key` is its `Idempotency-Key`, which counts for a partner whose body has no id.
    ///
    /// # Errors
    /// See [`Unfit`].
    pub fn intake<'a>(
        &self,
        request: &Request<'a>,
        content: Content,
        key: Option<&'a str>,
        now: Timestamp,
    ) -> Result<Intake<'a>, Unfit> {
        let values = self.plan.read(request, content == Content::Form)?;
        let mut data = whole(request.body, content, values.json)?;
        if self.is_partner() && values.json.is_none() {
            return Err(syntax_error(request.body));
        }
        if let Some(rules) = &self.rules {
            let value: Value = serde_json::from_str(data.text()).unwrap_or_default();
            rules.check(&value, now).map_err(Unfit::Rules)?;
        }
        if let Some(part) = values.data {
            data = Data::Part(part.get());
        }
        let topic = values.topic.as_deref();
        let incoming = Incoming { source: self, topic, data: data.text(), headers: request.headers };
        let mapped = self.event_map.apply(&incoming);
        let (mapping, mapped, map_error) = match mapped {
            Ok(Some(mapped)) if is_free(&mapped.event_type) => (Mapping::Mapped, Some(mapped), None),
            Ok(Some(mapped)) => {
                (Mapping::Failed, None, Some(format!("{:?} is no event type that a map may make", mapped.event_type)))
            }
            Ok(None) => (Mapping::Plain, None, None),
            Err(error) => (Mapping::Failed, None, Some(error.to_string())),
        };
        // Two events of a partner may well have the same body, so that only a key makes them the same.
        let dedup_without_id = if self.is_partner() {
            key.map(|key| DedupBy::IdempotencyKey { key, index: None })
        } else {
            Some(DedupBy::Body)
        };
        let event_type = match mapped {
            Some(mapped) => {
                data = mapped.data.map_or(data, Data::Made);
                mapped.event_type
            }
            None => plain_type(&self.name, topic),
        };
        Ok(Intake {
            event_type,
            data,
            id: values.id,
            dedup: self.recipe.dedup,
            dedup_without_id,
            timestamp: values.timestamp.and_then(|text| text.parse().ok()),
            nonce: values.nonce,
            metadata: values.metadata,
            mapping,
            map_error,
            topic: values.topic,
        })
    }
}

impl Intake<'_> {
    /// The sender's id as the log keeps it: its first [`CLIENT_ID_BYTES_MAX`] bytes.
    pub fn external_id(&self) -> Option<Cow<'_, str>> {
        self.id.as_deref().map(|id| cut(Cow::Borrowed(id), CLIENT_ID_BYTES_MAX))
    }

    /// What makes the event the same as an earlier one of its source; `None`: nothing does.
    pub fn dedup_by(&self) -> Option<DedupBy<'_>> {
        match (self.dedup, self.id.as_deref()) {
            (Dedup::Never, _) => None,
            (Dedup::Body, _) => Some(DedupBy::Body),
            (Dedup::Id, Some(id)) => Some(DedupBy::Id(id)),
            (Dedup::IdAndBody, Some(id)) => Some(DedupBy::IdAndBody(id)),
            (Dedup::Id | Dedup::IdAndBody, None) => self.dedup_without_id,
        }
    }
}

impl Data<'_> {
    /// The data itself.
    pub fn text(&self) -> &str {
        match self {
            Self::Body(text) | Self::Part(text) => text,
            Self::Made(text) => text,
        }
    }
}

/// The work of a MAC over a body, for a request of which it is clear without one that nobody signed it: the time of the
/// answer does not say why it is no.
pub fn spend(body: &[u8]) {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"nobody's");
    black_box(hmac::sign(&key, body));
}

/// What is delivered of a body, before anything is made of it: JSON byte for byte, a form as an object, nothing as `null`,
/// anything else as text.
fn whole<'a>(body: &'a [u8], content: Content, json: Option<&'a str>) -> Result<Data<'a>, Unfit> {
    if let Some(text) = json {
        return if is_deeper(text, JSON_DEPTH_MAX) { Err(Unfit::TooDeep) } else { Ok(Data::Body(text)) };
    }
    if body.is_empty() {
        return Ok(Data::Made(NOTHING.to_owned()));
    }
    if content == Content::Form {
        return form_object(body).map(Data::Made).ok_or(Unfit::TooManyFields);
    }
    let mut text = String::with_capacity(body.len() + 2);
    push_text(&mut text, &String::from_utf8_lossy(body));
    Ok(Data::Made(text))
}

/// Where a body stops being JSON.
fn syntax_error(body: &[u8]) -> Unfit {
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) => return Unfit::NotJson { offset: error.valid_up_to(), what: "invalid UTF-8".into() },
    };
    let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) else { return Unfit::TooDeep };
    let line_start = match error.line() {
        0 | 1 => 0,
        line => text.match_indices('\n').nth(line - 2).map_or(0, |(newline, _)| newline + 1),
    };
    let what = error.to_string();
    let what = what.rsplit_once(" at line ").map_or(&*what, |(what, _)| what).into();
    Unfit::NotJson { offset: (line_start + error.column().saturating_sub(1)).min(text.len()), what }
}

fn is_free(event_type: &str) -> bool {
    is_event_type(event_type) && !event_type.starts_with(RESERVED_TYPES)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::inbound::source::testing::build;

    #[test]
    fn what_a_source_says_only_to_look_again_is_never_a_duplicate() {
        let headers = HeaderMap::new();
        let intake = |toml: &str| {
            let source = build(toml).unwrap();
            let request =
                Request { method: "POST", url: "", query: None, path: "", headers: &headers, body: br#"{"a":1}"# };
            source.intake(&request, Content::Json, None, Timestamp::from_millis(0)).unwrap().dedup_by().is_some()
        };
        let dropbox = "name = \"files\"\nkind = \"dropbox\"\nsecrets = [\"a-long-secret\"]\n";
        assert!(!intake(dropbox));
        assert!(intake(&format!("{dropbox}dedup = \"body\"")));
        let zoom = "name = \"calls\"\nkind = \"zoom\"\nsecrets = [\"a-long-secret\"]\n";
        assert!(intake(zoom));
        assert!(!intake(&format!("{zoom}dedup = \"never\"")));
    }

    const NOW: Timestamp = Timestamp::from_millis(1_711_015_200_000);

    fn intake<'a>(source: &Source, headers: &'a HeaderMap, body: &'a [u8]) -> Intake<'a> {
        let request = Request { method: "POST", url: "https://a.example/", query: None, path: "", headers, body };
        source.intake(&request, Content::Json, None, NOW).unwrap()
    }

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        all.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn whoever_signs_or_has_the_token_is_verified() {
        for (toml, verified) in [
            ("kind = \"none\"", false),
            ("kind = \"shopify\"\nsecrets = [\"a-long-secret\"]", true),
            ("kind = \"aws-sns\"\noptions = { topic_arn = \"arn:aws:sns:us-east-1:1:a\" }", true),
        ] {
            assert_eq!(build(&format!("name = \"a\"\n{toml}")).unwrap().is_verified(), verified, "{toml}");
        }
    }

    #[test]
    fn a_map_that_fails_loses_nothing() {
        let source = build(
            r#"
            name = "shop"
            kind = "none"
            type = "header:X-Topic"
            event_map = [
                { when = "a", type = "mapped.a", data = { id = "/id" } },
            ]"#,
        )
        .unwrap();
        for (topic, body, mapping, event_type, said) in [
            ("a", &br#"{"id":1}"#[..], Mapping::Mapped, "mapped.a", None),
            ("a", br#"{"no":1}"#, Mapping::Failed, "shop.a", Some("/id")),
            ("a", b"no json", Mapping::Failed, "shop.a", Some("/id")),
            ("c", br#"{"id":1}"#, Mapping::Plain, "shop.c", None),
        ] {
            let headers = headers(&[("x-topic", topic)]);
            let intake = intake(&source, &headers, body);
            assert_eq!((intake.mapping, &*intake.event_type), (mapping, event_type), "{topic}");
            assert_eq!(intake.map_error.is_some(), said.is_some());
            assert!(
                said.is_none_or(|said| intake.map_error.as_ref().unwrap().contains(said)),
                "{:?}",
                intake.map_error
            );
            assert_eq!(matches!(intake.data, Data::Body(_)), mapping != Mapping::Mapped && body[0] == b'{');
        }
    }
}
