//! New secrets and tokens for sources.

use std::time::Duration;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use hyper::StatusCode;
use zeroize::Zeroizing;

use super::source::{changeable, named_version, told};
use super::source_body::{may_give_token, text};
use super::source_view::etag;
use super::{Api, Call, Made, body, reply};
use crate::http::{Problem, ProblemCode, Response};
use crate::inbound::provider::recipe;
use crate::inbound::source::{SecretSetting, SecretTable, Settings, Source, Token};
use crate::limits::{CHANGE_TRIES, SECRET_OVERLAP_DEFAULT, SECRET_OVERLAP_MAX};
use crate::model::{Secret, Timestamp, kind};
use crate::registry::SourceError;
use crate::runtime::Random;
use crate::service::SourceRef;
use crate::service::fields::{Fields, Given};
use crate::signature::RawScheme;
use crate::signature::standard::SECRET_PREFIX;

/// Kinds whose senders take a secret from us.
const CHOSEN_HERE: [&str; 4] = [kind::CUSTOM, kind::PARTNER, kind::STANDARD_WEBHOOKS, kind::TOKEN];
/// Random bytes in a secret that is made here.
const SECRET_BYTES: usize = 32;

impl Api {
    /// `{"overlap_seconds"?, "secret"?, "when"?}`: adds a secret; those before end after the overlap. With `when`, of the
    /// secrets for such requests.
    pub(super) async fn rotate_secret(&self, call: &Call, of: SourceRef<'_>) -> Result<Response, Problem> {
        let source = self.source(call, of)?;
        changeable(&source)?;
        let mut fields = Fields::new(body::object(&call.parts.headers, &call.body, true)?);
        let wanted = Rotation::read(&mut fields, &source);
        fields.finish("overlap_seconds, secret, when")?;
        reply::matches(&call.parts.headers, &etag(&source))?;
        let Some(wanted) = wanted else { return Err(Problem::new(ProblemCode::Internal, "no secret was made")) };
        let (writer, clock, registry) =
            (self.service.writer.by(&call.principal), self.service.clock.clone(), self.service.registry.clone());
        let (id, version) = (source.id, named_version(call, &source));
        let make = async move {
            for _ in 0..CHANGE_TRIES {
                let found = registry.load().source_by_id(id).cloned();
                let source = found.ok_or_else(|| Problem::not_found("source"))?;
                let settings = wanted.apply(&source.settings, clock.now());
                match writer.replace_source(id, version.or(Some(source.version)), settings).await {
                    Err(SourceError::Changed) if version.is_none() => {}
                    changed => return wanted.told(&*changed?),
                }
            }
            Err::<Made, Problem>(SourceError::Changed.into())
        };
        self.make(call, make).await
    }

    /// `{"token"?}`: another token for a partner; the one before ends at once.
    pub(super) async fn rotate_token(&self, call: &Call, of: SourceRef<'_>) -> Result<Response, Problem> {
        let source = self.source(call, of)?;
        changeable(&source)?;
        let mut fields = Fields::new(body::object(&call.parts.headers, &call.body, true)?);
        let token = match text(&mut fields, "token") {
            None => Token::generate(),
            Some(given) => {
                may_give_token(&call.principal)?;
                Token::try_new(&given).unwrap_or_else(|error| {
                    fields.wrong("/token", error.to_string());
                    Token::generate()
                })
            }
        };
        fields.finish("token")?;
        reply::matches(&call.parts.headers, &etag(&source))?;
        let (writer, id, version) = (self.service.writer.by(&call.principal), source.id, named_version(call, &source));
        let make = async move {
            let source = writer.rotate_token(id, version, &token).await?;
            told(&source, Some(&token), None, |told| reply::json(StatusCode::OK, told))
        };
        self.make(call, make).await
    }
}

/// How secrets change.
struct Rotation {
    secret: Secret,
    /// Whether it was made here, and so has to be told.
    is_made: bool,
    overlap: Duration,
    when: Option<String>,
}

impl Rotation {
    /// `None`: what is wrong stands in the fields.
    fn read(fields: &mut Fields, source: &Source) -> Option<Self> {
        let overlap = match fields.whole("overlap_seconds", 0..=SECRET_OVERLAP_MAX.as_secs()) {
            Given::Value(seconds) => Duration::from_secs(seconds),
            Given::Absent | Given::Null => SECRET_OVERLAP_DEFAULT,
        };
        let when = text(fields, "when");
        let before = fields.errors.len();
        let given = text(fields, "secret").map(Secret::new);
        if given.is_none() && fields.errors.len() > before {
            return None;
        }
        let is_made = given.is_none();
        let kind = &source.settings.kind;
        let made = || chosen_secret(kind, &effective_scheme(&source.settings)?);
        let Some(secret) = given.or_else(made) else {
            fields.wrong("/secret", format!("is required: the sender of kind {kind} makes its secret itself"));
            return None;
        };
        Some(Self { secret, is_made, overlap, when })
    }

    /// The settings with the new secret first; those before it for the same requests end when the overlap does, if not
    /// sooner, and those that have ended go.
    fn apply(&self, settings: &Settings, now: Timestamp) -> Settings {
        let end = now.plus(self.overlap);
        let mut secrets = vec![match &self.when {
            None => SecretSetting::Text(self.secret.clone()),
            Some(_) => SecretSetting::Table(table(self.secret.clone(), None, self.when.clone())),
        }];
        for setting in &settings.secrets {
            let Some(value) = setting.value() else { continue };
            let (until, when) = match setting {
                SecretSetting::Text(_) => (None, None),
                SecretSetting::Table(table) => (table.until.clone(), table.when.clone()),
            };
            let own_end: Option<Timestamp> = until.as_deref().and_then(|text| text.parse().ok());
            if when != self.when {
                secrets.push(setting.clone());
                continue;
            }
            let end = own_end.map_or(end, |own| own.min(end));
            if end > now && *value != self.secret {
                secrets.push(SecretSetting::Table(table(value.clone(), Some(end.to_string()), when)));
            }
        }
        Settings { secrets, ..settings.clone() }
    }

    fn told(&self, source: &Source) -> Result<Made, Problem> {
        let secret = self.is_made.then_some(&self.secret);
        told(source, None, secret, |told| reply::json(StatusCode::OK, told))
    }
}

fn table(value: Secret, until: Option<String>, when: Option<String>) -> SecretTable {
    SecretTable { value: Some(value), env: None, file: None, until, when }
}

/// How a source of these settings is signed.
pub(super) fn effective_scheme(settings: &Settings) -> Option<RawScheme> {
    match (&settings.verify, &*settings.kind) {
        (Some(verify), _) => Some(verify.clone()),
        (None, "token") => Some(RawScheme { scheme: "token".to_owned(), ..RawScheme::default() }),
        (None, kind) => recipe(kind).map(|recipe| recipe.verify.clone()),
    }
}

/// A new secret for a source of this kind, in the form that its scheme reads; `None` where the sender makes it.
pub(super) fn chosen_secret(kind: &str, scheme: &RawScheme) -> Option<Secret> {
    if !CHOSEN_HERE.contains(&kind) || !["hmac", "hash", "token"].contains(&&*scheme.scheme) {
        return None;
    }
    let bytes = Zeroizing::new(Random::secret::<SECRET_BYTES>());
    let text = match scheme.key.as_deref() {
        Some("hex") => HEXLOWER.encode(&*bytes),
        Some("base64") => BASE64.encode(&*bytes),
        Some("whsec") => format!("{SECRET_PREFIX}{}", BASE64.encode(&*bytes)),
        _ => BASE64URL_NOPAD.encode(&*bytes),
    };
    Some(Secret::new(text))
}
