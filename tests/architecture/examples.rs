//! The checker itself, on small projects: what it reports and what it lets pass.

use std::collections::BTreeMap;

use crate::rules::{Tree, check};

const MANIFEST: &str = r#"
[dependencies]
bytes = "1"
hyper = { version = "1", features = ["http1"] }
http-body-util = "0.1"
rustls-webpki = "0.103"
url = "2"

[dev-dependencies]
tempfile = "3"
"#;

/// `model` below `commit` and `settle`, which are neighbours, below `api`.
const ROWS: [&str; 4] = [
    "| 0 | `model` | words | none |",
    "| 1 | `commit` | a stage | `url` |",
    "| 1 | `settle` | a stage | — |",
    "| 2 | `api` | management | `hyper`, |\n| | | | `http-body-util` |",
];

const USES: &str = "use hyper::Request; use http_body_util::Full;";

fn document(rows: &[&str]) -> String {
    format!(
        "# Architecture\n<!-- layers -->\n| layer | folder | what it does | external crates |\n|---|:--|---|---|\n{}\n\
         <!-- /layers -->\n<!-- common crates -->\n- `bytes`: buffers\n<!-- /common crates -->\n",
        rows.join("\n")
    )
}

fn tree(rows: &[&str], files: &[(&str, &str)]) -> Tree {
    let all = [("src/lib.rs", "pub mod model; pub mod api;"), ("src/main.rs", "fn main() { hooktide::api::run() }")];
    let all = all.iter().chain(files).map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
    Tree { files: all.collect::<BTreeMap<_, _>>(), document: document(rows), manifest: MANIFEST.to_owned() }
}

/// What the checker says of a project that keeps every rule, with `files` added or put in place of its own.
fn report(files: &[(&str, &str)]) -> Vec<String> {
    let base = [
        ("src/model/mod.rs", "pub use bytes::Bytes;"),
        ("src/commit/mod.rs", "mod group; use crate::model::Bytes; use url::Url;"),
        ("src/settle/mod.rs", "use crate::model;"),
        ("src/api/mod.rs", USES),
    ];
    let mut all: BTreeMap<&str, &str> = base.into_iter().collect();
    all.extend(files.iter().copied());
    check(&tree(&ROWS, &all.into_iter().collect::<Vec<_>>())).iter().map(ToString::to_string).collect()
}

fn passes(files: &[(&str, &str)]) {
    assert_eq!(report(files), [""; 0]);
}

const UPWARD: &str = "commit (layer 1) may not import api (layer 2)";
const SIDEWAYS: &str = "commit (layer 1) may not import settle (layer 1)";

#[test]
fn a_tree_that_keeps_the_rules_passes() {
    passes(&[(
        "src/api/list.rs",
        "use crate::{commit::{self, Group}, settle::Row}; fn f(_: super::super::model::Id) {}",
    )]);
}

#[test]
fn an_import_upward_is_reported_with_its_line() {
    let text = "\n\nuse crate::api::Route;\n";
    assert_eq!(report(&[("src/commit/group.rs", text)]), [format!("src/commit/group.rs:3: {UPWARD}")]);
}

#[test]
fn an_import_sideways_is_reported() {
    let text = "fn f() -> crate::settle::Row { todo!() }";
    assert_eq!(report(&[("src/commit/group.rs", text)]), [format!("src/commit/group.rs:1: {SIDEWAYS}")]);
}

#[test]
fn an_import_in_a_group_is_reported_at_its_own_line() {
    let text = "use crate::{\n    model::Id,\n    settle::{self as s, Row},\n};\n\
                use {\n    crate::{\n        api::{A, B},\n    },\n};";
    assert_eq!(
        report(&[("src/commit/group.rs", text)]),
        [format!("src/commit/group.rs:3: {SIDEWAYS}"), format!("src/commit/group.rs:7: {UPWARD}")]
    );
}

#[test]
fn super_is_followed_out_of_the_folder() {
    let text =
        "use super::super::settle::Row;\nmod inner { use super::super::super::api::Route; use super::super::Group; }";
    assert_eq!(
        report(&[("src/commit/group.rs", text), ("src/commit/mod.rs", "use super::{api, model};\nuse url::Url;")]),
        [
            format!("src/commit/group.rs:1: {SIDEWAYS}"),
            format!("src/commit/group.rs:2: {UPWARD}"),
            format!("src/commit/mod.rs:1: {UPWARD}"),
        ]
    );
}

#[test]
fn the_bodies_of_macros_count() {
    let text = "fn f() { assert!(matches!(x, crate::settle::Row { .. })); }\n\
                macro_rules! m { ($a:expr) => { $crate::api::route($a) }; }\n\
                fn g() { for _ in 0..crate::api::MAX {} }";
    assert_eq!(
        report(&[("src/commit/group.rs", text)]),
        [
            format!("src/commit/group.rs:1: {SIDEWAYS}"),
            format!("src/commit/group.rs:2: {UPWARD}"),
            format!("src/commit/group.rs:3: {UPWARD}"),
        ]
    );
}

#[test]
fn an_import_of_the_whole_root_is_reported() {
    let text = "imports the root of the crate, which hides the folders it uses";
    assert_eq!(
        report(&[("src/commit/group.rs", "use crate::*;"), ("src/settle/rows.rs", "\nuse crate as hooktide;")]),
        [format!("src/commit/group.rs:1: {text}"), format!("src/settle/rows.rs:2: {text}")]
    );
}

#[test]
fn a_circle_made_by_test_code_only_is_reported() {
    let text = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::api::Route;\n}";
    let files = [("src/commit/group.rs", text), ("src/api/list.rs", "#[cfg(test)] use crate::settle::Row;")];
    passes(&files);
    let closed = [files.as_slice(), &[("src/settle/rows.rs", "#[test]\nfn f() { crate::commit::group(); }")]].concat();
    assert_eq!(
        report(&closed),
        [
            "src/commit/group.rs:4: test code of commit imports api: circle commit → api → settle → commit",
            "src/settle/rows.rs:2: test code of settle imports commit: circle settle → commit → api → settle",
        ]
    );
}

#[test]
fn test_code_may_import_sideways_and_upward_without_a_circle() {
    passes(&[
        (
            "src/commit/group.rs",
            "#[cfg(test)] mod tests; #[cfg(all(test, unix))] pub(crate) fn f() -> crate::settle::Row {}",
        ),
        ("src/commit/group/tests.rs", "mod deep; use crate::settle::Row; use hyper::Request; use tempfile::TempDir;"),
        ("src/commit/group/tests/deep.rs", "use crate::api::Route;"),
        ("src/commit/testing.rs", "#![cfg(test)] use crate::api::Route;"),
        (
            "src/commit/fields.rs",
            "struct A { #[cfg(test)] row: Map<u8, crate::settle::Row>, b: u8 }\n\
             #[tokio::test] async fn t() { crate::api::f() }",
        ),
    ]);
}

#[test]
fn a_test_item_ends_where_the_next_item_begins() {
    for item in [
        "fn f<T: Into<Vec<u8>>>() -> u8 { 1 }",
        "pub(crate) const fn f() {}",
        "const X: Y = Y { a: 1 };",
        "pub mod tests;",
        "impl<T> A<T> where T: Fn() -> u8 {}",
        "struct A(u8);",
        "macro_rules! m { () => {} }",
        "use url::{Url, Host};",
    ] {
        let text = format!("#[cfg(test)]\n#[derive(Debug)]\n{item}\nuse crate::settle::Row;");
        assert_eq!(report(&[("src/commit/group.rs", &text)]), [format!("src/commit/group.rs:4: {SIDEWAYS}")], "{item}");
    }
    for part in [
        "struct A { #[cfg(test)] a: Map<u8, u8>, b: crate::settle::Row }",
        "enum A { #[cfg(test)] A { a: u8 }, B(crate::settle::Row) }",
        "fn f() { #[cfg(test)] let a = { 1 }; crate::settle::f() }",
        "fn f() { #[cfg(test)] { a(); } crate::settle::f() }",
        "fn f() { match a { #[cfg(test)] A => {} B => crate::settle::f() } }",
        "fn f() { match a { #[cfg(test)] A => a, B => crate::settle::f() } }",
        "#[cfg(any(test, unix))] use crate::settle::Row;",
        "#[cfg(not(test))] use crate::settle::Row;",
    ] {
        assert_eq!(report(&[("src/commit/group.rs", part)]), [format!("src/commit/group.rs:1: {SIDEWAYS}")], "{part}");
    }
}

#[test]
fn comments_strings_visibilities_and_documentation_do_not_count() {
    passes(&[(
        "src/commit/group.rs",
        r#"//! See crate::api::Route.
            /// As [`crate::settle::Row`] does.
            #[cfg(doc)] use crate::api::Route;
            #[doc = "crate::settle"] /* crate::api::x */
            pub(in crate::settle) fn f<'a>() -> &'a str { "use crate::api::Route;" } // crate::settle::Row
            const RAW: &str = r"crate::api::x and hyper::x";
            fn g() -> u8 { self::api::x(); a.api::<u8>().b; super::settle::f(); <A>::hyper::x() }
        "#,
    )]);
}

#[test]
fn a_crate_that_is_not_listed_is_reported() {
    let files = [
        ("src/commit/group.rs", "use {bytes::Bytes, hyper::{Request, body::Body}};"),
        ("src/settle/rows.rs", "fn f() {\n    let _ = ::url::Url::parse(webpki::NAME);\n}"),
        ("src/model/id.rs", "use ::{bytes::Bytes, url::Url}; #[derive(hyper::Derive)] struct A;"),
    ];
    assert_eq!(
        report(&files),
        [
            "src/commit/group.rs:1: commit may not use the crate hyper",
            "src/model/id.rs:1: model may not use the crate hyper",
            "src/model/id.rs:1: model may not use the crate url",
            "src/settle/rows.rs:2: settle may not use the crate rustls-webpki",
            "src/settle/rows.rs:2: settle may not use the crate url",
        ]
    );
}

#[test]
fn a_module_or_an_alias_with_the_name_of_a_crate_is_not_the_crate() {
    passes(&[
        ("src/settle/mod.rs", "mod url; use url::Parts; fn f() { url::parse(); self::hyper::f() }"),
        ("src/settle/url.rs", "use super::url; fn f() { url::parse(); }"),
        ("src/settle/rows.rs", "use crate::model::{bytes, client as hyper}; fn f() { hyper::send(bytes::EMPTY) }"),
        ("src/settle/wide.rs", "use crate::model::url::{self}; fn f() { url::parse() }"),
    ]);
    let imported = [("src/settle/rows.rs", "use url::{self, Url}; use hyper;")];
    assert_eq!(
        report(&imported),
        [
            "src/settle/rows.rs:1: settle may not use the crate hyper",
            "src/settle/rows.rs:1: settle may not use the crate url",
        ]
    );
}

#[test]
fn a_crate_that_is_listed_but_not_used_is_reported() {
    let only_in_tests = "#[cfg(test)] use hyper::Request; use http_body_util::Full;";
    assert_eq!(
        report(&[("src/api/mod.rs", only_in_tests), ("src/model/mod.rs", "")]),
        [
            "docs/ARCHITECTURE.md:8: api lists hyper, but does not use it",
            "docs/ARCHITECTURE.md:12: no folder uses the common crate bytes",
        ]
    );
}

#[test]
fn a_folder_without_a_row_and_a_row_without_a_folder_are_reported() {
    let files = [("src/model/mod.rs", "use bytes::Bytes;"), ("src/sim/mod.rs", ""), ("src/extra.rs", "")];
    let rows =
        ["| 0 | `model` | words | none |", "| 1 | `commit` | a stage | none |", "| 2 | `model` | again | none |"];
    let lines: Vec<String> = check(&tree(&rows, &files)).iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "docs/ARCHITECTURE.md:6: the folder src/commit does not exist",
            "docs/ARCHITECTURE.md:7: model has a second row",
            "src/extra.rs:1: the file must stand in a folder of src",
            "src/sim:1: the folder has no row in the table of layers",
        ]
    );
}

#[test]
fn what_cannot_be_read_is_reported() {
    let rows = ["| one | `model` | words | none |"];
    let mut tree = tree(
        &rows,
        &[("src/model/mod.rs", "use bytes::Bytes;\nfn f( {"), ("src/model/a.rs", "#[path = \"b.rs\"] mod c;")],
    );
    tree.document = tree.document.replace("<!-- /common crates -->", "");
    let lines: Vec<String> = check(&tree).iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "docs/ARCHITECTURE.md:1: expected a line `<!-- common crates -->` and after it a line \
             `<!-- /common crates -->`",
            "docs/ARCHITECTURE.md:5: not a row of the table: expected a number, a folder in backticks, a text, and crates \
             in backticks",
            "src/model:1: the folder has no row in the table of layers",
            "src/model/a.rs:1: a module with a `path` attribute cannot be checked",
            "src/model/mod.rs:2: cannot be read as Rust",
        ]
    );
}
