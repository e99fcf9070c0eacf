//! What happens to the files of a node while it does not run: copied, damaged, put on a small disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Free thousandths below which nodes lead nothing (E0321), and a little more for what they write.
const ROOM_PER_MILLE_MIN: u64 = 70;

/// Free thousandths of the file system of a path.
///
/// # Panics
/// When the system does not say.
#[must_use]
pub fn free_per_mille(path: &Path) -> u64 {
    let found = rustix::fs::statvfs(path).expect("a mounted file system");
    found.f_bavail * 1_000 / found.f_blocks
}

/// Nodes need room: without it no cluster becomes healthy, and tests wait for it in vain.
///
/// # Panics
/// When there is too little.
pub fn check_room(path: &Path) {
    let free = free_per_mille(path);
    assert!(
        free >= ROOM_PER_MILLE_MIN,
        "the disk of {} has {}.{} % of its room left: nodes lead nothing below 5 % (E0321), so nothing can be tested. Make \
         room, or name another disk by TMPDIR",
        path.display(),
        free / 10,
        free % 10
    );
}

/// Copies a folder with all that is in it.
///
/// # Panics
/// When it cannot be copied.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let target = to.join(path.file_name().expect("entries have names"));
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a copied file");
        }
    }
}

/// The files of a data directory's database whose names begin or end so.
///
/// # Panics
/// When the database cannot be read.
#[must_use]
pub fn database_files(data: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("db")).expect("a database");
    let paths = entries.map(|entry| entry.expect("a readable entry").path());
    let mut found: Vec<PathBuf> = paths
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            is_wanted(&name)
        })
        .collect();
    found.sort();
    found
}

/// Flips one bit in every `every`-th byte of a file, from its middle to its end, and returns how
/// many.
///
/// # Panics
/// When the file cannot be read or written.
pub fn flip_bits(file: &Path, every: usize) -> usize {
    let mut bytes = fs::read(file).expect("a readable file");
    let middle = bytes.len() / 2;
    let mut flipped = 0;
    for byte in bytes[middle..].iter_mut().step_by(every) {
        *byte ^= 0x10;
        flipped += 1;
    }
    fs::write(file, bytes).expect("a writable file");
    flipped
}

/// A file system of its own at a path, in memory. Dropped: unmounted.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
}

impl Mounted {
    /// Mounts one with these options (`size=64m`, `ro`). `None`: this user may not.
    #[must_use]
    pub fn tmpfs(path: &Path, options: &str) -> Option<Self> {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(path)
            .stderr(Stdio::null())
            .status();
        let mounted = status.is_ok_and(|status| status.success());
        mounted.then(|| Self {
            path: path.to_owned(),
        })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still hold a file.
        let status = Command::new("umount").arg("-l").arg(&self.path).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.path.display());
        }
    }
}
