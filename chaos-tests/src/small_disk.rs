//! A disk that is small enough to be filled: ext4 in a file, mounted for one test. Only where this
//! process may mount, and has the tools.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::files;

/// Size of the disk.
const DISK_BYTES: u64 = 384 << 20;
/// What fills it.
const FILLER: &str = "filler";
/// Written at once.
const BLOCK_BYTES: usize = 256 << 10;

/// A mounted disk. Dropped: unmounted.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
    image: PathBuf,
}

/// How it is mounted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mounted {
    /// For reading and writing.
    Writable,
    /// For reading alone.
    ReadOnly,
}

fn succeeds(program: &str, args: &[&str]) -> bool {
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

impl SmallDisk {
    /// Makes a disk and mounts it at a path; `None`: this machine does not let us.
    ///
    /// # Panics
    /// When its image or the directory cannot be made.
    #[must_use]
    pub fn mount(at: &Path) -> Option<Self> {
        let image = at.with_extension("image");
        let file = File::create(&image).expect("a writable directory");
        file.set_len(DISK_BYTES).expect("a sparse file");
        fs::create_dir_all(at).expect("a writable directory");
        let disk = Self {
            at: at.to_owned(),
            image,
        };
        let (image, at) = (disk.image.to_str()?, disk.at.to_str()?);
        let made = succeeds("mkfs.ext4", &["-q", "-F", "-m", "0", image]);
        (made && succeeds("mount", &["-o", "loop", image, at])).then_some(disk)
    }

    /// Mounts it again another way; whether the system let us.
    #[must_use]
    pub fn remount(&self, how: Mounted) -> bool {
        let how = match how {
            Mounted::Writable => "remount,rw",
            Mounted::ReadOnly => "remount,ro",
        };
        succeeds("mount", &["-o", how, &self.at.display().to_string()])
    }

    /// Writes until no more than so many thousandths are free; 0: until nothing more can be
    /// written.
    ///
    /// # Panics
    /// When the disk cannot be looked at.
    pub fn fill(&self, free_per_mille: u64) {
        let filler = File::options()
            .create(true)
            .append(true)
            .open(self.at.join(FILLER));
        let mut filler = filler.expect("a file can be opened");
        let block = vec![7; BLOCK_BYTES];
        let mut bytes = BLOCK_BYTES;
        while bytes > 0 && self.free_per_mille() > free_per_mille {
            if filler.write_all(&block[..bytes]).is_err() {
                bytes /= 2;
            }
        }
        // A file system may take more than it can hold until it has to.
        drop(filler.sync_all());
    }

    /// Takes back what `fill` wrote.
    ///
    /// # Panics
    /// When it cannot be deleted.
    pub fn clear(&self) {
        fs::remove_file(self.at.join(FILLER)).expect("a file can be deleted");
    }

    /// Free thousandths.
    ///
    /// # Panics
    /// When the system does not say.
    #[must_use]
    pub fn free_per_mille(&self) -> u64 {
        files::free_per_mille(&self.at)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let at = self.at.display().to_string();
        // Lazily, if a node that failed its test still holds it.
        if !succeeds("umount", &[&at]) {
            succeeds("umount", &["-l", &at]);
        }
        drop(fs::remove_file(&self.image));
    }
}
