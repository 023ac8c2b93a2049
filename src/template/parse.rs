//! From text to parts.

use super::{Builder, Template, TemplateError};
use crate::limits::{TEMPLATE_BYTES_MAX, TEMPLATE_PARTS_MAX};

/// How placeholders are told from text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// `{name}`, as the module describes it: what people write in configuration.
    Braces,
    /// `%{name}`, and `"#{name}"` whose quotes belong to the placeholder, so that a number can stand in JSON. Braces
    /// without a mark are text, nothing is escaped, and what is no placeholder is text too. For documents that are full
    /// of braces.
    Marked,
}

/// What interrupts literal text, at `start..end`.
#[derive(Debug)]
struct Interruption<'a> {
    start: usize,
    end: usize,
    kind: Kind<'a>,
    /// Its first characters, up to the name if there is one.
    mark: &'a str,
}

#[derive(Debug)]
enum Kind<'a> {
    /// Two braces that stand for one.
    Escape,
    /// A placeholder of this name.
    Name(&'a str),
    /// A mark that is not closed or not opened.
    Unbalanced,
}

impl<P> Template<P> {
    /// Parses `{name}`; `placeholder` says what a name means.
    ///
    /// # Errors
    /// For the first thing that is wrong.
    pub fn parse<E>(text: &str, placeholder: impl FnMut(&str) -> Result<P, E>) -> Result<Self, TemplateError<E>> {
        Self::parse_as(Syntax::Braces, text, placeholder)
    }

    /// The same in a syntax.
    ///
    /// # Errors
    /// For the first thing that is wrong; [`Syntax::Marked`] has only the errors of length.
    pub fn parse_as<E>(
        syntax: Syntax,
        text: &str,
        mut placeholder: impl FnMut(&str) -> Result<P, E>,
    ) -> Result<Self, TemplateError<E>> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::TooLong { bytes: text.len() });
        }
        let mut builder = Builder::default();
        let mut rest = text;
        while let Some(Interruption { start, end, kind, mark }) = syntax.next(rest) {
            builder.text(&rest[..start]);
            let at = || text[..text.len() - rest.len() + start].chars().count() + 1;
            let next = match kind {
                Kind::Unbalanced if syntax == Syntax::Braces => return Err(TemplateError::Unbalanced { at: at() }),
                Kind::Escape | Kind::Unbalanced => {
                    builder.text(mark);
                    end
                }
                Kind::Name(name) => match placeholder(name) {
                    Ok(placeholder) => {
                        builder.placeholder(placeholder);
                        end
                    }
                    Err(error) if syntax == Syntax::Braces => {
                        return Err(TemplateError::Placeholder { at: at(), error });
                    }
                    Err(_) => {
                        builder.text(mark);
                        start + mark.len()
                    }
                },
            };
            rest = &rest[next..];
        }
        builder.text(rest);
        let template = builder.build();
        if template.parts().len() > TEMPLATE_PARTS_MAX { Err(TemplateError::TooManyParts) } else { Ok(template) }
    }
}

impl Syntax {
    /// The first interruption of a text.
    fn next(self, text: &str) -> Option<Interruption<'_>> {
        match self {
            Self::Braces => braces(text),
            Self::Marked => marked(text),
        }
    }
}

fn braces(text: &str) -> Option<Interruption<'_>> {
    let start = text.find(['{', '}'])?;
    let from = &text[start..];
    let mark = &from[..1];
    let (kind, len) = if from.starts_with("{{") || from.starts_with("}}") {
        (Kind::Escape, 2)
    } else {
        match from.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, _)) => (Kind::Name(name), name.len() + 2),
            None => (Kind::Unbalanced, 1),
        }
    };
    Some(Interruption { start, end: start + len, kind, mark })
}

fn marked(text: &str) -> Option<Interruption<'_>> {
    let start = text.find("%{").into_iter().chain(text.find("\"#{")).min()?;
    let from = &text[start..];
    let (mark, close) = if from.starts_with('%') { ("%{", "}") } else { ("\"#{", "}\"") };
    let (kind, len) = match from[mark.len()..].split_once(close) {
        Some((name, _)) => (Kind::Name(name), mark.len() + name.len() + close.len()),
        None => (Kind::Unbalanced, mark.len()),
    };
    Some(Interruption { start, end: start + len, kind, mark })
}
