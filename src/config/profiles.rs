//! `[profiles.NAME]`: checked, each as a whole; the rules are the stage's own.

use std::collections::BTreeMap;

use super::error::{ConfigError, key_of};
use super::layers::{Environment, variable};
use super::load::Origins;
use crate::outbound::profile::{Envelope, Profiles, RawProfile};

const SECTION: &str = "profiles";
/// A replaced system's name for the header that the profile `homechef` signs in.
const OLD_HEADER: &str = "WEBHOOK_SIGNATURE_HEADER";

/// The profiles in force; those built in if `errors` grow.
pub(super) fn check(
    raw: &mut BTreeMap<String, RawProfile>,
    environment: &Environment,
    origins: &Origins<'_>,
    errors: &mut Vec<ConfigError>,
) -> Profiles {
    for (name, profile) in raw.iter_mut() {
        if let Envelope::Fields(fields) = &mut profile.envelope {
            // On its way here a table loses its order, which receivers may see.
            let order = origins.order(&[SECTION, name, "envelope"].map(str::to_owned));
            fields.sort_by_key(|(field, _)| order.iter().position(|key| key == field));
        }
    }
    let wrong = match Profiles::try_new(raw, environment.get(OLD_HEADER)) {
        Ok(profiles) => return profiles,
        Err(wrong) => wrong,
    };
    let unread = errors.clone();
    for error in wrong {
        // Only the variable changes a part of a profile that is built in.
        let is_old = error.path.len() > 1 && Profiles::default().get(&error.path[0]).is_some();
        let path: Vec<String> = std::iter::once(SECTION.to_owned()).chain(error.path).collect();
        let key = key_of(&path);
        // Of what could not be read it is no news that it is missing.
        let is_unread = |e: &ConfigError| e.key.starts_with(&*key) || key.starts_with(&*e.key);
        if !unread.iter().any(is_unread) {
            let origin = if is_old { Some(variable(OLD_HEADER)) } else { origins.of(&path) };
            let origin = origin.unwrap_or_else(|| "default".to_owned());
            errors.push(ConfigError { key, origin, problem: error.problem });
        }
    }
    Profiles::default()
}
