//! The figures of all tests in one report: tests append rows, the program `ghostlight-report` makes
//! `report.json` and one HTML page of them, and fails when a promise was broken.
//!
//! The scoreboard has twenty rows; a row of it that nothing measures is printed as *not measured*,
//! never as met. What ran is said with every figure. Absent: any measuring, and any opinion on it:
//! a test says what its target is.

pub mod page;
pub mod row;
pub mod scoreboard;

use std::fs;
use std::path::{Path, PathBuf};

pub use row::{Kind, Row};

/// Where the report goes: `OUT`, or `chaos-report` at the repository's root.
#[must_use]
pub fn folder() -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    match std::env::var_os("OUT").filter(|out| !out.is_empty()) {
        // Tests run in their package's folder; what a person gives counts from the root.
        Some(out) => PathBuf::from(root).join(out),
        None => PathBuf::from(root).join("chaos-report"),
    }
}

/// Writes a file into the report's folder, and the folders above it; gives its path.
///
/// # Panics
/// When it cannot be written: what was found must not be lost in silence.
pub fn write(name: impl AsRef<Path>, text: &str) -> PathBuf {
    let path = folder().join(name);
    let above = path.parent().unwrap_or(Path::new("."));
    let written = fs::create_dir_all(above).and_then(|()| fs::write(&path, text));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}
