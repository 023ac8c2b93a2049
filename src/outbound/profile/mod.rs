//! profile: the form of deliveries: body, headers and signature. A profile is data, not code.
//!
//! ```text
//! config.toml, built_in.toml ──► RawProfile ──► Profile: body (templates around the data), headers, signing
//! ```
//!
//! Invariants:
//!
//! - Every error in a profile is reported with its key before a webhook uses the profile.
//! - The data of an event is never parsed, joined or copied.
//! - If a profile no longer exists, or cannot use a secret, each delivery fails with this reason. Nothing is signed in
//!   another form instead.
//!
//! This folder must never know webhooks or connections.

mod body_template;
mod check;
mod header;
mod key;
mod value;

#[cfg(test)]
mod tests;

pub use body_template::BodyTemplate;
pub use key::{KeyError, KeyType};
pub use value::{DeliveryValues, WebhookName};

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use http::header::{HeaderName, HeaderValue};

pub use crate::model::{RawEnvelope, RawProfile, RawSigning};

use crate::config::PartError;
use crate::signature::OutboundScheme;
use check::BUILT_IN;
use header::HeaderTemplate;

/// A compiled profile: the form of deliveries.
#[derive(Debug)]
pub struct Profile {
    name: Box<str>,
    /// The settings; `None` for a profile that is not configured.
    settings: Option<RawProfile>,
    body: BodyTemplate,
    headers: Vec<(HeaderName, HeaderTemplate)>,
    user_agent: Option<HeaderValue>,
    signing: ProfileSigning,
}

/// How the deliveries of a profile are signed.
#[derive(Debug)]
pub enum ProfileSigning {
    /// According to the Standard Webhooks specification.
    Standard,
    /// By the scheme of the profile.
    Scheme(Box<OutboundScheme>),
    /// The profile is not configured. Nothing can be sent.
    NotConfigured,
}

static STANDARD: LazyLock<Arc<Profile>> = LazyLock::new(|| {
    let found = BUILT_IN.iter().find(|profile| profile.name() == Profile::STANDARD);
    found.map_or_else(|| Arc::new(Profile::unknown(Profile::STANDARD)), Arc::clone)
});

impl Profile {
    /// The name of the default profile.
    pub const STANDARD: &str = "standard";

    /// The default profile: the Standard Webhooks specification.
    pub fn standard() -> Arc<Self> {
        Arc::clone(&STANDARD)
    }

    /// A placeholder for a profile that is not configured.
    fn unknown(name: &str) -> Self {
        Self {
            name: name.into(),
            settings: None,
            body: BodyTemplate::Raw,
            headers: Vec::new(),
            user_agent: None,
            signing: ProfileSigning::NotConfigured,
        }
    }

    /// The name of the profile in the settings of webhooks.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the profile is configured. If not, deliveries fail.
    pub fn is_known(&self) -> bool {
        !matches!(self.signing, ProfileSigning::NotConfigured)
    }

    /// How the body of a delivery is built.
    pub fn body(&self) -> &BodyTemplate {
        &self.body
    }

    /// How deliveries are signed.
    pub fn signing(&self) -> &ProfileSigning {
        &self.signing
    }

    /// The `User-Agent` header; `None` means the default of Hooktide.
    pub fn user_agent(&self) -> Option<&HeaderValue> {
        self.user_agent.as_ref()
    }

    /// The additional headers of the profile for a delivery, without the headers of the signature.
    pub fn headers<'a>(
        &'a self,
        values: &'a DeliveryValues<'_>,
    ) -> impl Iterator<Item = (&'a HeaderName, HeaderValue)> {
        self.headers.iter().filter_map(|(name, template)| Some((name, template.fill(values)?)))
    }

    /// Whether the profile sets this header, as an additional header or for the signature. A webhook cannot set such a
    /// header.
    pub fn sets_header(&self, name: &HeaderName) -> bool {
        self.headers.iter().any(|(own, _)| own == name)
            || matches!(&self.signing, ProfileSigning::Scheme(scheme) if scheme.headers().any(|own| own == name))
    }
}

/// All profiles: the built-in profiles and those of `[profiles]`.
#[derive(Debug, Clone)]
pub struct Profiles {
    all: Arc<[Arc<Profile>]>,
}

impl Default for Profiles {
    fn default() -> Self {
        Self { all: BUILT_IN.iter().map(Arc::clone).collect() }
    }
}

impl Profiles {
    /// Compiles `written` and adds the built-in profiles. `homechef_signature` is another name for the signature header
    /// of the profile `homechef`.
    ///
    /// # Errors
    /// All errors of all profiles. The paths begin with the name of the profile.
    pub fn try_new(
        written: &BTreeMap<String, RawProfile>,
        homechef_signature: Option<&str>,
    ) -> Result<Self, Vec<PartError>> {
        check::all(written, homechef_signature).map(|all| Self { all: all.into() })
    }

    /// The profile with this name; `None` if it is not configured.
    pub fn get(&self, name: &str) -> Option<&Arc<Profile>> {
        self.all.iter().find(|profile| profile.name() == name)
    }

    /// The profile with this name. If it is not configured, the result signs nothing, and deliveries fail until it is
    /// configured.
    pub fn resolve(&self, name: &str) -> Arc<Profile> {
        self.get(name).map_or_else(|| Arc::new(Profile::unknown(name)), Arc::clone)
    }

    /// The names of all profiles, the built-in profiles first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|profile| profile.name())
    }

    /// Returns these profiles, with each profile whose settings are unchanged replaced by the instance from `before`.
    /// Then webhooks with an unchanged profile need not be compiled again.
    #[must_use]
    pub fn reuse_unchanged(self, before: &Self) -> Self {
        let same = |new: &Arc<Profile>| before.get(new.name()).filter(|old| old.settings == new.settings).cloned();
        Self { all: self.all.iter().map(|new| same(new).unwrap_or_else(|| Arc::clone(new))).collect() }
    }

    /// Whether both collections consist of the same instances.
    pub fn is_same(&self, these: &Self) -> bool {
        self.all.len() == these.all.len()
            && self.all.iter().zip(&*these.all).all(|(one, other)| Arc::ptr_eq(one, other))
    }
}
