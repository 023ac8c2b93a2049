//! Texts with names in them, as templates are written: `{time}.{body}`; `{{` and `}}` stand for braces.

/// A part of such a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment<'a> {
    /// Never empty.
    Text(String),
    /// What stands in braces.
    Name(&'a str),
}

/// The text cannot be read on from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a brace is not closed or not opened; {{{{ and }}}} stand for braces")]
pub(crate) struct Unbalanced;

/// The parts of a text, up to the first brace that has no other.
pub(crate) fn segments(text: &str) -> Segments<'_> {
    Segments { rest: text }
}

/// See [`segments`].
#[derive(Debug)]
pub(crate) struct Segments<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Segments<'a> {
    type Item = Result<Segment<'a>, Unbalanced>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut literal = String::new();
        while let Some(at) = self.rest.find(['{', '}']) {
            let (before, from) = self.rest.split_at(at);
            literal.push_str(before);
            if from.starts_with("{{") || from.starts_with("}}") {
                literal.push_str(&from[..1]);
                self.rest = &from[2..];
                continue;
            }
            if !literal.is_empty() {
                self.rest = from;
                return Some(Ok(Segment::Text(literal)));
            }
            let Some((name, after)) = from.strip_prefix('{').and_then(|inner| inner.split_once('}')) else {
                self.rest = "";
                return Some(Err(Unbalanced));
            };
            self.rest = after;
            return Some(Ok(Segment::Name(name)));
        }
        literal.push_str(std::mem::take(&mut self.rest));
        (!literal.is_empty()).then_some(Ok(Segment::Text(literal)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_falls_into_literals_and_names() {
        let text = |text: &str| Segment::Text(text.to_owned());
        for (written, wanted) in [
            ("", Ok(vec![])),
            ("a", Ok(vec![text("a")])),
            ("{a}{b.c}", Ok(vec![Segment::Name("a"), Segment::Name("b.c")])),
            ("x {a}.{}", Ok(vec![text("x "), Segment::Name("a"), text("."), Segment::Name("")])),
            ("{{a}}", Ok(vec![text("{a}")])),
            ("{{{a}}}", Ok(vec![text("{"), Segment::Name("a"), text("}")])),
            ("{a{b}", Ok(vec![Segment::Name("a{b")])),
            ("{a", Err(Unbalanced)),
            ("a}", Err(Unbalanced)),
            ("{a}}", Err(Unbalanced)),
        ] {
            assert_eq!(segments(written).collect::<Result<Vec<_>, _>>(), wanted, "{written}");
        }
    }
}
