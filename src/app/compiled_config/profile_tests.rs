//! Tests of `[profiles]`: values, their order, and errors.

use super::CompiledConfig;
use super::tests::{errors, errors_of_file, load};
use crate::config::testing::{REFERENCE, with_file, with_vars};
use crate::outbound::profile::{RawEnvelope, RawProfile};

/// The profile of the reference file, without the `#`.
fn reference() -> String {
    let (_, tail) = REFERENCE.split_once("#[profiles.mine]").unwrap();
    let lines = tail.lines().filter_map(|line| line.strip_prefix('#')).filter(|line| !line.starts_with(' '));
    std::iter::once("[profiles.mine]")
        .chain(lines.take_while(|line| !line.starts_with('[')))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_profile_of_the_reference_file_is_valid_and_has_every_key() {
    let (loader, _folder) = with_file(&reference());
    let setup = load(&loader);
    assert!(setup.profiles.get("mine").unwrap().is_known());
    let written: toml_edit::DocumentMut = reference().parse().unwrap();
    let known = serde_json::from_value::<RawProfile>(serde_json::json!({ "?": 1 })).unwrap_err().to_string();
    let known: Vec<_> = known.split('`').skip(3).step_by(2).collect();
    assert_eq!(known.len(), 4);
    for key in known {
        assert!(written["profiles"]["mine"].get(key).is_some(), "{key} is not in config.toml");
    }
    // The shown configuration can be read again.
    let (loader, _folder) = with_file(&setup.shown);
    let again = CompiledConfig::load(&loader).unwrap_or_else(|e| panic!("{e}\n{}", setup.shown));
    assert!(again.profiles.get("mine").is_some());
}

#[test]
fn fields_stay_in_the_order_of_the_file() {
    let (loader, _folder) = with_file("[profiles.mine.envelope]\nz = \"type\"\na = \"data\"\nm = \"id\"\n");
    let shown = load(&loader).shown;
    let at = |field: &str| shown.find(field).unwrap_or_else(|| panic!("{field} in {shown}"));
    assert!(at("z = \"type\"") < at("a = \"data\"") && at("a = \"data\"") < at("m = \"id\""), "{shown}");
    let raw: RawProfile = toml_edit::de::from_str("envelope = { z = \"type\", a = \"data\" }").unwrap();
    let RawEnvelope::Fields(fields) = raw.envelope else { panic!("fields") };
    assert_eq!(fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["z", "a"]);
}

#[test]
fn an_error_in_a_profile_has_its_key_and_line() {
    for (toml, line) in [
        ("profiles = 1", "profiles (config.toml:1): 1 is not a table"),
        ("[profiles]\nmine = 1", "profiles.mine (config.toml:2): 1 is not a table"),
        (
            "[profiles.mine]\nenvelop = \"raw\"",
            "profiles.mine.envelop (config.toml:2): unknown key; did you mean \"envelope\"?",
        ),
        (
            "[profiles.mine]\nenvelope = 1",
            "profiles.mine.envelope (config.toml:2): 1 is not \"raw\", or a table of fields and the names of their values",
        ),
        (
            "[profiles.mine]\nsign = 1",
            "profiles.mine.sign (config.toml:2): 1 is not \"standard-webhooks\", or a scheme as a table",
        ),
        (
            "[profiles.mine]\nsign = { scheme = \"hmac\", sig = \"header:X-S\", encodin = \"hex\" }",
            "profiles.mine.sign.encodin (config.toml:2): unknown key; did you mean \"encoding\"?",
        ),
        (
            "[profiles.mine]\n[profiles.mine.sign]\nscheme = \"hmac\"\nsig = \"header:X-S\"",
            "profiles.mine.sign.encoding (config.toml:2): is missing; allowed: hex, base64, base64url",
        ),
        (
            "[profiles.epic]\nenvelope = \"raw\"",
            "profiles.epic (config.toml:1): this profile is built in; give yours another name",
        ),
        (
            "[profiles.mine]\n\nuser_agent = \"\"",
            "profiles.mine.user_agent (config.toml:3): expected 1 to 256 visible characters of ASCII, and spaces",
        ),
    ] {
        assert_eq!(errors_of_file(toml), [line], "{toml}");
    }
}

#[test]
fn a_replaced_system_s_variable_renames_its_header() {
    let header = |name: &str| hyper::header::HeaderName::try_from(name).unwrap();
    let setup = load(&with_vars(&[("WEBHOOK_SIGNATURE_HEADER", "X-Chef")]));
    let homechef = setup.profiles.get("homechef").unwrap();
    assert!(homechef.sets_header(&header("x-chef")) && !homechef.sets_header(&header("x-homechef-signature")));
    let said = errors(&with_vars(&[("WEBHOOK_SIGNATURE_HEADER", "X Chef")]));
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with(
            "profiles.homechef.sign.sig (environment variable WEBHOOK_SIGNATURE_HEADER): expected header:NAME"
        ),
        "{said:?}"
    );
}
