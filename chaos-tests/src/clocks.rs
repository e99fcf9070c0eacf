//! Wall clocks that jump, one per node: by Debian's `libfaketime`, loaded into the nodes before
//! everything else.
//!
//! Only the calendar is faked. The monotonic clock stays the machine's, as it does when somebody
//! sets the date.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where Debian and Ubuntu put the library: one folder per architecture.
const LIBRARIES: &str = "/usr/lib";
const LIBRARY: &str = "faketime/libfaketime.so.1";

/// The clocks of one cluster.
#[derive(Clone, Debug)]
pub struct Clocks {
    library: PathBuf,
    directory: PathBuf,
}

impl Clocks {
    /// Clocks whose files lie in a directory; `None`: the library is not installed.
    ///
    /// # Panics
    /// When the folder of libraries cannot be read.
    #[must_use]
    pub fn find(directory: &Path) -> Option<Self> {
        let folders = std::fs::read_dir(LIBRARIES).expect("a readable folder");
        let mut libraries = folders.filter_map(|folder| Some(folder.ok()?.path().join(LIBRARY)));
        Some(Self {
            library: libraries.find(|library| library.is_file())?,
            directory: directory.to_owned(),
        })
    }

    /// Makes a node that is about to start live by its own clock.
    pub fn give_to(&self, command: &mut Command, node: &str) {
        let file = self.file(node);
        if !file.exists() {
            self.jump(node, 0);
        }
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }

    /// From now on a node's clock is off by so many seconds.
    ///
    /// # Panics
    /// When its file cannot be written.
    pub fn jump(&self, node: &str, seconds: i64) {
        let file = self.file(node);
        let draft = file.with_extension("draft");
        // In one step: a node reads the file whenever it looks at its clock.
        std::fs::write(&draft, format!("{seconds:+}")).expect("a writable file");
        std::fs::rename(&draft, &file).expect("a file can be renamed");
    }

    fn file(&self, node: &str) -> PathBuf {
        self.directory.join(format!("{node}.clock"))
    }
}
