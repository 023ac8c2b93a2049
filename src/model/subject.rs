//! Subjects of the event bus: patterns of subjects, and the names of streams and consumers.

use std::fmt;

use crate::limits::{BUS_NAME_BYTES_MAX, SUBJECT_BYTES_MAX};

/// Why a text is not a subject, or not a pattern of subjects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// A character that a subject cannot contain.
    #[error("{character:?} cannot be part of a subject (at character {at}): expected visible ASCII without * and >")]
    Character {
        /// The character.
        character: char,
        /// Its position in the text, in characters from 1.
        at: usize,
    },
    /// Nothing between two dots, at the beginning or at the end.
    #[error("expected text or a placeholder before, between and after the dots of a subject, such as {example}")]
    EmptyToken {
        /// A correct text.
        example: &'static str,
    },
    /// The literal text alone is too long.
    #[error("a subject has at most {SUBJECT_BYTES_MAX} bytes, and the text without its values has {bytes}")]
    TooLong {
        /// The bytes of the literal text.
        bytes: usize,
    },
    /// A wildcard where a pattern cannot have one.
    #[error("* stands for one whole token, and > for all tokens at the end")]
    Wildcard,
    /// A pattern that would cover subjects of the broker itself.
    #[error(
        "the first token must be a name that does not begin with $ or _: subjects such as $JS.API or _INBOX belong to \
         the broker"
    )]
    BrokerSubject,
}

/// A pattern of subjects, such as `hooktide.>` or `orders.*.created`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectPattern(Box<str>);

impl SubjectPattern {
    /// Parses a pattern. `*` stands for one token, and `>` at the end for one token or more.
    ///
    /// # Errors
    /// [`SubjectError`] if the text is not a pattern.
    pub fn try_new(text: &str) -> Result<Self, SubjectError> {
        let wrong = |c: &(usize, char)| !c.1.is_ascii_graphic();
        if let Some((at, character)) = text.chars().enumerate().find(wrong) {
            return Err(SubjectError::Character { character, at: at + 1 });
        }
        if text.len() > SUBJECT_BYTES_MAX {
            return Err(SubjectError::TooLong { bytes: text.len() });
        }
        let mut tokens = text.split('.').peekable();
        while let Some(token) = tokens.next() {
            let is_last = tokens.peek().is_none();
            match token {
                "" => return Err(SubjectError::EmptyToken { example: "hooktide.>" }),
                "*" => {}
                ">" if is_last => {}
                token if token.contains(['*', '>']) => return Err(SubjectError::Wildcard),
                _ => {}
            }
        }
        Ok(Self(text.into()))
    }

    /// Parses a pattern of subjects that webhooks may publish to. The subjects of the broker itself are refused.
    ///
    /// # Errors
    /// As for [`SubjectPattern::try_new`], and [`SubjectError::BrokerSubject`].
    pub fn try_new_for_publishing(text: &str) -> Result<Self, SubjectError> {
        let pattern = Self::try_new(text)?;
        if text.starts_with(['*', '>', '$', '_']) { Err(SubjectError::BrokerSubject) } else { Ok(pattern) }
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern covers this subject.
    pub fn matches(&self, subject: &str) -> bool {
        self.covers_tokens(subject.split('.'))
    }

    /// Whether every subject that `other` covers is covered by this pattern.
    pub fn covers_pattern(&self, other: &Self) -> bool {
        self.covers_tokens(other.0.split('.'))
    }

    /// Whether the pattern covers a subject with these tokens. A token that is not literal text must differ from every
    /// token of a pattern.
    pub fn covers_tokens<'a>(&self, tokens: impl Iterator<Item = &'a str>) -> bool {
        let mut patterns = self.0.split('.');
        let mut matched = 0;
        for token in tokens {
            matched += 1;
            match patterns.next() {
                Some(">") => return true,
                Some("*") if token != ">" => {}
                Some(pattern) if pattern == token => {}
                _ => return false,
            }
        }
        matched > 0 && patterns.next().is_none()
    }
}

impl fmt::Display for SubjectPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The allowed names of streams and consumers.
pub const BUS_NAME_ALLOWED: &str = "expected 1 to 64 of A-Z a-z 0-9 _ and -";

/// Whether a text can be the name of a stream or a consumer.
pub fn is_bus_name(name: &str) -> bool {
    (1..=BUS_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_subjects_and_patterns() {
        for (pattern, other, is_covered) in [
            ("a.>", "a.>", true),
            ("a.>", "a.*", true),
            ("a.>", "a.b.>", true),
            ("a.*", "a.*", true),
            ("a.*", "a.>", false),
            ("a.b", "a.*", false),
            (">", "a.b", true),
        ] {
            let [pattern, other] = [pattern, other].map(|text| SubjectPattern::try_new(text).unwrap());
            assert_eq!(pattern.covers_pattern(&other), is_covered, "{pattern} {other}");
        }
        let pattern = SubjectPattern::try_new("a.*.c").unwrap();
        assert!(pattern.matches("a.b.c") && !pattern.matches("a.b") && !pattern.matches("a.b.c.d"));
    }

    #[test]
    fn webhooks_cannot_get_the_subjects_of_the_broker() {
        for text in [">", "*", "*.a", "$JS.API.>", "_INBOX.>"] {
            assert_eq!(SubjectPattern::try_new_for_publishing(text), Err(SubjectError::BrokerSubject), "{text}");
        }
        for text in ["a>", "a.>.b", "a.b*"] {
            assert_eq!(SubjectPattern::try_new_for_publishing(text), Err(SubjectError::Wildcard), "{text}");
        }
        assert!(SubjectPattern::try_new("a b").is_err() && SubjectPattern::try_new("a..b").is_err());
    }
}
