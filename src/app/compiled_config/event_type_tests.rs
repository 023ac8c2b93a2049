//! Event types of the configuration, and the catalogues of this repository.

use super::CompiledConfig;
use super::tests::{errors_of_file, load};
use crate::config::testing::with_file;

#[test]
fn errors_of_an_event_type_have_the_line_of_the_file() {
    for (text, said) in [
        (
            "[[event_types]]\nname = \"a b\"",
            "event_types[0].name (config.toml:2): expected an event type: a letter or digit, then up to 127 of A-Z a-z 0-9 . _ : -",
        ),
        ("[[event_types]]\ncategory = \"x\"", "event_types[0] (config.toml:1): name is missing"),
        (
            "[[event_types]]\nname = \"a\"\n[[event_types]]\nname = \"a\"",
            "event_types[1].name (config.toml:4): \"a\" is there twice",
        ),
        ("[[event_types]]\nname = \"a\"\nvalidate = true", "event_types[0].validate (config.toml:3): needs a schema"),
        (
            "[[event_types]]\nname = \"a\"\n[event_types.schema]\ntype = \"objekt\"",
            "event_types[0].schema.type (config.toml:4): \"objekt\" is not valid under any of the schemas listed in the 'anyOf' keyword",
        ),
        (
            "[[event_types]]\nname = \"a\"\ntenant = \"A b\"",
            "event_types[0].tenant (config.toml:3): \"A b\" is not a tenant: 1 to 63 of A-Z a-z 0-9 . _ : -, the first a letter or digit",
        ),
        (
            "[[event_types]]\nname = \"a\"\ncategori = \"x\"",
            "event_types[0].categori (config.toml:3): unknown key; did you mean \"category\"?",
        ),
        (
            "[events]\ncatalogues = [7]",
            "events.catalogues[0] (config.toml:2): this is neither the path of a file nor a table of file and tenant",
        ),
        ("[events]\nstrict = \"maybe\"", "events.strict (config.toml:2): \"maybe\" is not true or false"),
    ] {
        assert_eq!(errors_of_file(text), [said], "{text}");
    }
}

#[test]
fn errors_of_a_catalogue_have_the_line_of_the_catalogue_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("types.toml");
    let config = format!("[events]\ncatalogues = [\"{}\"]", path.display());
    for (text, said) in [
        (
            "[[event_types]]\nname = \"a\"\n\n[[event_types]]\nname = \"hooktide.x\"",
            "event_types[1].name (types.toml:5): types that begin",
        ),
        ("[[event_type]]\nname = \"a\"", "event_type (types.toml:1): unknown key; did you mean \"event_types\"?"),
        ("[[event_types]]\nname = 7", "event_types[0].name (types.toml:2): 7 is not a string"),
    ] {
        std::fs::write(&path, text).unwrap();
        let (loader, _folder) = with_file(&config);
        let found = CompiledConfig::load(&loader)
            .unwrap_err()
            .to_string()
            .replace(&format!("{}/", folder.path().display()), "");
        assert!(found.starts_with(said), "{text}: {found}");
    }
    let (loader, _folder) = with_file("[events]\ncatalogues = [\"/nowhere/types.toml\"]");
    let said = CompiledConfig::load(&loader).unwrap_err().to_string();
    assert!(said.contains("events.catalogues[0] (") && said.contains("/nowhere/types.toml: cannot be read"), "{said}");
}

/// The event types of the systems that Hooktide replaces.
const SHIPPED: [(&str, &str); 3] = [
    (
        "homechef",
        "order.created order.completed order.cancelled payment.success payment.failed tip.received chef.approved \
         delivery.assigned",
    ),
    (
        "pyairtable",
        "table.created table.updated table.deleted record.created record.updated record.deleted workspace.created \
         workspace.updated user.invited user.joined",
    ),
    (
        "epic",
        "user.created user.updated user.deleted user.login user.logout user.password_changed user.email_verified \
         user.profile_updated subscription.created subscription.updated subscription.cancelled subscription.renewed \
         subscription.payment_failed payment.succeeded payment.failed payment.refunded invoice.created invoice.paid \
         invoice.overdue organization.created organization.updated organization.deleted device.registered \
         device.updated device.deleted device.online device.offline device.alert alert.triggered alert.resolved",
    ),
];

#[test]
fn the_catalogues_of_the_replaced_systems_load_together_for_separate_tenants() {
    let file = |name: &str| format!("{}/docs/catalogues/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let entries = SHIPPED.map(|(name, _)| format!("{{ file = \"{}\", tenant = \"{name}\" }}", file(name)));
    let (loader, _folder) = with_file(&format!("[events]\nstrict = true\ncatalogues = [{}]", entries.join(", ")));
    let setup = load(&loader).event_types;
    assert!(setup.strict && setup.files.len() == 48, "{}", setup.files.len());
    for (tenant, names) in SHIPPED {
        let of_it = setup.files.iter().filter(|one| one.settings.tenant.as_deref() == Some(tenant));
        let found: Vec<_> = of_it.clone().map(|one| one.settings.name.as_str()).collect();
        assert_eq!(found, names.split_whitespace().collect::<Vec<_>>(), "{tenant}");
        for one in of_it {
            // Building the definition checked the example against the schema.
            let settings = &one.settings;
            let parts = (&settings.category, &settings.description, &settings.schema, &settings.example);
            assert!(matches!(parts, (Some(_), Some(_), Some(_), Some(_))), "{}", settings.name);
        }
    }
    // Without tenants the catalogues declare one type twice.
    let (loader, _folder) =
        with_file(&format!("[events]\ncatalogues = [\"{}\", \"{}\"]", file("homechef"), file("epic")));
    let said = CompiledConfig::load(&loader).unwrap_err().to_string();
    assert!(said.contains("\"payment.failed\" is there twice") && said.lines().count() == 1, "{said}");
}

#[test]
fn the_shown_configuration_has_the_event_types() {
    let text = "[[event_types]]\nname = \"a\"\nschema = { type = \"object\" }\nexample = { n = 1.5 }\n";
    let (loader, _folder) = with_file(text);
    let shown = load(&loader).shown;
    assert!(shown.contains("[[event_types]]\nname = \"a\""), "{shown}");
    assert!(shown.contains("schema = { type = \"object\" }") && shown.contains("example = { n = 1.5 }"), "{shown}");
    let again = with_file(&shown);
    assert_eq!(load(&again.0).event_types.files[0].settings.name, "a");
}
