//! Comments, names and the documents for developers use the standard terms of the field.

use std::str::FromStr;

use proc_macro2::{TokenStream, TokenTree};

use crate::comments::comments;
use crate::words::{NAMES, TEXT};

/// What is wrong with the names and comments of a Rust file.
pub(crate) fn check_rust(path: &str, source: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for comment in comments(source) {
        check_text(path, comment.line, &comment.text, &mut problems);
    }
    let tokens = TokenStream::from_str(source).expect("a file that compiles");
    check_names(path, tokens, &mut problems);
    problems
}

/// What is wrong with a document. Code blocks do not count.
pub(crate) fn check_document(path: &str, document: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let (mut paragraph, mut begin, mut is_code) = (String::new(), 1, false);
    for (at, line) in document.lines().chain([""]).enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if line.trim().is_empty() || is_code {
            check_text(path, begin, &paragraph, &mut problems);
            paragraph.clear();
            begin = at + 2;
        } else {
            paragraph.push_str(line.trim());
            paragraph.push(' ');
        }
    }
    problems
}

/// Looks for [`TEXT`] in a comment or paragraph. Text between backticks names code and does not count.
fn check_text(path: &str, line: usize, text: &str, problems: &mut Vec<String>) {
    let prose: String = text.split('`').step_by(2).collect::<Vec<_>>().join("`");
    let prose = prose.to_lowercase();
    for (form, instead) in TEXT {
        if has_form(&prose, form) {
            problems.push(format!("{path}:{line}: \"{form}\": {instead}"));
        }
    }
}

/// Whether `form` occurs in `prose` as whole words. A form may begin or end with a punctuation mark.
fn has_form(prose: &str, form: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric();
    prose.match_indices(form).any(|(at, _)| {
        let before = prose[..at].chars().next_back().is_some_and(is_letter) && form.starts_with(is_letter);
        let after = prose[at + form.len()..].chars().next().is_some_and(is_letter) && form.ends_with(is_letter);
        !before && !after
    })
}

fn check_names(path: &str, tokens: TokenStream, problems: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => check_names(path, group.stream(), problems),
            TokenTree::Ident(name) => {
                let words = words_of(&name.to_string());
                for (word, instead) in NAMES.iter().filter(|(word, _)| words.iter().any(|w| w == word)) {
                    let line = name.span().start().line;
                    problems.push(format!("{path}:{line}: `{name}` has the word \"{word}\": {instead}"));
                }
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => (),
        }
    }
}

/// The words of a name in snake case, camel case or capitals, in lower case.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in name.chars() {
        if c == '_' || (c.is_uppercase() && was_lower) {
            words.push(String::new());
        }
        was_lower = c.is_lowercase() || c.is_ascii_digit();
        if c != '_' {
            words.last_mut().expect("at least one word").extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn names_are_split_into_words() {
    assert_eq!(words_of("take_permitNow"), ["take", "permit", "now"]);
    assert_eq!(words_of("INGEST_PERMITS"), ["ingest", "permits"]);
    assert_eq!(words_of("HttpHead2x"), ["http", "head2x"]);
    assert_eq!(words_of("_"), [""; 0]);
}

#[test]
fn forms_are_found_as_whole_words_outside_of_code() {
    assert!(has_form("the noun thereof.", "thereof") && !has_form("thereofs", "thereof"));
    let (form, instead) = TEXT[0];
    let source = format!("/// The first half of {form}\nfn f() {{ let s = \"{form}\"; }} // `{form}` is code");
    assert_eq!(check_rust("src/a.rs", &source), [format!("src/a.rs:1: \"{form}\": {instead}")]);
    let document = format!("# Title\n\n{form}\n\n```\n{form}\n```\n");
    assert_eq!(check_document("a.md", &document), [format!("a.md:3: \"{form}\": {instead}")]);
    let (word, instead) = NAMES[0];
    let source = format!("fn f() {{\n    let old_{word} = 1;\n}}");
    assert_eq!(check_rust("b.rs", &source), [format!("b.rs:2: `old_{word}` has the word \"{word}\": {instead}")]);
}
