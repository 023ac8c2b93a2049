//! Compares what the sources refer to with what the tables allow.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use toml_edit::{DocumentMut, TableLike};

use crate::source::{self, Reference, Source};
use crate::table::{self, DOCUMENT, Layers};

/// Crates whose library has another name than `-` → `_` makes of the package's.
const LIBRARY_NAMES: [(&str, &str); 1] = [("rustls-webpki", "webpki")];

/// Files outside the layers. Any other file must stand in a folder of `src/`.
const ROOTS: [&str; 2] = ["src/lib.rs", "src/main.rs"];

/// A project to check.
pub(crate) struct Tree {
    /// The Rust files by path, like `src/commit/mod.rs`.
    pub(crate) files: BTreeMap<String, String>,
    /// The text of the document with the tables.
    pub(crate) document: String,
    /// The text of `Cargo.toml`.
    pub(crate) manifest: String,
}

/// One violation of a rule. Failures sort by place.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Failure {
    path: String,
    line: usize,
    text: String,
}

impl Failure {
    pub(crate) fn new(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.text)
    }
}

/// A file of a folder, read.
struct File {
    path: String,
    folder: String,
    source: Source,
}

/// All breaches of the rules in `tree`, sorted by place.
pub(crate) fn check(tree: &Tree) -> Vec<Failure> {
    let mut failures = Vec::new();
    let layers = table::read(&tree.document, &mut failures);
    let files = read_files(tree, &mut failures);
    check_rows(&layers, &files, &mut failures);
    check_imports(&layers, &files, &mut failures);
    check_circles(&layers, &files, &mut failures);
    check_crates(&layers, &files, &packages(&tree.manifest), &mut failures);
    failures.sort();
    failures.dedup();
    failures
}

/// Reads each file and marks as test code what stands in or below a module that only tests compile.
fn read_files(tree: &Tree, failures: &mut Vec<Failure>) -> Vec<File> {
    let mut files = Vec::new();
    let mut test_modules = BTreeSet::new();
    for (path, text) in &tree.files {
        let module = module_path(path);
        let source = source::read(&module, text);
        test_modules.extend(source.test_modules.iter().cloned());
        if ROOTS.contains(&path.as_str()) {
            continue;
        }
        failures.extend(source.problems.iter().map(|(line, text)| Failure::new(path, *line, text)));
        if path.matches('/').count() < 2 {
            failures.push(Failure::new(path, 1, "the file must stand in a folder of src"));
            continue;
        }
        files.push((module, File { path: path.clone(), folder: path.split('/').nth(1).unwrap().to_owned(), source }));
    }
    for (module, file) in &mut files {
        if (1..=module.len()).any(|end| test_modules.contains(&module[..end])) {
            let Source { imports, crates, .. } = &mut file.source;
            imports.iter_mut().chain(crates).for_each(|reference| reference.test = true);
        }
    }
    files.into_iter().map(|(_, file)| file).collect()
}

/// The path of the module that a file holds: `src/commit/group.rs` holds `commit::group`, and `src/lib.rs` the root.
fn module_path(path: &str) -> Vec<String> {
    let path = path.strip_prefix("src/").unwrap_or(path);
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if ["lib", "main"].contains(&path) { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// Rule 1: folders and rows belong together.
fn check_rows(layers: &Layers, files: &[File], failures: &mut Vec<Failure>) {
    let folders: BTreeSet<&str> = files.iter().map(|file| file.folder.as_str()).collect();
    for folder in folders.iter().filter(|folder| !layers.rows.contains_key(**folder)) {
        failures.push(Failure::new(&format!("src/{folder}"), 1, "the folder has no row in the table of layers"));
    }
    for (folder, row) in layers.rows.iter().filter(|(folder, _)| !folders.contains(folder.as_str())) {
        failures.push(Failure::new(DOCUMENT, row.line, format!("the folder src/{folder} does not exist")));
    }
}

/// The imports of one folder by another, each with the file that has it.
fn imports(files: &[File]) -> impl Iterator<Item = (&File, &Reference)> {
    let folders: BTreeSet<&str> = files.iter().map(|file| file.folder.as_str()).collect();
    files
        .iter()
        .flat_map(|file| file.source.imports.iter().map(move |import| (file, import)))
        .filter(move |(file, import)| file.folder != import.name && folders.contains(import.name.as_str()))
}

/// Rule 2: imports lead to lower layers.
fn check_imports(layers: &Layers, files: &[File], failures: &mut Vec<Failure>) {
    for (file, import) in imports(files).filter(|(_, import)| !import.test) {
        let layer = |folder: &str| layers.rows.get(folder).map(|row| row.layer);
        let Some((own, other)) = layer(&file.folder).zip(layer(&import.name)) else { continue };
        if other >= own {
            let text = format!("{} (layer {own}) may not import {} (layer {other})", file.folder, import.name);
            failures.push(Failure::new(&file.path, import.line, text));
        }
    }
}

/// Rule 3: no circle of folders, with test code too.
///
/// A circle has at least one import that does not lead to a lower layer. Each such import by test code is reported;
/// those of other code break rule 2 already.
fn check_circles(layers: &Layers, files: &[File], failures: &mut Vec<Failure>) {
    let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (file, import) in imports(files) {
        graph.entry(&file.folder).or_default().insert(&import.name);
    }
    let layer = |folder: &str| layers.rows.get(folder).map(|row| row.layer);
    for (file, import) in imports(files).filter(|(_, import)| import.test) {
        if layer(&import.name).zip(layer(&file.folder)).is_some_and(|(other, own)| other < own) {
            continue;
        }
        if let Some(back) = shortest_way(&graph, &import.name, &file.folder) {
            let circle = format!("{} → {}", file.folder, back.join(" → "));
            let text = format!("test code of {} imports {}: circle {circle}", file.folder, import.name);
            failures.push(Failure::new(&file.path, import.line, text));
        }
    }
}

/// The shortest chain of imports that leads from one folder to another, both included.
fn shortest_way<'a>(graph: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
    let mut seen = BTreeSet::from([from]);
    let mut ways = VecDeque::from([vec![from]]);
    while let Some(way) = ways.pop_front() {
        let last = *way.last()?;
        if last == to {
            return Some(way);
        }
        for next in graph.get(last).into_iter().flatten().filter(|next| seen.insert(next)) {
            ways.push_back([way.as_slice(), &[next]].concat());
        }
    }
    None
}

/// The packages that `Cargo.toml` depends on, by the names of their libraries.
fn packages(manifest: &str) -> BTreeMap<String, String> {
    let manifest: DocumentMut = manifest.parse().expect("Cargo.toml in TOML");
    let targets = manifest.get("target").and_then(|targets| targets.as_table_like());
    let tables = targets.into_iter().flat_map(|targets| targets.iter().filter_map(|(_, item)| item.as_table_like()));
    std::iter::once(manifest.as_table() as &dyn TableLike)
        .chain(tables)
        .filter_map(|table| table.get("dependencies")?.as_table_like())
        .flat_map(|dependencies| dependencies.iter())
        .map(|(package, _)| (library_name(package), package.to_owned()))
        .collect()
}

fn library_name(package: &str) -> String {
    let special = LIBRARY_NAMES.iter().find(|(name, _)| *name == package);
    special.map_or_else(|| package.replace('-', "_"), |(_, library)| (*library).to_owned())
}

/// Rules 4 and 5: the crates that are used are those that are listed.
fn check_crates(layers: &Layers, files: &[File], packages: &BTreeMap<String, String>, failures: &mut Vec<Failure>) {
    let mut used: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for file in files {
        for reference in file.source.crates.iter().filter(|reference| !reference.test) {
            let Some(package) = packages.get(&reference.name) else { continue };
            used.entry(package).or_default().insert(&file.folder);
            let Some(row) = layers.rows.get(&file.folder) else { continue };
            if !layers.common.contains_key(package) && !row.crates.contains(package) {
                let text = format!("{} may not use the crate {package}", file.folder);
                failures.push(Failure::new(&file.path, reference.line, text));
            }
        }
    }
    let folders: BTreeSet<&str> = files.iter().map(|file| file.folder.as_str()).collect();
    for (folder, row) in layers.rows.iter().filter(|(folder, _)| folders.contains(folder.as_str())) {
        for name in &row.crates {
            if layers.common.contains_key(name) {
                failures.push(Failure::new(
                    DOCUMENT,
                    row.line,
                    format!("{folder} lists {name}, which is a common crate"),
                ));
            } else if !used.get(name.as_str()).is_some_and(|folders| folders.contains(folder.as_str())) {
                failures.push(Failure::new(DOCUMENT, row.line, format!("{folder} lists {name}, but does not use it")));
            }
        }
    }
    for (name, line) in layers.common.iter().filter(|(name, _)| !used.contains_key(name.as_str())) {
        failures.push(Failure::new(DOCUMENT, *line, format!("no folder uses the common crate {name}")));
    }
}
