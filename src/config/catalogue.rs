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
    /// A file with event types for every tenant.
    File(String),
    /// A file with event types for one tenant.
    OneTenant(TenantCatalogue),
}

/// A catalogue file for one tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantCatalogue {
    file: String,
    tenant: String,
}

/// An entry of `events.catalogues`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueConfig {
    /// The file of event types.
    pub file: PathBuf,
    /// The tenant of event types that name no tenant; `None`: these apply to every tenant.
    pub tenant: Option<String>,
}

/// The content of a catalogue file.
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
            Catalogue::OneTenant(of) => Self { file: (&of.file).into(), tenant: Some(of.tenant.clone()) },
        }
    }
}

impl CatalogueConfig {
    /// Reads the event types of the file. The returned file gives the lines for errors in them. `index` is the index of
    /// the entry in `events.catalogues`.
    ///
    /// # Errors
    /// If the file cannot be read, or its content is not a catalogue.
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
