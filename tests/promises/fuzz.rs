//! Runs the fuzz targets on their seeds and on mutations of them. No input causes a panic or breaks a promise. The
//! inputs are the same in each run.

use std::path::Path;

#[path = "../../fuzz/targets.rs"]
mod targets;

/// Mutated inputs per target.
const ROUNDS: usize = 3_000;
/// Maximum number of changes to one input.
const CHANGES_MAX: usize = 6;
/// Tokens of the input grammars. With them a mutation is often a valid input.
const WORDS: [&str; 24] = [
    "\"", "\\", "{", "}", "[", "]", ",", ":", "\n", "/", "~1", "?", "*", "$", "%2", "&", "=", "null", "1e999",
    "{topic}", "\\u00", "json:/", "header:", "é",
];

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    // The order of directory entries differs between machines.
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn mutated(random: &mut fastrand::Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = seeds[random.usize(..seeds.len())].clone();
    for _ in 0..random.usize(1..=CHANGES_MAX) {
        let at = random.usize(..=input.len());
        let end = random.usize(at..=input.len().min(at + 8));
        let new: Vec<u8> = match random.u8(..6) {
            0 => vec![],
            1 => vec![random.u8(..)],
            2 => WORDS[random.usize(..WORDS.len())].into(),
            3 => input[at..end].repeat(2),
            4 => {
                let other = &seeds[random.usize(..seeds.len())];
                other[random.usize(..=other.len())..].to_vec()
            }
            _ => {
                input.truncate(at);
                continue;
            }
        };
        input.splice(at..end, new);
    }
    input
}

fn run(target: &str, check: fn(&[u8])) {
    let seeds = seeds(target);
    assert!(seeds.len() > 2, "{target} has no seeds, so this tells little");
    let mut random = fastrand::Rng::with_seed(7);
    let mutations = std::iter::repeat_with(|| mutated(&mut random, &seeds)).take(ROUNDS);
    for input in seeds.iter().cloned().chain(mutations) {
        assert!(
            std::panic::catch_unwind(|| check(&input)).is_ok(),
            "{target} fails with {:?}",
            String::from_utf8_lossy(&input)
        );
    }
}

#[test]
fn signatures() {
    // The first byte selects the provider. Each provider runs with each seed.
    for which in 0..=u8::MAX {
        for mut seed in seeds("signatures") {
            seed[0] = which;
            targets::signatures(&seed);
        }
    }
    run("signatures", targets::signatures);
}

#[test]
fn schemes() {
    run("schemes", targets::schemes);
}

#[test]
fn tokens() {
    run("tokens", targets::tokens);
}

#[test]
fn event_maps() {
    run("event_maps", targets::event_maps);
}

#[test]
fn forms() {
    run("forms", targets::forms);
}

#[test]
fn pointers() {
    run("pointers", targets::pointers);
}

#[test]
fn filters() {
    run("filters", targets::filters);
}

#[test]
fn settings() {
    run("settings", targets::settings);
}

#[test]
fn responses() {
    run("responses", targets::responses);
}

#[test]
fn ndjson() {
    run("ndjson", targets::ndjson);
}

#[test]
fn jwts() {
    run("jwts", targets::jwts);
}

#[test]
fn cursors() {
    run("cursors", targets::cursors);
}

#[test]
fn configs() {
    run("configs", targets::configs);
}

#[test]
fn multipart() {
    run("multipart", targets::multipart);
}

#[test]
fn documents() {
    run("documents", targets::documents);
}

#[test]
fn every_target_has_its_binary() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    let targets: Vec<String> = std::fs::read_dir(fuzz.join("seeds"))
        .unwrap()
        .map(|folder| folder.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(targets.len() >= 15, "{targets:?}");
    for target in targets {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "{target}");
        let binary = std::fs::read_to_string(fuzz.join(format!("fuzz_targets/{target}.rs"))).unwrap();
        assert!(binary.contains(&format!("targets::{target}(data)")), "{target}");
    }
}
