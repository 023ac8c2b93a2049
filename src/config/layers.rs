//! The layers of the configuration: defaults < file < variables of replaced systems < `HOOKTIDE_*` < flags.
//!
//! Each variable and each flag is a figment provider of its own, so that an error can name it. The environment is a
//! parameter: `main` reads it once, and a reload uses the same environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::Read as _;
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::util::nest;
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::Deserialize;
use serde::de::value::StrDeserializer;
use toml_edit::{Array, ArrayOfTables, ImDocument, Item, TableLike};

use super::error::ConfigError;
use super::value::{CommaList, SecondsValue, UnitDuration};
use crate::limits::{DECLARED_FILE_BYTES_MAX, RETRY_DELAY_MAX, SCHEDULE_DELAYS_MAX};

/// The prefix of Hooktide's environment variables.
pub const PREFIX: &str = "HOOKTIDE_";
/// The only key outside of a section.
const APPLY: &str = "APPLY";
/// The variable with the server URL for client commands.
pub const URL_VARIABLE: &str = "HOOKTIDE_URL";
/// The variable with the API key for client commands.
pub const KEY_VARIABLE: &str = "HOOKTIDE_KEY";

/// The environment variables of the process, in the order of their names.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl fmt::Debug for Environment {
    /// Prints only the names, because values can be keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl Environment {
    /// Takes the pairs of `std::env::vars_os`. Pairs that are not UTF-8 cannot be settings and are left out.
    pub fn new(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self(
            vars.into_iter()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
        )
    }

    /// The value of a variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Variables that look like settings but have no effect, for a warning at the start: those of the systems that
    /// Hooktide replaces, and those that start with `HOOKTIDE_` but name no section.
    pub fn ignored(&self) -> Vec<&str> {
        let old = |name: &str| name.starts_with("DB_") || name.starts_with("REDIS_") || name.ends_with("_SERVICE_URL");
        let no_section = |name: &str| {
            let named = name.strip_prefix(PREFIX).filter(|path| !path.contains("__") && *path != APPLY);
            named.is_some() && ![URL_VARIABLE, KEY_VARIABLE].contains(&name)
        };
        let ignored = |name: &&str| *name == "ENVIRONMENT" || old(name) || no_section(name);
        self.0.keys().map(String::as_str).filter(ignored).collect()
    }
}

/// The flags of the command line.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--listen`, which can be repeated.
    pub listen: Vec<String>,
    /// `--admin-listen`
    pub admin_listen: Option<String>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
}

/// A parsed TOML file: the configuration file, a catalogue or a file of webhooks.
#[derive(Debug)]
pub(crate) struct TomlFile {
    path: PathBuf,
    document: ImDocument<String>,
}

impl TomlFile {
    /// Reads and parses the file.
    ///
    /// # Errors
    /// If the file cannot be read, is too large, or is not TOML. A TOML error has its line.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let wrong =
            |origin: String, problem: String| ConfigError { key: "configuration file".to_owned(), origin, problem };
        let cannot = |why: String| wrong(path.display().to_string(), format!("cannot be read: {why}"));
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(|e| cannot(e.to_string()))?;
        let read =
            file.take(DECLARED_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|e| cannot(e.to_string()))?;
        if read as u64 > DECLARED_FILE_BYTES_MAX {
            return Err(cannot(format!("it has more than {DECLARED_FILE_BYTES_MAX} bytes")));
        }
        let document = ImDocument::parse(text.clone()).map_err(|e| {
            let line = e.span().map_or(1, |span| line_at(&text, span.start));
            let words = e.message().trim().replace('\n', ", ");
            wrong(format!("{}:{line}", path.display()), format!("this is not TOML: {words}"))
        })?;
        Ok(Self { path: path.to_owned(), document })
    }

    /// `config.toml:12` for the key at this path, or for the nearest key or table around it.
    pub(crate) fn origin(&self, path: &[String]) -> String {
        let mut node = TomlNode::of(self.document.as_item());
        let mut span = None;
        for part in path {
            let Some((child, at)) = node.child(part) else { break };
            span = at.or(span);
            node = child;
        }
        match span {
            Some(span) => format!("{}:{}", self.path.display(), line_at(self.document.raw(), span.start)),
            None => self.path.display().to_string(),
        }
    }
}

impl TomlFile {
    /// The keys of the table at this path, in the order of the file; none if there is no table.
    pub(super) fn keys(&self, path: &[String]) -> Vec<String> {
        let root = TomlNode::of(self.document.as_item());
        match path.iter().try_fold(root, |node, part| node.child(part).map(|(child, _)| child)) {
            Some(TomlNode::Table(table)) => table.iter().map(|(key, _)| key.to_owned()).collect(),
            _ => Vec::new(),
        }
    }

    /// The content of the file, as JSON.
    ///
    /// # Errors
    /// The reason, in words.
    pub(crate) fn values(&self) -> Result<serde_json::Value, String> {
        toml_edit::de::from_str(self.document.raw()).map_err(|e| e.message().to_owned())
    }
}

impl Provider for &TomlFile {
    fn metadata(&self) -> Metadata {
        Metadata::from("file", self.path.as_path())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let values: Dict = Toml::from_str(self.document.raw()).map_err(|e| figment::Error::from(e.to_string()))?;
        Ok(Profile::Default.collect(values))
    }
}

/// A node of the parsed file.
enum TomlNode<'a> {
    Table(&'a dyn TableLike),
    Array(&'a Array),
    Tables(&'a ArrayOfTables),
    Leaf,
}

impl<'a> TomlNode<'a> {
    fn of(item: &'a Item) -> Self {
        match (item.as_table_like(), item.as_array(), item.as_array_of_tables()) {
            (Some(table), ..) => Self::Table(table),
            (_, Some(array), _) => Self::Array(array),
            (.., Some(tables)) => Self::Tables(tables),
            _ => Self::Leaf,
        }
    }

    fn of_value(value: &'a toml_edit::Value) -> Self {
        match (value.as_inline_table(), value.as_array()) {
            (Some(table), _) => Self::Table(table),
            (_, Some(array)) => Self::Array(array),
            _ => Self::Leaf,
        }
    }

    fn child(&self, part: &str) -> Option<(Self, Option<Range<usize>>)> {
        match self {
            Self::Table(table) => Some((Self::of(table.get(part)?), table.key(part).and_then(toml_edit::Key::span))),
            Self::Array(array) => array.get(part.parse().ok()?).map(|value| (Self::of_value(value), value.span())),
            Self::Tables(tables) => tables.get(part.parse().ok()?).map(|table| (Self::Table(table), table.span())),
            Self::Leaf => None,
        }
    }
}

/// One value from a variable or a flag.
#[derive(Debug)]
struct SingleValue {
    key: String,
    name: String,
    value: Value,
}

impl SingleValue {
    fn new(key: impl Into<String>, name: impl Into<String>, value: impl Into<Value>) -> Self {
        Self { key: key.into(), name: name.into(), value: value.into() }
    }
}

impl Provider for SingleValue {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let values = nest(&self.key, self.value.clone()).into_dict().unwrap_or_default();
        Ok(Profile::Default.collect(values))
    }
}

/// Merges all layers above the defaults, the lowest first. Adds an error for each invalid variable of a replaced
/// system.
pub(super) fn merge_layers(
    defaults: Figment,
    file: Option<&TomlFile>,
    environment: &Environment,
    flags: &Flags,
    errors: &mut Vec<ConfigError>,
) -> Figment {
    let mut figment = defaults;
    if let Some(file) = file {
        figment = figment.merge(file);
    }
    let below = figment.extract_inner::<CommaList<String>>("server.listen").unwrap_or_default();
    let old = legacy_variables(environment, below.0.first().map_or("", String::as_str), errors);
    let layers = old.into_iter().chain(from_environment(environment)).chain(from_flags(flags));
    layers.fold(figment, Figment::merge)
}

/// The variables of the replaced systems.
fn legacy_variables(environment: &Environment, listen: &str, errors: &mut Vec<ConfigError>) -> Vec<SingleValue> {
    const SAME_MEANING: [(&str, &str); 7] = [
        ("DEDUP_TTL_HOURS", "dedup.ttl_hours"),
        ("WEBHOOK_TIMEOUT", "delivery.timeout_seconds"),
        ("WEBHOOK_MAX_PAYLOAD_SIZE", "server.max_body_bytes"),
        ("JWT_SECRET", "auth.jwt_secret"),
        ("JWT_EXPIRATION", "auth.token_ttl_seconds"),
        ("JWT_TTL", "auth.token_ttl_seconds"),
        ("CORS_ALLOWED_ORIGINS", "server.cors_origins"),
    ];
    let mut layers: Vec<SingleValue> = SAME_MEANING
        .iter()
        .filter_map(|(name, key)| Some(SingleValue::new(*key, variable(name), environment.get(name)?)))
        .collect();
    if let Some(level) = environment.get("LOG_LEVEL") {
        let level = match &*level.to_ascii_lowercase() {
            "warning" => "warn".to_owned(),
            "fatal" | "critical" | "panic" => "error".to_owned(),
            level => level.to_owned(),
        };
        layers.push(SingleValue::new("logging.level", variable("LOG_LEVEL"), level));
    }
    layers.extend(legacy_listen(environment, listen, errors));
    layers.extend(legacy_schedule(environment, errors));
    layers
}

/// `HOST` and `PORT` each replace their part of the address in the lower layers.
fn legacy_listen(environment: &Environment, listen: &str, errors: &mut Vec<ConfigError>) -> Option<SingleValue> {
    let find = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, environment.get(name)?)));
    let host = find(["SERVER_HOST", "HOST"]);
    let port = find(["SERVER_PORT", "PORT"]);
    let (below_host, below_port) = listen.rsplit_once(':')?;
    let (name, _) = port.or(host)?;
    let mut wrong = |name: &str, problem: String| {
        errors.push(ConfigError { key: "server.listen".to_owned(), origin: variable(name), problem });
        None
    };
    let host = match host {
        None => below_host.to_owned(),
        Some((_, "localhost")) => "127.0.0.1".to_owned(),
        Some((name, text)) => match text.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            Ok(IpAddr::V4(address)) => address.to_string(),
            Err(_) => return wrong(name, format!("{text:?} is not an address to listen on, such as \"0.0.0.0\"")),
        },
    };
    let port = match port {
        None => below_port.to_owned(),
        Some((name, text)) => match text.parse::<u16>() {
            Ok(port) => port.to_string(),
            Err(_) => return wrong(name, format!("{text:?} is not a port, 0 to 65535")),
        },
    };
    Some(SingleValue::new("server.listen", variable(name), format!("{host}:{port}")))
}

/// `WEBHOOK_MAX_RETRIES` (3) and `WEBHOOK_RETRY_DELAY` (60 s). Each retry comes after twice the previous delay.
fn legacy_schedule(environment: &Environment, errors: &mut Vec<ConfigError>) -> Option<SingleValue> {
    const RETRIES: &str = "WEBHOOK_MAX_RETRIES";
    const DELAY: &str = "WEBHOOK_RETRY_DELAY";
    let (retries, delay) = (environment.get(RETRIES), environment.get(DELAY));
    let name = if retries.is_some() { RETRIES } else { DELAY };
    if retries.is_none() && delay.is_none() {
        return None;
    }
    let mut wrong = |name: &str, text: &str, allowed: &str| {
        let problem = format!("{text:?} is not {allowed}");
        errors.push(ConfigError { key: "delivery.schedule".to_owned(), origin: variable(name), problem });
    };
    let read_retries = retries.map_or(Some(3), |text| text.parse().ok().filter(|n| *n <= SCHEDULE_DELAYS_MAX));
    if read_retries.is_none() {
        wrong(RETRIES, retries.unwrap_or_default(), &format!("a whole number from 0 to {SCHEDULE_DELAYS_MAX}"));
    }
    let read_delay = match delay {
        None => Some(SecondsValue::whole(60)),
        Some(text) => SecondsValue::deserialize(StrDeserializer::<figment::Error>::new(text)).ok(),
    };
    if read_delay.is_none() {
        wrong(DELAY, delay.unwrap_or_default(), "a number of seconds or a duration such as \"5m\"");
    }
    let (retries, delay) = (read_retries?, read_delay?.0);
    let delays = std::iter::successors(Some(delay), |delay| Some(delay.saturating_mul(2).min(RETRY_DELAY_MAX)));
    let schedule: Vec<String> = delays.take(retries).map(|delay| UnitDuration::<1>(delay).to_string()).collect();
    Some(SingleValue::new("delivery.schedule", variable(name), schedule))
}

/// `HOOKTIDE_SECTION__KEY`. Names without `__` belong to client commands, or are unrelated variables of the user.
fn from_environment(environment: &Environment) -> impl Iterator<Item = SingleValue> + '_ {
    environment.0.iter().filter_map(|(name, text)| {
        let path = name.strip_prefix(PREFIX).filter(|path| path.contains("__") || *path == APPLY)?;
        let key = path.to_ascii_lowercase().replace("__", ".");
        Some(SingleValue::new(key.trim_matches('.'), variable(name), from_text(text)))
    })
}

/// The text as it is, except that a list or table is parsed as TOML.
fn from_text(text: &str) -> Value {
    if text.trim_start().starts_with(['[', '{']) {
        let read = Toml::from_str::<Dict>(&format!("value = {text}"));
        if let Some(value) = read.ok().and_then(|mut values| values.remove("value")) {
            return value;
        }
    }
    Value::from(text)
}

fn from_flags(flags: &Flags) -> Vec<SingleValue> {
    let mut layers = Vec::new();
    if !flags.listen.is_empty() {
        layers.push(SingleValue::new("server.listen", "flag --listen", flags.listen.clone()));
    }
    if let Some(listen) = &flags.admin_listen {
        layers.push(SingleValue::new("server.admin_listen", "flag --admin-listen", listen.as_str()));
    }
    if let Some(folder) = &flags.data_dir {
        layers.push(SingleValue::new("server.data_dir", "flag --data-dir", folder.to_string_lossy().as_ref()));
    }
    layers
}

pub(super) fn variable(name: &str) -> String {
    format!("environment variable {name}")
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
}
