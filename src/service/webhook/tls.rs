//! The field `tls` of a webhook: the certificate authority that it trusts and its client certificate. This module
//! parses and renders it.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::limits::{TLS_CA_BYTES_MAX, TLS_CLIENT_BYTES_MAX};
use crate::model::{FieldError, HIDDEN, Secret};
use crate::outbound::tls::{EndpointTls, TlsSettings};
use crate::service::fields::{DocumentFields, FieldUpdate, pointer};

impl DocumentFields {
    /// Reads `tls`. A patch is merged with the present settings. A key of `***` keeps the present key. An empty object
    /// means no TLS settings.
    pub(super) fn tls(
        &mut self,
        present: Option<&Arc<EndpointTls>>,
        merge: bool,
    ) -> FieldUpdate<Option<Arc<EndpointTls>>> {
        let read = |value: Value| match value {
            Value::Object(given) => Ok(given),
            _ => Err("expected an object with ca, or client_certificate and client_key, or all of them".to_owned()),
        };
        let mut part = match self.take("tls", read) {
            FieldUpdate::Value(given) => Self::new(given),
            FieldUpdate::Null => return FieldUpdate::Null,
            FieldUpdate::Absent => return FieldUpdate::Absent,
        };
        let before = present.map(|tls| tls.settings());
        let base = before.filter(|_| merge);
        let settings = TlsSettings {
            ca: part.pem("ca", TLS_CA_BYTES_MAX).or(base.and_then(|base| base.ca.clone())),
            client_certificate: part
                .pem("client_certificate", TLS_CLIENT_BYTES_MAX)
                .or(base.and_then(|base| base.client_certificate.clone())),
            client_key: part
                .key(before.and_then(|before| before.client_key.as_ref()))
                .or(base.and_then(|base| base.client_key.clone())),
        };
        for key in part.unread.keys() {
            let detail = "unknown field; allowed: ca, client_certificate, client_key. Verification cannot be switched off; \
                a private authority is trusted by ca";
            part.errors.push(FieldError::new(pointer(key), detail));
        }
        if part.errors.is_empty() && !settings.is_empty() {
            match EndpointTls::try_new(settings) {
                // Unchanged settings keep their open connections.
                Ok(tls) if before == Some(tls.settings()) => return FieldUpdate::Value(present.cloned()),
                Ok(tls) => return FieldUpdate::Value(Some(Arc::new(tls))),
                Err((field, fault)) => part.wrong(pointer(field), fault.to_string()),
            }
        }
        let below = |error: FieldError| FieldError { pointer: format!("/tls{}", error.pointer), ..error };
        self.errors.extend(part.errors.into_iter().map(below));
        FieldUpdate::Value(None)
    }

    fn pem(&mut self, key: &str, bytes_max: usize) -> FieldUpdate<Box<str>> {
        self.take(key, |value| match value {
            Value::String(text) if text.len() <= bytes_max => Ok(text.into()),
            _ => Err(format!("expected PEM of at most {bytes_max} bytes, or null")),
        })
    }

    fn key(&mut self, present: Option<&Secret>) -> FieldUpdate<Secret> {
        self.take("client_key", |value| match value {
            Value::String(text) if text == HIDDEN => {
                present.cloned().ok_or_else(|| format!("{HIDDEN} keeps a key, and there is none"))
            }
            Value::String(text) if text.len() <= TLS_CLIENT_BYTES_MAX => Ok(Secret::new(text)),
            _ => Err(format!("expected PEM of at most {TLS_CLIENT_BYTES_MAX} bytes, or null")),
        })
    }
}

/// Renders TLS settings with their key as `***`.
#[derive(Serialize)]
pub(super) struct TlsDocument<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_key: Option<&'static str>,
}

impl<'a> TlsDocument<'a> {
    /// Creates the document of TLS settings.
    pub(super) fn of(tls: &'a EndpointTls) -> Self {
        let TlsSettings { ca, client_certificate, client_key } = tls.settings();
        Self {
            ca: ca.as_deref(),
            client_certificate: client_certificate.as_deref(),
            client_key: client_key.as_ref().map(|_| HIDDEN),
        }
    }
}
