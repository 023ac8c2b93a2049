//! From settings to a source.

use std::sync::Arc;

use super::check::Check;
use super::{Breach, EventMap, ManagedBy, Plan, Rules, Settings, Source, TokenHash};
use crate::inbound::provider::{self, Dedup, RawRecipe, Recipe};
use crate::limits::{SOURCE_BODY_BYTES_DEFAULT, SOURCE_PLACES_MAX};
use crate::model::{DEFAULT_TENANT, SourceId, Timestamp, kind, path};
use crate::signature::{Certificate, OneOrMany, RawScheme};

/// The kinds that are no provider's.
pub const PLAIN_KINDS: [&str; 5] = [kind::PARTNER, kind::CUSTOM, kind::TOKEN, kind::BASIC, kind::NONE];

/// What a source has that is not a setting.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its public id.
    pub id: SourceId,
    /// Its tenant.
    pub tenant: Arc<str>,
    /// Who may change it.
    pub managed_by: ManagedBy,
    /// Of a partner.
    pub token: Option<TokenHash>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub modified_at: Timestamp,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// Rises with each change.
    pub version: u64,
}

impl Source {
    /// A source of these settings; secrets that stand in the environment or a file have been read into `value` by now.
    /// `public_url` is `server.public_url`, or the first listener's address; empty where there is neither.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn build(settings: Settings, identity: Identity, public_url: &str) -> Result<Self, Vec<Breach>> {
        let mut check = Check::new(&settings);
        check.name();
        check.texts();
        let status = settings.status().map_err(|breach| check.breaches.push(breach)).unwrap_or_default();
        let max_body_bytes = check.max_body_bytes().unwrap_or(SOURCE_BODY_BYTES_DEFAULT);
        let rate_limit = check.rate_limit();
        let own_url = check.url();
        let rules = rules(&mut check);

        let kind = Kind::find(&mut check);
        let parts = kind.and_then(|kind| {
            check.options(&kind.raw);
            let event_map = event_map(&mut check, &kind.raw);
            let (sig, is_partner) = (kind.raw.verify.sig.clone(), kind.is_partner);
            let recipe = kind.recipe(&mut check)?;
            let plan = Plan::of(&recipe, sig.as_ref(), is_partner).with_certificate(certificate(&mut check));
            check.needs_url(&recipe.scheme, own_url.is_some() || !public_url.is_empty());
            let secrets = check.secrets(&recipe);
            Some((recipe, plan, secrets, event_map?))
        });

        let Check { breaches, mut warnings, .. } = check;
        let Some((recipe, plan, secrets, event_map)) = parts.filter(|_| breaches.is_empty()) else {
            return Err(breaches);
        };
        let url = own_url.unwrap_or_else(|| usual_url(&settings, &identity, public_url));
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
            plan,
            secrets,
            event_map,
            rules,
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

/// What a sender of this source does, for whoever acts as one; `None` if the kind is none, or does not say how it signs.
pub fn recipe_of(settings: &Settings) -> Option<RawRecipe> {
    Kind::find(&mut Check::new(settings)).map(|kind| kind.raw)
}

/// The recipe of a source's kind, with what its settings say otherwise.
struct Kind {
    raw: RawRecipe,
    /// A partner's id is looked for in the ways of an application's event, not in one place.
    is_partner: bool,
}

impl Kind {
    fn find(check: &mut Check<'_>) -> Option<Self> {
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
                    check.wrong("/verify", detail);
                    return None;
                };
                (verify, false)
            }
            "token" | "basic" => (own(scheme(kind, Some("header:Authorization"))), false),
            "none" => (scheme("none", None), false),
            _ => return Self::provider(check),
        };
        if kind == "none" && settings.verify.is_some() {
            check.wrong("/verify", "kind none verifies nothing; kind custom verifies as this says");
        }
        if ["token", "basic"].contains(&kind) && verify.scheme != kind {
            check.wrong("/verify/scheme", format!("kind {kind} has the scheme {kind}; kind custom takes any"));
        }
        if kind == "none" {
            check.warn("kind none: whoever knows the URL is believed");
        }
        let texts = |texts: &[&str]| Some(OneOrMany::Many(texts.iter().map(|&text| text.to_owned()).collect()));
        let raw = RawRecipe {
            verify,
            r#type: if is_partner { texts(&["json:/event_type", "json:/type", "json:/event"]) } else { None },
            content: if is_partner { Vec::new() } else { vec!["form".to_owned()] },
            ..RawRecipe::default()
        };
        Some(Self { raw: overridden(raw, settings), is_partner })
    }

    fn provider(check: &mut Check<'_>) -> Option<Self> {
        let settings = check.settings;
        let Some(raw) = provider::recipe(&settings.kind) else {
            check.unknown_kind();
            return None;
        };
        if settings.verify.is_some() {
            let detail =
                format!("{} is verified as its provider signs; kind custom takes a scheme of its own", settings.kind);
            check.wrong("/verify", detail);
        }
        Some(Self { raw: overridden(raw.clone(), settings), is_partner: false })
    }

    /// The recipe as it can be used.
    fn recipe(self, check: &mut Check<'_>) -> Option<Recipe> {
        let settings = check.settings;
        check.tolerance(&self.raw.verify);
        let places = |places: &Option<OneOrMany>| match places {
            Some(OneOrMany::Many(places)) => places.len(),
            Some(OneOrMany::One(_)) | None => 1,
        };
        for (pointer, given) in [("/id", &settings.id), ("/type", &settings.r#type)] {
            if !(1..=SOURCE_PLACES_MAX).contains(&places(given)) {
                check.wrong(pointer, format!("expected 1 to {SOURCE_PLACES_MAX} places"));
            }
        }
        let dedup = check.dedup(self.is_partner || self.raw.id.is_some());
        // What a partner's event has in place of an id is not told in places, so the recipe cannot judge it.
        let raw = RawRecipe { dedup: self.raw.dedup.filter(|_| !self.is_partner), ..self.raw };
        match Recipe::try_new(&raw) {
            Ok(mut recipe) => {
                if recipe.scheme.needs_id() && recipe.id.is_empty() {
                    check.wrong("/id", "its signature covers the id: say where it stands");
                }
                recipe.scheme = recipe.scheme.with_id(&recipe.id);
                if self.is_partner {
                    recipe.dedup = dedup.unwrap_or(Dedup::Id);
                    if recipe.scheme.needs_url() {
                        check.wrong("/verify/signed", "a partner's URL holds its token, which no signature may cover");
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

/// What the settings say in place of the kind.
fn overridden(mut raw: RawRecipe, settings: &Settings) -> RawRecipe {
    if settings.id.is_some() {
        raw.id.clone_from(&settings.id);
        // How a provider's own id is to be taken does not hold for another.
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

/// The certificate that the options give, for a kind that has one.
fn certificate(check: &mut Check<'_>) -> Option<Certificate> {
    let pem = check.settings.options.get("certificate")?;
    let read = Certificate::from_pem(pem.as_bytes());
    read.map_err(|error| check.wrong("/options/certificate", error.to_string())).ok()
}

fn event_map(check: &mut Check<'_>, raw: &RawRecipe) -> Option<EventMap> {
    let settings = check.settings;
    let rules = match (&settings.event_map, provider::default_map(&settings.kind)) {
        (Some(own), _) => own,
        (None, Some(rules)) => rules,
        (None, None) => &raw.event_map,
    };
    EventMap::try_new(rules).map_err(|breaches| check.breaches.extend(breaches)).ok()
}

fn rules(check: &mut Check<'_>) -> Option<Rules> {
    let config = check.settings.validation_config.as_ref()?;
    if check.settings.kind != kind::PARTNER {
        check.wrong("/validation_config", "only a partner's events are held to rules of one's own");
        return None;
    }
    Rules::try_new(config).map_err(|breaches| check.breaches.extend(breaches)).ok()
}

fn usual_url(settings: &Settings, identity: &Identity, public_url: &str) -> Box<str> {
    let base = public_url.trim_end_matches('/');
    match (settings.kind.as_str(), &*identity.tenant) {
        (kind::PARTNER, _) => format!("{base}{}", path::PARTNER),
        // Bare names are those of the default tenant; the sources of others are reached by their id.
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
