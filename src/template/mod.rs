//! template: text with placeholders. One parser for every template of the project; each user says what its placeholders
//! mean.
//!
//! # The rule
//!
//! - `{name}` is a placeholder. The name is everything up to the first `}`, without trimming; it may hold `{`.
//! - `{{` and `}}` outside a placeholder stand for `{` and `}`. They are read from left to right: `{{{body}}}` is `{`, the
//!   placeholder `body`, `}`.
//! - Everything else is literal text, character by character.
//! - A `{` that is not closed, a `}` that is not opened, and a name that the user of the template does not know are errors.
//!   [`TemplateError`] says at which character.
//!
//! ```text
//! "{time}.{body}"  ──parse──►  [Placeholder(Time), Text("."), Placeholder(Body)]  ──write──►  "1711015200.{\"a\":1}"
//! ```
//!
//! Text that is full of braces, such as the JSON samples of providers, is written in [`Syntax::Marked`] instead.
//!
//! # Users
//!
//! | template | placeholders | module |
//! |---|---|---|
//! | `signed` of a scheme | `{body}`, `{time}`, `{header:NAME}` … | `signature` |
//! | a profile's headers | `{event.type}`, `{attempt}` … | `profile` |
//! | a profile's envelope, built by [`Builder`] without braces | the values of a delivery | `profile` |
//! | `type` of an event map's rule | `{topic}`, `{source}` | `source` |
//! | the answer to a handshake | `{json:/challenge}`, `{hmac-hex …}` … | `provider` |
//! | samples of `hooktide trigger` ([`Syntax::Marked`]) | `%{uuid}`, `"#{unix}"` … | `cli` |
//!
//! # Promises
//!
//! A template is parsed once. Writing it, and walking over [`Template::parts`], never fails because of the template,
//! allocates nothing of its own, and calls no trait object. Two literals never stand side by side and none is empty. The
//! length and the number of parts are bounded (`limits`). Must never know: what a placeholder means.

mod error;
mod parse;

#[cfg(test)]
mod tests;

use bytes::BytesMut;

pub use error::TemplateError;
pub use parse::Syntax;

/// A parsed template whose placeholders are values of `P`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template<P> {
    parts: Vec<Part<P>>,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<P> {
    /// Literal text, never empty.
    Text(Box<str>),
    /// What is filled in.
    Placeholder(P),
}

/// What a template is written to.
pub trait Buffer {
    /// Appends literal text.
    fn push_text(&mut self, text: &str);
}

impl Buffer for String {
    fn push_text(&mut self, text: &str) {
        self.push_str(text);
    }
}

impl Buffer for BytesMut {
    fn push_text(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }
}

impl<P> Template<P> {
    /// The parts in their order, for users that read them where they lie, as a MAC does.
    pub fn parts(&self) -> &[Part<P>] {
        &self.parts
    }

    /// The parts in their order, by value.
    pub fn into_parts(self) -> Vec<Part<P>> {
        self.parts
    }

    /// The placeholders in their order.
    pub fn placeholders(&self) -> impl Iterator<Item = &P> {
        self.parts.iter().filter_map(|part| match part {
            Part::Placeholder(placeholder) => Some(placeholder),
            Part::Text(_) => None,
        })
    }

    /// The literals in their order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(&**text),
            Part::Placeholder(_) => None,
        })
    }

    /// Appends the template; `fill` appends the value of a placeholder.
    pub fn write<B: Buffer>(&self, out: &mut B, mut fill: impl FnMut(&P, &mut B)) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_text(text),
                Part::Placeholder(placeholder) => fill(placeholder, out),
            }
        }
    }

    /// The same where a value can be missing: `None`, with part of the template written, as soon as `fill` gives `None`.
    pub fn try_write<B: Buffer>(&self, out: &mut B, mut fill: impl FnMut(&P, &mut B) -> Option<()>) -> Option<()> {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => {
                out.push_text(text);
                Some(())
            }
            Part::Placeholder(placeholder) => fill(placeholder, out),
        })
    }
}

impl<P> Default for Template<P> {
    /// The empty template.
    fn default() -> Self {
        Self { parts: Vec::new() }
    }
}

/// Makes a template part by part.
#[derive(Debug)]
pub struct Builder<P> {
    parts: Vec<Part<P>>,
    /// Literal text since the last placeholder.
    text: String,
}

impl<P> Default for Builder<P> {
    fn default() -> Self {
        Self { parts: Vec::new(), text: String::new() }
    }
}

impl<P> Builder<P> {
    /// Adds literal text. Braces have no meaning here.
    pub fn text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Adds a placeholder.
    pub fn placeholder(&mut self, placeholder: P) {
        self.end_text();
        self.parts.push(Part::Placeholder(placeholder));
    }

    /// The template.
    pub fn build(mut self) -> Template<P> {
        self.end_text();
        self.parts.shrink_to_fit();
        Template { parts: self.parts }
    }

    fn end_text(&mut self) {
        if !self.text.is_empty() {
            self.parts.push(Part::Text(std::mem::take(&mut self.text).into()));
        }
    }
}
