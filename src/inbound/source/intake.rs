//! Turns a request of a source into an event, without I/O.
//!
//! The caller (`admit/inbound`) defines the order: unsigned handshake, signature, signed handshake, event. The body is not
//! trusted before its signature was verified.

use std::borrow::Cow;

use bytes::Bytes;
use http::Method;
use serde_json::Value;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::extraction::truncate_utf8;
use super::form::{form_object, multipart_object, push_json_string, query_object};
use super::validation::{TIME_EXPECTED, ValidationRules, event_time};
use super::{MapInput, Source, SourceSecret, default_event_type};
use crate::inbound::provider::{DedupMode, HandshakeEffect, HandshakeResponse};
use crate::json::{self, exceeds_depth};
use crate::limits::{CLIENT_ID_BYTES_MAX, DEFINITION_BASE_BYTES, JSON_DEPTH_MAX};
use crate::model::{DedupBy, FieldError, Mapping, RESERVED_TYPE_PREFIX, Secret, Timestamp, is_event_type};
use crate::signature::{AmbiguousHeader, MultipartError, RequestParts, ValueLocation, multipart_fields};

/// The bytes of memory for each byte of the settings as JSON: the settings themselves and their compiled forms.
const BYTES_PER_WRITTEN_BYTE: usize = 8;

/// The data of an event whose request has no body.
const EMPTY_BODY_DATA: &str = "null";

/// The media type of a body, from its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentKind {
    /// JSON.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `multipart/form-data`.
    Multipart,
    /// `text/plain`.
    Text,
    /// A media type that the kind lists in `content_types`, such as `application/xml`.
    Listed,
    /// No media type: the format is determined from the body.
    Unspecified,
    /// Any other media type.
    Other,
}

/// An event that was read from a request.
#[derive(Debug)]
pub struct InboundEvent<'a> {
    /// The event type.
    pub event_type: String,
    /// The event type as the provider writes it.
    pub topic: Option<Cow<'a, str>>,
    /// The data that is delivered.
    pub data: EventData<'a>,
    /// The JSON that is kept in place of the body: that of a multipart form, whose files are not kept, or that of the query
    /// of a request without a body. Requests are compared by it too.
    pub in_place_of_body: Option<Bytes>,
    /// The sender's id, not truncated. The ids of all items if the request has several.
    id: Option<Cow<'a, str>>,
    /// How events of the source are compared if they have an id.
    dedup: DedupMode,
    /// How an event without an id is compared.
    dedup_without_id: Option<DedupBy<'a>>,
    /// The time of the event, if the sender provides it.
    pub timestamp: Option<Timestamp>,
    /// A value that is accepted only once, in addition to the id.
    pub nonce: Option<Cow<'a, str>>,
    /// The metadata of the recipe, a JSON object.
    pub metadata: Option<String>,
    /// The result of the event map.
    pub mapping: Mapping,
    /// The reason why the event map could not be applied.
    pub map_error: Option<String>,
}

/// The data of an event, as JSON.
#[derive(Debug, PartialEq, Eq)]
pub enum EventData<'a> {
    /// The unchanged body.
    Body(&'a str),
    /// A part of the body.
    Part(&'a str),
    /// Data built from the request: a form as an object, text as a string, or the output of the event map.
    Built(String),
}

/// A verified request that is not a valid event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    /// The body of a partner is not JSON.
    #[error("{what} at byte {offset}")]
    NotJson {
        /// The position of the syntax error, in bytes.
        offset: usize,
        /// The syntax error.
        what: Box<str>,
    },
    /// The `timestamp` of a partner's body is not a time.
    #[error("{TIME_EXPECTED}")]
    Timestamp,
    /// The JSON is nested too deep.
    #[error("the body is nested deeper than {JSON_DEPTH_MAX}")]
    TooDeep,
    /// The form has more fields than any provider sends.
    #[error("the form has too many fields")]
    TooManyFields,
    /// The multipart form is not complete, or has too many parts.
    #[error(transparent)]
    Multipart(#[from] MultipartError),
    /// A header occurs twice with different values.
    #[error(transparent)]
    Ambiguous(#[from] AmbiguousHeader),
}

impl Source {
    /// Whether a request may have additional path segments below the source's URL.
    pub fn accepts_path(&self) -> bool {
        self.extraction.accepts_topic_in_path()
            || self.secrets.iter().any(|secret| matches!(secret.when, Some((ValueLocation::Path, _))))
    }

    /// The bytes of memory that the source needs, about: its settings as written and compiled, and its rules.
    pub fn memory_bytes(&self) -> usize {
        let written = serde_json::to_vec(&self.settings).map_or(0, |settings| settings.len());
        let rules = self.rules.as_ref().map_or(0, ValidationRules::memory_bytes);
        DEFINITION_BASE_BYTES * 4 + written * BYTES_PER_WRITTEN_BYTE + rules
    }

    /// Whether a request with this method can be an event or a handshake of the source.
    pub fn takes_method(&self, method: &Method) -> bool {
        let may_shake = || {
            self.recipe.handshake.is_some_and(|handshake| {
                matches!(*method, Method::GET | Method::HEAD) || handshake.has_method(method.as_str())
            })
        };
        self.recipe.methods.contains(method) || *method == Method::POST || may_shake()
    }

    /// The regular expressions of the rules that are too costly for new rules.
    pub fn costly_rules(&self) -> &[FieldError] {
        self.rules.as_ref().map_or(&[], |rules| rules.costly_patterns())
    }

    /// Whether the source is a partner, which sends to a URL with a token.
    pub fn is_partner(&self) -> bool {
        self.extraction.is_partner()
    }

    /// Whether the source accepts bodies of this media type. For providers, the recipe decides. Sources with their own
    /// scheme accept any type, because nothing is known about their format.
    pub fn accepts(&self, content: ContentKind) -> bool {
        let has_own_way = || matches!(self.settings.kind.as_str(), "custom" | "token" | "basic" | "none");
        match content {
            ContentKind::Json | ContentKind::Unspecified => true,
            _ if self.is_partner() => false,
            ContentKind::Form => self.recipe.accepts_forms,
            ContentKind::Multipart => self.recipe.accepts_multipart || has_own_way(),
            ContentKind::Listed => true,
            ContentKind::Text => self.recipe.accepts_text || has_own_way(),
            ContentKind::Other => has_own_way(),
        }
    }

    /// The response to a handshake. Called before the signature is verified with `is_signed` false, and after it with
    /// `is_signed` true. Returns `None` if the request is not a handshake.
    pub fn handshake(&self, request: &RequestParts<'_>, is_signed: bool, now: Timestamp) -> Option<HandshakeResponse> {
        let handshake = self.recipe.handshake?;
        let mut secrets = self.secrets_for(request, now).ok()?;
        if is_signed && secrets.len() > 1 {
            // The answer is signed with the secret that the sender has, also while secrets are rotated.
            let verifies = |secret: &&SourceSecret| {
                self.recipe.scheme.verify(std::iter::once(&secret.key), None, request, now).is_ok()
            };
            if let Some(place) = secrets.iter().position(verifies) {
                secrets.swap(0, place);
            }
        }
        let secrets: SmallVec<[&Secret; 4]> = secrets.iter().map(|secret| &secret.secret).collect();
        let option = |name: &str| self.settings.options.get(name).cloned();
        let answer = if is_signed {
            handshake.respond_signed(request, &secrets, &option)
        } else {
            handshake.respond_unsigned(request, &secrets, &option)
        }?;
        // A secret is stored only if the source has none. Otherwise anyone could replace it.
        let may = !matches!(answer.effect, HandshakeEffect::Learn(_)) || self.secrets.is_empty();
        may.then_some(answer)
    }

    /// Reads the event of a verified request, without checking the rules of the source. `json_in_form` is what
    /// [`Self::json_in_form`] found. `key` is the `Idempotency-Key` header; it is used for a partner whose body has no id.
    ///
    /// # Errors
    /// An [`IntakeError`] if the request is not a valid event.
    pub fn intake<'a>(
        &self,
        request: &RequestParts<'a>,
        content: ContentKind,
        json_in_form: Option<&'a str>,
        key: Option<&'a str>,
    ) -> Result<InboundEvent<'a>, IntakeError> {
        let is_form = matches!(content, ContentKind::Form | ContentKind::Multipart | ContentKind::Listed);
        let json = json_in_form.map(str::as_bytes).or_else(|| (!is_form).then_some(request.body));
        let values = self.extraction.read(request, json)?;
        let mut data = match values.json {
            None => self.built_data(request, content)?,
            Some(text) if exceeds_depth(text, JSON_DEPTH_MAX) => return Err(IntakeError::TooDeep),
            Some(text) if json_in_form.is_some() => EventData::Part(text),
            Some(text) => EventData::Body(text),
        };
        let is_rebuilt = content == ContentKind::Multipart || (request.body.is_empty() && request.method != "POST");
        let in_place_of_body = match &data {
            _ if !is_rebuilt => None,
            EventData::Part(_) => Some(self.built_data(request, content)?),
            built => Some(EventData::Part(built.text())),
        };
        let in_place_of_body = in_place_of_body.map(|json| Bytes::copy_from_slice(json.text().as_bytes()));
        if self.is_partner() && values.json.is_none() {
            return Err(syntax_error(request.body));
        }
        if let Some(part) = values.data {
            data = EventData::Part(part.get());
        }
        let topic = values.topic.as_deref();
        let incoming = MapInput { source: self, topic, data: data.text(), headers: request.headers };
        let mapped = self.event_map.apply(&incoming);
        let (mapping, mapped, map_error) = match mapped {
            Ok(Some(mapped)) if is_allowed_type(&mapped.event_type) => (Mapping::Mapped, Some(mapped), None),
            Ok(Some(mapped)) => {
                (Mapping::Failed, None, Some(format!("{:?} is no event type that a map may make", mapped.event_type)))
            }
            Ok(None) => (Mapping::Plain, None, None),
            Err(error) => (Mapping::Failed, None, Some(error.to_string())),
        };
        // Different events of a partner can have the same body, so without an id only the key identifies duplicates.
        let dedup_without_id = if self.is_partner() {
            key.map(|key| DedupBy::IdempotencyKey { key, index: None })
        } else {
            Some(DedupBy::Body)
        };
        let event_type = match mapped {
            Some(mapped) => {
                data = mapped.data.map_or(data, EventData::Built);
                mapped.event_type
            }
            None => default_event_type(&self.name, topic),
        };
        Ok(InboundEvent {
            event_type,
            data,
            in_place_of_body,
            id: values.id,
            dedup: match self.recipe.dedup {
                DedupMode::Id if values.is_id_partial => DedupMode::IdAndBody,
                dedup => dedup,
            },
            dedup_without_id,
            timestamp: values.timestamp.map(partner_time).transpose()?.flatten(),
            nonce: values.nonce,
            metadata: values.metadata,
            mapping,
            map_error,
            topic: values.topic,
        })
    }
}

impl Source {
    /// The media type that matters for the source: one that its kind lists is not refused as an unknown one.
    pub fn content_kind(&self, content: ContentKind, content_type: Option<&str>) -> ContentKind {
        let is_listed = || {
            let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
            self.recipe.content_types.iter().any(|listed| match listed.strip_suffix('*') {
                Some(start) => essence.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start)),
                None => essence.eq_ignore_ascii_case(listed),
            })
        };
        match content {
            ContentKind::Text | ContentKind::Other if is_listed() => ContentKind::Listed,
            content => content,
        }
    }

    /// The data of a body that is not JSON, before the event map: a form as an object, a listed media type as an object with
    /// the text, anything else as a string. Without a body, the parameters of the query of a request that is not a POST.
    fn built_data<'a>(&self, request: &RequestParts<'a>, content: ContentKind) -> Result<EventData<'a>, IntakeError> {
        let body = request.body;
        if body.is_empty() {
            let query = request.query.filter(|_| request.method != "POST");
            let object = query.map(|query| query_object(query, &self.secret_parameters()));
            let object = object.unwrap_or_else(|| Some(EMPTY_BODY_DATA.to_owned()));
            return object.map(EventData::Built).ok_or(IntakeError::TooManyFields);
        }
        match content {
            ContentKind::Form => form_object(body).map(EventData::Built).ok_or(IntakeError::TooManyFields),
            ContentKind::Multipart => {
                let fields = multipart_fields(request).unwrap_or(Err(MultipartError::Malformed))?;
                Ok(EventData::Built(multipart_object(fields)))
            }
            _ => {
                let mut text = String::with_capacity(body.len() + 64);
                let is_listed = content == ContentKind::Listed;
                if is_listed {
                    text.push_str("{\"text\":");
                }
                push_json_string(&mut text, &String::from_utf8_lossy(body));
                if is_listed {
                    text.push('}');
                }
                Ok(EventData::Built(text))
            }
        }
    }

    /// The parameters of the query that hold a token or signature. They are not stored.
    fn secret_parameters(&self) -> Vec<&str> {
        let locations = self.recipe.scheme.signature_locations().iter();
        locations
            .filter_map(|location| match location {
                ValueLocation::Query(name) => Some(&**name),
                _ => None,
            })
            .collect()
    }
}

impl InboundEvent<'_> {
    /// The bytes that were built from the request.
    pub fn built_bytes(&self) -> usize {
        let id = if let Some(Cow::Owned(id)) = &self.id { id.len() } else { 0 };
        self.data.built_bytes() + self.in_place_of_body.as_ref().map_or(0, Bytes::len) + id
    }

    /// The sender's id as it is stored in the log: the first [`CLIENT_ID_BYTES_MAX`] bytes.
    pub fn external_id(&self) -> Option<Cow<'_, str>> {
        self.id.as_deref().map(|id| truncate_utf8(Cow::Borrowed(id), CLIENT_ID_BYTES_MAX))
    }

    /// How the event is compared with earlier events of the source. `None` if it is never a duplicate.
    pub fn dedup_by(&self) -> Option<DedupBy<'_>> {
        match (self.dedup, self.id.as_deref()) {
            (DedupMode::Never, _) => None,
            (DedupMode::Body, _) => Some(DedupBy::Body),
            (DedupMode::Id, Some(id)) => Some(DedupBy::Id(id)),
            (DedupMode::IdAndBody, Some(id)) => Some(DedupBy::IdAndBody(id)),
            (DedupMode::Id | DedupMode::IdAndBody, None) => self.dedup_without_id,
        }
    }
}

impl EventData<'_> {
    /// The bytes of data that were built from the request.
    fn built_bytes(&self) -> usize {
        if let Self::Built(text) = self { text.capacity() } else { 0 }
    }

    /// The data as JSON text.
    pub fn text(&self) -> &str {
        match self {
            Self::Body(text) | Self::Part(text) => text,
            Self::Built(text) => text,
        }
    }
}

/// The error for a body that is not JSON, with the position of the syntax error.
fn syntax_error(body: &[u8]) -> IntakeError {
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) => return IntakeError::NotJson { offset: error.valid_up_to(), what: "invalid UTF-8".into() },
    };
    let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) else { return IntakeError::TooDeep };
    let line_start = match error.line() {
        0 | 1 => 0,
        line => text.match_indices('\n').nth(line - 2).map_or(0, |(newline, _)| newline + 1),
    };
    let what = error.to_string();
    let what = what.rsplit_once(" at line ").map_or(&*what, |(what, _)| what).into();
    IntakeError::NotJson { offset: (line_start + error.column().saturating_sub(1)).min(text.len()), what }
}

/// The time in the body of a partner. `None` for `null`.
fn partner_time(written: &RawValue) -> Result<Option<Timestamp>, IntakeError> {
    match json::from_str(written.get()) {
        Ok(Value::Null) => Ok(None),
        Ok(value) => event_time(&value).map(Some).ok_or(IntakeError::Timestamp),
        Err(_) => Err(IntakeError::Timestamp),
    }
}

fn is_allowed_type(event_type: &str) -> bool {
    is_event_type(event_type) && !event_type.starts_with(RESERVED_TYPE_PREFIX)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::inbound::source::testing::build;

    #[test]
    fn events_of_a_source_with_dedup_never_are_never_duplicates() {
        let headers = HeaderMap::new();
        let intake = |toml: &str| {
            let source = build(toml).unwrap();
            let request =
                RequestParts { method: "POST", url: "", query: None, path: "", headers: &headers, body: br#"{"a":1}"# };
            source.intake(&request, ContentKind::Json, None, None).unwrap().dedup_by().is_some()
        };
        let dropbox = "name = \"files\"\nkind = \"dropbox\"\nsecrets = [\"a-long-secret\"]\n";
        assert!(!intake(dropbox));
        assert!(intake(&format!("{dropbox}dedup = \"body\"")));
        let zoom = "name = \"calls\"\nkind = \"zoom\"\nsecrets = [\"a-long-secret\"]\n";
        assert!(intake(zoom));
        assert!(!intake(&format!("{zoom}dedup = \"never\"")));
    }

    fn intake<'a>(source: &Source, headers: &'a HeaderMap, body: &'a [u8]) -> InboundEvent<'a> {
        let request = RequestParts { method: "POST", url: "https://a.example/", query: None, path: "", headers, body };
        source.intake(&request, ContentKind::Json, None, None).unwrap()
    }

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        all.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    /// Requests that begin with the same item are different if the other items are, however the provider writes its batches.
    #[test]
    fn a_request_with_several_items_is_known_by_all_of_them() {
        const KEY: &str = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056";
        let items = |items: &[&str]| {
            let items = items.iter().map(|psp| {
                format!(
                    r#"{{"NotificationRequestItem":{{"pspReference":"{psp}","eventCode":"CAPTURE","success":"true"}}}}"#
                )
            });
            format!(r#"{{"notificationItems":[{}]}}"#, items.collect::<Vec<_>>().join(","))
        };
        let no_headers = HeaderMap::new();
        let by = |source: &Source, body: &str| format!("{:?}", intake(source, &no_headers, body.as_bytes()).dedup_by());
        let adyen = build(&format!("name = \"pay\"\nkind = \"adyen\"\nsecrets = [\"{KEY}\"]")).unwrap();
        assert_eq!(by(&adyen, &items(&["1"])), r#"Some(Id("1:CAPTURE:true"))"#);
        assert_eq!(by(&adyen, &items(&["1", "2"])), r#"Some(Id("1:CAPTURE:true,2:CAPTURE:true"))"#);
        assert_eq!(by(&adyen, &items(&["1", "3"])), r#"Some(Id("1:CAPTURE:true,3:CAPTURE:true"))"#);
        // LINE marks a request that is sent again in its body.
        let line = build("name = \"chat\"\nkind = \"line\"\nsecrets = [\"a-long-secret\"]").unwrap();
        let again = r#"{"events":[{"webhookEventId":"a","again":true},{"webhookEventId":"b"}]}"#;
        assert_eq!(by(&line, again), r#"Some(Id("a,b"))"#);

        let own = |id: &str| build(&format!("name = \"own\"\nkind = \"none\"\nid = {id}")).unwrap();
        for (id, body, expected) in [
            (r#""json:/0/id""#, r#"[{"id":1},{"id":2}]"#, r#"Some(Id("1,2"))"#),
            (r#""json:/0/id""#, r#"[{"id":1}]"#, r#"Some(Id("1"))"#),
            (r#""json:/0/id""#, r#"{"0":{"id":1}}"#, r#"Some(Id("1"))"#),
            (r#""json:/a/0""#, r#"{"a":["x","y"]}"#, r#"Some(Id("x,y"))"#),
            (r#"["json:/of", "json:/a/0/id"]"#, r#"{"of":"o","a":[{"id":1},{"id":2}]}"#, r#"Some(Id("o:1,o:2"))"#),
            // Ids that do not cover everything are compared with the body.
            (r#""json:/a/0/id""#, r#"{"a":[{"id":1},{"no":2}]}"#, r#"Some(IdAndBody("1,"))"#),
            (r#""json:/a/0/b/0""#, r#"{"a":[{"b":[1,2]},{"b":[3]}]}"#, r#"Some(IdAndBody("1,3"))"#),
            (r#""json:/a/0/b/0""#, r#"{"a":[{"b":[1,2]}]}"#, r#"Some(IdAndBody("1"))"#),
            (r#"["json:/a/0", "json:/b/0"]"#, r#"{"a":[1],"b":[1,2]}"#, r#"Some(IdAndBody("1:1"))"#),
        ] {
            assert_eq!(by(&own(id), body), expected, "{id} {body}");
        }
        let form = own(r#""form:list#/0/id""#);
        let headers = HeaderMap::new();
        let body = b"list=%5B%7B%22id%22%3A1%7D%2C%7B%22id%22%3A2%7D%5D";
        let request = RequestParts { method: "POST", url: "", query: None, path: "", headers: &headers, body };
        let event = form.intake(&request, ContentKind::Form, None, None).unwrap();
        assert_eq!(event.dedup_by(), Some(DedupBy::Id("1,2")));
    }

    #[test]
    fn sources_with_a_signature_or_token_are_verified() {
        for (toml, verified) in [
            ("kind = \"none\"", false),
            ("kind = \"shopify\"\nsecrets = [\"a-long-secret\"]", true),
            ("kind = \"aws-sns\"\noptions = { topic_arn = \"arn:aws:sns:us-east-1:1:a\" }", true),
        ] {
            assert_eq!(build(&format!("name = \"a\"\n{toml}")).unwrap().is_verified(), verified, "{toml}");
        }
    }

    #[test]
    fn a_failed_map_keeps_the_original_event() {
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
            assert_eq!(matches!(intake.data, EventData::Body(_)), mapping != Mapping::Mapped && body[0] == b'{');
        }
    }
}
