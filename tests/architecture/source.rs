//! Finds what a source file refers to.
//!
//! It reads tokens, so comments and strings do not count and the bodies of macros do.

use std::collections::BTreeSet;
use std::str::FromStr;

use proc_macro2::{Group, Spacing, TokenStream, TokenTree};

use crate::tokens::{
    KEYWORDS, When, begins_path, bracket, is_comma, is_macro_variable, is_punct, is_separator, is_visibility, item_end,
    segments, when, word,
};

/// A path in a source file whose first segment names a folder of the crate or an external crate.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    /// The line of the path.
    pub(crate) line: usize,
    /// The folder of `src/`, or the crate as code names it.
    pub(crate) name: String,
    /// Whether only tests compile it.
    pub(crate) test: bool,
}

/// What one file says.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// First segments after `crate`. Some may name items of the root instead of folders.
    pub(crate) imports: Vec<Reference>,
    /// First segments that the file neither declares nor imports. Some name types or modules instead of crates.
    pub(crate) crates: Vec<Reference>,
    /// Paths of the modules that only tests compile and that have a file of their own.
    pub(crate) test_modules: Vec<Vec<String>>,
    /// Code that the rules cannot be checked for, with its line.
    pub(crate) problems: Vec<(usize, String)>,
}

/// Reads the file of the module `path`, which is empty for the root of the crate.
pub(crate) fn read(path: &[String], text: &str) -> Source {
    let tokens = match TokenStream::from_str(text) {
        Ok(tokens) => tokens,
        Err(error) => {
            let problem = (error.span().start().line, "cannot be read as Rust".to_owned());
            return Source { problems: vec![problem], ..Source::default() };
        }
    };
    let mut reader = Reader { scope: path.to_vec(), test: false, local: BTreeSet::new(), source: Source::default() };
    reader.code(&tokens.into_iter().collect::<Vec<_>>());
    let Reader { local, mut source, .. } = reader;
    source.crates.retain(|reference| !local.contains(&reference.name));
    for reference in &mut source.crates {
        reference.name = reference.name.trim_start_matches(':').to_owned();
    }
    source
}

struct Reader {
    /// The module whose code is being read.
    scope: Vec<String>,
    /// Whether only tests compile the code being read.
    test: bool,
    /// Names that the file declares as modules or imports. A path that begins with one is not a path into a crate.
    local: BTreeSet<String>,
    source: Source,
}

impl Reader {
    /// Reads the tokens of a file, a group or an item.
    fn code(&mut self, tokens: &[TokenTree]) {
        let outer = self.test;
        let mut at = 0;
        while at < tokens.len() {
            at = self.one(tokens, at);
        }
        self.test = outer;
    }

    /// Reads what begins at `at`, and returns where the next thing begins.
    fn one(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        match &tokens[at] {
            TokenTree::Punct(punct) if punct.as_char() == '#' => self.attributes(tokens, at),
            // A range, then a field, a method or a lifetime:
            TokenTree::Punct(punct) if punct.as_char() == '.' && punct.spacing() == Spacing::Joint => at + 2,
            TokenTree::Punct(punct) if ['.', '\''].contains(&punct.as_char()) => at + 2,
            TokenTree::Punct(punct) if punct.as_char() == '$' && is_macro_variable(tokens, at + 1) => at + 2,
            TokenTree::Punct(_) if is_separator(tokens, at) => self.after_separator(tokens, at),
            TokenTree::Punct(_) | TokenTree::Literal(_) => at + 1,
            TokenTree::Group(group) => {
                self.group(group);
                at + 1
            }
            TokenTree::Ident(_) => self.word(tokens, at),
        }
    }

    fn group(&mut self, group: &Group) {
        self.code(&group.stream().into_iter().collect::<Vec<_>>());
    }

    /// Reads the attributes at `at` and, if only tests or the documentation compile it, the item that they belong to.
    fn attributes(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        if let Some(group) = bracket(tokens, at + 2).filter(|_| is_punct(tokens, at + 1, '!')) {
            self.test |= when(&group) == When::Test;
            return at + 3;
        }
        let (mut next, mut compiled) = (at, When::Always);
        while let Some(group) = bracket(tokens, next + 1).filter(|_| is_punct(tokens, next, '#')) {
            compiled = if compiled == When::Always { when(&group) } else { compiled };
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            if word(&inner, 0).as_deref() == Some("path") {
                self.problem(&inner[0], "a module with a `path` attribute cannot be checked");
            }
            next += 2;
        }
        if next == at {
            return at + 1;
        }
        let end = if compiled == When::Always { next } else { item_end(tokens, next) };
        if compiled != When::Doc {
            let outer = self.test;
            self.test |= compiled == When::Test;
            self.code(&tokens[next..end]);
            self.attribute_values(&tokens[at..next]);
            self.test = outer;
        }
        end
    }

    /// Reads paths inside attributes, like the macro in `#[derive(serde::Serialize)]`.
    fn attribute_values(&mut self, attributes: &[TokenTree]) {
        for token in attributes {
            if let TokenTree::Group(group) = token {
                self.group(group);
            }
        }
    }

    /// Reads on from a `::` that no path before it has taken in: a global path, or the rest of `<T>::name`.
    fn after_separator(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        let (segments, next) = segments(tokens, at + 2);
        if segments.is_empty() {
            return at + 2;
        }
        if begins_path(tokens, at) {
            let name = format!("::{}", segments[0]);
            self.reference(&[name], &tokens[at]);
        }
        next
    }

    fn word(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        let word = tokens[at].to_string();
        match (word.as_str(), tokens.get(at + 1)) {
            ("pub", Some(TokenTree::Group(group))) if is_visibility(group) => at + 2,
            ("mod", Some(TokenTree::Ident(name))) => {
                self.module(name.to_string(), tokens.get(at + 2));
                at + 3
            }
            ("use", Some(next)) if !is_punct(std::slice::from_ref(next), 0, '<') => {
                let end = (at..tokens.len()).find(|end| is_punct(tokens, *end, ';')).unwrap_or(tokens.len());
                self.import(&tokens[at + 1..end], &[], false);
                end
            }
            (word, _) if KEYWORDS.contains(&word) => at + 1,
            _ => {
                let (segments, next) = segments(tokens, at);
                let is_path = segments.len() > 1 || (is_separator(tokens, next) && !is_punct(tokens, next + 2, '<'));
                if is_path {
                    self.reference(&segments, &tokens[at]);
                }
                next
            }
        }
    }

    fn module(&mut self, name: String, after: Option<&TokenTree>) {
        self.local.insert(name.clone());
        self.scope.push(name);
        match after {
            Some(TokenTree::Group(body)) => self.group(body),
            _ if self.test => self.source.test_modules.push(self.scope.clone()),
            _ => {}
        }
        self.scope.pop();
    }

    /// Reads the tree of a `use` item, or a group within one whose paths begin with `prefix`.
    fn import(&mut self, tree: &[TokenTree], prefix: &[String], is_global: bool) {
        for branch in tree.split(is_comma) {
            let is_global = is_global || is_separator(branch, 0);
            let own =
                branch.iter().position(|token| !matches!(token, TokenTree::Punct(p) if ":$".contains(p.as_char())));
            let Some(own) = own else { continue };
            let (segments, next) = segments(branch, own);
            let mut path = [prefix, segments.as_slice()].concat();
            if let Some(TokenTree::Group(group)) = branch.last() {
                self.import(&group.stream().into_iter().collect::<Vec<_>>(), &path, is_global);
                continue;
            }
            if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
                path.pop();
            }
            let alias = word(branch, next).filter(|word| word == "as").and_then(|_| word(branch, next + 1));
            let is_glob = matches!(branch.last(), Some(TokenTree::Punct(punct)) if punct.as_char() == '*');
            if !is_glob {
                self.bind(&path, alias.as_ref());
            }
            if is_global && let Some(first) = path.first_mut() {
                first.insert_str(0, "::");
            }
            self.reference(&path, &branch[own]);
        }
    }

    /// Notes the name that an import gives to something, if it is not the crate of that name itself.
    fn bind(&mut self, path: &[String], alias: Option<&String>) {
        let Some(name) = alias.or(path.last()) else { return };
        if path.first() != Some(name) {
            self.local.insert(name.clone());
        }
    }

    /// Notes a path, resolved from the module that the reader is in.
    fn reference(&mut self, path: &[String], token: &TokenTree) {
        let line = token.span().start().line;
        let Some(first) = path.first() else { return };
        let relative = path.iter().take_while(|segment| ["self", "super"].contains(&segment.as_str())).count();
        let absolute = if first == "crate" {
            path[1..].to_vec()
        } else if relative > 0 {
            let ups = path[..relative].iter().filter(|segment| *segment == "super").count();
            [&self.scope[..self.scope.len().saturating_sub(ups)], &path[relative..]].concat()
        } else {
            return self.source.crates.push(Reference { line, name: first.clone(), test: self.test });
        };
        match absolute.into_iter().next() {
            Some(name) => self.source.imports.push(Reference { line, name, test: self.test }),
            None => self.problem(token, "imports the root of the crate, which hides the folders it uses"),
        }
    }

    fn problem(&mut self, token: &TokenTree, text: &str) {
        self.source.problems.push((token.span().start().line, text.to_owned()));
    }
}
