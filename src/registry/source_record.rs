//! A source as registry.redb keeps it: versioned JSON, its secrets and options sealed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::record::{RecordError, damaged, version_or_damage};
use super::secret::Vault;
use crate::inbound::source::{Identity, ManagedBy, SecretSetting, SecretTable, Settings, Source, TokenHash};
use crate::model::{Secret, SourceId, Timestamp};

/// Of the records of sources, which change on their own.
const VERSION: u16 = 1;

#[derive(Serialize, Deserialize)]
struct Record<'a> {
    v: u16,
    #[serde(borrow)]
    tenant: Cow<'a, str>,
    /// Without secrets and options.
    settings: Cow<'a, Settings>,
    /// [`Sealed`] as JSON, sealed for this source, in base64.
    #[serde(borrow)]
    sealed: Cow<'a, str>,
    /// SHA-256 in hex, and the last four characters.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    token: Option<(Cow<'a, str>, Cow<'a, str>)>,
    created_ms: i64,
    modified_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleted_ms: Option<i64>,
    version: u64,
}

/// What of a source is nobody's to read.
#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    #[serde(borrow)]
    secrets: Vec<SecretRecord<'a>>,
    #[serde(borrow)]
    options: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
struct SecretRecord<'a> {
    #[serde(borrow)]
    value: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    until: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    when: Option<Cow<'a, str>>,
}

/// Binds what is sealed to its source.
fn place(id: SourceId, what: [u8; 8]) -> [u8; 24] {
    let mut aad = [0; 24];
    aad[..8].copy_from_slice(&what);
    aad[8..].copy_from_slice(&id.as_u128().to_le_bytes());
    aad
}

const SETTINGS: [u8; 8] = *b"source\0\0";
const LEARNED: [u8; 8] = *b"learned\0";

pub(super) fn encode_source(source: &Source, vault: &Vault) -> Result<Vec<u8>, serde_json::Error> {
    let plain = Zeroizing::new(serde_json::to_vec(&sealed(&source.settings))?);
    let settings = Settings { secrets: Vec::new(), options: BTreeMap::new(), ..source.settings.clone() };
    serde_json::to_vec(&Record {
        v: VERSION,
        tenant: (&*source.tenant).into(),
        settings: Cow::Owned(settings),
        sealed: BASE64.encode(&vault.seal(&place(source.id, SETTINGS), &plain)).into(),
        token: source.token.as_ref().map(|token| (HEXLOWER.encode(&token.hash).into(), (&*token.hint).into())),
        created_ms: source.created_at.as_millis(),
        modified_ms: source.modified_at.as_millis(),
        deleted_ms: source.deleted_at.map(Timestamp::as_millis),
        version: source.version,
    })
}

pub(super) fn decode_source(
    id: SourceId,
    bytes: &[u8],
    vault: &Vault,
    tenant: impl FnOnce(&str) -> Arc<str>,
) -> Result<(Settings, Identity), RecordError> {
    let record: Record<'_> = serde_json::from_slice(bytes).map_err(|e| version_or_damage(bytes, &e))?;
    if record.v != VERSION {
        return Err(RecordError::Version(record.v));
    }
    let sealed = BASE64.decode(record.sealed.as_bytes()).map_err(damaged)?;
    let plain = vault.open(&place(id, SETTINGS), &sealed)?;
    let sealed: Sealed<'_> = serde_json::from_slice(&plain).map_err(damaged)?;
    let mut settings = record.settings.into_owned();
    settings.secrets = sealed.secrets.into_iter().map(SecretSetting::from).collect();
    settings.options = sealed.options.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let identity = Identity {
        id,
        tenant: tenant(&record.tenant),
        managed_by: ManagedBy::Api,
        token: record.token.map(token).transpose()?,
        created_at: Timestamp::from_millis(record.created_ms),
        modified_at: Timestamp::from_millis(record.modified_ms),
        deleted_at: record.deleted_ms.map(Timestamp::from_millis),
        version: record.version,
    };
    Ok((settings, identity))
}

/// The secret that a handshake brought to a source of the configuration.
pub(super) fn encode_learned(id: SourceId, secret: &Secret, vault: &Vault) -> Vec<u8> {
    vault.seal(&place(id, LEARNED), secret.reveal().as_bytes())
}

pub(super) fn decode_learned(id: SourceId, bytes: &[u8], vault: &Vault) -> Result<Secret, RecordError> {
    let plain = vault.open(&place(id, LEARNED), bytes)?;
    std::str::from_utf8(&plain).map(Secret::new).map_err(damaged)
}

/// Whether two settings say the same, secrets included.
pub(super) fn same_settings(one: &Settings, other: &Settings) -> bool {
    let whole = |settings: &Settings| {
        let shown = serde_json::to_string(settings).map_err(|_| ())?;
        let hidden = Zeroizing::new(serde_json::to_string(&sealed(settings)).map_err(|_| ())?);
        Ok::<_, ()>((shown, hidden))
    };
    matches!((whole(one), whole(other)), (Ok(one), Ok(other)) if one == other)
}

fn sealed(settings: &Settings) -> Sealed<'_> {
    let options = settings.options.iter().map(|(name, value)| (Cow::from(name), Cow::from(value))).collect();
    Sealed { secrets: settings.secrets.iter().filter_map(SecretRecord::of).collect(), options }
}

fn token((hash, hint): (Cow<'_, str>, Cow<'_, str>)) -> Result<TokenHash, RecordError> {
    let hash = HEXLOWER.decode(hash.as_bytes()).map_err(damaged)?;
    let hash = hash.try_into().map_err(|_| damaged("the token's hash has not 32 bytes"))?;
    Ok(TokenHash { hash, hint: hint.into() })
}

impl<'a> SecretRecord<'a> {
    /// `None` for one without a value, which no source was built with.
    fn of(setting: &'a SecretSetting) -> Option<Self> {
        match setting {
            SecretSetting::Text(secret) => Some(Self { value: secret.reveal().into(), until: None, when: None }),
            SecretSetting::Table(table) => Some(Self {
                value: table.value.as_ref()?.reveal().into(),
                until: table.until.as_deref().map(Cow::from),
                when: table.when.as_deref().map(Cow::from),
            }),
        }
    }
}

impl From<SecretRecord<'_>> for SecretSetting {
    fn from(record: SecretRecord<'_>) -> Self {
        let value = Secret::new(&*record.value);
        if record.until.is_none() && record.when.is_none() {
            return Self::Text(value);
        }
        Self::Table(SecretTable {
            value: Some(value),
            until: record.until.map(Cow::into_owned),
            when: record.when.map(Cow::into_owned),
            ..SecretTable::default()
        })
    }
}
