//! Reads the document that creates or changes a source into settings. The source itself validates the values.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::inbound::source::{PartnerToken, SecretSetting, SecretTable, Source, SourceSettings};
use crate::model::{DEFAULT_TENANT, FieldError, HIDDEN, Principal, Role, Secret, SourceId, is_tenant_name};
use crate::service::fields::{DocumentFields, FieldUpdate, merge_patch, pointer, unknown};
use crate::service::{Error, ErrorKind};

const ALLOWED: &str = "name, kind, tenant, org_id, description, status, secret, secrets, token, verify, id, type, dedup, \
    handshake, respond, tolerance, options, event_map, validation_config, max_body_bytes, rate_limit_rps, burst, subjects, durable, stream, url";
/// Fields that a client may send back unchanged.
const READ_ONLY: [&str; 4] = ["secret_hints", "managed_by", "deleted_at", "tenant"];
/// Fields that a client may send back. They are ignored and not compared.
const TIMES: [&str; 3] = ["created_at", "modified_at", "warnings"];
const TOKEN: &str = "expected 22 to 128 of A-Z, a-z, 0-9, - and _";

/// The content of the document of a new source.
pub(super) struct NewSource {
    pub(super) tenant: Box<str>,
    pub(super) settings: SourceSettings,
    /// The token, if an admin chose one.
    pub(super) token: Option<PartnerToken>,
}

/// Reads the document of a new source.
pub(super) fn create(document: Map<String, Value>, principal: &Principal) -> Result<NewSource, Error> {
    let mut fields = DocumentFields::new(document);
    if let Some(delivery_id) = fields.unread.remove("delivery_id") {
        fields.unread.entry("id").or_insert(delivery_id);
    }
    let token = token(&mut fields, principal)?;
    let tenant = tenant(&mut fields, principal);
    let secret = fields.plain_text("secret");
    for key in ["name", "kind"] {
        if fields.unread.get(key).is_none_or(Value::is_null) {
            fields.wrong(pointer(key), "is required");
        }
    }
    let mut settings = settings(&mut fields, None);
    if let Some(secret) = secret {
        settings.secrets.insert(0, SecretSetting::Text(Secret::new(secret)));
    }
    settings.tenant = Some(tenant.to_string());
    fields.finish(ALLOWED)?;
    Ok(NewSource { tenant, settings, token })
}

/// Reads a JSON merge patch (RFC 7396) of a source.
pub(super) fn patch(document: Map<String, Value>, source: &Source) -> Result<SourceSettings, Error> {
    let mut fields = DocumentFields::new(document);
    check_read_only(&mut fields, source);
    for (key, detail) in [
        ("secret", "a new secret comes in by rotate-secret, or in secrets"),
        ("token", "a new token comes in by rotate-token"),
        ("org_id", "cannot be changed"),
    ] {
        if fields.unread.remove(key).is_some() {
            fields.wrong(pointer(key), detail);
        }
    }
    for key in ["name", "kind"] {
        if fields.unread.get(key).is_some_and(Value::is_null) {
            fields.wrong(pointer(key), "is required");
            fields.unread.remove(key);
        }
    }
    let mut merged = as_json(&source.settings);
    let given = std::mem::take(&mut fields.unread);
    let keeps_secrets = !given.contains_key("secrets");
    for (key, value) in given {
        let present = merged.entry(key.clone()).or_insert(Value::Null);
        match key.as_str() {
            "options" => merge_options(present, value),
            "verify" | "validation_config" => merge_patch(present, value),
            _ => *present = value,
        }
    }
    fields.unread = merged;
    let mut settings = settings(&mut fields, Some(&source.settings));
    if keeps_secrets {
        settings.secrets.clone_from(&source.settings.secrets);
    }
    settings.tenant.clone_from(&source.settings.tenant);
    fields.finish(ALLOWED)?;
    Ok(settings)
}

/// The settings as a document, without secrets.
fn as_json(settings: &SourceSettings) -> Map<String, Value> {
    let plain = SourceSettings { secrets: Vec::new(), tenant: None, ..settings.clone() };
    match serde_json::to_value(plain) {
        Ok(Value::Object(fields)) => fields,
        // A struct of text, numbers and JSON always serialises to an object.
        _ => Map::new(),
    }
}

/// Removes fields that a client may send back as it read them. Fields that the server sets must be unchanged.
fn check_read_only(fields: &mut DocumentFields, source: &Source) {
    for key in TIMES {
        fields.unread.remove(key);
    }
    let shown = shown(source);
    for key in READ_ONLY {
        if let Some(given) = fields.unread.remove(key)
            && shown.get(key) != Some(&given)
        {
            fields.wrong(pointer(key), "is set by the server and cannot be changed");
        }
    }
    // `id` is either the id of the source or the place of the delivery id in requests.
    let own_id = |text: &str| text.parse::<SourceId>().is_ok();
    if let Some(id) = fields.unread.get("id").and_then(Value::as_str).filter(|text| own_id(text)) {
        if shown.get("id").and_then(Value::as_str) != Some(id) {
            fields.wrong("/id", "is set by the server and cannot be changed");
        }
        fields.unread.remove("id");
    }
    if let Some(delivery_id) = fields.unread.remove("delivery_id") {
        fields.unread.entry("id").or_insert(delivery_id);
    }
    // The displayed values of these fields may come from the kind or the server and not from the settings.
    for key in ["url", "dedup", "max_body_bytes", "burst"] {
        if fields.unread.get(key).is_some() && fields.unread.get(key) == shown.get(key) {
            fields.unread.remove(key);
        }
    }
}

/// The fields of the API document that the server sets, or whose value may come from somewhere else than the settings.
fn shown(source: &Source) -> Map<String, Value> {
    let mut shown = Map::new();
    let mut show = |key: &str, value: Value| _ = shown.insert(key.to_owned(), value);
    show("id", source.id.to_string().into());
    show("tenant", (*source.tenant).into());
    show("secret_hints", source.settings.secret_hints().into());
    show("managed_by", json!(source.managed_by));
    show("deleted_at", json!(source.deleted_at));
    show("url", source.address(None).into());
    show("dedup", json!(source.recipe.dedup));
    show("max_body_bytes", source.max_body_bytes.into());
    if let Some(limit) = &source.rate_limit {
        show("burst", limit.burst.into());
    }
    shown
}

/// Merges options. An option with the value `***` keeps its present value.
fn merge_options(present: &mut Value, patch: Value) {
    let patch = match patch {
        Value::Object(options) => {
            Value::Object(options.into_iter().filter(|(_, value)| value.as_str() != Some(HIDDEN)).collect())
        }
        other => other,
    };
    merge_patch(present, patch);
}

/// Reads the token that an admin chose.
fn token(fields: &mut DocumentFields, principal: &Principal) -> Result<Option<PartnerToken>, Error> {
    let Some(given) = fields.plain_text("token") else { return Ok(None) };
    may_give_token(principal)?;
    Ok(PartnerToken::try_new(&given).map_err(|_| fields.wrong("/token", TOKEN)).ok())
}

/// Rejects callers that may not choose a token. Only an admin may, because a token is equivalent to a password.
pub(super) fn may_give_token(principal: &Principal) -> Result<(), Error> {
    match principal.role {
        Role::Admin => Ok(()),
        _ => Err(Error::new(ErrorKind::Forbidden, "only an admin may give a token; without one it is made")),
    }
}

/// Reads the tenant. Only a key of tenant `*` may name another tenant than its own.
fn tenant(fields: &mut DocumentFields, principal: &Principal) -> Box<str> {
    let mut tenant: Option<Box<str>> = principal.tenant.as_deref().map(Into::into);
    for key in ["tenant", "org_id"] {
        let Some(named) = fields.id(key).value() else { continue };
        match &tenant {
            Some(tenant) if *tenant == named => {}
            Some(_) if principal.tenant.is_some() => {
                fields.wrong(pointer(key), "only a key of tenant * may name another tenant");
            }
            Some(_) => fields.wrong(pointer(key), "contradicts tenant"),
            None if is_tenant_name(&named) => tenant = Some(named),
            None => fields.wrong(pointer(key), "expected 1 to 63 of A-Z a-z 0-9 . _ : -, the first a letter or digit"),
        }
    }
    tenant.unwrap_or_else(|| DEFAULT_TENANT.into())
}

/// Reads a field into the type that the settings use.
fn field<T: DeserializeOwned>(fields: &mut DocumentFields, key: &str, expected: &str) -> Option<T> {
    let read = |value: Value| {
        serde_json::from_value(value).map_err(|error| {
            // The expected type of the value. For an unknown member of an object, the message of serde.
            let message = error.to_string();
            if message.starts_with("unknown field") { message } else { format!("expected {expected}") }
        })
    };
    match fields.take(key, read) {
        FieldUpdate::Value(value) => Some(value),
        FieldUpdate::Absent | FieldUpdate::Null => None,
    }
}

const PLACES: &str = "a place such as \"header:X-Delivery\" or \"json:/id\", or a list of them";

fn settings(fields: &mut DocumentFields, before: Option<&SourceSettings>) -> SourceSettings {
    SourceSettings {
        name: fields.plain_text("name").unwrap_or_default(),
        kind: fields.plain_text("kind").unwrap_or_default(),
        tenant: None,
        description: fields.plain_text("description"),
        status: fields.plain_text("status"),
        secrets: secrets(fields, before),
        verify: field(
            fields,
            "verify",
            "an object such as {\"scheme\":\"hmac\",\"sig\":\"header:X-Signature\",\"encoding\":\"hex\"}, each field text",
        ),
        id: field(fields, "id", PLACES),
        r#type: field(fields, "type", PLACES),
        dedup: fields.plain_text("dedup"),
        handshake: fields.plain_text("handshake"),
        respond: fields.plain_text("respond"),
        tolerance: field(fields, "tolerance", "a whole number of seconds"),
        options: field::<BTreeMap<_, _>>(fields, "options", "an object of text").unwrap_or_default(),
        event_map: field(fields, "event_map", "an array of rules"),
        validation_config: field(fields, "validation_config", "an object"),
        max_body_bytes: field(fields, "max_body_bytes", "bytes, a number or text like \"10 MiB\""),
        rate_limit_rps: field(fields, "rate_limit_rps", "a number"),
        burst: field(fields, "burst", "a whole number"),
        subjects: field(fields, "subjects", "a subject such as \"orders.>\", or a list of them"),
        durable: fields.plain_text("durable"),
        stream: fields.plain_text("stream"),
        url: fields.plain_text("url"),
    }
}

/// Reads secrets: text, or `{value, until?, when?}`. `{hint, …}` without a value keeps the present secret with this
/// hint.
fn secrets(fields: &mut DocumentFields, before: Option<&SourceSettings>) -> Vec<SecretSetting> {
    let Some(given) = fields.unread.remove("secrets") else { return Vec::new() };
    let Value::Array(given) = given else {
        if !given.is_null() {
            fields.wrong("/secrets", "expected an array of secrets");
        }
        return Vec::new();
    };
    let values = before.iter().flat_map(|settings| settings.secrets.iter().filter_map(SecretSetting::value));
    let mut kept: Vec<_> =
        before.map(SourceSettings::secret_hints).unwrap_or_default().into_iter().zip(values).collect();
    let mut secrets = Vec::with_capacity(given.len());
    for (n, value) in given.into_iter().enumerate() {
        match secret(value, &mut kept) {
            Ok(secret) => secrets.push(secret),
            Err(FieldError { pointer, detail }) => fields.wrong(format!("/secrets/{n}{pointer}"), detail),
        }
    }
    secrets
}

fn secret(given: Value, kept: &mut Vec<(String, &Secret)>) -> Result<SecretSetting, FieldError> {
    let mut parts = match given {
        Value::String(text) => return Ok(SecretSetting::Text(Secret::new(text))),
        Value::Object(parts) => DocumentFields::new(parts),
        _ => return Err(FieldError::new("", "expected text, or an object of value, until and when")),
    };
    for key in ["env", "file"] {
        if parts.unread.contains_key(key) {
            return Err(FieldError::new(pointer(key), "only the configuration file may name env or file"));
        }
    }
    let (value, hint) = (parts.plain_text("value"), parts.plain_text("hint"));
    let (until, when) = (parts.plain_text("until"), parts.plain_text("when"));
    let DocumentFields { unread, mut errors } = parts;
    errors.extend(unknown(&unread, "value, until, when, hint"));
    if let Some(error) = errors.into_iter().next() {
        return Err(error);
    }
    let value = match (value, hint) {
        (Some(value), _) => Secret::new(value),
        (None, Some(hint)) => {
            let found = kept.iter().position(|(shown, _)| *shown == hint);
            kept.remove(found.ok_or_else(|| FieldError::new("/hint", "no secret has this hint"))?).1.clone()
        }
        (None, None) => return Err(FieldError::new("/value", "is required")),
    };
    Ok(SecretSetting::Table(SecretTable { value: Some(value), env: None, file: None, until, when }))
}
