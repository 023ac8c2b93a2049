//! A type name occurs once in `src/`, unless its module makes its meaning obvious.

use std::collections::BTreeMap;
use std::str::FromStr;

use proc_macro2::{TokenStream, TokenTree};

use crate::tokens::{When, bracket, is_punct, item_end, when, word};

/// A place where a type may have a name that other places use too.
pub(crate) struct Allowance {
    /// The name, or `*` for every name.
    pub(crate) name: &'static str,
    /// The file, or the folder with a slash at the end.
    pub(crate) path: &'static str,
    /// Why the module makes the meaning obvious.
    pub(crate) reason: &'static str,
}

const fn allow(name: &'static str, path: &'static str, reason: &'static str) -> Allowance {
    Allowance { name, path, reason }
}

/// All exceptions.
pub(crate) const ALLOWED: [Allowance; 3] = [
    allow("*", "src/cli/", "the arguments and the output of one command, private to its file"),
    allow("View", "src/api/", "the JSON form of the resource that the file is named after"),
    allow("Row", "src/storage/registry/", "the stored form of the record that the file is named after"),
];

/// The types that `source` declares outside of functions, with their lines. Types that only tests compile do not count.
fn declared_types(source: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let tokens = TokenStream::from_str(source).expect("a file that compiles");
    collect(&tokens.into_iter().collect::<Vec<_>>(), &mut found);
    found
}

fn collect(tokens: &[TokenTree], found: &mut Vec<(usize, String)>) {
    let mut at = 0;
    while at < tokens.len() {
        let mut compiled = When::Always;
        while let Some(group) = bracket(tokens, at + 1).filter(|_| is_punct(tokens, at, '#')) {
            compiled = if compiled == When::Always { when(&group) } else { compiled };
            at += 2;
        }
        let end = item_end(tokens, at).clamp((at + 1).min(tokens.len()), tokens.len());
        if compiled == When::Always {
            item(&tokens[at..end], found);
        }
        at = end.max(at + 1);
    }
}

/// Adds the type that an item declares, or the types in an inline module.
fn item(tokens: &[TokenTree], found: &mut Vec<(usize, String)>) {
    for at in 0..tokens.len() {
        match word(tokens, at).as_deref() {
            Some("struct" | "enum" | "trait" | "union" | "type") => {
                if let Some(name) = word(tokens, at + 1) {
                    found.push((tokens[at + 1].span().start().line, name));
                }
                return;
            }
            Some("mod") => {
                if let Some(TokenTree::Group(body)) = tokens.get(at + 2) {
                    collect(&body.stream().into_iter().collect::<Vec<_>>(), found);
                }
                return;
            }
            // The visibility comes before the keyword.
            Some("pub" | "unsafe") | None => (),
            Some(_) => return,
        }
    }
}

/// What is wrong with the type names of these files. `is_test` says which files only tests compile.
pub(crate) fn check(
    files: &BTreeMap<String, String>,
    allowed: &[Allowance],
    is_test: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut by_name: BTreeMap<String, Vec<(String, usize)>> = BTreeMap::new();
    for (path, source) in files.iter().filter(|(path, _)| !is_test(path)) {
        for (line, name) in declared_types(source) {
            by_name.entry(name).or_default().push((path.clone(), line));
        }
    }
    let mut is_used = vec![false; allowed.len()];
    let mut problems = Vec::new();
    for (name, places) in by_name.iter().filter(|(_, places)| places.len() > 1) {
        let mut rest = Vec::new();
        for (path, line) in places {
            let covers = |a: &Allowance| {
                (a.name == "*" || a.name == name)
                    && (a.path == path || a.path.ends_with('/') && path.starts_with(a.path))
            };
            match allowed.iter().position(covers) {
                Some(at) => is_used[at] = true,
                None => rest.push(format!("{path}:{line}")),
            }
        }
        if rest.len() > 1 {
            problems.push(format!("`{name}` names {} types: {}", rest.len(), rest.join(", ")));
        }
    }
    for (allowance, _) in allowed.iter().zip(is_used).filter(|(_, used)| !used) {
        let Allowance { name, path, reason } = allowance;
        problems.push(format!("`{name}` in {path} needs no exception any more ({reason})"));
    }
    problems
}

#[test]
fn a_name_with_two_types_is_reported_unless_it_is_allowed() {
    let files = [
        ("src/a.rs", "pub(in crate::x) struct Key; mod inner { enum Row {} } fn f() { struct Local; }"),
        ("src/b/mod.rs", "#[derive(Debug)]\npub enum Key { Local }\ntype Row = u8;\n#[cfg(test)] struct OnlyA;"),
        ("src/c.rs", "impl T for S { type Key = u8; }\nstruct OnlyA;"),
        ("src/tests.rs", "struct OnlyA;"),
    ];
    let files = files.into_iter().map(|(path, source)| (path.to_owned(), source.to_owned())).collect();
    let check = |allowed: &[Allowance]| check(&files, allowed, |path| path.ends_with("tests.rs"));
    assert_eq!(check(&[allow("Row", "src/b/", "")]), ["`Key` names 2 types: src/a.rs:1, src/b/mod.rs:2"]);
    assert_eq!(
        check(&[allow("*", "src/b/mod.rs", ""), allow("Key", "src/b", "")]),
        ["`Key` in src/b needs no exception any more ()"]
    );
}
