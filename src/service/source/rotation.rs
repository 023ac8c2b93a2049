//! New secrets and tokens for sources.

use std::time::Duration;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::document::may_give_token;
use super::{SourceKey, TRIES, ToldSource};
use crate::inbound::provider::recipe;
use crate::inbound::source::{SecretSetting, SecretTable, Settings, Source, Token};
use crate::limits::{SECRET_OVERLAP_DEFAULT, SECRET_OVERLAP_MAX};
use crate::model::{Principal, Secret, SourceId, Timestamp, kind};
use crate::registry::SourceError;
use crate::runtime::Random;
use crate::service::fields::{Fields, Given};
use crate::service::{Error, ErrorKind, ExpectedVersion, Service};
use crate::signature::RawScheme;
use crate::signature::standard::SECRET_PREFIX;

/// Kinds whose senders take a secret from us.
const CHOSEN_HERE: [&str; 4] = [kind::CUSTOM, kind::PARTNER, kind::STANDARD_WEBHOOKS, kind::TOKEN];
/// Random bytes in a secret that is made here.
const SECRET_BYTES: usize = 32;
/// A secret of a source that was checked and can be put in force.
#[derive(Debug)]
pub struct SourceSecretDraft {
    of: SourceId,
    rotation: Rotation,
    version: Option<u64>,
    by: Principal,
}

/// A token of a source that was checked and can be put in force.
#[derive(Debug)]
pub struct SourceTokenDraft {
    of: SourceId,
    token: Token,
    version: Option<u64>,
    by: Principal,
}

impl Service {
    /// Checks or makes a source's new secret. The document: `{"overlap_seconds"?, "secret"?, "when"?}`. With `when`, the
    /// secret is one of those for such requests.
    ///
    /// # Errors
    /// If the role is too low; each field that is wrong; a source that is not there, of the configuration file, or not of
    /// the expected version.
    pub fn draft_source_secret(
        &self,
        principal: &Principal,
        key: SourceKey<'_>,
        document: Map<String, Value>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<SourceSecretDraft, Error> {
        let source = self.changeable_source(principal, key)?;
        let mut fields = Fields::new(document);
        let rotation = Rotation::read(&mut fields, &source);
        fields.finish("overlap_seconds, secret, when")?;
        let version = ExpectedVersion::bind(expected, source.version)?;
        let Some(rotation) = rotation else { return Err(Error::new(ErrorKind::Internal, "no secret was made")) };
        Ok(SourceSecretDraft { of: source.id, rotation, version, by: principal.clone() })
    }

    /// Puts a new secret in force. The secrets before it end after the overlap.
    ///
    /// # Errors
    /// A source that is not there any more, or not of the expected version; each setting that is wrong.
    pub async fn rotate_source_secret(&self, draft: SourceSecretDraft) -> Result<ToldSource, Error> {
        let SourceSecretDraft { of, rotation, version, by } = draft;
        let writer = self.writer.by(&by);
        for _ in 0..TRIES {
            let found = self.registry.load().source_by_id(of).cloned();
            let source = found.ok_or_else(super::not_found)?;
            let settings = rotation.apply(&source.settings, self.clock.now());
            match writer.replace_source(of, version.or(Some(source.version)), settings).await {
                Err(SourceError::Changed) if version.is_none() => {}
                changed => {
                    let secret = rotation.is_made.then(|| rotation.secret.clone());
                    return Ok(ToldSource { source: changed?, token: None, secret });
                }
            }
        }
        Err(SourceError::Changed.into())
    }

    /// Checks or makes a partner's new token. The document: `{"token"?}`.
    ///
    /// # Errors
    /// If the role is too low, or may not choose a token; each field that is wrong; a source that is not there, of the
    /// configuration file, or not of the expected version.
    pub fn draft_source_token(
        &self,
        principal: &Principal,
        key: SourceKey<'_>,
        document: Map<String, Value>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<SourceTokenDraft, Error> {
        let source = self.changeable_source(principal, key)?;
        let mut fields = Fields::new(document);
        let token = match fields.plain_text("token") {
            None => Token::generate(),
            Some(given) => {
                may_give_token(principal)?;
                Token::try_new(&given).unwrap_or_else(|error| {
                    fields.wrong("/token", error.to_string());
                    Token::generate()
                })
            }
        };
        fields.finish("token")?;
        let version = ExpectedVersion::bind(expected, source.version)?;
        Ok(SourceTokenDraft { of: source.id, token, version, by: principal.clone() })
    }

    /// Puts a new token in force. The token before it ends at once.
    ///
    /// # Errors
    /// A source that is no partner, not there any more, or not of the expected version; a token that another source has.
    pub async fn rotate_source_token(&self, draft: SourceTokenDraft) -> Result<ToldSource, Error> {
        let SourceTokenDraft { of, token, version, by } = draft;
        let source = self.writer.by(&by).rotate_token(of, version, &token).await?;
        Ok(ToldSource { source, token: Some(token), secret: None })
    }
}

/// How the secrets of a source change.
#[derive(Debug)]
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
        let when = fields.plain_text("when");
        let before = fields.errors.len();
        let given = fields.plain_text("secret").map(Secret::new);
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
