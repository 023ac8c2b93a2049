//! The key that signs deliveries, made from the secret of a webhook.

use std::borrow::Cow;
use std::fmt;

use super::{OutboundKey, standard};
use crate::model::Secret;

/// A secret and the key made from it, in the form that the profile of the webhook requires.
pub struct SigningKey {
    /// The secret, which is shown once to the user.
    pub secret: Secret,
    /// The prepared key.
    pub kind: SigningKind,
}

/// A signing key in the form of its algorithm. The key schedule is computed once.
pub enum SigningKind {
    /// Standard Webhooks `v1`: HMAC-SHA256. The key is the decoded text after `whsec_`.
    Hmac(ring::hmac::Key),
    /// Standard Webhooks `v1a`: Ed25519. The key is the decoded text after `whsk_`.
    Ed25519(Box<ring::signature::Ed25519KeyPair>),
    /// The key of a profile with its own scheme.
    Scheme(Box<OutboundKey>),
    /// The profile of the webhook cannot use the secret, for this reason. Deliveries fail until the profile or the
    /// secret changes.
    Unusable(Box<str>),
}

impl SigningKey {
    /// The public key with which receivers verify; `None` if receivers verify with the secret itself.
    pub fn public_key(&self) -> Option<Cow<'_, str>> {
        match &self.kind {
            SigningKind::Ed25519(pair) => Some(standard::public_key(pair).into()),
            SigningKind::Scheme(key) => key.public_key().map(Cow::from),
            SigningKind::Hmac(_) | SigningKind::Unusable(_) => None,
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(crate::model::HIDDEN)
    }
}
