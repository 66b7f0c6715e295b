//! The structure of `src`: imports follow the dependency order of ARCHITECTURE.md, and every file says what it is for.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Every module at the top of `src` and the modules that it may import, lowest layer first.
const LAYERS: &[(&str, &[&str])] = &[
    // Leaves: they import nothing of the crate.
    ("document", &[]),
    ("evaluation", &[]),
    ("fidelity", &[]),
    ("glossary", &[]),
    ("lexicon", &[]),
    ("tokenizer", &[]),
    ("kernels", &[]),
    ("task", &[]),
    ("shutdown", &[]),
    ("telemetry", &[]),
    ("catalog", &["task"]),
    // The engine: token ids in, token ids out.
    ("model", &["task", "kernels"]),
    ("engine", &["model", "kernels"]),
    // Text in, checked text out.
    ("pipeline", &["task", "document", "fidelity", "glossary", "lexicon", "tokenizer", "model", "engine"]),
    ("config", &["task", "model", "engine"]),
    // The wire. `lib` declares the modules and the generated messages, `pb`.
    ("lib", &[]),
    ("client", &["lib"]),
    (
        "server",
        &["lib", "task", "document", "fidelity", "glossary", "lexicon", "telemetry", "engine", "pipeline"],
    ),
    // People.
    (
        "cli",
        &[
            "lib",
            "task",
            "document",
            "evaluation",
            "fidelity",
            "glossary",
            "shutdown",
            "telemetry",
            "catalog",
            "model",
            "engine",
            "pipeline",
            "config",
            "client",
            "server",
        ],
    ),
    ("main", &["lib", "cli"]),
];

/// All Rust files below `folder`.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(rust_files(&path)),
            false if path.extension().is_some_and(|extension| extension == "rs") => files.push(path),
            false => {}
        }
    }
    files.sort();
    files
}

fn source_files() -> Vec<PathBuf> {
    rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

/// The module at the top of `src` that a file belongs to.
fn module_of(file: &Path) -> String {
    let relative = file.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = relative.components().next().unwrap();
    Path::new(&first).file_stem().unwrap().to_string_lossy().into_owned()
}

/// The modules at the top of the crate that a file names, by `crate::NAME` or in a group `crate::{NAME, ...}`.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for (at, path) in code.match_indices("crate::") {
        // `$crate::` in a macro is this crate as well; `my_crate::` is not.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + path.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(names_in_group(group)),
            None => found.extend(leading_identifier(rest)),
        }
    }
    found
}

fn leading_identifier(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// The first identifier of each member of an import group, `group` being what follows its opening brace.
fn names_in_group(group: &str) -> Vec<String> {
    let (mut names, mut depth, mut is_start) = (Vec::new(), 0, true);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_start = true,
            c if is_start && !c.is_whitespace() => {
                names.extend(leading_identifier(&group[at..]));
                is_start = false;
            }
            _ => {}
        }
    }
    names
}

#[test]
fn imports_follow_the_dependency_order() {
    let mut violations = Vec::new();
    for file in source_files() {
        let module = module_of(&file);
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            panic!("src/{module} has no layer: add it to LAYERS and to ARCHITECTURE.md");
        };
        for import in imports(&fs::read_to_string(&file).unwrap()) {
            let import = if import == "pb" { "lib".to_owned() } else { import };
            let is_module = LAYERS.iter().any(|(name, _)| *name == import);
            if is_module && import != module && !allowed.contains(&import.as_str()) {
                violations.push(format!("{}: {module} must not import {import}", file.display()));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn a_layer_imports_only_layers_below_it() {
    for (index, (module, allowed)) in LAYERS.iter().enumerate() {
        for import in *allowed {
            let position = LAYERS.iter().position(|(name, _)| name == import);
            assert!(position.is_some_and(|position| position < index), "{module} is listed before {import}");
        }
    }
}

#[test]
fn reads_paths_and_groups_of_imports() {
    let text = "use crate::{\n    document::{self, Span},\n    pb, task::Task,\n};\n// crate::ignored\nfn f() { crate::engine::run() }";
    let names: Vec<_> = imports(text).into_iter().collect();
    assert_eq!(names, ["document", "engine", "pb", "task"]);
}

#[test]
fn every_file_opens_with_its_purpose() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src", "tests", "benches", "examples", "fuzz/fuzz_targets"];
    let files = folders.iter().flat_map(|folder| rust_files(&root.join(folder)));
    let silent: Vec<_> = files
        .filter(|file| !fs::read_to_string(file).unwrap().starts_with("//!"))
        .map(|file| file.display().to_string())
        .collect();
    assert!(silent.is_empty(), "these files do not open with `//!`:\n{}", silent.join("\n"));
}
