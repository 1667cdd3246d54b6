//! The house: which module may use which (`src/lib.rs`). Every `crate::name` under `src/` is checked against the table.

use std::fs;
use std::path::{Path, PathBuf};

const NOUNS: [&str; 5] = ["clock", "trace", "dialect", "privacy", "results"];

/// What a module may use beside itself.
fn may_use(module: &str) -> Vec<&'static str> {
    match module {
        "clock" => vec![],
        "trace" => vec!["clock"],
        "dialect" | "http" => vec!["clock", "trace"],
        "privacy" | "results" => vec!["clock", "trace", "dialect"],
        "proxy" | "replay" | "telemetry" | "simulate" => [&NOUNS[..], &["http"]].concat(),
        "report" => NOUNS.to_vec(),
        "cli" => {
            [&NOUNS[..], &["http", "proxy", "replay", "telemetry", "simulate", "report"]].concat()
        }
        other => {
            panic!("module `{other}` is not in the table of src/lib.rs and tests/it/layering.rs")
        }
    }
}

/// Returns each `crate::name` in `text`, and `crate::{` as the name `{`, which no table allows.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("crate::").map(|(at, found)| {
        let rest = &text[at + found.len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end.max(1)]
    })
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Returns the trespasses of one file.
fn trespasses(module: &str, text: &str) -> Vec<String> {
    let allowed = may_use(module);
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    names(&code)
        .filter(|name| *name != module && !allowed.contains(name))
        .map(|name| format!("`{module}` uses crate::{name}"))
        .collect()
}

/// Returns every Rust file below a folder of the project.
fn below(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    found
}

/// Returns the names in backticks of the list of invariants that look like tests.
fn tests_named(page: &str) -> Vec<&str> {
    let list = page.split("# Invariants").nth(1).unwrap();
    let quoted = list.split('`').skip(1).step_by(2);
    quoted.filter(|name| name.contains('_') && !name.contains('/')).collect()
}

#[test]
fn every_invariant_names_tests_that_exist() {
    let page = include_str!("../../src/lib.rs");
    let code: String = [below("src"), below("tests")]
        .concat()
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let named = tests_named(page);
    assert!(named.len() > 12, "{named:?}");
    for name in named {
        assert!(
            code.contains(&format!("fn {name}(")),
            "src/lib.rs names the test `{name}`, which does not exist"
        );
    }
}

/// Invariant 13; `Cargo.toml` forbids `unsafe`, and clippy bans the same by type.
#[test]
fn time_is_read_in_one_place_and_nothing_is_ordered_by_a_hash() {
    for path in below("src") {
        let text = fs::read_to_string(&path).unwrap();
        let is_clock = path.ends_with("src/clock.rs");
        for banned in ["Instant::now(", "SystemTime::now(", "HashMap<", "HashSet<"] {
            assert!(is_clock || !text.contains(banned), "{} has {banned}", path.display());
        }
    }
    assert!(include_str!("../../Cargo.toml").contains("unsafe_code = \"forbid\""));
}

#[test]
fn every_module_keeps_to_the_house() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let found = below("src");
    let bad: Vec<String> = found
        .iter()
        .flat_map(|path| {
            let within = path.strip_prefix(&src).unwrap();
            let first = within.components().next().unwrap().as_os_str().to_str().unwrap();
            let module = first.trim_end_matches(".rs");
            if matches!(module, "lib" | "main") {
                return Vec::new();
            }
            let text = fs::read_to_string(path).unwrap();
            trespasses(module, &text)
                .into_iter()
                .map(|what| format!("{}: {what}", within.display()))
                .collect()
        })
        .collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn a_trespass_is_seen() {
    assert_eq!(trespasses("trace", "use crate::proxy::Recorder;"), ["`trace` uses crate::proxy"]);
    assert_eq!(trespasses("replay", "use crate::{proxy, trace};"), ["`replay` uses crate::{"]);
    assert!(trespasses("replay", "use crate::trace::Trace;\n// crate::proxy").is_empty());
}
