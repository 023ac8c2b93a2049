//! Builds a source from its settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::check::{SettingsCheck, escape_pointer_token};
use super::{EventMap, ExtractionPlan, ManagedBy, Source, SourceSettings, TokenHash, ValidationRules};
use crate::inbound::provider::{self, DedupMode, RawRecipe, Recipe};
use crate::limits::{SOURCE_BODY_BYTES_DEFAULT, SOURCE_PLACES_MAX};
use crate::model::{DEFAULT_TENANT, FieldError, SourceId, Timestamp, kind, path};
use crate::signature::{Certificate, OneOrMany, RawJwt, RawScheme};

/// The kinds that do not belong to a provider.
pub const PLAIN_KINDS: [&str; 6] = [kind::PARTNER, kind::CUSTOM, kind::TOKEN, kind::BASIC, kind::NONE, kind::NATS];

/// The warning of kind `none`.
const NONE_IS_BELIEVED: &str = "kind none: whoever knows the URL is believed";
/// The same, where a request whose body came before is a duplicate.
const NONE_BY_BODY: &str = "kind none: whoever knows the URL is believed; a body that came before is a duplicate: a sender \
                            that repeats a body for another change, as Mollie does, needs dedup = \"never\", or an `id`";

/// The properties of a source that are not settings.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The public id.
    pub id: SourceId,
    /// The tenant that owns the source.
    pub tenant: Arc<str>,
    /// Where the source is managed.
    pub managed_by: ManagedBy,
    /// The hash of a partner's token. `None` for other kinds.
    pub token: Option<TokenHash>,
    /// The time of creation.
    pub created_at: Timestamp,
    /// The time of the last change.
    pub modified_at: Timestamp,
    /// The time of deletion, if the source is deleted.
    pub deleted_at: Option<Timestamp>,
    /// The version, which increases with each change.
    pub version: u64,
}

impl Source {
    /// Builds a source from its settings. Secrets in environment variables and files must already be resolved into `value`.
    /// `public_url` is `server.public_url` or the address of the first listener, and is empty if there is neither.
    ///
    /// # Errors
    /// All violations, by JSON pointer into the settings.
    pub fn build(settings: SourceSettings, identity: Identity, public_url: &str) -> Result<Self, Vec<FieldError>> {
        let mut check = SettingsCheck::new(&settings);
        check.name();
        check.texts();
        let status = settings.status().map_err(|violation| check.violations.push(violation)).unwrap_or_default();
        let max_body_bytes = check.max_body_bytes().unwrap_or(SOURCE_BODY_BYTES_DEFAULT);
        let rate_limit = check.rate_limit();
        let own_url = check.url();
        let rules = rules(&mut check);
        let bus = check.bus();

        let kind = KindRecipe::find(&mut check);
        let parts = kind.and_then(|kind| {
            check.options(&kind.raw);
            let event_map = event_map(&mut check, &kind.raw);
            let (sig, is_partner) = (kind.raw.verify.sig.clone(), kind.is_partner);
            let recipe = kind.recipe(&mut check)?;
            let extraction =
                ExtractionPlan::compile(&recipe, sig.as_ref(), is_partner).with_certificate(certificate(&mut check));
            check.needs_url(&recipe.scheme, own_url.is_some() || !public_url.is_empty());
            let secrets = check.secrets(&recipe);
            Some((recipe, extraction, secrets, event_map?))
        });

        let SettingsCheck { violations, mut warnings, .. } = check;
        let Some((recipe, extraction, secrets, event_map)) = parts.filter(|_| violations.is_empty()) else {
            return Err(violations);
        };
        let url = own_url.unwrap_or_else(|| default_url(&settings, &identity, public_url));
        if recipe.scheme.needs_url() && is_loopback(&url) {
            warnings.push(format!(
                "its sender signs the URL it calls, which is hardly {url}: set url or server.public_url"
            ));
        }
        Ok(Self {
            id: identity.id,
            name: settings.name.as_str().into(),
            tenant: identity.tenant,
            status,
            managed_by: identity.managed_by,
            recipe,
            extraction,
            secrets,
            event_map,
            rules,
            bus,
            max_body_bytes,
            rate_limit,
            url,
            token: identity.token,
            warnings,
            created_at: identity.created_at,
            modified_at: identity.modified_at,
            deleted_at: identity.deleted_at,
            version: identity.version,
            settings,
        })
    }
}

/// The recipe of a source with these settings, for code that acts as its sender. Returns `None` if the kind is unknown, or
/// is `custom` without `verify`.
pub fn recipe_of(settings: &SourceSettings) -> Option<RawRecipe> {
    KindRecipe::find(&mut SettingsCheck::new(settings)).map(|kind| kind.raw)
}

/// The recipe of a source's kind with the overrides of the settings.
struct KindRecipe {
    raw: RawRecipe,
    /// The id of a partner's event is read like that of an application's event, not from the location of the recipe.
    is_partner: bool,
}

impl KindRecipe {
    fn find(check: &mut SettingsCheck<'_>) -> Option<Self> {
        let settings = check.settings;
        let kind = settings.kind.as_str();
        let scheme = |scheme: &str, sig: Option<&str>| RawScheme {
            scheme: scheme.to_owned(),
            sig: sig.map(|sig| OneOrMany::One(sig.to_owned())),
            ..RawScheme::default()
        };
        let own = |usual: RawScheme| settings.verify.clone().unwrap_or(usual);
        let (verify, is_partner) = match kind {
            "partner" => (own(scheme("none", None)), true),
            "custom" => {
                let Some(verify) = settings.verify.clone() else {
                    let detail = "a source of kind custom says how it is verified: { scheme, sig, encoding, … }";
                    check.add_violation("/verify", detail);
                    return None;
                };
                (verify, false)
            }
            "token" | "basic" => (own(scheme(kind, Some("header:Authorization"))), false),
            "none" | "nats" => (scheme("none", None), false),
            _ => return Self::provider(check),
        };
        if ["none", "nats"].contains(&kind) && settings.verify.is_some() {
            let detail = format!("kind {kind} verifies nothing; kind custom verifies as this says");
            check.add_violation("/verify", detail);
        }
        if ["token", "basic"].contains(&kind) && verify.scheme != kind {
            check.add_violation("/verify/scheme", format!("kind {kind} has the scheme {kind}; kind custom takes any"));
        }
        if kind == "none" {
            let by_body = settings.id.is_none() && settings.dedup.is_none();
            check.warn(if by_body { NONE_BY_BODY } else { NONE_IS_BELIEVED });
        }
        let texts = |texts: &[&str]| Some(OneOrMany::Many(texts.iter().map(|&text| text.to_owned()).collect()));
        let is_bus = kind == kind::NATS;
        let raw = RawRecipe {
            verify,
            id: if is_bus { texts(&["header:Nats-Msg-Id"]) } else { None },
            r#type: if is_bus {
                texts(&["header:Nats-Subject"])
            } else if is_partner {
                texts(&["json:/event_type", "json:/type", "json:/event"])
            } else {
                None
            },
            content: if is_partner { Vec::new() } else { vec!["form".to_owned(), "multipart".to_owned()] },
            ..RawRecipe::default()
        };
        if let Some(jwt) = &raw.verify.jwt {
            own_token_rules(jwt, check);
        }
        Some(Self { raw: with_overrides(raw, settings), is_partner })
    }

    fn provider(check: &mut SettingsCheck<'_>) -> Option<Self> {
        let settings = check.settings;
        let Some(raw) = provider::recipe(&settings.kind) else {
            check.unknown_kind();
            return None;
        };
        if settings.verify.is_some() {
            let detail =
                format!("{} is verified as its provider signs; kind custom takes a scheme of its own", settings.kind);
            check.add_violation("/verify", detail);
        }
        let mut raw = with_overrides(raw.clone(), settings);
        if let Some(jwt) = &mut raw.verify.jwt {
            fill_options(jwt, &settings.options, check);
        }
        Some(Self { raw, is_partner: false })
    }

    /// Validates the recipe.
    fn recipe(self, check: &mut SettingsCheck<'_>) -> Option<Recipe> {
        let settings = check.settings;
        check.tolerance(&self.raw.verify);
        let places = |places: &Option<OneOrMany>| match places {
            Some(OneOrMany::Many(places)) => places.len(),
            Some(OneOrMany::One(_)) | None => 1,
        };
        for (pointer, given) in [("/id", &settings.id), ("/type", &settings.r#type)] {
            if !(1..=SOURCE_PLACES_MAX).contains(&places(given)) {
                check.add_violation(pointer, format!("expected 1 to {SOURCE_PLACES_MAX} places"));
            }
        }
        let dedup = check.dedup(self.is_partner || self.raw.id.is_some());
        // The id of a partner's event has no location in the recipe, so the recipe cannot validate `dedup`.
        let raw = RawRecipe { dedup: self.raw.dedup.filter(|_| !self.is_partner), ..self.raw };
        match Recipe::try_new(&raw) {
            Ok(mut recipe) => {
                if recipe.scheme.needs_id() && recipe.id.is_empty() {
                    check.add_violation("/id", "its signature covers the id: say where it stands");
                }
                recipe.scheme = recipe.scheme.with_id(&recipe.id);
                if self.is_partner {
                    recipe.dedup = dedup.unwrap_or(DedupMode::Id);
                    if recipe.scheme.needs_url() {
                        check.add_violation(
                            "/verify/signed",
                            "a partner's URL holds its token, which no signature may cover",
                        );
                    }
                }
                Some(recipe)
            }
            Err(errors) => {
                for error in errors {
                    check.recipe(&error);
                }
                None
            }
        }
    }
}

/// Applies the overrides of the settings to the recipe of the kind.
fn with_overrides(mut raw: RawRecipe, settings: &SourceSettings) -> RawRecipe {
    if settings.id.is_some() {
        raw.id.clone_from(&settings.id);
        // The `dedup` of the recipe is valid only for the provider's own id.
        raw.dedup = None;
    }
    if settings.r#type.is_some() {
        raw.r#type.clone_from(&settings.r#type);
    }
    if settings.dedup.is_some() {
        raw.dedup.clone_from(&settings.dedup);
    }
    if settings.respond.is_some() {
        raw.respond.clone_from(&settings.respond);
    }
    if let Some(name) = &settings.handshake {
        raw.handshake = Some(name.clone()).filter(|name| !name.is_empty());
    }
    if settings.tolerance.is_some() {
        raw.verify.tolerance = settings.tolerance;
    }
    raw
}

/// Checks the rules of a token that a source has in its settings: they cannot use what only the kind of a provider has.
fn own_token_rules(jwt: &RawJwt, check: &mut SettingsCheck<'_>) {
    if !jwt.jwks_body.is_empty() {
        check.add_violation("/verify/jwt/jwks_body", "only the kind of a provider posts to ask for keys");
    }
    let has_option = |text: &str| text.contains("{option:");
    if jwt.jwks.as_deref().is_some_and(has_option) {
        check.add_violation("/verify/jwt/jwks", "only the kind of a provider has options: write the URL itself");
    }
    for (name, wanted) in &jwt.claims {
        let pointer = format!("/verify/jwt/claims/{}", escape_pointer_token(name));
        if wanted.iter().any(has_option) {
            check.add_violation(pointer, "only the kind of a provider has options: write the value itself");
        } else if wanted.iter().next().is_none() {
            check.add_violation(pointer, "expected at least one value");
        }
    }
}

/// Replaces `{option:NAME}` in the rules of a token. A value of a claim whose option is not set does not count; a claim
/// without a value is not checked.
fn fill_options(jwt: &mut RawJwt, options: &BTreeMap<String, String>, check: &mut SettingsCheck<'_>) {
    let mut fill = |text: &str| {
        let mut text = text.to_owned();
        for (name, value) in options {
            let placeholder = format!("{{option:{name}}}");
            if text.contains(&placeholder) && text != placeholder && !is_plain_option(value) {
                let pointer = format!("/options/{}", escape_pointer_token(name));
                check.add_violation(pointer, "expected A-Z, a-z, 0-9, - and _: it is a part of an address");
            }
            text = text.replace(&placeholder, value);
        }
        text
    };
    jwt.jwks = jwt.jwks.as_deref().map(&mut fill);
    for text in jwt.jwks_body.values_mut() {
        *text = fill(text);
    }
    for wanted in jwt.claims.values_mut() {
        let filled = wanted.iter().map(&mut fill).filter(|text| !text.contains("{option:")).collect();
        *wanted = OneOrMany::Many(filled);
    }
    jwt.claims.retain(|_, wanted| wanted.iter().next().is_some());
}

fn is_plain_option(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// The certificate in the options, if there is one.
fn certificate(check: &mut SettingsCheck<'_>) -> Option<Certificate> {
    let pem = check.settings.options.get("certificate")?;
    let read = Certificate::from_pem(pem.as_bytes());
    read.map_err(|error| check.add_violation("/options/certificate", error.to_string())).ok()
}

fn event_map(check: &mut SettingsCheck<'_>, raw: &RawRecipe) -> Option<EventMap> {
    let settings = check.settings;
    let rules = match (&settings.event_map, provider::default_map(&settings.kind)) {
        (Some(own), _) => own,
        (None, Some(rules)) => rules,
        (None, None) => &raw.event_map,
    };
    EventMap::try_new(rules).map_err(|violations| check.violations.extend(violations)).ok()
}

fn rules(check: &mut SettingsCheck<'_>) -> Option<ValidationRules> {
    let config = check.settings.validation_config.as_ref()?;
    if check.settings.kind != kind::PARTNER {
        check.add_violation("/validation_config", "only a partner's events are held to rules of one's own");
        return None;
    }
    ValidationRules::try_new(config).map_err(|violations| check.violations.extend(violations)).ok()
}

fn default_url(settings: &SourceSettings, identity: &Identity, public_url: &str) -> Box<str> {
    let base = public_url.trim_end_matches('/');
    match (settings.kind.as_str(), &*identity.tenant) {
        (kind::PARTNER, _) => format!("{base}{}", path::PARTNER),
        (kind::NATS, _) => {
            let subjects = settings.subjects.as_ref().map(|subjects| subjects.iter().collect::<Vec<_>>().join(","));
            format!("nats://{}", subjects.unwrap_or_default())
        }
        // Names in the path belong to the default tenant. The sources of other tenants are addressed by id.
        (_, DEFAULT_TENANT) => format!("{base}{}/{}", path::WEBHOOKS, settings.name),
        _ => format!("{base}{}/{}", path::WEBHOOKS, identity.id),
    }
    .into()
}

fn is_loopback(url: &str) -> bool {
    let Ok(url) = url::Url::parse(url) else { return true };
    match url.host() {
        Some(url::Host::Ipv4(host)) => host.is_loopback() || host.is_unspecified(),
        Some(url::Host::Ipv6(host)) => host.is_loopback() || host.is_unspecified(),
        Some(url::Host::Domain(host)) => host == "localhost",
        None => true,
    }
}
