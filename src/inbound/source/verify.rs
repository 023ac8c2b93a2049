//! Verifies the requests of a source with its secrets, certificates and published keys.

use std::hint::black_box;

use ring::hmac;

use super::Source;
use crate::inbound::provider::Handshake;
use crate::model::{Secret, Timestamp};
use crate::signature::{AmbiguousHeader, Certificate, KeySet, KeySetRequest, RequestParts, VerifyError};

impl Source {
    /// The secret that a person must paste at the provider: the provider's first request brought it, and the provider asks
    /// for it. `None` for all other kinds.
    pub fn secret_to_paste(&self) -> Option<&Secret> {
        let reveals = self.recipe.handshake.is_some_and(Handshake::reveals_secret);
        self.secrets.first().filter(|_| reveals).map(|secret| &secret.secret)
    }

    /// Whether the sender is authenticated, by a signature or by the token in the URL.
    pub fn is_verified(&self) -> bool {
        self.token.is_some() || self.recipe.scheme.requires_verification()
    }

    /// Verifies that the request is signed with one of the source's secrets.
    ///
    /// # Errors
    /// The reason of the failure, for the user who configures the source.
    pub fn verify(
        &self,
        request: &RequestParts<'_>,
        certificate: Option<&Certificate>,
        now: Timestamp,
    ) -> Result<(), VerifyError> {
        let secrets = self.secrets_for(request, now).map_err(ambiguous)?;
        self.recipe.scheme.verify(secrets.iter().map(|secret| &secret.key), certificate, request, now)
    }

    /// Verifies a request whose token is verified by published keys, and by the secrets of the source.
    ///
    /// # Errors
    /// As for [`Self::verify`].
    pub fn verify_by_key_set(
        &self,
        request: &RequestParts<'_>,
        published: Option<&KeySet>,
        now: Timestamp,
    ) -> Result<(), VerifyError> {
        let secrets = self.secrets_for(request, now).map_err(ambiguous)?;
        self.recipe.scheme.verify_by_key_set(secrets.iter().map(|secret| &secret.key), published, request, now)
    }

    /// Where the public keys of a request are. Returns `None` if the secrets of the source verify it.
    ///
    /// # Errors
    /// The reason why no published key could verify the request.
    pub fn key_set(&self, request: &RequestParts<'_>) -> Result<Option<KeySetRequest>, VerifyError> {
        if self.secrets.is_empty() { self.recipe.scheme.key_set(request) } else { Ok(None) }
    }

    /// Whether requests with this method can be verified before their body is read: by their head alone, and no handshake
    /// comes before that.
    pub fn is_verified_by_head(&self, method: &str) -> bool {
        self.recipe.scheme.is_in_head() && self.recipe.handshake.is_none_or(|handshake| !handshake.precedes(method))
    }
}

fn ambiguous(AmbiguousHeader(name): AmbiguousHeader) -> VerifyError {
    VerifyError::Ambiguous(format!("header:{name}").into())
}

/// Computes a MAC over the body and discards it. Used when a request is rejected without a signature check, so that the time
/// of the response does not reveal the reason.
pub fn dummy_mac(body: &[u8]) {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"nobody's");
    black_box(hmac::sign(&key, body));
}
