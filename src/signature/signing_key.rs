//! The key that signs deliveries, made from the secret that its owner sees.

use std::borrow::Cow;
use std::fmt;

use super::{OutboundKey, standard};
use crate::model::Secret;

/// One secret and the key made from it, in the form that the webhook's profile asks for.
pub struct SigningKey {
    /// As shown once to the user.
    pub secret: Secret,
    /// What signs.
    pub kind: SigningKind,
}

/// A key by what it signs with; its schedule is done once.
pub enum SigningKind {
    /// Standard Webhooks `v1`: HMAC-SHA256 by what follows `whsec_`, decoded.
    Hmac(ring::hmac::Key),
    /// Standard Webhooks `v1a`: Ed25519 by what follows `whsk_`, decoded.
    Ed25519(Box<ring::signature::Ed25519KeyPair>),
    /// Of a profile with a scheme of its own.
    Scheme(Box<OutboundKey>),
    /// The webhook's profile cannot use the secret, for this reason: its deliveries fail until it can.
    Unfit(Box<str>),
}

impl SigningKey {
    /// What receivers verify with, if that is not the secret itself.
    pub fn public_key(&self) -> Option<Cow<'_, str>> {
        match &self.kind {
            SigningKind::Ed25519(pair) => Some(standard::public_key(pair).into()),
            SigningKind::Scheme(key) => key.public_key().map(Cow::from),
            SigningKind::Hmac(_) | SigningKind::Unfit(_) => None,
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(crate::model::HIDDEN)
    }
}
