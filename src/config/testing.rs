//! Loaders for tests. They use their own environment instead of the one of the process.

use super::{ConfigErrors, Environment, Loader};

/// The configuration file that documents all keys.
pub(crate) const REFERENCE: &str = include_str!("../../config.toml");

pub(crate) fn environment(vars: &[(&str, &str)]) -> Environment {
    Environment::new(vars.iter().map(|(name, value)| ((*name).into(), (*value).into())))
}

pub(crate) fn with_vars(vars: &[(&str, &str)]) -> Loader {
    Loader { environment: environment(vars), ..Loader::default() }
}

/// A loader for this text. The file is in the returned folder.
pub(crate) fn with_file(text: &str) -> (Loader, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    (Loader { file: Some(path), ..Loader::default() }, folder)
}

/// The lines of the errors, without the folder of the loader's file.
pub(crate) fn lines(errors: &ConfigErrors, loader: &Loader) -> Vec<String> {
    let folder = loader.file.as_ref().and_then(|path| path.parent()).map(|path| format!("{}/", path.display()));
    errors.to_string().lines().map(|line| line.replace(folder.as_deref().unwrap_or("\0"), "")).collect()
}
