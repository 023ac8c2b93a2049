//! The row of a source: JSON, with encrypted secrets and options.

use std::borrow::Cow;
use std::collections::BTreeMap;

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::record::{RecordError, VERSION, damaged, parse, versioned};
use super::vault::Vault;
use crate::inbound::source::{Identity, ManagedBy, SecretSetting, SecretTable, SourceSettings, TokenHash};
use crate::model::{Secret, SourceId, Timestamp};

/// A source as it is stored: its settings and its identity.
#[derive(Debug, Clone)]
pub struct SourceRecord {
    /// The settings, secrets included.
    pub settings: SourceSettings,
    /// The id, tenant, token, times and version.
    pub identity: Identity,
}

#[derive(Serialize, Deserialize)]
struct Row<'a> {
    v: u16,
    #[serde(borrow)]
    tenant: Cow<'a, str>,
    /// The settings without secrets and options.
    settings: Cow<'a, SourceSettings>,
    /// [`SealedSource`] as JSON, encrypted for this source, in base64.
    #[serde(borrow)]
    sealed: Cow<'a, str>,
    /// The token's SHA-256 hash in hex, and its last four characters.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    token: Option<(Cow<'a, str>, Cow<'a, str>)>,
    created_ms: i64,
    modified_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleted_ms: Option<i64>,
    version: u64,
}

/// The encrypted part of a source.
#[derive(Serialize, Deserialize)]
struct SealedSource<'a> {
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

/// Returns the additional authenticated data that binds encrypted data to its source and kind.
fn sealing_context(id: SourceId, what: [u8; 8]) -> [u8; 24] {
    let mut aad = [0; 24];
    aad[..8].copy_from_slice(&what);
    aad[8..].copy_from_slice(&id.as_u128().to_le_bytes());
    aad
}

const SETTINGS: [u8; 8] = *b"source\0\0";
const LEARNED: [u8; 8] = *b"learned\0";

versioned!(Row<'_>);

pub(super) fn encode(source: &SourceRecord, vault: &Vault) -> Result<Vec<u8>, serde_json::Error> {
    let SourceRecord { settings, identity } = source;
    let plain = Zeroizing::new(serde_json::to_vec(&sealed(settings))?);
    let shown = SourceSettings { secrets: Vec::new(), options: BTreeMap::new(), ..settings.clone() };
    serde_json::to_vec(&Row {
        v: VERSION,
        tenant: (&*identity.tenant).into(),
        settings: Cow::Owned(shown),
        sealed: BASE64.encode(&vault.encrypt(&sealing_context(identity.id, SETTINGS), &plain)).into(),
        token: identity.token.as_ref().map(|token| (HEXLOWER.encode(&token.hash).into(), (&*token.hint).into())),
        created_ms: identity.created_at.as_millis(),
        modified_ms: identity.modified_at.as_millis(),
        deleted_ms: identity.deleted_at.map(Timestamp::as_millis),
        version: identity.version,
    })
}

pub(super) fn decode(id: SourceId, bytes: &[u8], vault: &Vault) -> Result<SourceRecord, RecordError> {
    let row: Row<'_> = parse(bytes)?;
    let sealed = BASE64.decode(row.sealed.as_bytes()).map_err(damaged)?;
    let plain = vault.decrypt(&sealing_context(id, SETTINGS), &sealed)?;
    let sealed: SealedSource<'_> = serde_json::from_slice(&plain).map_err(damaged)?;
    let mut settings = row.settings.into_owned();
    settings.secrets = sealed.secrets.into_iter().map(SecretSetting::from).collect();
    settings.options = sealed.options.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let identity = Identity {
        id,
        tenant: (*row.tenant).into(),
        managed_by: ManagedBy::Api,
        token: row.token.map(token).transpose()?,
        created_at: Timestamp::from_millis(row.created_ms),
        modified_at: Timestamp::from_millis(row.modified_ms),
        deleted_at: row.deleted_ms.map(Timestamp::from_millis),
        version: row.version,
    };
    Ok(SourceRecord { settings, identity })
}

/// Encrypts the secret that a source of the configuration file received in a handshake. Its row has no version of its
/// own; the format version of the file covers it.
pub(super) fn encode_learned(id: SourceId, secret: &Secret, vault: &Vault) -> Vec<u8> {
    vault.encrypt(&sealing_context(id, LEARNED), secret.reveal().as_bytes())
}

pub(super) fn decode_learned(id: SourceId, bytes: &[u8], vault: &Vault) -> Result<Secret, RecordError> {
    let plain = vault.decrypt(&sealing_context(id, LEARNED), bytes)?;
    std::str::from_utf8(&plain).map(Secret::new).map_err(damaged)
}

/// Returns whether two settings are equal, including secrets.
pub(crate) fn same_settings(one: &SourceSettings, other: &SourceSettings) -> bool {
    let whole = |settings: &SourceSettings| {
        let shown = serde_json::to_string(settings).map_err(|_| ())?;
        let hidden = Zeroizing::new(serde_json::to_string(&sealed(settings)).map_err(|_| ())?);
        Ok::<_, ()>((shown, hidden))
    };
    matches!((whole(one), whole(other)), (Ok(one), Ok(other)) if one == other)
}

fn sealed(settings: &SourceSettings) -> SealedSource<'_> {
    let options = settings.options.iter().map(|(name, value)| (Cow::from(name), Cow::from(value))).collect();
    SealedSource { secrets: settings.secrets.iter().filter_map(SecretRecord::of).collect(), options }
}

fn token((hash, hint): (Cow<'_, str>, Cow<'_, str>)) -> Result<TokenHash, RecordError> {
    let hash = HEXLOWER.decode(hash.as_bytes()).map_err(damaged)?;
    let hash = hash.try_into().map_err(|_| damaged("the token's hash has not 32 bytes"))?;
    Ok(TokenHash { hash, hint: hint.into() })
}

impl<'a> SecretRecord<'a> {
    /// Returns `None` for a secret without a value. No stored source has one.
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
