//! Replays the corpora of `fuzz/` over its targets: what a fuzzer found once stays found. `docs/FUZZING.md` says how to fuzz.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::as_conversions)]
#![allow(unreachable_pub, reason = "in fuzz/ the targets are a library")]

mod heads;
mod messages;
mod seeds;
#[path = "../../fuzz/targets/mod.rs"]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use targets::{ALL, Target};

/// Most bytes of one target's corpus: the repository is no store for fuzzers.
const CORPUS_LIMIT: usize = 32 * 1024;

#[test]
fn every_input_of_every_corpus_keeps_its_targets_promises() {
    let broken: Vec<String> = ALL.iter().flat_map(|(name, target)| replay(name, *target)).collect();
    assert!(broken.is_empty(), "targets panic (their messages stand above) at:\n{}", broken.join("\n"));
}

/// The inputs that a target panics at.
fn replay(name: &str, target: Target) -> Vec<String> {
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name} has no corpus: cargo test --all-features --test fuzz_corpus -- --ignored");
    let bytes: usize = corpus.iter().map(|(_, input)| input.len()).sum();
    assert!(bytes <= CORPUS_LIMIT, "{name}: {bytes} bytes of corpus, expected at most {CORPUS_LIMIT}");
    println!("{name}: {} inputs, {bytes} bytes", corpus.len());
    let panics = |input: &[u8]| catch_unwind(|| target(input)).is_err();
    let mut broken: Vec<String> =
        corpus.iter().filter(|(_, input)| panics(input)).map(|(path, _)| path.display().to_string()).collect();
    if panics(&[]) {
        broken.push(format!("{name}: no bytes at all"));
    }
    broken
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<PathBuf> = fs::read_dir(fuzz().join("corpus").join(name))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn targets_binaries_and_corpora_have_the_same_names() {
    let names: BTreeSet<String> = ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    let manifest: toml::Table = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap().parse().unwrap();
    let bins = manifest["bin"].as_array().unwrap();
    let bins: BTreeSet<String> = bins.iter().map(|bin| bin["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(bins, names, "fuzz/Cargo.toml");
    assert_eq!(stems("fuzz_targets"), names);
    assert_eq!(stems("corpus"), names);
    for name in &names {
        let wrapper = fs::read_to_string(fuzz().join("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(wrapper.contains(&format!("targets::{name}(data)")), "{name}.rs calls another target");
    }
}

fn stems(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(fuzz().join(folder)).unwrap();
    entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

#[test]
#[ignore = "writes the seeds of fuzz/corpus anew; findings beside them stay"]
fn write_the_seeds() {
    for (target, name, bytes) in seeds::all() {
        let folder = fuzz().join("corpus").join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("seed-{name}")), bytes).unwrap();
    }
}
