//! Credentials with which deliveries authenticate to an endpoint, in addition to their signature.

use std::fmt;

use data_encoding::BASE64;
use http::header::{AUTHORIZATION, InvalidHeaderValue};
use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::model::Secret;

/// The credentials that an endpoint requires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// `Authorization: Basic …` (RFC 7617), in UTF-8.
    Basic {
        /// The user name, without `:`, which ends the name.
        username: Box<str>,
        /// The password.
        password: Secret,
    },
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer {
        /// The token.
        token: Secret,
    },
    /// A custom header.
    Header {
        /// The name of the header.
        name: HeaderName,
        /// The value of the header.
        value: Secret,
    },
}

/// Credentials with their header, which is built once and not for each delivery.
#[derive(Clone)]
pub struct EndpointAuth {
    credentials: Credentials,
    name: HeaderName,
    value: HeaderValue,
}

impl EndpointAuth {
    /// Builds the header for credentials.
    ///
    /// # Errors
    /// [`InvalidHeaderValue`] if a token or value holds a character that a header cannot hold.
    pub fn try_new(credentials: Credentials) -> Result<Self, InvalidHeaderValue> {
        let (name, text) = match &credentials {
            Credentials::Basic { username, password } => {
                let pair = Zeroizing::new(format!("{username}:{}", password.reveal()));
                (AUTHORIZATION, Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes()))))
            }
            Credentials::Bearer { token } => (AUTHORIZATION, Zeroizing::new(format!("Bearer {}", token.reveal()))),
            Credentials::Header { name, value } => (name.clone(), Zeroizing::new(value.reveal().to_owned())),
        };
        let mut value = HeaderValue::from_str(&text)?;
        value.set_sensitive(true);
        Ok(Self { credentials, name, value })
    }

    /// The credentials as given.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The header with the credentials. [`HeaderValue::is_sensitive`] is true for the value.
    pub fn header(&self) -> (&HeaderName, &HeaderValue) {
        (&self.name, &self.value)
    }
}

impl PartialEq for EndpointAuth {
    fn eq(&self, other: &Self) -> bool {
        self.credentials == other.credentials
    }
}

impl Eq for EndpointAuth {}

impl fmt::Debug for EndpointAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.credentials.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_makes_its_header() {
        let name = HeaderName::from_static("x-api-key");
        for (credentials, header, value) in [
            // RFC 7617, sections 2 and 2.1.
            (
                Credentials::Basic { username: "Aladdin".into(), password: Secret::new("open sesame") },
                "authorization",
                "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            ),
            (
                Credentials::Basic { username: "test".into(), password: Secret::new("123£") },
                "authorization",
                "Basic dGVzdDoxMjPCow==",
            ),
            (Credentials::Bearer { token: Secret::new("mF_9.B5f-4.1JqM") }, "authorization", "Bearer mF_9.B5f-4.1JqM"),
            (Credentials::Header { name, value: Secret::new("a b") }, "x-api-key", "a b"),
        ] {
            let auth = EndpointAuth::try_new(credentials).unwrap();
            let (made, carried) = auth.header();
            assert_eq!((made.as_str(), carried.as_bytes()), (header, value.as_bytes()));
            assert!(carried.is_sensitive());
        }
        assert!(EndpointAuth::try_new(Credentials::Bearer { token: Secret::new("a\nb") }).is_err());
    }

    #[test]
    fn no_secret_is_printed() {
        let auth = EndpointAuth::try_new(Credentials::Bearer { token: Secret::new("canary") }).unwrap();
        assert_eq!(format!("{auth:?}"), "Bearer { token: *** }");
    }
}
