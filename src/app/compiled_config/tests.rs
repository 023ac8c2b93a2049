//! Tests that concern several parts, and helpers for the other tests.

use super::CompiledConfig;
use crate::config::Loader;
use crate::config::testing::{lines, with_file};

/// The compiled configuration. Panics with all errors.
pub(super) fn load(loader: &Loader) -> CompiledConfig {
    CompiledConfig::load(loader).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The lines of the errors.
pub(super) fn errors(loader: &Loader) -> Vec<String> {
    lines(&CompiledConfig::load(loader).unwrap_err(), loader)
}

pub(super) fn errors_of_file(text: &str) -> Vec<String> {
    let (loader, _folder) = with_file(text);
    errors(&loader)
}

#[test]
fn the_profile_of_a_tenant_must_exist() {
    let tenants = "[[tenants]]\nname = \"a\"\nprofile = \"epic\"\n[[tenants]]\nname = \"b\"\nprofile = \"mine\"\n";
    assert_eq!(
        errors_of_file(tenants),
        [
            "tenants[1].profile (config.toml:6): \"mine\" is no profile; there are: standard, raw, homechef, pyairtable, epic"
        ]
    );
    let (loader, _folder) = with_file(&format!("{tenants}[profiles.mine]\nuser_agent = \"Mine\"\n"));
    assert_eq!(loader.load_for_client().unwrap().tenants[1].settings.profile.as_deref(), Some("mine"));
    // An invalid profile that exists is reported only for its own error.
    let said = errors_of_file(&format!("{tenants}[profiles.mine]\nuser_agent = \"\"\n"));
    assert!(said.len() == 1 && said[0].starts_with("profiles.mine.user_agent "), "{said:?}");
}

#[test]
fn tokens_are_signed_with_a_secret_or_with_public_keys() {
    let both = "[auth]\njwt_secret = \"a-secret-of-more-than-32-bytes-in-all\"\njwks_file = \"/nowhere/keys.json\"";
    let said = errors_of_file(both);
    assert!(said[0].starts_with("auth.jwks_file (config.toml:3): auth.jwt_secret is set as well"), "{said:?}");
    assert!(said[1].starts_with("auth.jwks_file (config.toml:3): /nowhere/keys.json cannot be read: "), "{said:?}");
}
