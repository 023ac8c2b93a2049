//! What belongs to more than one part, and the helpers of the other tests.

use super::Setup;
use crate::config::Loader;
use crate::config::testing::{lines, with_file};

/// What is compiled, or a panic with all that is wrong.
pub(super) fn load(loader: &Loader) -> Setup {
    Setup::load(loader).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The lines that are said of what is wrong.
pub(super) fn errors(loader: &Loader) -> Vec<String> {
    lines(&Setup::load(loader).unwrap_err(), loader)
}

pub(super) fn errors_of_file(text: &str) -> Vec<String> {
    let (loader, _folder) = with_file(text);
    errors(&loader)
}

#[test]
fn a_tenant_s_profile_is_one_that_there_is() {
    let tenants = "[[tenants]]\nname = \"a\"\nprofile = \"epic\"\n[[tenants]]\nname = \"b\"\nprofile = \"mine\"\n";
    assert_eq!(
        errors_of_file(tenants),
        [
            "tenants[1].profile (config.toml:6): \"mine\" is no profile; there are: standard, raw, homechef, pyairtable, epic"
        ]
    );
    let (loader, _folder) = with_file(&format!("{tenants}[profiles.mine]\nuser_agent = \"Mine\"\n"));
    assert_eq!(loader.load_for_client().unwrap().tenants[1].settings.profile.as_deref(), Some("mine"));
    // Of one that is there with a fault, the fault is told, and no more.
    let said = errors_of_file(&format!("{tenants}[profiles.mine]\nuser_agent = \"\"\n"));
    assert!(said.len() == 1 && said[0].starts_with("profiles.mine.user_agent "), "{said:?}");
}

#[test]
fn tokens_are_signed_by_the_one_or_by_the_other() {
    let both = "[auth]\njwt_secret = \"a-secret-of-more-than-32-bytes-in-all\"\njwks_file = \"/nowhere/keys.json\"";
    let said = errors_of_file(both);
    assert!(said[0].starts_with("auth.jwks_file (config.toml:3): auth.jwt_secret is set as well"), "{said:?}");
    assert!(said[1].starts_with("auth.jwks_file (config.toml:3): /nowhere/keys.json cannot be read: "), "{said:?}");
}
