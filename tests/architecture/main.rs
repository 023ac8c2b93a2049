//! Enforces the architecture of `docs/ARCHITECTURE.md` and the language of the code.
//!
//! The document says which folder of `src/` may import which, and which external crates each may use. The rules of the
//! layers:
//!
//! 1. Each folder of `src/` has exactly one row in the table of layers, and each row names a folder.
//! 2. A folder imports folders with a lower layer number only.
//! 3. Test code may import any folder, as long as no circle of folders results.
//! 4. A folder uses only the common external crates and those that its row lists.
//! 5. Each crate that the document lists is in use.
//!
//! `src/main.rs` and `src/lib.rs` are exempt, and so is code under `cfg(doc)`.
//!
//! The rules of the language:
//!
//! 1. Names, comments and the documents for developers do not use the words and forms in `words.rs`.
//! 2. A type name occurs once in `src/`, except where `type_names.rs` has a reason.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says so by failing")]

mod comments;
mod examples;
mod language;
mod rules;
mod source;
mod table;
mod tokens;
mod type_names;
mod words;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rules::{Tree, check};

/// Reads the Rust files of `folder` and below into `files`, by their path from the root of the project.
fn read_sources(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            read_sources(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().expect("a path in UTF-8").to_owned();
            files.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

/// The Rust files of these folders.
fn sources(root: &Path, folders: &[&str]) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for folder in folders {
        read_sources(root, &root.join(folder), &mut files);
    }
    files
}

#[test]
fn the_source_tree_keeps_the_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tree = Tree {
        files: sources(root, &["src"]),
        document: fs::read_to_string(root.join(table::DOCUMENT)).unwrap(),
        manifest: fs::read_to_string(root.join("Cargo.toml")).unwrap(),
    };
    let failures = check(&tree);
    let lines: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert!(
        failures.is_empty(),
        "{} breaches of the layers:\n{}\n\nMove the code to a layer that may hold it, or hand the value or a trait in \
         from the layer above. Change the tables of {} only if the architecture itself changes.",
        lines.len(),
        lines.join("\n"),
        table::DOCUMENT,
    );
}

/// The documents for developers.
const DOCUMENTS: [&str; 5] =
    ["CONTRIBUTING.md", "docs/ARCHITECTURE.md", "docs/BENCHMARKS.md", "docs/DURABILITY.md", "docs/SECURITY.md"];

#[test]
fn names_comments_and_documents_use_standard_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut problems = Vec::new();
    for (path, source) in sources(root, &["src", "tests", "benches", "fuzz/fuzz_targets"]) {
        if path != "tests/architecture/words.rs" {
            problems.extend(language::check_rust(&path, &source));
        }
    }
    for path in DOCUMENTS {
        problems.extend(language::check_document(path, &fs::read_to_string(root.join(path)).unwrap()));
    }
    assert!(problems.is_empty(), "{} places, with the word to use:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn type_names_occur_once() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_test = |path: &str| {
        let ends = ["/tests.rs", "/testing.rs", "proptests.rs", "_tests.rs"];
        path.contains("/tests/") || path.contains("/sim/") || ends.iter().any(|end| path.ends_with(end))
    };
    let problems = type_names::check(&sources(root, &["src"]), &type_names::ALLOWED, is_test);
    assert!(
        problems.is_empty(),
        "{} type names:\n{}\n\nGive one of the types a specific name, or add the reason to type_names.rs.",
        problems.len(),
        problems.join("\n")
    );
}
