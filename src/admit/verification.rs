//! Verifies who sent a request of a source, with the keys that the sender publishes if there are any.

use std::sync::Arc;

use super::external_calls::ExternalCallError;
use super::refusal::{InboundRefusal, bad_signature, call_failed};
use super::worker::{Exchange, Worker};
use super::{Management, RegistryReader};
use crate::inbound::source::{ContentKind, Source, dummy_mac};
use crate::ingest::Submit;
use crate::signature::{Certificate, RequestParts, VerifyError};

impl<D: RegistryReader, S: Submit, M: Management> Worker<D, S, M> {
    /// Verifies a request before its body is read, if its head alone proves who sent it. The body of a refused request is
    /// never stored. Returns whether the request is verified.
    pub(super) async fn verify_head(
        &self,
        exchange: &mut Exchange<'_>,
        source: &Source,
        request: &RequestParts<'_>,
        content: ContentKind,
    ) -> Result<bool, InboundRefusal> {
        let is_event =
            source.recipe.methods.iter().any(|method| method.as_str() == request.method) && source.accepts(content);
        if source.is_partner() || !is_event || !source.is_verified_by_head(request.method) {
            return Ok(false);
        }
        let verified = self.verify_inbound(source, request).await;
        if verified.is_err() {
            exchange.discard_body().await;
        }
        verified.map(|()| true)
    }

    pub(super) async fn verify_inbound(
        &self,
        source: &Source,
        request: &RequestParts<'_>,
    ) -> Result<(), InboundRefusal> {
        match source.key_set(request) {
            Ok(None) => {}
            Ok(Some(wanted)) => {
                return match self.admit.external_calls.key_set(&wanted).await {
                    Ok(set) => source
                        .verify_by_key_set(request, Some(&set), self.admit.clock.now())
                        .map_err(|error| bad_signature(source, &error.to_string())),
                    Err(error @ ExternalCallError::Temporary(_)) => Err(call_failed(&error)),
                    Err(ExternalCallError::Permanent(why)) => {
                        Err(bad_signature(source, &format!("the public keys of the sender: {why}")))
                    }
                };
            }
            Err(error) => return Err(bad_signature(source, &error.to_string())),
        }
        let checked = match source.recipe.scheme.certificate_url(request) {
            Ok(None) => source.verify(request, None, self.admit.clock.now()),
            Ok(Some(url)) => match self.certificate(source, &url).await {
                Ok(certificate) => source.verify(request, Some(&certificate), self.admit.clock.now()),
                Err(ExternalCallError::Permanent(why)) => Err(VerifyError::Certificate(why)),
                Err(error @ ExternalCallError::Temporary(_)) => return Err(call_failed(&error)),
            },
            Err(error) => Err(error),
        };
        checked.map_err(|error| {
            if !matches!(error, VerifyError::Mismatch) {
                // Every failure costs as much work as a wrong signature.
                dummy_mac(request.body);
            }
            bad_signature(source, &error.to_string())
        })
    }

    async fn certificate(&self, source: &Source, url: &url::Url) -> Result<Arc<Certificate>, ExternalCallError> {
        match source.extraction.certificate() {
            Some(given) => Ok(Arc::clone(given)),
            None => self.admit.external_calls.certificate(url).await,
        }
    }
}
