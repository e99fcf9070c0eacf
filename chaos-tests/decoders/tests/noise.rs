//! Every decoder, fed with the corpus and with anything else: noise, messages of ours and of the corpus that are cut,
//! changed or glued together.
//!
//! Of the seed `SEED` (else 1) on, `CASES` (else 3,000; `GHOSTLIGHT_CHAOS=long`: 300,000) inputs for each decoder.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use ghostlight_decoders::{ALL, Decoder, named};
use ghostlight_report::Row;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Longest input.
const INPUT_BYTES_MAX: usize = 2_048;
/// The whole corpus is small enough to be kept beside the code.
const CORPUS_BYTES_MAX: u64 = 400_000;

fn number(name: &str, otherwise: u64) -> u64 {
    let given = std::env::var(name).ok();
    given
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

fn cases() -> u64 {
    let is_long = std::env::var("GHOSTLIGHT_CHAOS").is_ok_and(|kind| kind == "long");
    number("CASES", if is_long { 300_000 } else { 3_000 })
}

/// The files of the corpus for one decoder, by their names.
fn corpus(decoder: &Decoder) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(decoder.name);
    let Ok(entries) = fs::read_dir(&folder) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("a readable folder").path();
            let bytes = fs::read(&path).expect("a readable file");
            (path, bytes)
        })
        .collect();
    files.sort();
    files
}

/// One input: noise, or something that was valid once.
fn input(dice: &mut ChaCha8Rng, valid: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = match valid.get(dice.random_range(0..=valid.len())) {
        Some(whole) => whole.clone(),
        None => {
            let length = dice.random_range(0..64);
            (0..length).map(|_| dice.random()).collect()
        }
    };
    for _ in 0..dice.random_range(0..4_usize) {
        match dice.random_range(0..4) {
            0 if !bytes.is_empty() => {
                let at = dice.random_range(0..bytes.len());
                bytes[at] = dice.random();
            }
            1 => bytes.truncate(dice.random_range(0..=bytes.len())),
            // Numbers that are as large as can be, where lengths and counts stand.
            2 => {
                let at = dice.random_range(0..=bytes.len());
                bytes.splice(at..at, [0xff; 9]);
            }
            _ => {
                let other = &valid[dice.random_range(0..valid.len())];
                bytes.extend_from_slice(other);
            }
        }
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}

/// Whether it takes an input: what it said when it did not is on the test's output.
fn takes(decoder: &Decoder, bytes: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| (decoder.take)(bytes))).is_ok()
}

/// Feeds a decoder; the line that repeats what it could not take.
#[track_caller]
fn feed(name: &str) {
    let decoder = named(name);
    let what = decoder.what;
    let mut valid = (decoder.valid)();
    let files = corpus(&decoder);
    assert!(!files.is_empty(), "{name} has no corpus");
    for (path, bytes) in &files {
        let path = path.display();
        assert!(takes(&decoder, bytes), "{what}: {path} is not taken");
    }
    for bytes in &valid {
        assert!(takes(&decoder, bytes), "{what}: {bytes:?} of ours");
    }
    let kept = files.len();
    valid.extend(files.into_iter().map(|(_, bytes)| bytes));
    let seed = number("SEED", 1);
    let count = match std::env::var("SEED") {
        Ok(_) => 1,
        Err(_) => cases(),
    };
    for seed in seed..seed + count {
        let bytes = input(&mut ChaCha8Rng::seed_from_u64(seed), &valid);
        assert!(
            takes(&decoder, &bytes),
            "{what}: {bytes:?} is not taken: SEED={seed} cargo test -p ghostlight-decoders {name}"
        );
    }
    println!("{what}: {kept} of the corpus, {count} of noise");
    Row::promise(
        21,
        &format!("inputs that {what} could not take"),
        0.0,
        "inputs",
        0.0,
    )
    .tested(&format!(
        "{count} inputs of noise and of damaged messages, and a corpus of {kept}"
    ))
    .append();
}

macro_rules! decoders {
    ($($name:ident)*) => {
        const TESTED: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                feed(stringify!($name));
            }
        )*
    };
}

decoders!(lane frame hello engine command apply row key name schedule chunk disk gossip);

/// Each has its test here, its target for the fuzzer, and its corpus; and there is nothing else.
#[test]
fn every_decoder_is_fed() {
    let names: Vec<&str> = ALL.iter().map(|decoder| decoder.name).collect();
    assert_eq!(names, TESTED);
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).expect("the fuzzer's manifest");
    for name in &names {
        let target = format!("name = \"{name}\"\npath = \"targets/{name}.rs\"");
        assert!(manifest.contains(&target), "{name} is no target");
        let body = fs::read_to_string(fuzz.join(format!("targets/{name}.rs")));
        let calls = format!("named(\"{name}\")");
        assert!(body.is_ok_and(|body| body.contains(&calls)), "{name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), names.len());
}

#[test]
fn the_corpus_is_small() {
    let files = ALL.iter().flat_map(corpus);
    let bytes: u64 = files.map(|(_, bytes)| bytes.len() as u64).sum();
    assert!(bytes <= CORPUS_BYTES_MAX, "it has {bytes} bytes");
}
