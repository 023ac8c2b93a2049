//! Reads the two tables of the document: the layers and the common crates.

use std::collections::BTreeMap;

use crate::rules::Failure;

/// The document that holds the tables, from the root of the project.
pub(crate) const DOCUMENT: &str = "docs/ARCHITECTURE.md";

const LAYERS: (&str, &str) = ("<!-- layers -->", "<!-- /layers -->");
const COMMON_CRATES: (&str, &str) = ("<!-- common crates -->", "<!-- /common crates -->");
const HEADER: [&str; 4] = ["layer", "folder", "what it does", "external crates"];

/// One row of the table of layers.
#[derive(Debug)]
pub(crate) struct Row {
    /// The line of the row in the document.
    pub(crate) line: usize,
    /// The number of the layer. A folder imports only folders with a lower number.
    pub(crate) layer: u32,
    /// The external crates that the folder uses beside the common ones, named as in Cargo.toml.
    pub(crate) crates: Vec<String>,
}

/// What the document says.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    /// The rows by folder.
    pub(crate) rows: BTreeMap<String, Row>,
    /// The crates that every folder may use, with the line that names each.
    pub(crate) common: BTreeMap<String, usize>,
}

/// Reads both tables. What cannot be read is added to `failures`.
pub(crate) fn read(document: &str, failures: &mut Vec<Failure>) -> Layers {
    let mut layers = Layers::default();
    let table = lines_between(document, LAYERS, failures);
    let mut current = String::new();
    for (line, text) in table.into_iter().filter(|(_, text)| text.starts_with('|')) {
        let cells: Vec<&str> = text.trim().trim_matches('|').split('|').map(str::trim).collect();
        if cells == HEADER || cells.iter().all(|cell| cell.contains('-') && cell.chars().all(|c| c == '-' || c == ':'))
        {
            continue;
        }
        if let (["", "", "", more], Some(row)) = (cells.as_slice(), layers.rows.get_mut(&current))
            && let Some(more) = crates(more)
        {
            row.crates.extend(more);
            continue;
        }
        match row(line, &cells) {
            None => failures.push(Failure::new(
                DOCUMENT,
                line,
                "not a row of the table: expected a number, a folder in backticks, a text, and crates in backticks",
            )),
            Some((folder, _)) if layers.rows.contains_key(&folder) => {
                failures.push(Failure::new(DOCUMENT, line, format!("{folder} has a second row")));
            }
            Some((folder, row)) => {
                current.clone_from(&folder);
                layers.rows.insert(folder, row);
            }
        }
    }
    for (line, text) in lines_between(document, COMMON_CRATES, failures) {
        layers.common.extend(in_backticks(text).map(|name| (name.to_owned(), line)));
    }
    layers
}

fn row(line: usize, cells: &[&str]) -> Option<(String, Row)> {
    let [layer, folder, _, listed] = cells else { return None };
    Some((one_in_backticks(folder)?.to_owned(), Row { line, layer: layer.parse().ok()?, crates: crates(listed)? }))
}

/// Reads the last cell of a row.
fn crates(cell: &str) -> Option<Vec<String>> {
    match cell.trim_matches('`') {
        "none" | "—" => Some(Vec::new()),
        _ => {
            cell.trim_end_matches(',').split(',').map(|name| one_in_backticks(name.trim()).map(str::to_owned)).collect()
        }
    }
}

fn one_in_backticks(text: &str) -> Option<&str> {
    text.strip_prefix('`')?.strip_suffix('`').filter(|name| !name.contains('`'))
}

/// The numbered lines between two markers.
fn lines_between<'d>(
    document: &'d str,
    (start, end): (&str, &str),
    failures: &mut Vec<Failure>,
) -> Vec<(usize, &'d str)> {
    let lines: Vec<(usize, &str)> = document.lines().enumerate().map(|(n, text)| (n + 1, text)).collect();
    let position = |marker| lines.iter().position(|(_, text)| text.trim() == marker);
    match (position(start), position(end)) {
        (Some(start), Some(end)) if start < end => lines[start + 1..end].to_vec(),
        _ => {
            failures.push(Failure::new(DOCUMENT, 1, format!("expected a line `{start}` and after it a line `{end}`")));
            Vec::new()
        }
    }
}

fn in_backticks(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}
