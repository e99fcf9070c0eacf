//! What decoders are fed with: noise, and what was valid once.
//!
//! Of the seed `SEED` (else 1) on, `CASES` (else 3,000; `GHOSTLIGHT_CHAOS=long`: 300,000) inputs
//! for each decoder.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ghostlight_report::Row;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::Decoder;

/// Longest input.
const INPUT_BYTES_MAX: usize = 2_048;
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

/// Feeds a decoder with `kept` inputs and with as much noise made of them and of its own; `repeats`
/// is what repeats one seed of it, behind `SEED=1`.
///
/// # Panics
/// When it does not take one: the message says how to repeat it.
#[track_caller]
pub fn feed(decoder: &Decoder, kept: Vec<(String, Vec<u8>)>, repeats: &str) {
    let what = decoder.what;
    let mut valid = (decoder.valid)();
    for (name, bytes) in &kept {
        assert!(takes(decoder, bytes), "{what}: {name} is not taken");
    }
    for bytes in &valid {
        assert!(takes(decoder, bytes), "{what}: {bytes:?} of ours");
    }
    let files = kept.len();
    valid.extend(kept.into_iter().map(|(_, bytes)| bytes));
    let seed = number("SEED", 1);
    let count = match std::env::var("SEED") {
        Ok(_) => 1,
        Err(_) => cases(),
    };
    for seed in seed..seed + count {
        let bytes = input(&mut ChaCha8Rng::seed_from_u64(seed), &valid);
        assert!(
            takes(decoder, &bytes),
            "{what}: {bytes:?} is not taken: SEED={seed} {repeats}"
        );
    }
    println!("{what}: {files} of the corpus, {count} of noise");
    Row::promise(
        21,
        &format!("inputs that {what} could not take"),
        0.0,
        "inputs",
        0.0,
    )
    .tested(&format!(
        "{count} inputs of noise and of damaged messages, and a corpus of {files}"
    ))
    .append();
}
