//! A handshake rule: its conditions, its check and its response.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::StatusCode;
use http::{HeaderName, HeaderValue, header};
use serde::Deserialize;
use serde_json::Value;

use super::template::{TextTemplate, is_token};
use super::{HandshakeEffect, HandshakeResponse};
use crate::limits;
use crate::model::Secret;
use crate::model::header::JSON;
use crate::signature::{OneOrMany, RequestParts, ValueLocation};

/// A rule as written in `table.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawHandshakeRule {
    /// One sentence that describes the rule.
    about: String,
    /// The HTTP methods; `POST` by default.
    #[serde(default)]
    on: Option<OneOrMany>,
    /// Whether the signature must be verified before.
    #[serde(default)]
    signed: bool,
    /// Conditions that must all hold: `PLACE` (present), `!PLACE` (absent), `PLACE=TEXT`, `object` (the body is a JSON
    /// object), `!object`.
    #[serde(default)]
    when: Vec<String>,
    /// `PLACE=option:NAME`: the value must equal the option, otherwise the response is 403.
    #[serde(default)]
    check: Option<String>,
    /// The response. A rule without a response only checks.
    #[serde(default)]
    answer: Option<RawResponse>,
    /// The location of the source's secret.
    #[serde(default)]
    learn: Option<String>,
    /// Whether users who may change the source are shown the secret, because the provider asks a person to paste it.
    #[serde(default)]
    reveal: bool,
    /// The location of an address that must be requested before the response.
    #[serde(default)]
    visit: Option<String>,
    /// The hosts that the address may have. `{region}` matches an AWS region.
    #[serde(default)]
    hosts: Vec<String>,
}

/// The response of a rule as written: text or JSON with `{…}` placeholders, or only a status.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawResponse {
    /// 200 by default.
    #[serde(default)]
    status: Option<u16>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    json: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// A compiled rule.
#[derive(Debug)]
pub(super) struct HandshakeRule {
    about: Box<str>,
    methods: Vec<Box<str>>,
    signed: bool,
    when: Vec<Condition>,
    check: Option<(ValueLocation, Box<str>)>,
    reply: Option<ResponseTemplate>,
    learn: Option<ValueLocation>,
    reveal: bool,
    visit: Option<(ValueLocation, Vec<Box<str>>)>,
}

#[derive(Debug)]
enum Condition {
    Equals(ValueLocation, Box<str>),
    Present(ValueLocation),
    Absent(ValueLocation),
    BodyIsObject(bool),
}

#[derive(Debug)]
struct ResponseTemplate {
    status: StatusCode,
    body: ResponseBodyTemplate,
    headers: Vec<(HeaderName, TextTemplate)>,
}

#[derive(Debug)]
enum ResponseBodyTemplate {
    Empty,
    Text(TextTemplate),
    Json(Vec<(String, JsonMember)>),
}

#[derive(Debug)]
enum JsonMember {
    Text(TextTemplate),
    Value(Value),
}

/// The input of a rule: the request and what the source provides.
pub(super) struct HandshakeContext<'a> {
    pub(super) request: &'a RequestParts<'a>,
    /// The active secrets. The first one signs; of a verified request, the first one is the one that verified it.
    pub(super) secrets: &'a [&'a Secret],
    /// Whether the request was verified.
    pub(super) is_verified: bool,
    pub(super) option: &'a dyn Fn(&str) -> Option<String>,
}

impl HandshakeContext<'_> {
    /// The value at the location. Returns `None` if it is absent, empty, ambiguous or too long to be returned.
    pub(super) fn value(&self, location: &ValueLocation) -> Option<String> {
        let value = location.read(self.request).ok().flatten()?;
        (1..=limits::HANDSHAKE_VALUE_BYTES_MAX).contains(&value.len()).then(|| value.into_owned())
    }
}

impl HandshakeRule {
    pub(super) fn try_new(raw: RawHandshakeRule) -> Result<Self, String> {
        let methods = match raw.on {
            None => vec!["POST".into()],
            Some(OneOrMany::One(method)) => vec![method.into()],
            Some(OneOrMany::Many(methods)) => methods.into_iter().map(Into::into).collect(),
        };
        if raw.visit.is_some() && raw.hosts.is_empty() {
            return Err("visit: hosts is missing, so that a stranger would choose whom we call".to_owned());
        }
        Ok(Self {
            about: raw.about.into(),
            methods,
            signed: raw.signed,
            when: raw.when.iter().map(|text| Condition::try_new(text)).collect::<Result<_, _>>()?,
            check: raw.check.as_deref().map(check).transpose()?,
            reply: raw.answer.map(ResponseTemplate::try_new).transpose()?,
            learn: raw.learn.as_deref().map(location).transpose()?,
            reveal: raw.reveal,
            visit: match raw.visit.as_deref() {
                Some(text) => Some((location(text)?, raw.hosts.into_iter().map(Into::into).collect())),
                None => None,
            },
        })
    }

    pub(super) fn about(&self) -> &str {
        &self.about
    }

    pub(super) fn is_signed(&self) -> bool {
        self.signed
    }

    pub(super) fn has_method(&self, method: &str) -> bool {
        self.methods.iter().any(|own| **own == *method)
    }

    pub(super) fn provides_secret(&self) -> bool {
        self.learn.is_some()
    }

    pub(super) fn reveals_secret(&self) -> bool {
        self.reveal
    }

    pub(super) fn secret_location(&self) -> Option<&ValueLocation> {
        self.learn.as_ref()
    }

    /// The response of this rule. Returns `None` if the rule does not match the request.
    pub(super) fn respond(&self, context: &HandshakeContext<'_>) -> Option<HandshakeResponse> {
        if !self.has_method(context.request.method)
            || !self.when.iter().all(|condition| condition.holds(context))
            || (self.provides_secret() && !context.secrets.is_empty() && !context.is_verified)
        {
            return None;
        }
        if let Some((location, option)) = &self.check {
            // Secrets are compared in constant time. If the option is not set, the check fails.
            let given = context.value(location).map(Secret::new);
            let wanted = (context.option)(option).map(Secret::new);
            if given.is_none() || given != wanted {
                return Some(forbidden());
            }
        }
        let mut response = self.reply.as_ref()?.fill(context)?;
        // A verified request that brings a secret repeats a handshake: the source has its secret.
        if let Some(location) = self.learn.as_ref().filter(|_| !context.is_verified) {
            response.effect =
                HandshakeEffect::Learn(Secret::new(context.value(location).filter(|value| is_token(value))?));
        }
        if let Some((location, hosts)) = &self.visit {
            match context.value(location).and_then(|text| address(&text, hosts)) {
                Some(url) => response.effect = HandshakeEffect::Visit(url),
                None => return Some(forbidden()),
            }
        }
        Some(response)
    }
}

impl Condition {
    fn try_new(text: &str) -> Result<Self, String> {
        Ok(match text {
            "object" => Self::BodyIsObject(true),
            "!object" => Self::BodyIsObject(false),
            _ => match (text.strip_prefix('!'), text.split_once('=')) {
                (Some(missing), _) => Self::Absent(location(missing)?),
                (None, Some((at, value))) => Self::Equals(location(at)?, value.into()),
                (None, None) => Self::Present(location(text)?),
            },
        })
    }

    fn holds(&self, context: &HandshakeContext<'_>) -> bool {
        match self {
            Self::Equals(location, wanted) => context.value(location).as_deref() == Some(wanted),
            Self::Present(location) => matches!(location.read(context.request), Ok(Some(value)) if !value.is_empty()),
            Self::Absent(location) => matches!(location.read(context.request), Ok(None)),
            Self::BodyIsObject(wanted) => context.request.body.trim_ascii_start().starts_with(b"{") == *wanted,
        }
    }
}

impl ResponseTemplate {
    fn try_new(raw: RawResponse) -> Result<Self, String> {
        let status = raw.status.unwrap_or(200);
        let body = match (raw.text, raw.json) {
            (None, None) => ResponseBodyTemplate::Empty,
            (Some(text), None) => ResponseBodyTemplate::Text(TextTemplate::try_new(&text)?),
            (None, Some(json)) => {
                let field = |(name, value)| {
                    Ok((
                        name,
                        match value {
                            Value::String(text) => JsonMember::Text(TextTemplate::try_new(&text)?),
                            value => JsonMember::Value(value),
                        },
                    ))
                };
                ResponseBodyTemplate::Json(json.into_iter().map(field).collect::<Result<_, String>>()?)
            }
            (Some(_), Some(_)) => return Err("answer: text or json, not both".to_owned()),
        };
        let header = |(name, text): (&String, &String)| {
            let name = name.parse().map_err(|_| format!("answer.headers: {name} is no header name"))?;
            Ok((name, TextTemplate::try_new(text)?))
        };
        Ok(Self {
            status: StatusCode::from_u16(status).map_err(|_| format!("answer.status: {status} is no status"))?,
            body,
            headers: raw.headers.iter().map(header).collect::<Result<_, String>>()?,
        })
    }

    /// Fills the template. Returns `None` if a value is missing.
    fn fill(&self, context: &HandshakeContext<'_>) -> Option<HandshakeResponse> {
        let (content_type, body) = match &self.body {
            ResponseBodyTemplate::Empty => (None, String::new()),
            ResponseBodyTemplate::Text(template) => (Some("text/plain"), template.fill(context)?),
            ResponseBodyTemplate::Json(fields) => {
                let field = |(name, field): &(String, JsonMember)| {
                    Some((
                        name.clone(),
                        match field {
                            JsonMember::Text(template) => Value::String(template.fill(context)?),
                            JsonMember::Value(value) => value.clone(),
                        },
                    ))
                };
                let object = fields.iter().map(field).collect::<Option<serde_json::Map<_, _>>>()?;
                (Some(JSON), Value::Object(object).to_string())
            }
        };
        let mut headers: Vec<_> =
            content_type.map(|value| (header::CONTENT_TYPE, HeaderValue::from_static(value))).into_iter().collect();
        headers.push((header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")));
        for (name, template) in &self.headers {
            headers.push((name.clone(), HeaderValue::from_str(&template.fill(context)?).ok()?));
        }
        Some(HandshakeResponse {
            status: self.status,
            headers,
            body: Bytes::from(body),
            effect: HandshakeEffect::Nothing,
        })
    }
}

fn forbidden() -> HandshakeResponse {
    HandshakeResponse {
        status: StatusCode::FORBIDDEN,
        headers: Vec::new(),
        body: Bytes::new(),
        effect: HandshakeEffect::Nothing,
    }
}

fn location(text: &str) -> Result<ValueLocation, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

fn check(text: &str) -> Result<(ValueLocation, Box<str>), String> {
    let parts = text.split_once('=').and_then(|(at, option)| Some((at, option.strip_prefix("option:")?)));
    let (at, option) = parts.ok_or_else(|| format!("check: expected PLACE=option:NAME, not {text:?}"))?;
    Ok((location(at)?, option.into()))
}

/// Parses an address that may be requested: HTTPS on the default port, without credentials, at one of the hosts.
fn address(text: &str, hosts: &[Box<str>]) -> Option<url::Url> {
    let url = url::Url::parse(text).ok()?;
    let plain =
        url.scheme() == "https" && url.port().is_none() && url.username().is_empty() && url.password().is_none();
    let host = url.domain()?;
    (plain && hosts.iter().any(|pattern| is_host(host, pattern))).then_some(url)
}

/// Compares a host with a pattern label by label. `{region}` matches an AWS region.
fn is_host(host: &str, pattern: &str) -> bool {
    let (mut labels, mut wanted) = (host.split('.'), pattern.split('.'));
    loop {
        match (labels.next(), wanted.next()) {
            (None, None) => return true,
            (Some(label), Some("{region}")) if is_region(label) => {}
            (Some(label), Some(wanted)) if label == wanted => {}
            _ => return false,
        }
    }
}

/// Matches `us-west-2` and `us-gov-east-1`, but not `s3-us-west-2`: the names below that are buckets, which anyone can
/// create.
fn is_region(label: &str) -> bool {
    let Some((words, number)) = label.rsplit_once('-') else { return false };
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    words.contains('-')
        && words.split('-').all(is_word)
        && !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_at_the_provider_s_hosts_are_requested() {
        let hosts = ["sns.{region}.amazonaws.com".into(), "sns.{region}.amazonaws.com.cn".into()];
        for good in [
            "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription",
            "https://SNS.eu-central-1.amazonaws.com:443/",
            "https://sns.cn-north-1.amazonaws.com.cn/",
        ] {
            assert!(address(good, &hosts).is_some(), "{good}");
        }
        for bad in [
            "http://sns.us-west-2.amazonaws.com/",
            "https://sns.us-west-2.amazonaws.com:8443/",
            "https://sns.us-west-2.amazonaws.com.evil.example/",
            "https://evil.example/sns.us-west-2.amazonaws.com",
            "https://sns.amazonaws.com/",
            "https://sns.a.b.amazonaws.com/",
            "https://sns.s3-us-west-2.amazonaws.com/",
            "https://sns.s3.amazonaws.com/",
            "https://sns..amazonaws.com/",
            "https://sns.us-west-2.amazonaws.com@evil.example/",
            "https://user@sns.us-west-2.amazonaws.com/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "/relative",
            "",
        ] {
            assert_eq!(address(bad, &hosts), None, "{bad}");
        }
    }

    /// The response text of a rule with this template.
    fn answered(template: &str) -> Result<Option<String>, String> {
        let raw = serde_json::json!({"about": "x", "answer": {"text": template}});
        let rule = HandshakeRule::try_new(serde_json::from_value(raw).unwrap())?;
        let headers = http::HeaderMap::new();
        let request = RequestParts {
            method: "POST",
            url: "https://hooks.example.com/in",
            query: Some("a=1&token=abcdefgh"),
            path: "",
            headers: &headers,
            body: br#"{"a{b":2,"c":"d"}"#,
        };
        let option = |name: &str| (name == "o").then(|| "3".to_owned());
        let context = HandshakeContext {
            request: &request,
            secrets: &[&Secret::new("a secret of the test")],
            is_verified: true,
            option: &option,
        };
        Ok(rule.respond(&context).map(|answer| String::from_utf8(answer.body.to_vec()).unwrap()))
    }

    #[test]
    fn templates_are_filled_with_request_values_and_digests() {
        for (template, text) in [
            ("", ""),
            ("ok", "ok"),
            ("{query:a}", "1"),
            ("a{query:a}{query:a}b", "a11b"),
            ("{json:/a{b}", "2"),
            ("{const:{}", "{"),
            ("}}", "}"),
            ("{{{query:a}}}", "{1}"),
            (r#"{{"a":"{query:a}"}}"#, r#"{"a":"1"}"#),
            ("{option:o} {url}", "3 https://hooks.example.com/in"),
            ("={sha256-hex query:a option:o}", "=3fdba35f04dc8c462986c992bcf875546257113072a909c162f7e470e581e278"),
            ("{hmac-hex query:token}", "9286c00a073d9d6961cf164d3c69dad49714b4f6072faa5bb75c8ac8b0c8bff9"),
        ] {
            assert_eq!(answered(template).as_ref().map(Option::as_deref), Ok(Some(text)), "{template}");
        }
        for template in ["{query:b}", "{option:p}", "{sha256-hex query:b}", "{hmac-hex query:a}"] {
            assert_eq!(answered(template), Ok(None), "{template}: not there");
        }
        for (template, words) in [
            ("{query:a", "\"{query:a\": a brace is not closed or not opened"),
            ("{", "\"{\": a brace is not closed or not opened"),
            ("a}", "\"a}\": a brace is not closed or not opened"),
            ("{}", "\"\": expected header:NAME"),
            ("{body}", "\"body\": expected header:NAME"),
            ("{ url}", "\"\" is no digest"),
            ("{md5 url}", "\"md5\" is no digest"),
            ("{sha256-hex  url}", "\"\": expected header:NAME"),
            (r#"{"a":"{query:a}"}"#, r#""\"a\":\"{query:a": expected header:NAME"#),
        ] {
            let refused = answered(template).unwrap_err();
            assert!(refused.starts_with(words), "{template}: {refused}");
        }
    }

    #[test]
    fn invalid_rules_are_rejected() {
        let rule = |json: &str| HandshakeRule::try_new(serde_json::from_str(json).unwrap()).map(drop);
        assert_eq!(rule(r#"{"about":"x","when":["json:/a","!header:B","object"],"answer":{}}"#), Ok(()));
        for (json, what) in [
            (r#"{"about":"x","when":["body"]}"#, "body"),
            (r#"{"about":"x","check":"json:/a=b"}"#, "option:NAME"),
            (r#"{"about":"x","visit":"json:/a"}"#, "hosts"),
            (r#"{"about":"x","answer":{"status":9}}"#, "answer.status"),
            (r#"{"about":"x","answer":{"text":"a","json":{}}}"#, "not both"),
            (r#"{"about":"x","answer":{"headers":{"a b":"c"}}}"#, "header name"),
            (r#"{"about":"x","answer":{"text":"{json:/a"}}"#, "{"),
        ] {
            assert!(rule(json).unwrap_err().contains(what), "{json}");
        }
    }
}
