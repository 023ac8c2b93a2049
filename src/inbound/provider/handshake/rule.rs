//! One rule: when it applies, what must hold, what it answers.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::StatusCode;
use http::{HeaderName, HeaderValue, header};
use serde::Deserialize;
use serde_json::Value;

use super::template::{AnswerTemplate, is_token};
use super::{Answer, Effect};
use crate::limits;
use crate::model::Secret;
use crate::model::header::JSON;
use crate::signature::{OneOrMany, Place, Request};

/// A rule as it stands in `table.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRule {
    /// What it is for, a sentence.
    about: String,
    /// Methods; `POST` by default.
    #[serde(default)]
    on: Option<OneOrMany>,
    /// Whether the signature is checked before.
    #[serde(default)]
    signed: bool,
    /// What must all hold: `PLACE` is there, `!PLACE` is not, `PLACE=TEXT`, `object`: the body is one, `!object`.
    #[serde(default)]
    when: Vec<String>,
    /// `PLACE=option:NAME`: else the answer is 403.
    #[serde(default)]
    check: Option<String>,
    /// What is answered; without it the rule only checks.
    #[serde(default)]
    answer: Option<RawAnswer>,
    /// Where the source's secret stands.
    #[serde(default)]
    learn: Option<String>,
    /// Where an address stands that is to be visited before the answer …
    #[serde(default)]
    visit: Option<String>,
    /// … and the hosts that it may have; `{region}` is one of Amazon's.
    #[serde(default)]
    hosts: Vec<String>,
}

/// Its answer: text or JSON in which `{…}` is filled in, or only a status.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAnswer {
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

/// A rule that can be used.
#[derive(Debug)]
pub(super) struct Rule {
    about: Box<str>,
    methods: Vec<Box<str>>,
    signed: bool,
    when: Vec<Condition>,
    check: Option<(Place, Box<str>)>,
    reply: Option<Reply>,
    learn: Option<Place>,
    visit: Option<(Place, Vec<Box<str>>)>,
}

#[derive(Debug)]
enum Condition {
    Is(Place, Box<str>),
    There(Place),
    Missing(Place),
    Object(bool),
}

#[derive(Debug)]
struct Reply {
    status: StatusCode,
    body: Body,
    headers: Vec<(HeaderName, AnswerTemplate)>,
}

#[derive(Debug)]
enum Body {
    Empty,
    Text(AnswerTemplate),
    Json(Vec<(String, Field)>),
}

#[derive(Debug)]
enum Field {
    Text(AnswerTemplate),
    Value(Value),
}

/// What a rule looks at.
pub(super) struct Asked<'a> {
    pub(super) request: &'a Request<'a>,
    /// Those in force.
    pub(super) secrets: &'a [&'a Secret],
    pub(super) option: &'a dyn Fn(&str) -> Option<String>,
}

impl Asked<'_> {
    /// A value that is there, once and not too long to be given back.
    pub(super) fn value(&self, place: &Place) -> Option<String> {
        let value = place.read(self.request).ok().flatten()?;
        (1..=limits::HANDSHAKE_VALUE_BYTES_MAX).contains(&value.len()).then(|| value.into_owned())
    }
}

impl Rule {
    pub(super) fn try_new(raw: RawRule) -> Result<Self, String> {
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
            reply: raw.answer.map(Reply::try_new).transpose()?,
            learn: raw.learn.as_deref().map(place).transpose()?,
            visit: match raw.visit.as_deref() {
                Some(text) => Some((place(text)?, raw.hosts.into_iter().map(Into::into).collect())),
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

    pub(super) fn learns(&self) -> bool {
        self.learn.is_some()
    }

    pub(super) fn learned_place(&self) -> Option<&Place> {
        self.learn.as_ref()
    }

    /// The answer, if this rule wants the request.
    pub(super) fn answer(&self, asked: &Asked<'_>) -> Option<Answer> {
        if !self.methods.iter().any(|method| **method == *asked.request.method)
            || !self.when.iter().all(|condition| condition.holds(asked))
            || (self.learns() && !asked.secrets.is_empty())
        {
            return None;
        }
        if let Some((place, option)) = &self.check {
            // Compared as secrets, in constant time; an option that is not set lets nobody in.
            let given = asked.value(place).map(Secret::new);
            let wanted = (asked.option)(option).map(Secret::new);
            if given.is_none() || given != wanted {
                return Some(refusal());
            }
        }
        let mut answer = self.reply.as_ref()?.fill(asked)?;
        if let Some(place) = &self.learn {
            answer.effect = Effect::Learn(Secret::new(asked.value(place).filter(|value| is_token(value))?));
        }
        if let Some((place, hosts)) = &self.visit {
            match asked.value(place).and_then(|text| address(&text, hosts)) {
                Some(url) => answer.effect = Effect::Visit(url),
                None => return Some(refusal()),
            }
        }
        Some(answer)
    }
}

impl Condition {
    fn try_new(text: &str) -> Result<Self, String> {
        Ok(match text {
            "object" => Self::Object(true),
            "!object" => Self::Object(false),
            _ => match (text.strip_prefix('!'), text.split_once('=')) {
                (Some(missing), _) => Self::Missing(place(missing)?),
                (None, Some((at, value))) => Self::Is(place(at)?, value.into()),
                (None, None) => Self::There(place(text)?),
            },
        })
    }

    fn holds(&self, asked: &Asked<'_>) -> bool {
        match self {
            Self::Is(place, wanted) => asked.value(place).as_deref() == Some(wanted),
            Self::There(place) => matches!(place.read(asked.request), Ok(Some(value)) if !value.is_empty()),
            Self::Missing(place) => matches!(place.read(asked.request), Ok(None)),
            Self::Object(wanted) => asked.request.body.trim_ascii_start().starts_with(b"{") == *wanted,
        }
    }
}

impl Reply {
    fn try_new(raw: RawAnswer) -> Result<Self, String> {
        let status = raw.status.unwrap_or(200);
        let body = match (raw.text, raw.json) {
            (None, None) => Body::Empty,
            (Some(text), None) => Body::Text(AnswerTemplate::try_new(&text)?),
            (None, Some(json)) => {
                let field = |(name, value)| {
                    Ok((
                        name,
                        match value {
                            Value::String(text) => Field::Text(AnswerTemplate::try_new(&text)?),
                            value => Field::Value(value),
                        },
                    ))
                };
                Body::Json(json.into_iter().map(field).collect::<Result<_, String>>()?)
            }
            (Some(_), Some(_)) => return Err("answer: text or json, not both".to_owned()),
        };
        let header = |(name, text): (&String, &String)| {
            let name = name.parse().map_err(|_| format!("answer.headers: {name} is no header name"))?;
            Ok((name, AnswerTemplate::try_new(text)?))
        };
        Ok(Self {
            status: StatusCode::from_u16(status).map_err(|_| format!("answer.status: {status} is no status"))?,
            body,
            headers: raw.headers.iter().map(header).collect::<Result<_, String>>()?,
        })
    }

    /// The answer, if everything that it says is there.
    fn fill(&self, asked: &Asked<'_>) -> Option<Answer> {
        let (content_type, body) = match &self.body {
            Body::Empty => (None, String::new()),
            Body::Text(template) => (Some("text/plain"), template.fill(asked)?),
            Body::Json(fields) => {
                let field = |(name, field): &(String, Field)| {
                    Some((
                        name.clone(),
                        match field {
                            Field::Text(template) => Value::String(template.fill(asked)?),
                            Field::Value(value) => value.clone(),
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
            headers.push((name.clone(), HeaderValue::from_str(&template.fill(asked)?).ok()?));
        }
        Some(Answer { status: self.status, headers, body: Bytes::from(body), effect: Effect::Nothing })
    }
}

fn refusal() -> Answer {
    Answer { status: StatusCode::FORBIDDEN, headers: Vec::new(), body: Bytes::new(), effect: Effect::Nothing }
}

fn place(text: &str) -> Result<Place, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

fn check(text: &str) -> Result<(Place, Box<str>), String> {
    let parts = text.split_once('=').and_then(|(at, option)| Some((at, option.strip_prefix("option:")?)));
    let (at, option) = parts.ok_or_else(|| format!("check: expected PLACE=option:NAME, not {text:?}"))?;
    Ok((place(at)?, option.into()))
}

/// An address that may be visited: HTTPS on its usual port, without a password, at one of the hosts.
fn address(text: &str, hosts: &[Box<str>]) -> Option<url::Url> {
    let url = url::Url::parse(text).ok()?;
    let plain =
        url.scheme() == "https" && url.port().is_none() && url.username().is_empty() && url.password().is_none();
    let host = url.domain()?;
    (plain && hosts.iter().any(|pattern| is_host(host, pattern))).then_some(url)
}

/// Label by label; `{region}` stands for one of Amazon's.
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

/// `us-west-2`, `us-gov-east-1`; not `s3-us-west-2`, below which the names are those of anybody's buckets.
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
    fn only_the_provider_s_own_hosts_are_visited() {
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

    /// The text that a rule with this template answers.
    fn answered(template: &str) -> Result<Option<String>, String> {
        let raw = serde_json::json!({"about": "x", "answer": {"text": template}});
        let rule = Rule::try_new(serde_json::from_value(raw).unwrap())?;
        let headers = http::HeaderMap::new();
        let request = Request {
            method: "POST",
            url: "https://hooks.example.com/in",
            query: Some("a=1&token=abcdefgh"),
            path: "",
            headers: &headers,
            body: br#"{"a{b":2,"c":"d"}"#,
        };
        let option = |name: &str| (name == "o").then(|| "3".to_owned());
        let asked = Asked { request: &request, secrets: &[&Secret::new("a secret of the test")], option: &option };
        Ok(rule.answer(&asked).map(|answer| String::from_utf8(answer.body.to_vec()).unwrap()))
    }

    #[test]
    fn each_template_gives_the_text_that_it_describes() {
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
    fn a_rule_that_says_nothing_sensible_is_refused() {
        let rule = |json: &str| Rule::try_new(serde_json::from_str(json).unwrap()).map(drop);
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
