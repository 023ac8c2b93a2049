//! A configuration on its way from the file into force.

use super::error::{ConfigError, ConfigErrors};
use super::origins::Origins;
use super::raw::Raw;
use super::{Config, show};

/// A configuration that was read and checked in itself, with all that is wrong with it so far.
///
/// Whoever compiles parts of it adds their errors and warnings. [`Draft::finish`] tells whether the whole is in order.
#[derive(Debug)]
pub struct Draft {
    pub(super) raw: Raw,
    /// The checked values; of no use if there are errors.
    pub config: Config,
    /// Where the values come from.
    pub origins: Origins,
    /// What is wrong.
    pub errors: Vec<ConfigError>,
    /// What a person should know although nothing is wrong, in sentences.
    pub warnings: Vec<String>,
}

/// A configuration in which nothing is wrong.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The checked values.
    pub config: Config,
    /// What a person should know although nothing is wrong, in sentences.
    pub warnings: Vec<String>,
    /// The configuration as TOML, secrets hidden. What is not a default has a comment that names its origin.
    pub shown: String,
}

impl Draft {
    pub(super) fn new(raw: Raw, config: Config, origins: Origins, errors: Vec<ConfigError>) -> Self {
        Self { raw, config, origins, errors, warnings: Vec::new() }
    }

    /// The configuration, if nothing is wrong with it.
    ///
    /// # Errors
    /// All that is wrong, not only the first thing.
    pub fn finish(self) -> Result<Loaded, ConfigErrors> {
        let Self { raw, config, origins, errors, warnings } = self;
        match ConfigErrors::try_new(errors) {
            None => Ok(Loaded { shown: show::toml(&raw, &config, &warnings, &origins), config, warnings }),
            Some(errors) => Err(errors),
        }
    }
}
