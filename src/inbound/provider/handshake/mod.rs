//! Handshakes: the requests by which providers verify an endpoint, and the responses they expect. A handshake is a list of
//! rules in `table.toml`; the first rule that matches a request answers it.
//!
//! Invariants: values of an unverified request are returned only as plain text or as JSON strings, never as HTML, and only
//! if they are short. A secret signs only tokens. This module must never know sources or HTTP servers.

mod rule;
mod template;

use std::fmt;

use bytes::Bytes;
use http::StatusCode;
use http::{HeaderName, HeaderValue};

pub(super) use rule::RawHandshakeRule;
use rule::{HandshakeContext, HandshakeRule};

use super::table;
use crate::model::Secret;
use crate::signature::{RequestParts, ValueLocation};

/// A handshake of `table.toml`.
#[derive(Clone, Copy)]
pub struct Handshake(&'static HandshakeRules);

/// The rules of a handshake, in order.
#[derive(Debug)]
pub(super) struct HandshakeRules {
    name: Box<str>,
    rules: Vec<HandshakeRule>,
}

/// The response to a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandshakeResponse {
    /// The status. It is 403 for a wrong verify token and for an address that is not one of the provider's.
    pub status: StatusCode,
    /// The headers, with `Content-Type` if there is a body.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
    /// The action that must be taken before the response is sent.
    pub effect: HandshakeEffect,
}

/// An action that a handshake requires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandshakeEffect {
    /// No action.
    Nothing,
    /// Send an HTTPS GET to this address through the egress guard before the response (SNS). The host is one of the
    /// provider's.
    Visit(url::Url),
    /// Store this as the secret of the source (Asana, Notion). This is allowed only while the source has no secret, not
    /// even an expired one; otherwise anyone could replace it.
    Learn(Secret),
}

impl HandshakeRules {
    /// Compiles the rules of a handshake.
    ///
    /// # Errors
    /// The error of the first invalid rule.
    pub(super) fn try_new(name: &str, rules: Vec<RawHandshakeRule>) -> Result<Self, String> {
        let rules = rules.into_iter().map(HandshakeRule::try_new).collect::<Result<_, _>>()?;
        Ok(Self { name: name.into(), rules })
    }
}

impl Handshake {
    /// The handshake with this name in `table.toml`.
    pub fn named(name: &str) -> Option<Self> {
        table::handshake_rules(name).map(Self)
    }

    /// All handshakes, ordered by name.
    pub fn all() -> impl Iterator<Item = Self> {
        table::all_handshake_rules().map(Self)
    }

    /// The name of the handshake.
    pub fn name(self) -> &'static str {
        &self.0.name
    }

    /// Descriptions of the rules, one sentence each.
    pub fn about(self) -> impl Iterator<Item = &'static str> {
        self.0.rules.iter().map(HandshakeRule::about)
    }

    /// Whether the provider sends the secret in the handshake. A source may then be created without a secret.
    pub fn provides_secret(self) -> bool {
        self.0.rules.iter().any(HandshakeRule::provides_secret)
    }

    /// Whether users who may change the source are shown its secret, because the provider asks a person to paste it.
    pub fn reveals_secret(self) -> bool {
        self.0.rules.iter().any(HandshakeRule::reveals_secret)
    }

    /// The locations of the secret that the provider sends.
    pub fn secret_locations(self) -> impl Iterator<Item = &'static ValueLocation> {
        self.0.rules.iter().filter_map(HandshakeRule::secret_location)
    }

    /// Whether one of the rules is for this method.
    pub fn has_method(self, method: &str) -> bool {
        self.0.rules.iter().any(|rule| rule.has_method(method))
    }

    /// Whether a request with this method may be a handshake before its signature is verified.
    pub fn precedes(self, method: &str) -> bool {
        self.0.rules.iter().any(|rule| !rule.is_signed() && rule.has_method(method))
    }

    /// The response to a request whose signature was not verified. Returns `None` if it is not a handshake. `secrets` are
    /// the active secrets; `option` reads an option of the source.
    pub fn respond_unsigned(
        self,
        request: &RequestParts<'_>,
        secrets: &[&Secret],
        option: &dyn Fn(&str) -> Option<String>,
    ) -> Option<HandshakeResponse> {
        self.respond(&HandshakeContext { request, secrets, is_verified: false, option })
    }

    /// The response to a request whose signature was verified. Returns `None` if it is an event. The parameters are those of
    /// [`Handshake::respond_unsigned`]; the first secret is the one that verified the request.
    pub fn respond_signed(
        self,
        request: &RequestParts<'_>,
        secrets: &[&Secret],
        option: &dyn Fn(&str) -> Option<String>,
    ) -> Option<HandshakeResponse> {
        self.respond(&HandshakeContext { request, secrets, is_verified: true, option })
    }

    /// A verified request can also match a rule for requests that are not verified: no handshake becomes an event.
    fn respond(self, context: &HandshakeContext<'_>) -> Option<HandshakeResponse> {
        let of = |signed| self.0.rules.iter().filter(move |rule| rule.is_signed() == signed);
        let verified = of(true).filter(|_| context.is_verified);
        verified.chain(of(false)).find_map(|rule| rule.respond(context))
    }
}

impl PartialEq for Handshake {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Handshake {}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handshake({})", self.name())
    }
}
