//! Reads a declaration file. This module checks the structure of the file; the server checks the values.

use std::path::Path;

use http::HeaderName;
use serde_json::{Map, Value};

use super::DeclarationError;
use crate::config::{Environment, TomlFile, key_of, read_secret_file};
use crate::model::{Secret, is_secret_header};

const ALLOWED: [&str; 5] = ["tenant", "set", "prune", "event_types", "webhooks"];
/// Fields that a declared webhook must not have. The tenant is set for the whole file; the server assigns the id.
const FORBIDDEN_FIELDS: [(&str, &str); 3] = [
    ("id", "is given by the server; a declared webhook is known by its uid"),
    ("tenant", "is set for the whole file, above its tables"),
    ("org_id", "is set for the whole file, as tenant"),
];
const SECRET_REFERENCE_EXPECTED: &str =
    "expected { env = \"VARIABLE\" } or { file = \"PATH\" }: a secret does not stand in this file";
/// The fields of a webhook whose members hold secrets, and the names of these members.
const SECRET_FIELDS: [(&str, &[&str]); 2] = [("auth", &["password", "token", "value"]), ("tls", &["client_key"])];
const SET_CHARS_MAX: usize = 64;

/// A declaration file with its secret references resolved.
#[derive(Debug)]
pub struct DeclarationFile {
    file: TomlFile,
    /// The tenant of all resources, for a key of all tenants.
    pub tenant: Option<String>,
    /// The name that marks the webhooks of this file, so that pruning finds them.
    pub set: String,
    /// Whether to delete webhooks that the file no longer declares.
    pub prune: bool,
    /// The event types as API documents.
    pub event_types: Vec<Map<String, Value>>,
    /// The webhooks in the order of the file.
    pub webhooks: Vec<DeclaredWebhook>,
}

/// A declared webhook.
#[derive(Debug)]
pub struct DeclaredWebhook {
    /// The uid that identifies the webhook.
    pub uid: String,
    /// The other fields as an API document.
    pub body: Map<String, Value>,
    /// The secret, if the file refers to one.
    pub secret: Option<Secret>,
    /// All subscriptions of the webhook; `None` if the file does not declare subscriptions.
    pub subscriptions: Option<Vec<Map<String, Value>>>,
}

impl DeclarationFile {
    /// Reads a file and the secrets that it refers to.
    ///
    /// # Errors
    /// All errors in the structure of the file and in its references.
    pub fn read(path: &Path, environment: &Environment) -> Result<Self, Vec<DeclarationError>> {
        let file = TomlFile::read(path)
            .map_err(|e| vec![DeclarationError { location: e.origin, key: String::new(), problem: e.problem }])?;
        let values = file.values().map_err(|problem| {
            vec![DeclarationError { location: path.display().to_string(), key: String::new(), problem }]
        })?;
        let Value::Object(values) = values else { return Err(Vec::new()) };
        let mut reader = DeclarationReader { file: &file, environment, errors: Vec::new() };
        let (tenant, set, prune, event_types, webhooks) = reader.read_file(values);
        if reader.errors.is_empty() {
            Ok(Self { file, tenant, set, prune, event_types, webhooks })
        } else {
            Err(reader.errors)
        }
    }

    /// Creates an error that is located at this path in the file.
    pub(super) fn error_at(&self, path: &[String], problem: impl Into<String>) -> DeclarationError {
        DeclarationError { location: self.file.origin(path), key: key_of(path), problem: problem.into() }
    }
}

struct DeclarationReader<'a> {
    file: &'a TomlFile,
    environment: &'a Environment,
    errors: Vec<DeclarationError>,
}

type DeclarationParts = (Option<String>, String, bool, Vec<Map<String, Value>>, Vec<DeclaredWebhook>);

impl DeclarationReader<'_> {
    fn wrong(&mut self, path: &[&str], problem: impl Into<String>) {
        let path: Vec<_> = path.iter().map(|part| (*part).to_owned()).collect();
        self.errors.push(DeclarationError {
            location: self.file.origin(&path),
            key: key_of(&path),
            problem: problem.into(),
        });
    }

    fn read_file(&mut self, mut values: Map<String, Value>) -> DeclarationParts {
        let tenant = self.text(&mut values, "tenant");
        let set = self.text(&mut values, "set").unwrap_or_else(|| "default".to_owned());
        if set.is_empty() || set.chars().count() > SET_CHARS_MAX {
            self.wrong(&["set"], format!("expected 1 to {SET_CHARS_MAX} characters"));
        }
        let prune = match values.remove("prune") {
            None => false,
            Some(Value::Bool(prune)) => prune,
            Some(_) => {
                self.wrong(&["prune"], "expected true or false");
                false
            }
        };
        let event_types = self.tables(&mut values, &["event_types"]);
        let tables = self.tables(&mut values, &["webhooks"]);
        for key in values.keys() {
            self.wrong(&[key], format!("unknown key; allowed here: {}", ALLOWED.join(", ")));
        }
        let webhooks: Vec<_> = tables.into_iter().enumerate().filter_map(|(n, table)| self.webhook(n, table)).collect();
        self.reject_duplicates("webhooks", "uid", webhooks.iter().map(|webhook| webhook.uid.as_str()));
        let name_of = |body: &Map<String, Value>| body.get("name").and_then(Value::as_str).map(str::to_owned);
        let names: Vec<_> = event_types.iter().map(|body| name_of(body).unwrap_or_default()).collect();
        for n in (0..names.len()).filter(|n| names[*n].is_empty()) {
            self.wrong(&["event_types", &n.to_string()], "needs a name");
        }
        self.reject_duplicates("event_types", "name", names.iter().map(String::as_str));
        (tenant, set, prune, event_types, webhooks)
    }

    fn reject_duplicates<'n>(&mut self, list: &str, field: &str, names: impl Iterator<Item = &'n str>) {
        let mut known = std::collections::HashSet::new();
        for (n, name) in names.enumerate() {
            if !name.is_empty() && !known.insert(name) {
                self.wrong(&[list, &n.to_string(), field], format!("{name:?} is there twice"));
            }
        }
    }

    fn text(&mut self, values: &mut Map<String, Value>, key: &str) -> Option<String> {
        let value = values.remove(key)?;
        if !value.is_string() {
            self.wrong(&[key], "expected text");
        }
        value.as_str().map(str::to_owned)
    }

    /// Reads a list of tables. An absent key is an empty list.
    fn tables(&mut self, values: &mut Map<String, Value>, at: &[&str]) -> Vec<Map<String, Value>> {
        let Some(list) = at.last().and_then(|key| values.remove(*key)) else { return Vec::new() };
        let Value::Array(items) = list else {
            self.wrong(at, "expected a list of tables");
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(items.len());
        for (n, item) in items.into_iter().enumerate() {
            if let Value::Object(table) = item {
                tables.push(table);
            } else {
                self.wrong(&[at, &[&n.to_string()]].concat(), "expected a table");
            }
        }
        tables
    }

    fn webhook(&mut self, n: usize, mut body: Map<String, Value>) -> Option<DeclaredWebhook> {
        let n = n.to_string();
        let at = ["webhooks", &n];
        for (key, problem) in FORBIDDEN_FIELDS {
            if body.remove(key).is_some() {
                self.wrong(&[at[0], at[1], key], problem);
            }
        }
        let secret = body.remove("secret").and_then(|written| self.secret(&written, &[at[0], at[1], "secret"]));
        let has_subscriptions = body.contains_key("subscriptions");
        let subscriptions = self.tables(&mut body, &[at[0], at[1], "subscriptions"]);
        self.headers(&mut body, at);
        self.references(&mut body, at);
        if !matches!(body.get("metadata"), None | Some(Value::Object(_))) {
            self.wrong(&[at[0], at[1], "metadata"], "expected a table");
        }
        match body.remove("uid") {
            Some(Value::String(uid)) if !uid.is_empty() && !uid.contains(['/', '?', '#', '%']) => {
                Some(DeclaredWebhook { uid, body, secret, subscriptions: has_subscriptions.then_some(subscriptions) })
            }
            _ => {
                self.wrong(&[at[0], at[1], "uid"], "is required: text of 1 to 128 of A-Z a-z 0-9 . _ : @ -");
                None
            }
        }
    }

    /// Resolves references in headers. The value of a header whose name marks it as secret must be a reference; other
    /// values may be one.
    fn headers(&mut self, body: &mut Map<String, Value>, at: [&str; 2]) {
        let Some(Value::Object(headers)) = body.get_mut("headers") else { return };
        for (name, value) in headers {
            let is_secret = HeaderName::try_from(name.as_str()).is_ok_and(|name| is_secret_header(name.as_str()));
            if is_secret || value.is_object() {
                let secret = self.secret(value, &[at[0], at[1], "headers", name]);
                *value = secret.map_or(Value::Null, |secret| Value::from(secret.reveal()));
            }
        }
    }

    /// Resolves references in `auth` and `tls`. Secrets must be references; other members may be one, such as a file of
    /// certificates.
    fn references(&mut self, body: &mut Map<String, Value>, at: [&str; 2]) {
        for (field, secrets) in SECRET_FIELDS {
            let Some(Value::Object(members)) = body.get_mut(field) else { continue };
            for (name, value) in members {
                if secrets.contains(&name.as_str()) || value.is_object() {
                    let secret = self.secret(value, &[at[0], at[1], field, name]);
                    *value = secret.map_or(Value::Null, |secret| Value::from(secret.reveal()));
                }
            }
        }
    }

    /// Reads the secret that a reference points to.
    fn secret(&mut self, written: &Value, at: &[&str]) -> Option<Secret> {
        let reference = written.as_object().filter(|table| table.len() == 1);
        let of = |key: &str| reference.and_then(|table| table.get(key)).and_then(Value::as_str);
        let found = match (of("env"), of("file")) {
            (Some(name), _) => {
                let value = self.environment.get(name).map(Secret::new);
                value.ok_or_else(|| format!("the environment variable {name} is not set"))
            }
            (_, Some(path)) => read_secret_file(path),
            _ => Err(SECRET_REFERENCE_EXPECTED.to_owned()),
        };
        found.map_err(|problem| self.wrong(at, problem)).ok()
    }
}
