//! Every decoder, fed with the corpus and with anything else: noise, messages of ours and of the
//! corpus that are cut, changed or glued together (`ghostlight_decoders::noise`).

use std::fs;
use std::path::{Path, PathBuf};

use ghostlight_decoders::{ALL, Decoder, named, noise};

/// The whole corpus is small enough to be kept beside the code.
const CORPUS_BYTES_MAX: u64 = 400_000;

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

/// Feeds a decoder; the line that repeats what it could not take.
#[track_caller]
fn feed(name: &str) {
    let decoder = named(name);
    let kept = corpus(&decoder).into_iter();
    let kept: Vec<_> = kept
        .map(|(path, bytes)| (path.display().to_string(), bytes))
        .collect();
    assert!(!kept.is_empty(), "{name} has no corpus");
    noise::feed(
        &decoder,
        kept,
        &format!("cargo test -p ghostlight-decoders {name}"),
    );
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
