//! Rotation of the secrets and tokens of sources.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::document::may_give_token;
use super::{SourceKey, SourceWithSecrets, TRIES};
use crate::inbound::provider::recipe;
use crate::inbound::source::{PartnerToken, SecretSetting, SecretTable, Source, SourceSettings};
use crate::limits::{SECRET_OVERLAP_DEFAULT, SECRET_OVERLAP_MAX};
use crate::model::{Principal, Secret, SourceId, Timestamp, kind};
use crate::registry::SourceError;
use crate::runtime::Random;
use crate::service::access::Operation;
use crate::service::fields::{DocumentFields, FieldUpdate};
use crate::service::stored_response::changed_source;
use crate::service::{Error, ErrorKind, ExpectedVersion, ResponseRecorder, Service};
use crate::signature::RawScheme;
use crate::signature::standard::SECRET_PREFIX;

/// Kinds whose senders accept a secret that the server generates.
const SERVER_GENERATED_KINDS: [&str; 4] = [kind::CUSTOM, kind::PARTNER, kind::STANDARD_WEBHOOKS, kind::TOKEN];
/// Number of random bytes in a generated secret.
const SECRET_BYTES: usize = 32;
/// A validated new secret of a source, ready to be activated.
#[derive(Debug)]
pub struct SourceSecretDraft {
    of: SourceId,
    rotation: Rotation,
    version: Option<u64>,
    by: Principal,
}

/// A validated new token of a source, ready to be activated.
#[derive(Debug)]
pub struct SourceTokenDraft {
    of: SourceId,
    token: PartnerToken,
    version: Option<u64>,
    by: Principal,
}

impl Service {
    /// Validates or generates the new secret of a source. The document is `{"overlap_seconds"?, "secret"?, "when"?}`.
    /// With `when`, the secret applies only to requests that match the condition.
    ///
    /// # Errors
    /// If the role is too low, a field is invalid, the source does not exist, the configuration file manages it, or its
    /// version is not the expected one.
    pub fn draft_source_secret(
        &self,
        principal: &Principal,
        key: SourceKey<'_>,
        document: Map<String, Value>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<SourceSecretDraft, Error> {
        let source = self.changeable_source(principal, key)?;
        let mut fields = DocumentFields::new(document);
        let rotation = Rotation::read(&mut fields, &source);
        fields.finish("overlap_seconds, secret, when")?;
        let version = ExpectedVersion::bind(expected, source.version)?;
        let Some(rotation) = rotation else { return Err(Error::new(ErrorKind::Internal, "no secret was made")) };
        Ok(SourceSecretDraft { of: source.id, rotation, version, by: principal.clone() })
    }

    /// Activates a new secret. The previous secrets expire after the overlap.
    ///
    /// `record` stores the response for repeated requests.
    ///
    /// # Errors
    /// If the source no longer exists, its version is not the expected one, or a setting is invalid.
    pub async fn rotate_source_secret(
        &self,
        draft: SourceSecretDraft,
        record: Option<ResponseRecorder<Arc<Source>>>,
    ) -> Result<SourceWithSecrets, Error> {
        let SourceSecretDraft { of, rotation, version, by } = draft;
        let answer = record.map(|record| record.of_change(changed_source));
        let writer = self.writer.on_behalf_of(&by).recording(answer);
        for _ in 0..TRIES {
            let found = self.registry.load().source_by_id(of).cloned();
            let source = found.ok_or_else(super::not_found)?;
            let settings = rotation.apply(&source.settings, self.clock.now());
            match writer.replace_source(of, version.or(Some(source.version)), settings).await {
                Err(SourceError::Changed) if version.is_none() => {}
                changed => {
                    let secret = rotation.is_generated.then(|| rotation.secret.clone());
                    return Ok(SourceWithSecrets { source: changed?, token: None, secret });
                }
            }
        }
        Err(SourceError::Changed.into())
    }

    /// Validates or generates the new token of a partner. The document is `{"token"?}`.
    ///
    /// # Errors
    /// If the role is too low or may not choose a token, a field is invalid, the source does not exist, the
    /// configuration file manages it, or its version is not the expected one.
    pub fn draft_source_token(
        &self,
        principal: &Principal,
        key: SourceKey<'_>,
        document: Map<String, Value>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<SourceTokenDraft, Error> {
        let source = self.changeable_source(principal, key)?;
        let mut fields = DocumentFields::new(document);
        let token = match fields.plain_text("token") {
            None => PartnerToken::generate(),
            Some(given) => {
                may_give_token(principal)?;
                PartnerToken::try_new(&given).unwrap_or_else(|error| {
                    fields.wrong("/token", error.to_string());
                    PartnerToken::generate()
                })
            }
        };
        fields.finish("token")?;
        let version = ExpectedVersion::bind(expected, source.version)?;
        Ok(SourceTokenDraft { of: source.id, token, version, by: principal.clone() })
    }

    /// Activates a new token. The previous token is invalid at once.
    ///
    /// `record` stores the response for repeated requests.
    ///
    /// # Errors
    /// If the source is not a partner, no longer exists, its version is not the expected one, or another source has the
    /// token.
    pub async fn rotate_source_token(
        &self,
        draft: SourceTokenDraft,
        record: Option<ResponseRecorder<Arc<Source>>>,
    ) -> Result<SourceWithSecrets, Error> {
        let SourceTokenDraft { of, token, version, by } = draft;
        let answer = record.map(|record| record.of_change(changed_source));
        let source = self.writer.on_behalf_of(&by).recording(answer).rotate_token(of, version, &token).await?;
        Ok(SourceWithSecrets { source, token: Some(token), secret: None })
    }

    /// Removes the secret that a handshake brought, so that the next handshake can bring another one. Sources of the
    /// configuration file are allowed.
    ///
    /// `record` stores the response for repeated requests.
    ///
    /// # Errors
    /// If the role is too low, the source does not exist, its version is not the expected one, its kind does not get
    /// its secret from a handshake, or the configuration file has the secret.
    pub async fn forget_source_secret(
        &self,
        principal: &Principal,
        key: SourceKey<'_>,
        expected: Option<&ExpectedVersion>,
        record: Option<ResponseRecorder<Arc<Source>>>,
    ) -> Result<Arc<Source>, Error> {
        let source = self.source_with_secret(principal, key)?;
        let version = ExpectedVersion::bind(expected, source.version)?;
        let answer = record.map(|record| record.of_change(changed_source));
        let writer = self.writer.on_behalf_of(principal).recording(answer);
        match writer.forget_secret(source.id, version).await {
            Err(SourceError::Changed) => Err(Error::changed_meanwhile()),
            done => Ok(done?),
        }
    }

    /// Finds a source whose secret the caller may remove.
    ///
    /// # Errors
    /// If the role is too low, or the source does not exist.
    pub fn source_with_secret(&self, principal: &Principal, key: SourceKey<'_>) -> Result<Arc<Source>, Error> {
        Operation::ChangeSources.permit(principal.role)?;
        self.read_source(principal, key)
    }
}

/// A change of the secrets of a source.
#[derive(Debug)]
struct Rotation {
    secret: Secret,
    /// Whether the server generated the secret. If so, the response must contain it.
    is_generated: bool,
    overlap: Duration,
    when: Option<String>,
}

impl Rotation {
    /// Reads a rotation from a document. Returns `None` if an error was recorded in the fields.
    fn read(fields: &mut DocumentFields, source: &Source) -> Option<Self> {
        let overlap = match fields.whole("overlap_seconds", 0..=SECRET_OVERLAP_MAX.as_secs()) {
            FieldUpdate::Value(seconds) => Duration::from_secs(seconds),
            FieldUpdate::Absent | FieldUpdate::Null => SECRET_OVERLAP_DEFAULT,
        };
        let when = fields.plain_text("when");
        let before = fields.errors.len();
        let given = fields.plain_text("secret").map(Secret::new);
        if given.is_none() && fields.errors.len() > before {
            return None;
        }
        let is_generated = given.is_none();
        let kind = &source.settings.kind;
        let made = || generate_secret(kind, &effective_scheme(&source.settings)?);
        let Some(secret) = given.or_else(made) else {
            fields.wrong("/secret", format!("is required: the sender of kind {kind} makes its secret itself"));
            return None;
        };
        Some(Self { secret, is_generated, overlap, when })
    }

    /// Returns the settings with the new secret first. Previous secrets with the same `when` expire at the end of the
    /// overlap or at their own end, whichever is earlier. Expired secrets with the same `when` are removed.
    fn apply(&self, settings: &SourceSettings, now: Timestamp) -> SourceSettings {
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
        SourceSettings { secrets, ..settings.clone() }
    }
}

fn table(value: Secret, until: Option<String>, when: Option<String>) -> SecretTable {
    SecretTable { value: Some(value), env: None, file: None, until, when }
}

/// The signature scheme of a source with these settings.
pub(super) fn effective_scheme(settings: &SourceSettings) -> Option<RawScheme> {
    match (&settings.verify, &*settings.kind) {
        (Some(verify), _) => Some(verify.clone()),
        (None, "token") => Some(RawScheme { scheme: "token".to_owned(), ..RawScheme::default() }),
        (None, kind) => recipe(kind).map(|recipe| recipe.verify.clone()),
    }
}

/// Generates a secret for a source of this kind, in the encoding that its scheme expects. Returns `None` if the sender
/// generates its secret itself.
pub(super) fn generate_secret(kind: &str, scheme: &RawScheme) -> Option<Secret> {
    if !SERVER_GENERATED_KINDS.contains(&kind) || !["hmac", "hash", "token"].contains(&&*scheme.scheme) {
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
