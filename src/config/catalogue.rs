//! `events.catalogues`: files of event types.

use std::path::PathBuf;

use figment::Figment;
use serde::{Deserialize, Serialize};

use super::error::{ConfigError, describe, key_of};
use super::layers::TomlFile;
use super::load::path_of;
use super::origins::Origins;
use crate::model::EventTypeSettings;

/// An entry of `events.catalogues` as it is written.
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

/// An entry of `events.catalogues`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueConfig {
    /// The file of event types.
    pub file: PathBuf,
    /// The tenant of those that name none; `None`: they are every tenant's.
    pub tenant: Option<String>,
}

/// The content of a catalogue's file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogueFile {
    #[serde(default)]
    event_types: Vec<EventTypeSettings>,
}

impl From<&Catalogue> for CatalogueConfig {
    fn from(written: &Catalogue) -> Self {
        match written {
            Catalogue::File(file) => Self { file: file.into(), tenant: None },
            Catalogue::Of(of) => Self { file: (&of.file).into(), tenant: Some(of.tenant.clone()) },
        }
    }
}

impl CatalogueConfig {
    /// Reads the event types of the file, with the file to name the lines of what is wrong with them. `index` is that of
    /// the entry.
    ///
    /// # Errors
    /// If there is no such file, or its shape is not that of a catalogue.
    pub(crate) fn read(
        &self,
        index: usize,
        origins: &Origins,
    ) -> Result<(Vec<EventTypeSettings>, TomlFile), ConfigError> {
        let file = TomlFile::read(&self.file).map_err(|error| {
            let path = ["events", "catalogues", &index.to_string()].map(str::to_owned);
            origins.error(&path, format!("{}: {}", error.origin, error.problem))
        })?;
        let mut types = match Figment::from(&file).extract::<CatalogueFile>() {
            Ok(catalogue) => catalogue.event_types,
            Err(error) => {
                let path = path_of(&error);
                let problem = describe(&error.kind, &path);
                return Err(ConfigError { key: key_of(&path), origin: file.origin(&path), problem });
            }
        };
        for settings in types.iter_mut().filter(|settings| settings.tenant.is_none()) {
            settings.tenant.clone_from(&self.tenant);
        }
        Ok((types, file))
    }
}
