//! House rules as a test: sizes, module docs, banned words, the direction of dependencies, and that
//! documents speak of things that exist.
//!
//! It reads the files of the repository; commands in documents are tried with the built binary.
//! What the compiler, clippy or rustfmt can check is not here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ghostlight_chaos::process;
use ghostlight_protocol::code::Code;

const FILE_LINES_MAX: usize = 800;
const README_LINES_MAX: usize = 150;
/// As wide as rustfmt makes code.
const COMMENT_COLUMNS_MAX: usize = 100;
const SKIPPED: &[&str] = &[".git", "target", "ghostlight-data"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the repository's root")
}

/// Every file below the root whose name ends so, as (path from the root, text).
fn files(ending: &str) -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_symlink() || SKIPPED.contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(ending) {
                let shown = path
                    .strip_prefix(&root)
                    .expect("below the root")
                    .display()
                    .to_string();
                found.push((shown, std::fs::read_to_string(&path).unwrap_or_default()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no file ends with {ending}");
    found
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[track_caller]
fn none(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.join("\n  "));
}

/// The lines of one table of a manifest.
fn table<'a>(manifest: &'a str, name: &str) -> Vec<&'a str> {
    let header = format!("[{name}]");
    let lines = manifest
        .lines()
        .skip_while(|line| line.trim() != header)
        .skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .collect()
}

/// The names in one table of dependencies.
fn dependencies(manifest: &str, name: &str) -> BTreeSet<String> {
    let lines = table(manifest, name).into_iter();
    lines
        .filter_map(|line| line.split(['=', '.']).next())
        .map(|name| name.trim().to_owned())
        .collect()
}

#[test]
fn files_are_small() {
    let lines = files(".rs")
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()));
    let long = lines.filter(|(_, lines)| *lines > FILE_LINES_MAX);
    let long: Vec<String> = long
        .map(|(path, lines)| format!("{path}: {lines}"))
        .collect();
    none(&format!("files over {FILE_LINES_MAX} lines"), &long);
    let readme = read("README.md").lines().count();
    assert!(readme <= README_LINES_MAX, "README.md has {readme} lines");
}

/// rustfmt leaves comments alone. A row of a table is as long as it is.
#[test]
fn comments_are_as_wide_as_code() {
    let comments = files(".rs").into_iter().flat_map(|(path, text)| {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let lines = lines.into_iter().enumerate();
        lines.map(move |(at, line)| (format!("{path}:{}", at + 1), line))
    });
    let wide = comments.filter(|(_, line)| {
        let comment = line.trim_start().strip_prefix("//");
        let text = comment.map(|rest| rest.trim_start_matches(['/', '!', ' ']));
        let is_row = text.is_some_and(|text| text.starts_with('|'));
        text.is_some() && !is_row && line.chars().count() > COMMENT_COLUMNS_MAX
    });
    let wide: Vec<String> = wide.map(|(place, _)| place).collect();
    none(
        &format!("comments of more than {COMMENT_COLUMNS_MAX} columns"),
        &wide,
    );
}

#[test]
fn modules_say_what_they_are() {
    let silent = files(".rs").into_iter().filter(|(path, text)| {
        let is_test = path.ends_with("tests.rs") || path.ends_with("_test.rs");
        let begins = text.trim_start();
        !is_test && !begins.starts_with("//!") && !begins.starts_with("#![doc")
    });
    none(
        "files without module docs",
        &silent.map(|(path, _)| path).collect::<Vec<_>>(),
    );
}

#[test]
fn module_files_are_never_mod_rs() {
    let paths = files(".rs").into_iter().map(|(path, _)| path);
    let wrong: Vec<String> = paths.filter(|path| path.ends_with("/mod.rs")).collect();
    none("name.rs and name/ instead of", &wrong);
}

#[test]
fn no_banned_words() {
    // Put together here, so that this file does not have them.
    let banned = [
        ["FIX", "ME"].concat(),
        ["todo", "!("].concat(),
        ["dbg", "!("].concat(),
        ["unimplemented", "!("].concat(),
        ["#[ig", "nore"].concat(),
        ["/home", "/"].concat(),
        ["/Us", "ers/"].concat(),
        ["/ro", "ot/"].concat(),
    ];
    let mut wrong = Vec::new();
    for ending in [
        ".rs",
        ".toml",
        ".md",
        ".sh",
        ".yaml",
        ".yml",
        "Makefile",
        "Dockerfile",
    ] {
        for (path, text) in files(ending) {
            for (number, line) in text.lines().enumerate() {
                for word in banned.iter().filter(|word| line.contains(word.as_str())) {
                    wrong.push(format!("{path}:{}: {word}", number + 1));
                }
            }
        }
    }
    none("banned words", &wrong);
}

#[test]
fn dependencies_point_one_way() {
    // What each crate may use of ours, without the common prefix.
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("protocol", &[][..]),
        ("placement", &["protocol"][..]),
        ("storage", &["protocol"][..]),
        ("node/buses", &["protocol"][..]),
        ("node/macros", &[][..]),
        ("node/core", &["macros", "placement", "protocol"][..]),
        ("node/disk", &["core", "protocol", "storage"][..]),
        ("node/transport", &["core", "protocol"][..]),
        (
            "node/shell",
            &["core", "disk", "protocol", "storage", "transport"][..],
        ),
        (
            "node",
            &[
                "buses",
                "core",
                "disk",
                "macros",
                "placement",
                "protocol",
                "shell",
                "storage",
                "transport",
            ][..],
        ),
        (
            "chaos-tests/sim",
            &[
                "core",
                "disk",
                "histories",
                "placement",
                "protocol",
                "storage",
            ][..],
        ),
        (
            "chaos-tests/shellsim",
            &["core", "disk", "protocol", "shell", "storage", "transport"][..],
        ),
        (
            "chaos-tests/decoders",
            &["core", "placement", "protocol", "report", "storage"][..],
        ),
        ("chaos-tests/histories", &[][..]),
    ]);
    let mut wrong = Vec::new();
    for (krate, allowed) in allowed {
        for name in dependencies(&read(&format!("{krate}/Cargo.toml")), "dependencies") {
            let ours = name
                .strip_prefix("ghostlight")
                .map(|rest| rest.trim_start_matches('-'));
            if ours.is_some_and(|ours| !allowed.contains(&ours)) {
                wrong.push(format!("{krate} -> {name}"));
            }
        }
    }
    none("dependencies against the direction", &wrong);
}

#[test]
fn pure_crates_are_pure() {
    const IMPURE: &[&str] = &[
        "tokio", "quinn", "rustls", "rocksdb", "axum", "hyper", "metrics", "tempfile",
    ];
    let mut wrong = Vec::new();
    for krate in ["protocol", "placement", "node/core"] {
        for name in dependencies(&read(&format!("{krate}/Cargo.toml")), "dependencies") {
            if IMPURE.contains(&name.as_str()) {
                wrong.push(format!("{krate} -> {name}"));
            }
        }
        let lints = read(&format!("{krate}/clippy.toml"));
        for ban in ["std::time::Instant::now", "std::collections::HashMap"] {
            if !lints.contains(ban) {
                wrong.push(format!("{krate}/clippy.toml does not ban {ban}"));
            }
        }
    }
    none("impure", &wrong);
}

#[test]
fn every_manifest_inherits_lints_and_versions() {
    let mut wrong = Vec::new();
    for (path, text) in files("Cargo.toml") {
        if text.starts_with("[workspace]") {
            continue;
        }
        if table(&text, "lints") != ["workspace = true"] {
            wrong.push(format!("{path}: [lints] does not inherit"));
        }
        for name in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let lines = table(&text, name).into_iter();
            let own = lines.filter(|line| line.contains('=') && !line.contains("workspace = true"));
            wrong.extend(own.map(|line| format!("{path}: {line}")));
        }
    }
    none("manifests that do not inherit", &wrong);
}

#[test]
fn every_error_code_has_a_page_and_every_page_a_code() {
    let pages: BTreeSet<String> = std::fs::read_dir(root().join("docs/errors"))
        .expect("the pages")
        .map(|entry| {
            entry
                .expect("a page")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let codes: BTreeSet<String> = Code::ALL.iter().map(|code| format!("{code}.md")).collect();
    assert_eq!(pages, codes);
    for code in Code::ALL {
        let page = read(&format!("docs/errors/{code}.md"));
        assert!(
            page.contains(code.error_code()),
            "{code} does not name {}",
            code.error_code()
        );
    }
}

#[test]
fn documents_name_only_codes_that_exist() {
    let mut wrong = Vec::new();
    for (path, text) in files(".md") {
        for word in text.split(|c: char| !c.is_ascii_alphanumeric()) {
            let digits = word.strip_prefix('E').filter(|digits| digits.len() == 4);
            let number = digits.and_then(|digits| digits.parse::<u16>().ok());
            if number.is_some_and(|number| Code::from_number(number).is_none()) {
                wrong.push(format!("{path}: {word}"));
            }
        }
    }
    none("error codes that do not exist", &wrong);
}

#[test]
fn commands_in_documents_can_be_typed() {
    let mut wrong = Vec::new();
    let mut typed = 0;
    for (path, text) in files(".md") {
        for line in text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("./ghostlight "))
        {
            let line = line.split(" # ").next().unwrap_or(line).trim();
            // Help comes after everything before it was understood, and runs nothing.
            let words: Vec<&str> = line.split_whitespace().chain(["--help"]).collect();
            typed += 1;
            let output = process::run(&words);
            if !output.status.success() {
                wrong.push(format!("{path}: {line}: {}", process::stderr(&output)));
            }
        }
    }
    assert!(
        typed >= 5,
        "only {typed} commands were found: has README.md changed its form?"
    );
    none("commands that do not exist", &wrong);
}

#[test]
fn make_targets_in_the_readme_exist() {
    let makefile = read("Makefile");
    let readme = read("README.md");
    let targets = readme.lines().filter_map(|line| line.strip_prefix("make "));
    let targets: Vec<&str> = targets
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(
        targets.contains(&"demo") && targets.contains(&"test"),
        "{targets:?}"
    );
    for target in targets {
        assert!(
            makefile.contains(&format!("\n{target}:")),
            "make {target} does not exist"
        );
    }
}

#[test]
fn every_metric_has_a_description() {
    let mut wrong = Vec::new();
    let mut metrics = 0;
    for (path, text) in files(".rs") {
        let packed = text.replace(['\n', ' '], "");
        for line in text.lines().filter(|line| line.contains("\"ghostlight_")) {
            let constant = line.trim().strip_prefix("pub const ");
            let Some(name) = constant.and_then(|constant| constant.split(':').next()) else {
                continue;
            };
            metrics += 1;
            let described = ["counter", "gauge", "histogram"]
                .iter()
                .any(|kind| packed.contains(&format!("describe_{kind}!({name},")));
            if !described {
                wrong.push(format!("{path}: {name}"));
            }
        }
    }
    assert!(
        metrics > 0,
        "no metric was found: has the form of the constants changed?"
    );
    none("metrics without a description", &wrong);
}
