//! Handshakes: how providers ask whether an address is ours, and what they want to hear.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::http::{HeaderName, HeaderValue};

use crate::model::Secret;
use crate::signature::Request;

/// One of the forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {}

/// What a provider hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// `Content-Type` and others.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Its body.
    pub body: Bytes,
    /// What is to be done beside the answer.
    pub effect: Effect,
}

/// What a handshake asks to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// An HTTPS GET of this address, through the egress guard, before the answer (SNS).
    Visit(url::Url),
    /// This is the source's secret from now on; only while it has none (Asana, Notion).
    Learn(Secret),
}

impl Handshake {
    /// The form of this name in `table.toml`.
    pub fn named(_name: &str) -> Option<Self> {
        None
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        ""
    }

    /// The answer to a request that comes without a signature; `None`: it is no handshake. `secrets` are those in force,
    /// `option` reads the source's options.
    pub fn unsigned(
        self,
        _request: &Request<'_>,
        _secrets: &[Secret],
        _option: &dyn Fn(&str) -> Option<String>,
    ) -> Option<Answer> {
        None
    }

    /// The answer to a request whose signature was checked; `None`: it is an event.
    pub fn signed(
        self,
        _request: &Request<'_>,
        _secrets: &[Secret],
        _option: &dyn Fn(&str) -> Option<String>,
    ) -> Option<Answer> {
        None
    }
}
