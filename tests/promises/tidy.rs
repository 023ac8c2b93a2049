//! Checks that files, links and settings named in the documents exist, and that lines and files are short enough.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<(PathBuf, String)> {
    let names = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "fuzz/README.md"];
    let mut paths = names.map(|name| root().join(name)).to_vec();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                paths.push(path);
            }
        }
    }
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn links_lead_to_existing_files() {
    let mut checked = 0;
    for (path, text) in documents() {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            checked += 1;
            assert!(path.parent().unwrap().join(file).exists(), "{} links to {target}", path.display());
        }
    }
    assert!(checked > 0, "the documents link to nothing, so this tells nothing");
}

#[test]
fn lines_of_documents_are_short() {
    let listed = Command::new("git").args(["ls-files", "*.md"]).current_dir(root()).output().unwrap();
    let names = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.status.success() && names.lines().count() > 0, "git lists no document, so this tells nothing");
    let mut long = Vec::new();
    for name in names.lines().filter(|name| root().join(name).exists()) {
        let text = fs::read_to_string(root().join(name)).unwrap();
        // A table row and a URL cannot be wrapped.
        let can_wrap = |line: &str| !line.starts_with('|') && !line.split_whitespace().any(|word| word.len() > 100);
        let lines = text.lines().enumerate().filter(|(_, line)| line.chars().count() >= 120 && can_wrap(line));
        long.extend(lines.map(|(at, _)| format!("{name}:{}", at + 1)));
    }
    assert!(long.is_empty(), "lines of 120 characters or more, wrap them:\n{}", long.join("\n"));
}

#[test]
fn source_files_named_in_documents_exist() {
    let mut checked = 0;
    for (path, text) in documents() {
        for name in text
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|name| ["src/", "tests/", "benches/", "docs/"].iter().any(|d| name.starts_with(d)))
        {
            checked += 1;
            assert!(root().join(name).exists(), "{} names {name}", path.display());
        }
    }
    assert!(checked > 0, "the documents name no source file, so this tells nothing");
}

/// The Rust files of `src/` without files that only tests compile.
fn product_sources() -> Vec<(String, String)> {
    let mut folders = vec![root().join("src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let is_test = ["/tests", "tests.rs", "testing.rs"].iter().any(|end| name.ends_with(end));
            if path.is_dir() && !is_test {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && !is_test {
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files
}

#[test]
fn each_search_of_the_contributing_guide_finds_one_place() {
    let guide = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let table = guide.split("<!-- where -->").nth(1).unwrap().split("<!-- /where -->").next().unwrap();
    let sources = product_sources();
    let mut wrong = Vec::new();
    let mut rows = 0;
    for row in table.lines().filter(|line| line.contains('`')) {
        let mut code = row.split('`').skip(1).step_by(2);
        let (search, file) = (code.next().unwrap(), code.next().unwrap());
        // A name ends where the search ends.
        let is_place = |line: &str| {
            line.find(search)
                .is_some_and(|at| !line[at + search.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        };
        let places =
            sources.iter().flat_map(|(name, text)| text.lines().filter(|line| is_place(line)).map(move |_| name));
        let places: Vec<_> = places.collect();
        if places != [file] {
            wrong.push(format!("`{search}` is expected once, in {file}, and is in {places:?}"));
        }
        rows += 1;
    }
    assert!(rows >= 20 && wrong.is_empty(), "{rows} rows\n{}", wrong.join("\n"));
}

#[test]
fn files_are_short_enough_to_read() {
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if path.ends_with("tests") || path.ends_with("src/sim") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs")
                && !["tests.rs", "testing.rs"].iter().any(|end| path.to_string_lossy().ends_with(end))
            {
                let text = fs::read_to_string(&path).unwrap();
                let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
                assert!(lines <= 400, "{} has {lines} lines without its tests", path.display());
            }
        }
    }
}
