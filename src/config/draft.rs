//! A configuration with the errors that were found so far.

use super::error::{ConfigError, ConfigErrors};
use super::origins::Origins;
use super::raw::RawConfig;
use super::{Config, show};

/// A configuration that was read and checked, with its errors.
///
/// The code that compiles parts of the configuration adds its errors and warnings. [`ConfigDraft::finish`] returns the
/// configuration if there are no errors.
#[derive(Debug)]
pub struct ConfigDraft {
    pub(super) raw: RawConfig,
    /// The checked values. They must not be used if there are errors.
    pub config: Config,
    /// The origins of the values.
    pub origins: Origins,
    /// The errors found so far.
    pub errors: Vec<ConfigError>,
    /// Warnings about a valid configuration, in sentences.
    pub warnings: Vec<String>,
}

/// A valid configuration.
#[derive(Debug, Clone)]
pub struct LoadedConfig {
    /// The checked values.
    pub config: Config,
    /// Warnings about the configuration, in sentences.
    pub warnings: Vec<String>,
    /// The configuration as TOML, with secrets hidden. A value that is not the default has a comment with its origin.
    pub shown: String,
}

impl ConfigDraft {
    pub(super) fn new(raw: RawConfig, config: Config, origins: Origins, errors: Vec<ConfigError>) -> Self {
        Self { raw, config, origins, errors, warnings: Vec::new() }
    }

    /// The configuration, if there are no errors.
    ///
    /// # Errors
    /// All errors.
    pub fn finish(self) -> Result<LoadedConfig, ConfigErrors> {
        let Self { raw, config, origins, errors, warnings } = self;
        match ConfigErrors::try_new(errors) {
            None => Ok(LoadedConfig { shown: show::toml(&raw, &config, &warnings, &origins), config, warnings }),
            Some(errors) => Err(errors),
        }
    }
}
