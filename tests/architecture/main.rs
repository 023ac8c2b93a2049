//! Enforces the layers of `docs/ARCHITECTURE.md`.
//!
//! The document says which folder of `src/` may import which, and which external crates each may use.
//!
//! The rules:
//!
//! 1. Each folder of `src/` has exactly one row in the table of layers, and each row names a folder.
//! 2. A folder imports folders with a lower layer number only.
//! 3. Test code may import any folder, as long as no circle of folders results.
//! 4. A folder uses only the common external crates and those that its row lists.
//! 5. Each crate that the document lists is in use.
//!
//! `src/main.rs` and `src/lib.rs` are exempt, and so is code under `cfg(doc)`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says so by failing")]

mod examples;
mod rules;
mod source;
mod table;
mod tokens;

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

#[test]
fn the_source_tree_keeps_the_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeMap::new();
    read_sources(root, &root.join("src"), &mut files);
    let tree = Tree {
        files,
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
