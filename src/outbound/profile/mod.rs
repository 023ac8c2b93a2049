//! profile: what a delivery looks like: its body, its headers, how it is signed. Data, not code.
//!
//! ```text
//! config.toml, built_in.toml ──► RawProfile ──► Profile: envelope (pieces around the data), headers, signing
//! ```
//! Promises: what is wrong with a profile is named by its key before any webhook has it; the event's data is never parsed,
//! joined or copied; a profile that is gone or a secret that it cannot use is said by each delivery, and nothing is signed
//! in another form instead. Must never know: webhooks, connections.

mod check;
mod envelope;
mod header;
mod key;
mod value;

#[cfg(test)]
mod tests;

pub use envelope::Body;
pub use key::{KeyError, KeyType};
pub use value::{Values, WebhookName};

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use http::header::{HeaderName, HeaderValue};

pub use crate::model::{Envelope, RawProfile, Sign};

use crate::signature::Outbound;
use check::BUILT_IN;
use header::HeaderTemplate;

/// The form of deliveries.
#[derive(Debug)]
pub struct Profile {
    name: Box<str>,
    /// As it was written; absent of one that is not configured.
    written: Option<RawProfile>,
    body: Body,
    headers: Vec<(HeaderName, HeaderTemplate)>,
    user_agent: Option<HeaderValue>,
    signing: Signing,
}

/// How deliveries are signed.
#[derive(Debug)]
pub enum Signing {
    /// As the Standard Webhooks specification says.
    Standard,
    /// By a scheme of the profile's own.
    Scheme(Box<Outbound>),
    /// The profile is not configured: nothing can be sent.
    Unknown,
}

/// Something that is wrong with a profile, or a name that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", path.join("."))]
pub struct ProfileError {
    /// Where, from the name on: `["mine", "sign", "sig"]`.
    pub path: Vec<String>,
    /// What is wrong and what is allowed.
    pub problem: String,
}

static STANDARD: LazyLock<Arc<Profile>> = LazyLock::new(|| {
    let found = BUILT_IN.iter().find(|profile| profile.name() == Profile::STANDARD);
    found.map_or_else(|| Arc::new(Profile::unknown(Profile::STANDARD)), Arc::clone)
});

impl Profile {
    /// The name of the default.
    pub const STANDARD: &str = "standard";

    /// The default: the Standard Webhooks specification.
    pub fn standard() -> Arc<Self> {
        Arc::clone(&STANDARD)
    }

    /// One that is not configured.
    fn unknown(name: &str) -> Self {
        Self {
            name: name.into(),
            written: None,
            body: Body::Raw,
            headers: Vec::new(),
            user_agent: None,
            signing: Signing::Unknown,
        }
    }

    /// The name under which webhooks ask for it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is configured; of one that is not, deliveries fail.
    pub fn is_known(&self) -> bool {
        !matches!(self.signing, Signing::Unknown)
    }

    /// What the body is.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// How deliveries are signed.
    pub fn signing(&self) -> &Signing {
        &self.signing
    }

    /// `User-Agent`, if it is not Hooktide's.
    pub fn user_agent(&self) -> Option<&HeaderValue> {
        self.user_agent.as_ref()
    }

    /// The headers of the profile's own for a delivery; those of its signature come on top.
    pub fn headers<'a>(&'a self, values: &'a Values<'_>) -> impl Iterator<Item = (&'a HeaderName, HeaderValue)> {
        self.headers.iter().filter_map(|(name, template)| Some((name, template.fill(values)?)))
    }

    /// Whether it sets this header, so that a webhook cannot: its own, and those of its signature.
    pub fn sets(&self, name: &HeaderName) -> bool {
        self.headers.iter().any(|(own, _)| own == name)
            || matches!(&self.signing, Signing::Scheme(scheme) if scheme.headers().any(|own| own == name))
    }
}

/// All profiles that there are: those built in and those of `[profiles]`.
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
    /// Those built in and these. `homechef_signature` renames the header that `homechef` signs in.
    ///
    /// # Errors
    /// Everything that is wrong with any of them.
    pub fn try_new(
        written: &BTreeMap<String, RawProfile>,
        homechef_signature: Option<&str>,
    ) -> Result<Self, Vec<ProfileError>> {
        check::all(written, homechef_signature).map(|all| Self { all: all.into() })
    }

    /// The profile of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Profile>> {
        self.all.iter().find(|profile| profile.name() == name)
    }

    /// The profile of this name; one that is not configured any more signs nothing, and its deliveries fail until it is.
    pub fn resolve(&self, name: &str) -> Arc<Profile> {
        self.get(name).map_or_else(|| Arc::new(Profile::unknown(name)), Arc::clone)
    }

    /// Their names, those built in first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|profile| profile.name())
    }

    /// The same profiles, but those that are written as they were before stay what they were, so that whoever has one need
    /// not be built anew.
    #[must_use]
    pub fn keeping(self, before: &Self) -> Self {
        let same = |new: &Arc<Profile>| before.get(new.name()).filter(|old| old.written == new.written).cloned();
        Self { all: self.all.iter().map(|new| same(new).unwrap_or_else(|| Arc::clone(new))).collect() }
    }

    /// Whether they are the very profiles that these are.
    pub fn are(&self, these: &Self) -> bool {
        self.all.len() == these.all.len()
            && self.all.iter().zip(&*these.all).all(|(one, other)| Arc::ptr_eq(one, other))
    }
}
