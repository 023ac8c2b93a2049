//! Handshakes: how providers ask whether an address is ours, and what they want to hear. A form is a list of rules of
//! `table.toml`; the first that wants a request answers it.
//!
//! Promises: what a stranger sends is given back as plain text or as a JSON string and never as HTML, and only if it is
//! short; a secret is asked to sign nothing but tokens. Must never know: sources, HTTP servers.

mod rule;
mod template;

use std::fmt;

use bytes::Bytes;
use http::StatusCode;
use http::{HeaderName, HeaderValue};

pub(super) use rule::RawRule;
use rule::{Asked, Rule};

use super::table;
use crate::model::Secret;
use crate::signature::{Place, Request};

/// One of the forms.
#[derive(Clone, Copy)]
pub struct Handshake(&'static Form);

/// A form: its rules, in order.
#[derive(Debug)]
pub(super) struct Form {
    name: Box<str>,
    rules: Vec<Rule>,
}

/// What a provider hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status; 403 for a provider that knows no verify token, and for what comes from elsewhere.
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
    /// An HTTPS GET of this address, through the egress guard, before the answer (SNS). Its host is one of the provider's.
    Visit(url::Url),
    /// This is the source's secret from now on; only while it has none at all, ended ones included (Asana, Notion):
    /// else anyone could replace it.
    Learn(Secret),
}

impl Form {
    /// # Errors
    /// For the first rule that says nothing sensible.
    pub(super) fn try_new(name: &str, rules: Vec<RawRule>) -> Result<Self, String> {
        let rules = rules.into_iter().map(Rule::try_new).collect::<Result<_, _>>()?;
        Ok(Self { name: name.into(), rules })
    }
}

impl Handshake {
    /// The form of this name in `table.toml`.
    pub fn named(name: &str) -> Option<Self> {
        table::form(name).map(Self)
    }

    /// Every form, by name.
    pub fn all() -> impl Iterator<Item = Self> {
        table::forms().map(Self)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        &self.0.name
    }

    /// What it does, in words, a sentence for each rule.
    pub fn about(self) -> impl Iterator<Item = &'static str> {
        self.0.rules.iter().map(Rule::about)
    }

    /// Whether the provider itself hands over the secret, so that a source may begin without one.
    pub fn learns(self) -> bool {
        self.0.rules.iter().any(Rule::learns)
    }

    /// Where the secret stands that the provider hands over.
    pub fn learned_places(self) -> impl Iterator<Item = &'static Place> {
        self.0.rules.iter().filter_map(Rule::learned_place)
    }

    /// The answer to a request that comes without a signature; `None`: it is no handshake. `secrets` are those in force,
    /// `option` reads the source's options.
    pub fn unsigned(
        self,
        request: &Request<'_>,
        secrets: &[&Secret],
        option: &dyn Fn(&str) -> Option<String>,
    ) -> Option<Answer> {
        self.answer(false, &Asked { request, secrets, option })
    }

    /// The answer to a request whose signature was checked; `None`: it is an event.
    pub fn signed(
        self,
        request: &Request<'_>,
        secrets: &[&Secret],
        option: &dyn Fn(&str) -> Option<String>,
    ) -> Option<Answer> {
        self.answer(true, &Asked { request, secrets, option })
    }

    fn answer(self, signed: bool, asked: &Asked<'_>) -> Option<Answer> {
        self.0.rules.iter().filter(|rule| rule.is_signed() == signed).find_map(|rule| rule.answer(asked))
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
