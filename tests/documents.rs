//! Every test that `docs/SECURITY.md` and `docs/THREAT_MODEL.md` name is there: a check whose test was renamed or removed
//! must not go on looking tested.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The names of all tests, and the files that they stand in.
fn tests() -> BTreeMap<String, Vec<PathBuf>> {
    let mut found = BTreeMap::<String, Vec<PathBuf>>::new();
    for folder in ["src", "tests", "tools", "examples", "fuzz"] {
        for file in sources(&root().join(folder)) {
            let mut marked = false;
            for line in fs::read_to_string(&file).unwrap().lines().map(str::trim_start) {
                marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                let function = line.split_once("fn ").filter(|_| !line.starts_with("//") && !line.starts_with('#'));
                if let Some((_, rest)) = function {
                    let name = rest.split(['(', '<']).next().unwrap_or_default().to_owned();
                    if std::mem::take(&mut marked) {
                        found.entry(name).or_default().push(file.strip_prefix(root()).unwrap().to_owned());
                    }
                }
            }
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files = Vec::new();
    for path in entries {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The last cells of the rows of all tables whose last column is `test`.
fn cells(document: &str) -> Vec<String> {
    let (mut cells, mut inside) = (Vec::new(), false);
    for line in document.lines() {
        let Some(row) = line.strip_prefix('|').and_then(|row| row.strip_suffix('|')) else {
            inside = false;
            continue;
        };
        let last = row.rsplit('|').next().unwrap_or_default().trim();
        match last {
            "test" => inside = true,
            "---" => {}
            _ if inside => cells.push(last.to_owned()),
            _ => {}
        }
    }
    cells
}

/// What stands between backticks and looks like a test's name: `path/of/a/file.rs::name`, `name`, or the beginning of
/// one and an ellipsis.
fn named(cell: &str) -> Vec<(Option<&str>, &str)> {
    let spans = cell.split('`').skip(1).step_by(2);
    let names = spans.map(|span| match span.split_once(".rs::") {
        Some((file, name)) => (Some(file), name),
        None => (None, span),
    });
    let is_name = |name: &str| {
        let name = name.strip_suffix('…').unwrap_or(name);
        name.matches('_').count() >= 2
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    names.filter(|(file, name)| file.is_some() || is_name(name)).collect()
}

/// What is wrong with the tests that a document names.
fn faults(document: &str, tests: &BTreeMap<String, Vec<PathBuf>>) -> (usize, Vec<String>) {
    let (mut found, mut faults) = (0, Vec::new());
    for cell in cells(document) {
        for (file, name) in named(&cell) {
            found += 1;
            let files: Vec<_> = match name.strip_suffix('…') {
                Some(start) => {
                    tests.iter().filter(|(name, _)| name.starts_with(start)).flat_map(|(_, at)| at).collect()
                }
                None => tests.get(name).into_iter().flatten().collect(),
            };
            let file = file.map(|file| PathBuf::from(format!("{file}.rs")));
            let there = file.as_ref().map_or(!files.is_empty(), |file| files.contains(&file));
            if !there {
                faults.push(format!(
                    "{name} is not a test {}",
                    file.map_or(String::new(), |file| format!("of {}", file.display()))
                ));
            }
        }
    }
    (found, faults)
}

fn read(document: &str) -> String {
    fs::read_to_string(root().join("docs").join(document)).unwrap()
}

#[test]
fn every_test_that_the_documents_name_is_there() {
    let tests = tests();
    for (document, at_least) in [("THREAT_MODEL.md", 200), ("SECURITY.md", 100)] {
        let (found, faults) = faults(&read(document), &tests);
        assert!(faults.is_empty(), "{document}:\n{}", faults.join("\n"));
        assert!(found >= at_least, "{document}: {found} tests were found in its tables");
    }
}

#[test]
fn every_attack_has_a_test() {
    for cell in cells(&read("SECURITY.md")) {
        assert!(!named(&cell).is_empty(), "no test in: {cell}");
    }
}

#[test]
fn a_test_that_is_not_there_is_noticed() {
    let tests = tests();
    let table = |cell: &str| format!("| attack | test |\n|---|---|\n| x | {cell} |\n");
    for (cell, wrong) in [
        ("`every_attack_has_a_test`", 0),
        ("`tests/documents.rs::every_attack_has_a_test`", 0),
        ("`every_attack_has…`", 0),
        ("`every_attack_had_a_test`", 1),
        ("`tests/protocol.rs::every_attack_has_a_test`", 1),
        ("`tests/documents.rs::tests`", 1),
        ("`no_test_begins_so…`", 1),
    ] {
        let (found, faults) = faults(&table(cell), &tests);
        assert_eq!((found, faults.len()), (1, wrong), "{cell}: {faults:?}");
    }
    assert_eq!(faults("| a | notes |\n|---|---|\n| x | `not_looked_at_here` |\n", &tests).0, 0);
}
