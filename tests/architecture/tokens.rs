//! What single tokens and short runs of them mean.

use proc_macro2::{Delimiter, Group, Spacing, TokenTree};

/// When an item is compiled, as its attributes say.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum When {
    /// In every build, or it depends on something else than tests and documentation.
    Always,
    /// In tests only.
    Test,
    /// For the documentation only.
    Doc,
}

/// Words that no path begins with. A `::` after one of them begins a global path.
pub(crate) const KEYWORDS: [&str; 34] = [
    "as", "async", "await", "box", "break", "const", "continue", "dyn", "else", "enum", "extern", "fn", "for", "if",
    "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return", "static", "struct", "trait",
    "type", "union", "unsafe", "use", "where", "while",
];

pub(crate) fn word(tokens: &[TokenTree], at: usize) -> Option<String> {
    match tokens.get(at) {
        Some(TokenTree::Ident(word)) => Some(word.to_string()),
        _ => None,
    }
}

pub(crate) fn is_punct(tokens: &[TokenTree], at: usize, character: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}

fn is_joint(tokens: &[TokenTree], at: usize) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.spacing() == Spacing::Joint)
}

pub(crate) fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens, at, ':') && is_joint(tokens, at) && is_punct(tokens, at + 1, ':')
}

pub(crate) fn is_comma(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',')
}

pub(crate) fn is_macro_variable(tokens: &[TokenTree], at: usize) -> bool {
    word(tokens, at).is_some_and(|word| word != "crate")
}

/// Whether the `>` at `at` ends `->` or `=>`.
fn is_arrow(tokens: &[TokenTree], at: usize) -> bool {
    at.checked_sub(1).is_some_and(|before| {
        is_joint(tokens, before) && (is_punct(tokens, before, '-') || is_punct(tokens, before, '='))
    })
}

pub(crate) fn bracket(tokens: &[TokenTree], at: usize) -> Option<Group> {
    match tokens.get(at) {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Bracket => Some(group.clone()),
        _ => None,
    }
}

/// Whether the `::` at `at` begins a path, as in `f(::serde::x)`, and does not continue a type, as in `<T>::x`.
pub(crate) fn begins_path(tokens: &[TokenTree], at: usize) -> bool {
    let Some(before) = at.checked_sub(1) else { return true };
    match &tokens[before] {
        TokenTree::Ident(word) => KEYWORDS.contains(&word.to_string().as_str()),
        TokenTree::Punct(punct) if punct.as_char() == '>' => is_arrow(tokens, before),
        TokenTree::Punct(_) => true,
        TokenTree::Group(group) => group.delimiter() != Delimiter::None,
        TokenTree::Literal(_) => false,
    }
}

/// The words joined by `::` from `at` on, and where they end.
pub(crate) fn segments(tokens: &[TokenTree], at: usize) -> (Vec<String>, usize) {
    let mut segments = Vec::new();
    let mut next = at;
    while let Some(segment) = word(tokens, next) {
        segments.push(segment.trim_start_matches("r#").to_owned());
        next += 1;
        if !is_separator(tokens, next) || word(tokens, next + 2).is_none() {
            break;
        }
        next += 2;
    }
    (segments, next)
}

/// Whether the parentheses after `pub` limit the visibility, and are not the type of a field.
pub(crate) fn is_visibility(group: &Group) -> bool {
    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
    let first = word(&inner, 0).unwrap_or_default();
    first == "in" || (inner.len() == 1 && ["crate", "super", "self"].contains(&first.as_str()))
}

/// When an item with this attribute is compiled.
pub(crate) fn when(attribute: &Group) -> When {
    let tokens: Vec<TokenTree> = attribute.stream().into_iter().collect();
    let (path, _) = segments(&tokens, 0);
    if path.last().is_some_and(|last| last == "test") {
        return When::Test;
    }
    match (path.first().map(String::as_str), tokens.get(1)) {
        (Some("cfg"), Some(TokenTree::Group(condition))) => {
            let condition: Vec<TokenTree> = condition.stream().into_iter().collect();
            if holds_without("test", &condition) == Some(false) {
                When::Test
            } else if holds_without("doc", &condition) == Some(false) {
                When::Doc
            } else {
                When::Always
            }
        }
        _ => When::Always,
    }
}

/// Whether a condition of `cfg` holds if `flag` is not set, or `None` if that depends on other flags.
fn holds_without(flag: &str, condition: &[TokenTree]) -> Option<bool> {
    let name = word(condition, 0).unwrap_or_default();
    let Some(TokenTree::Group(group)) = condition.get(1) else {
        return (name == flag).then_some(false);
    };
    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
    let parts: Vec<Option<bool>> =
        inner.split(is_comma).filter(|part| !part.is_empty()).map(|part| holds_without(flag, part)).collect();
    match name.as_str() {
        "not" => parts.first().copied().flatten().map(|holds| !holds),
        "all" if parts.contains(&Some(false)) => Some(false),
        "any" if parts.iter().all(|part| *part == Some(false)) => Some(false),
        "any" if parts.contains(&Some(true)) => Some(true),
        _ => None,
    }
}

/// Where the item, field, variant, arm or statement that begins at `at` ends.
pub(crate) fn item_end(tokens: &[TokenTree], at: usize) -> usize {
    let mut start = at;
    while word(tokens, start).is_some_and(|word| ["pub", "default", "unsafe", "async"].contains(&word.as_str())) {
        let is_limited = matches!(tokens.get(start + 1), Some(TokenTree::Group(group)) if is_visibility(group));
        start += if is_limited { 2 } else { 1 };
    }
    let first = word(tokens, start).unwrap_or_default();
    let second = word(tokens, start + 1).unwrap_or_default();
    let is_function = first == "const" && ["fn", "unsafe", "async", "extern"].contains(&second.as_str());
    let ends_at_semicolon = ["use", "const", "static", "type", "let"].contains(&first.as_str()) && !is_function;
    let is_item = is_function
        || ["fn", "mod", "struct", "enum", "union", "trait", "impl", "extern", "macro_rules"].contains(&first.as_str());
    let is_field = is_punct(tokens, start + 1, ':') && !is_separator(tokens, start + 1);
    let mut angles = 0_i32;
    for (index, token) in tokens.iter().enumerate().skip(start) {
        match token {
            TokenTree::Punct(punct) => match punct.as_char() {
                ';' => return index + 1,
                '<' if is_field || is_item => angles += 1,
                '>' if (is_field || is_item) && !is_arrow(tokens, index) => angles -= 1,
                ',' if !ends_at_semicolon && !is_item && angles <= 0 => return index + 1,
                _ => {}
            },
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && !ends_at_semicolon => {
                let goes_on = match tokens.get(index + 1) {
                    Some(TokenTree::Punct(punct)) => punct.as_char() != '#',
                    Some(TokenTree::Ident(word)) => *word == "else",
                    _ => false,
                };
                if is_item && angles <= 0 || !is_item && !goes_on {
                    return index + 1;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}
