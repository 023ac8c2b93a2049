//! `[events]` and `[[event_types]]`: catalogues are read from their files, and every type is built once.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use figment::Figment;
use serde::{Deserialize, Serialize};

use super::error::{ConfigError, describe, key_of};
use super::layers::TomlFile;
use super::load::{Origins, path_of};
use super::raw::Raw;
use crate::model::{TENANT_NAME_ALLOWED, is_tenant_name};
use crate::registry::catalogue::{Definition, Settings, Setup};

/// An entry of `events.catalogues`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Catalogue {
    /// A file whose types are every tenant's.
    File(String),
    /// One whose types are one tenant's.
    Of(CatalogueOf),
}

/// A catalogue of one tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CatalogueOf {
    file: String,
    tenant: String,
}

/// What stands in a catalogue's file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogueFile {
    #[serde(default)]
    event_types: Vec<Settings>,
}

/// The types that are in force; of no use if `errors` grow.
pub(super) fn check(raw: &Raw, origins: &Origins<'_>, errors: &mut Vec<ConfigError>) -> Setup {
    let mut types = Types { files: Vec::new(), known: HashSet::new() };
    for (index, settings) in raw.event_types.iter().enumerate() {
        let place = |pointer: &str| {
            let path = path_at("event_types", index, pointer);
            (key_of(&path), origins.of(&path).unwrap_or_else(|| "default".to_owned()))
        };
        types.add(settings.clone(), &place, errors);
    }
    for (index, catalogue) in raw.events.catalogues.0.iter().enumerate() {
        let path = ["events", "catalogues", &index.to_string()].map(str::to_owned);
        let origin = origins.of(&path).unwrap_or_else(|| "default".to_owned());
        let (file, tenant) = match catalogue {
            Catalogue::File(file) => (file, None),
            Catalogue::Of(of) => (&of.file, Some(&of.tenant)),
        };
        types.add_file(Path::new(file), tenant, (key_of(&path), origin), errors);
    }
    Setup { strict: raw.events.strict.0, files: types.files }
}

/// The types found so far.
struct Types {
    files: Vec<Arc<Definition>>,
    known: HashSet<(Option<String>, String)>,
}

impl Types {
    fn add_file(
        &mut self,
        path: &Path,
        tenant: Option<&String>,
        (key, origin): (String, String),
        errors: &mut Vec<ConfigError>,
    ) {
        let file = match TomlFile::read(path) {
            Ok(file) => file,
            Err(error) => {
                let problem = format!("{}: {}", error.origin, error.problem);
                return errors.push(ConfigError { key, origin, problem });
            }
        };
        let read = Figment::from(&file).extract::<CatalogueFile>();
        let types = match read {
            Ok(catalogue) => catalogue.event_types,
            Err(error) => {
                let path = path_of(&error);
                let problem = describe(&error.kind, &path);
                return errors.push(ConfigError { key: key_of(&path), origin: file.origin(&path), problem });
            }
        };
        for (index, settings) in types.into_iter().enumerate() {
            let place = |pointer: &str| {
                let path = path_at("event_types", index, pointer);
                (key_of(&path), file.origin(&path))
            };
            let tenant = settings.tenant.clone().or_else(|| tenant.cloned());
            self.add(Settings { tenant, ..settings }, &place, errors);
        }
    }

    fn add(&mut self, settings: Settings, place: &dyn Fn(&str) -> (String, String), errors: &mut Vec<ConfigError>) {
        let mut wrong = |pointer: &str, problem: String| {
            let (key, origin) = place(pointer);
            // An entry that could not even be read has no name, which is no news.
            if !errors.iter().any(|known| key.starts_with(&known.key)) {
                errors.push(ConfigError { key, origin, problem });
            }
        };
        if let Some(tenant) = settings.tenant.as_deref().filter(|tenant| !is_tenant_name(tenant)) {
            wrong("/tenant", format!("{tenant:?} is not a tenant: {TENANT_NAME_ALLOWED}"));
        }
        if !self.known.insert((settings.tenant.clone(), settings.name.clone())) {
            wrong("/name", format!("{:?} is there twice", settings.name));
        }
        match Definition::try_new(settings) {
            Ok(definition) => self.files.push(Arc::new(definition)),
            Err(breaches) => breaches.into_iter().for_each(|breach| wrong(&breach.pointer, breach.detail)),
        }
    }
}

/// `event_types[3].schema` for the pointer `/schema`.
fn path_at(section: &str, index: usize, pointer: &str) -> Vec<String> {
    let unescaped = |part: &str| part.replace("~1", "/").replace("~0", "~");
    let parts = pointer.split('/').skip(1).map(unescaped);
    [section.to_owned(), index.to_string()].into_iter().chain(parts).collect()
}
