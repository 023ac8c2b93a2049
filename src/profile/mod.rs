//! profile: what a delivery looks like: its body, its headers, how it is signed. Data, not code.
//!
//! Must never know: webhooks, connections.

use std::sync::{Arc, LazyLock};

use crate::model::{Secret, SigningKey};
use crate::signature::standard::SecretError;

/// The form of deliveries.
#[derive(Debug)]
pub struct Profile {
    name: Box<str>,
}

static STANDARD: LazyLock<Arc<Profile>> = LazyLock::new(|| Arc::new(Profile { name: Profile::STANDARD.into() }));

impl Profile {
    /// The name of the default.
    pub const STANDARD: &str = "standard";

    /// The default: the Standard Webhooks specification.
    pub fn standard() -> Arc<Self> {
        Arc::clone(&STANDARD)
    }

    /// The name under which webhooks ask for it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads a secret in this profile's form, and prepares its key.
    ///
    /// # Errors
    /// What a secret of this profile looks like.
    pub fn key(&self, secret: Secret) -> Result<SigningKey, SecretError> {
        SigningKey::try_new(secret)
    }

    /// A key from a new secret.
    pub fn generate_key(&self) -> SigningKey {
        SigningKey::generate()
    }
}

/// All profiles that there are: those built in and those of `[profiles]`.
#[derive(Debug, Clone)]
pub struct Profiles {
    all: Vec<Arc<Profile>>,
}

impl Default for Profiles {
    fn default() -> Self {
        Self { all: vec![Profile::standard()] }
    }
}

impl Profiles {
    /// The profile of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Profile>> {
        self.all.iter().find(|profile| profile.name() == name)
    }

    /// The profile of this name; one that is not configured any more signs nothing, and its deliveries fail until it is.
    pub fn resolve(&self, name: &str) -> Arc<Profile> {
        self.get(name).map_or_else(|| Arc::new(Profile { name: name.into() }), Arc::clone)
    }
}
