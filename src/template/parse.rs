//! The template parser.

use super::{Template, TemplateBuilder, TemplateError};
use crate::limits::{TEMPLATE_BYTES_MAX, TEMPLATE_PARTS_MAX};

/// The syntax of placeholders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// `{name}`, as described in the module docs. This is the syntax of the configuration.
    Braces,
    /// `%{name}`, and `"#{name}"`. The quotes of the second form belong to the placeholder, so it can be replaced by a JSON
    /// number. Braces without a mark are literal text, there are no escapes, and unknown placeholders are literal text. For
    /// documents with many braces.
    Marked,
}

/// A token that ends literal text, at `start..end`.
#[derive(Debug)]
struct TemplateToken<'a> {
    start: usize,
    end: usize,
    kind: TokenKind<'a>,
    /// The first characters of the token, up to the name if there is one.
    mark: &'a str,
}

#[derive(Debug)]
enum TokenKind<'a> {
    /// Two braces that are an escape for one.
    Escape,
    /// A placeholder with this name.
    Name(&'a str),
    /// An unclosed or unopened mark.
    Unbalanced,
}

impl<P> Template<P> {
    /// Parses a template in [`Syntax::Braces`]. `placeholder` converts a name to a placeholder.
    ///
    /// # Errors
    /// The first error in the text.
    pub fn parse<E>(text: &str, placeholder: impl FnMut(&str) -> Result<P, E>) -> Result<Self, TemplateError<E>> {
        Self::parse_as(Syntax::Braces, text, placeholder)
    }

    /// Parses a template in the given syntax.
    ///
    /// # Errors
    /// The first error in the text. With [`Syntax::Marked`], only the length and the number of parts can be wrong.
    pub fn parse_as<E>(
        syntax: Syntax,
        text: &str,
        mut placeholder: impl FnMut(&str) -> Result<P, E>,
    ) -> Result<Self, TemplateError<E>> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::TooLong { bytes: text.len() });
        }
        let mut builder = TemplateBuilder::default();
        let mut rest = text;
        while let Some(TemplateToken { start, end, kind, mark }) = syntax.next(rest) {
            builder.text(&rest[..start]);
            let at = || text[..text.len() - rest.len() + start].chars().count() + 1;
            let next = match kind {
                TokenKind::Unbalanced if syntax == Syntax::Braces => {
                    return Err(TemplateError::Unbalanced { at: at() });
                }
                TokenKind::Escape | TokenKind::Unbalanced => {
                    builder.text(mark);
                    end
                }
                TokenKind::Name(name) => match placeholder(name) {
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
    /// The first token in the text.
    fn next(self, text: &str) -> Option<TemplateToken<'_>> {
        match self {
            Self::Braces => braces(text),
            Self::Marked => marked(text),
        }
    }
}

fn braces(text: &str) -> Option<TemplateToken<'_>> {
    let start = text.find(['{', '}'])?;
    let from = &text[start..];
    let mark = &from[..1];
    let (kind, len) = if from.starts_with("{{") || from.starts_with("}}") {
        (TokenKind::Escape, 2)
    } else {
        match from.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, _)) => (TokenKind::Name(name), name.len() + 2),
            None => (TokenKind::Unbalanced, 1),
        }
    };
    Some(TemplateToken { start, end: start + len, kind, mark })
}

fn marked(text: &str) -> Option<TemplateToken<'_>> {
    let start = text.find("%{").into_iter().chain(text.find("\"#{")).min()?;
    let from = &text[start..];
    let (mark, close) = if from.starts_with('%') { ("%{", "}") } else { ("\"#{", "}\"") };
    let (kind, len) = match from[mark.len()..].split_once(close) {
        Some((name, _)) => (TokenKind::Name(name), mark.len() + name.len() + close.len()),
        None => (TokenKind::Unbalanced, mark.len()),
    };
    Some(TemplateToken { start, end: start + len, kind, mark })
}
