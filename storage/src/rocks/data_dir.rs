//! The data directory: ours alone, of a format we know, and never deleted.
//!
//! `lock` is held while a node runs, `format` names the disk format and is read before the database
//! is touched, `note` is the small copy for the day the database is lost, `db/` is RocksDB's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ghostlight_protocol::code::Code;
use rustix::fs::{FlockOperation, flock, statvfs};
use rustix::io::Errno;

use crate::engine::{EngineError, Room};
use crate::identity::Note;
use crate::layout::DISK_FORMAT;

/// First words of the file `format`.
const FORMAT_WORDS: &str = "ghostlight disk format ";
/// Databases that may lie beside the one in use.
const ASIDE_MAX: u32 = 1_000;

/// A directory locked for this process.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Closing the file gives the lock up.
    _lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process uses it.
    #[error(
        "the data directory {path} is in use by another process. Stop that one, or give this node \
         another directory"
    )]
    Locked {
        /// Which.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("the data directory {path} cannot be written: {why}. Check its owner and its mount")]
    ReadOnly {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        why: String,
    },
    /// The disk is full.
    #[error("the disk of the data directory {path} is full: {why}. Make room, then start again")]
    Full {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        why: String,
    },
    /// A later version wrote it.
    #[error(
        "the data directory {path} has disk format {found}, this program knows up to {known}. \
         Nothing was changed; use the newer program"
    )]
    Newer {
        /// Which.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The newest one known here.
        known: u32,
    },
    /// It holds something else.
    #[error(
        "the directory {path} holds data that is not Ghostlight's ({why}). Nothing was changed; give \
         this node another directory"
    )]
    Foreign {
        /// Which.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// RocksDB reports damage.
    #[error("the database in {path} is damaged: {why}. Nothing was changed")]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// What RocksDB said.
        why: String,
    },
    /// Anything else.
    #[error("the data directory {path} cannot be used: {why}")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What the operating system or RocksDB said.
        why: String,
    },
}

impl DataDirError {
    /// The code an operator sees.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Locked { .. } => Code::DataDirLocked,
            Self::ReadOnly { .. } => Code::DataDirReadOnly,
            Self::Full { .. } => Code::DataDirFull,
            Self::Newer { .. } => Code::DataDirNewer,
            Self::Foreign { .. } => Code::DataDirForeign,
            Self::Corrupt { .. } => Code::DataDirCorrupt,
            Self::Unusable { .. } => Code::DataDirUnusable,
        }
    }
}

impl DataDir {
    /// Makes the directory if need be, locks it, and checks its format.
    ///
    /// # Errors
    /// Why it cannot be used. Of what was there before, nothing is changed.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |error| failed(path, &error);
        make_dir(path).map_err(failed)?;
        let lock = lock(path)?;
        let dir = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        dir.check_format()?;
        Ok(dir)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who the node was and whom it knew, as last noted; `None`: never noted, or the note is
    /// damaged.
    #[must_use]
    pub fn note(&self) -> Option<Note> {
        Note::open(&fs::read(self.path.join("note")).ok()?)
    }

    /// Why the database must not be trusted any more, if an earlier run said so.
    #[must_use]
    pub fn damage(&self) -> Option<String> {
        let text = fs::read(self.path.join("damaged")).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// Notes durably that the database must not be trusted any more, for the next start: RocksDB
    /// may find damage long after opening, and would open again without a word.
    ///
    /// # Errors
    /// The note may be there or not.
    pub fn mark_damaged(path: &Path, why: &str) -> Result<(), DataDirError> {
        replace_file(path, "damaged", why.as_bytes()).map_err(|error| failed(path, &error))
    }

    /// Moves a damaged database out of the way, for a person to look at. Returns where it went;
    /// `None`: there is none. It can be called again after a crash.
    ///
    /// # Errors
    /// It is still where it was, or where it should be.
    pub fn move_database_aside(&self) -> Result<Option<PathBuf>, DataDirError> {
        let moved = if self.database().exists() {
            Some(self.rename_database()?)
        } else {
            None
        };
        match fs::remove_file(self.path.join("damaged")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(&self.path, &error));
            }
            _ => {}
        }
        self.sync()?;
        Ok(moved)
    }

    /// Keeps the files of the write-ahead log as they are now, for a person to look at: opening a
    /// damaged one cuts it. Returns where they are.
    ///
    /// # Errors
    /// Not all of them are there.
    pub fn keep_log_aside(&self) -> Result<PathBuf, DataDirError> {
        let failed = |error| failed(&self.path, &error);
        let to = self.free_name("log.damaged")?;
        make_dir(&to).map_err(failed)?;
        for entry in fs::read_dir(self.database()).map_err(failed)? {
            let from = entry.map_err(failed)?.path();
            let Some(name) = from.file_name().filter(|_| is_log(&from)) else {
                continue;
            };
            // RocksDB writes no old log any more, and deletes it: the content stays under the
            // second name.
            fs::hard_link(&from, to.join(name)).map_err(failed)?;
        }
        self.sync()?;
        Ok(to)
    }

    /// A name in the directory that is not taken.
    fn free_name(&self, prefix: &str) -> Result<PathBuf, DataDirError> {
        (1..ASIDE_MAX)
            .map(|number| self.path.join(format!("{prefix}-{number}")))
            .find(|path| !path.exists())
            .ok_or_else(|| DataDirError::Unusable {
                path: self.path.clone(),
                why: format!("{ASIDE_MAX} damaged databases lie in it already"),
            })
    }

    fn rename_database(&self) -> Result<PathBuf, DataDirError> {
        let to = self.free_name("db.damaged")?;
        fs::rename(self.database(), &to).map_err(|error| failed(&self.path, &error))?;
        self.sync()?;
        Ok(to)
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join("db")
    }

    /// Makes the names in the directory durable.
    pub(super) fn sync(&self) -> Result<(), DataDirError> {
        sync_dir(&self.path).map_err(|error| failed(&self.path, &error))
    }

    pub(super) fn room(&self) -> Result<Room, EngineError> {
        let found = statvfs(&self.path).map_err(|error| EngineError::Io(error.to_string()))?;
        Ok(Room {
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }

    pub(super) fn write_note(&self, note: &[u8]) -> Result<(), EngineError> {
        replace_file(&self.path, "note", note).map_err(|error| match failed(&self.path, &error) {
            DataDirError::Full { why, .. } => EngineError::NoSpace(why),
            DataDirError::ReadOnly { why, .. } => EngineError::ReadOnly(why),
            other => EngineError::Io(other.to_string()),
        })
    }

    /// Files of a database whose root is gone. RocksDB would begin a new one and delete them. A
    /// first start that was cut short has left such files too, but no note.
    pub(super) fn is_headless(&self) -> bool {
        let database = self.database();
        let has_files = || {
            let mut entries = fs::read_dir(&database).ok()?;
            entries.next()
        };
        self.path.join("note").exists()
            && !database.join("CURRENT").exists()
            && has_files().is_some()
    }

    pub(super) fn open_failed(&self, error: &EngineError) -> DataDirError {
        let path = self.path.clone();
        match error {
            EngineError::Corrupt(why) => DataDirError::Corrupt {
                path,
                why: why.clone(),
            },
            EngineError::NoSpace(why) => DataDirError::Full {
                path,
                why: why.clone(),
            },
            EngineError::ReadOnly(why) => DataDirError::ReadOnly {
                path,
                why: why.clone(),
            },
            EngineError::Io(_) | EngineError::Closed => DataDirError::Unusable {
                path,
                why: error.to_string(),
            },
        }
    }

    fn check_format(&self) -> Result<(), DataDirError> {
        let path = self.path.clone();
        let text = match fs::read_to_string(self.path.join("format")) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.write_format(),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => String::new(),
            Err(error) => return Err(failed(&path, &error)),
        };
        let number = text
            .strip_prefix(FORMAT_WORDS)
            .and_then(|rest| rest.trim().parse().ok());
        match number {
            Some(found) if found > DISK_FORMAT => Err(DataDirError::Newer {
                path,
                found,
                known: DISK_FORMAT,
            }),
            Some(_) => Ok(()),
            None => Err(DataDirError::Foreign {
                path,
                why: "its file `format` is not ours".to_owned(),
            }),
        }
    }

    /// Marks an empty directory as ours. Anything in it but our lock means that it is not empty.
    fn write_format(&self) -> Result<(), DataDirError> {
        let entries = fs::read_dir(&self.path).map_err(|error| failed(&self.path, &error))?;
        for entry in entries {
            let name = entry
                .map_err(|error| failed(&self.path, &error))?
                .file_name();
            if name != "lock" && name != "lost+found" && name != "format.new" {
                return Err(DataDirError::Foreign {
                    path: self.path.clone(),
                    why: format!("{} lies in it", name.display()),
                });
            }
        }
        let text = format!("{FORMAT_WORDS}{DISK_FORMAT}\n");
        replace_file(&self.path, "format", text.as_bytes())
            .map_err(|error| failed(&self.path, &error))
    }
}

fn lock(path: &Path) -> Result<File, DataDirError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join("lock"))
        .map_err(|error| failed(path, &error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(DataDirError::Locked {
            path: path.to_owned(),
        }),
        Err(error) => Err(failed(path, &error.into())),
    }
}

/// Makes a directory and those above it, durably.
fn make_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_dir(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_dir(parent)
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Replaces a small file: whoever reads it finds the old content or the new.
fn replace_file(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, dir.join(name))?;
    sync_dir(dir)
}

fn failed(path: &Path, error: &io::Error) -> DataDirError {
    let (path, why) = (path.to_owned(), error.to_string());
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            DataDirError::ReadOnly { path, why }
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            DataDirError::Full { path, why }
        }
        _ => DataDirError::Unusable { path, why },
    }
}
fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}
