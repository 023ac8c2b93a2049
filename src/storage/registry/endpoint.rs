//! A webhook's endpoint in its row: the URL, and, encrypted, the credentials and TLS settings.

use std::borrow::Cow;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::record::{RecordError, damaged};
use crate::model::Secret;
use crate::outbound::tls::TlsSettings;
use crate::outbound::{Credentials, Endpoint, SUBJECT_SCHEME, SubjectTemplate};

/// An [`Endpoint`] in parts. The URL is not parsed again when it is read, so stricter rules for new URLs do not prevent
/// a server from starting.
#[derive(Serialize, Deserialize)]
pub(super) struct EndpointRow<'a> {
    #[serde(borrow)]
    url: Cow<'a, str>,
    tls: bool,
    #[serde(borrow)]
    host: Cow<'a, str>,
    port: u16,
    #[serde(borrow)]
    authority: Cow<'a, str>,
    #[serde(borrow)]
    target: Cow<'a, str>,
}

/// The encrypted form of [`Credentials`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum AuthRow<'a> {
    Basic { username: Cow<'a, str>, password: Cow<'a, str> },
    Bearer { token: Cow<'a, str> },
    Header { name: Cow<'a, str>, value: Cow<'a, str> },
}

/// The encrypted form of [`TlsSettings`]. Only the key is a secret.
#[derive(Serialize, Deserialize)]
pub(super) struct TlsRow<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_certificate: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_key: Option<Cow<'a, str>>,
}

impl<'a> EndpointRow<'a> {
    pub(super) fn of(endpoint: &'a Endpoint) -> Self {
        Self {
            url: (&*endpoint.url).into(),
            tls: endpoint.tls,
            host: (&*endpoint.host).into(),
            port: endpoint.port,
            authority: String::from_utf8_lossy(endpoint.authority.as_bytes()),
            target: endpoint.target.as_str().into(),
        }
    }

    pub(super) fn read(self) -> Result<Endpoint, RecordError> {
        // The grammar of subjects must not become stricter, because a row whose template cannot be parsed is damaged.
        let subject = if self.url.starts_with(SUBJECT_SCHEME) {
            Some(SubjectTemplate::parse(&self.url).map_err(damaged)?.into())
        } else {
            None
        };
        Ok(Endpoint {
            url: self.url.into(),
            tls: self.tls,
            host: self.host.into(),
            port: self.port,
            authority: HeaderValue::from_str(&self.authority).map_err(damaged)?,
            target: PathAndQuery::try_from(&*self.target).map_err(damaged)?,
            subject,
        })
    }
}

impl<'a> AuthRow<'a> {
    pub(super) fn of(credentials: &'a Credentials) -> Self {
        match credentials {
            Credentials::Basic { username, password } => {
                Self::Basic { username: (&**username).into(), password: password.reveal().into() }
            }
            Credentials::Bearer { token } => Self::Bearer { token: token.reveal().into() },
            Credentials::Header { name, value } => {
                Self::Header { name: name.as_str().into(), value: value.reveal().into() }
            }
        }
    }

    pub(super) fn read(self) -> Result<Credentials, RecordError> {
        Ok(match self {
            Self::Basic { username, password } => {
                Credentials::Basic { username: username.into(), password: Secret::new(password) }
            }
            Self::Bearer { token } => Credentials::Bearer { token: Secret::new(token) },
            Self::Header { name, value } => {
                let name = HeaderName::try_from(&*name).map_err(damaged)?;
                Credentials::Header { name, value: Secret::new(value) }
            }
        })
    }
}

impl<'a> TlsRow<'a> {
    pub(super) fn of(settings: &'a TlsSettings) -> Self {
        let TlsSettings { ca, client_certificate, client_key } = settings;
        Self {
            ca: ca.as_deref().map(Cow::from),
            client_certificate: client_certificate.as_deref().map(Cow::from),
            client_key: client_key.as_ref().map(|key| key.reveal().into()),
        }
    }

    pub(super) fn read(self) -> TlsSettings {
        TlsSettings {
            ca: self.ca.map(Into::into),
            client_certificate: self.client_certificate.map(Into::into),
            client_key: self.client_key.map(Secret::new),
        }
    }
}
