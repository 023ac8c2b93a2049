//! Templates: text with placeholders. All templates of the project use this parser; each user of the module defines its own
//! placeholders.
//!
//! # Syntax
//!
//! - `{name}` is a placeholder. The name is everything up to the first `}`. It is not trimmed and may contain `{`.
//! - `{{` and `}}` outside a placeholder are escapes for `{` and `}`. They are read from left to right: `{{{body}}}` is `{`,
//!   the placeholder `body`, `}`.
//! - Everything else is literal text.
//! - An unclosed `{`, an unopened `}` and an unknown placeholder name are errors. [`TemplateError`] contains the position.
//!
//! ```text
//! "{time}.{body}"  ──parse──►  [Placeholder(Time), Text("."), Placeholder(Body)]  ──write──►  "1711015200.{\"a\":1}"
//! ```
//!
//! Text with many braces, such as the JSON samples of providers, uses [`Syntax::Marked`] instead.
//!
//! # Users
//!
//! | template | placeholders | module |
//! |---|---|---|
//! | `signed` of a scheme | `{body}`, `{time}`, `{header:NAME}` … | `signature` |
//! | a profile's headers | `{event.type}`, `{attempt}` … | `profile` |
//! | a profile's envelope, built by [`TemplateBuilder`] without braces | the values of a delivery | `profile` |
//! | `type` of an event map's rule | `{topic}`, `{source}` | `source` |
//! | the response to a handshake | `{json:/challenge}`, `{hmac-hex …}` … | `provider` |
//! | samples of `hooktide trigger` ([`Syntax::Marked`]) | `%{uuid}`, `"#{unix}"` … | `cli` |
//!
//! # Invariants
//!
//! A template is parsed once. Writing it and iterating over [`Template::parts`] never fails because of the template, does
//! not allocate and calls no trait object. Two literals are never adjacent, and no literal is empty. The length and the
//! number of parts are bounded (`limits`). This module must never know what a placeholder means.

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
    parts: Vec<TemplatePart<P>>,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplatePart<P> {
    /// Literal text, never empty.
    Text(Box<str>),
    /// A placeholder, replaced by a value when the template is written.
    Placeholder(P),
}

/// A buffer that templates are written to.
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
    /// The parts in order, for users that read them in place, such as a MAC.
    pub fn parts(&self) -> &[TemplatePart<P>] {
        &self.parts
    }

    /// The parts in order, by value.
    pub fn into_parts(self) -> Vec<TemplatePart<P>> {
        self.parts
    }

    /// The placeholders in order.
    pub fn placeholders(&self) -> impl Iterator<Item = &P> {
        self.parts.iter().filter_map(|part| match part {
            TemplatePart::Placeholder(placeholder) => Some(placeholder),
            TemplatePart::Text(_) => None,
        })
    }

    /// The literals in order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            TemplatePart::Text(text) => Some(&**text),
            TemplatePart::Placeholder(_) => None,
        })
    }

    /// Appends the template to `out`. `fill` appends the value of a placeholder.
    pub fn write<B: Buffer>(&self, out: &mut B, mut fill: impl FnMut(&P, &mut B)) {
        for part in &self.parts {
            match part {
                TemplatePart::Text(text) => out.push_text(text),
                TemplatePart::Placeholder(placeholder) => fill(placeholder, out),
            }
        }
    }

    /// Like [`Template::write`], for values that can be missing. Stops and returns `None` as soon as `fill` returns `None`;
    /// part of the template is then already written.
    pub fn try_write<B: Buffer>(&self, out: &mut B, mut fill: impl FnMut(&P, &mut B) -> Option<()>) -> Option<()> {
        self.parts.iter().try_for_each(|part| match part {
            TemplatePart::Text(text) => {
                out.push_text(text);
                Some(())
            }
            TemplatePart::Placeholder(placeholder) => fill(placeholder, out),
        })
    }
}

impl<P> Default for Template<P> {
    /// The empty template.
    fn default() -> Self {
        Self { parts: Vec::new() }
    }
}

/// Builds a template part by part.
#[derive(Debug)]
pub struct TemplateBuilder<P> {
    parts: Vec<TemplatePart<P>>,
    /// Literal text since the last placeholder.
    text: String,
}

impl<P> Default for TemplateBuilder<P> {
    fn default() -> Self {
        Self { parts: Vec::new(), text: String::new() }
    }
}

impl<P> TemplateBuilder<P> {
    /// Adds literal text. Braces have no special meaning here.
    pub fn text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Adds a placeholder.
    pub fn placeholder(&mut self, placeholder: P) {
        self.end_text();
        self.parts.push(TemplatePart::Placeholder(placeholder));
    }

    /// Builds the template.
    pub fn build(mut self) -> Template<P> {
        self.end_text();
        self.parts.shrink_to_fit();
        Template { parts: self.parts }
    }

    fn end_text(&mut self) {
        if !self.text.is_empty() {
            self.parts.push(TemplatePart::Text(std::mem::take(&mut self.text).into()));
        }
    }
}
