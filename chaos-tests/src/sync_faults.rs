//! Disks whose syncs are slow or fail, one per node: by a small library of ours that is loaded into
//! the nodes before everything else, made with the C compiler that RocksDB's build needs too. Asks
//! for no rights.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SOURCE: &str = include_str!("sync_faults.c");

/// The disks of one cluster.
#[derive(Clone, Debug)]
pub struct SyncFaults {
    library: PathBuf,
    directory: PathBuf,
}

impl SyncFaults {
    /// Faults whose files lie in a directory; `None`: there is no C compiler here.
    ///
    /// # Panics
    /// When the directory cannot be written, or the compiler refuses the library.
    #[must_use]
    pub fn make(directory: &Path) -> Option<Self> {
        let source = directory.join("sync_faults.c");
        let library = directory.join("sync_faults.so");
        std::fs::write(&source, SOURCE).expect("a writable directory");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(&source)
            .arg("-ldl")
            .output()
            .ok()?;
        let said = String::from_utf8_lossy(&compiled.stderr);
        assert!(compiled.status.success(), "{said}");
        Some(Self {
            library,
            directory: directory.to_owned(),
        })
    }

    /// Makes the disk of a node that is about to start one of these.
    pub fn give_to(&self, command: &mut Command, node: &str) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("SYNC_FAULT_FILE", self.file(node));
    }

    /// From now on each sync of a node takes so much longer.
    pub fn slow(&self, node: &str, time: Duration) {
        self.say(node, &time.as_micros().to_string());
    }

    /// From now on each sync of a node fails.
    pub fn fail(&self, node: &str) {
        self.say(node, "eio");
    }

    /// The disk is whole again.
    pub fn heal(&self, node: &str) {
        self.say(node, "0");
    }

    fn say(&self, node: &str, what: &str) {
        let file = self.file(node);
        let draft = file.with_extension("draft");
        // In one step: a node reads the file at each sync.
        std::fs::write(&draft, what).expect("a writable file");
        std::fs::rename(&draft, &file).expect("a file can be renamed");
    }

    fn file(&self, node: &str) -> PathBuf {
        self.directory.join(format!("{node}.sync"))
    }
}
