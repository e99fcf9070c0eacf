//! Which objects a process of an application may hold, remembered beyond the end of this node.
//!
//! A node that is started again beside an application that goes on does not know what its
//! predecessor called into being there, and such an object answers from a cache that may be old.
//! Each process that can be told apart has a file: a line before an actor's first callback leaves,
//! another one when the process has answered that it let the object go. Nothing is synced: a
//! machine that stops takes the process with it. Absent: what follows for an object
//! (`hosts/objects` of the core); processes that cannot be seen.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;

use super::lock;
use super::owner::Image;

/// End of the files' names.
const SUFFIX: &str = ".objects";
/// Lines beside those of living objects before a file is written anew.
const STALE_LINES_MAX: usize = 4_096;

/// The folder with the files of all processes.
#[derive(Debug)]
pub(super) struct Memories {
    folder: Option<PathBuf>,
    /// Tells processes of one start of the machine from those of another.
    boot: String,
    open: Mutex<HashMap<Image, Arc<Memory>>>,
}

/// The objects of one process.
#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
    content: Mutex<Content>,
}

#[derive(Debug)]
struct Content {
    file: File,
    objects: BTreeSet<ActorKey>,
    lines: usize,
    /// Whether the log has said that it cannot be written.
    told: bool,
}

impl Memories {
    /// Those in this folder, which need not be there; files of processes that have ended are
    /// removed.
    pub(super) fn in_folder(folder: Option<PathBuf>) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let boot = boot.map(|boot| boot.trim().replace('-', ""));
        let folder = folder.filter(|_| boot.is_ok());
        let memories = Self {
            folder,
            boot: boot.unwrap_or_default(),
            open: Mutex::default(),
        };
        memories.sweep();
        memories
    }

    /// None: nothing is remembered.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self::in_folder(None)
    }

    /// The memory of a process; `None`: there is no place for it.
    pub(super) fn of(&self, image: Image) -> Option<Arc<Memory>> {
        let folder = self.folder.as_ref()?;
        let mut open = lock(&self.open);
        open.retain(|other, memory| {
            let keeps = *other == image || other.lives();
            if !keeps {
                drop(fs::remove_file(&memory.path));
            }
            keeps
        });
        if let Some(memory) = open.get(&image) {
            return Some(Arc::clone(memory));
        }
        let path = folder.join(self.name_of(image));
        let opened = fs::create_dir_all(folder).and_then(|()| Memory::open(path));
        match opened {
            Ok(memory) => {
                let memory = Arc::new(memory);
                open.insert(image, Arc::clone(&memory));
                Some(memory)
            }
            Err(error) => {
                tracing::warn!(
                    folder = %folder.display(),
                    %error,
                    "cannot remember which actors the application holds: when this node is started again, start \
                     the application again, too"
                );
                None
            }
        }
    }

    fn name_of(&self, image: Image) -> String {
        format!("{}-{}{SUFFIX}", self.boot, image.name())
    }

    fn sweep(&self) {
        let Some(Ok(entries)) = self.folder.as_ref().map(fs::read_dir) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)) else {
                continue;
            };
            let image = name.strip_prefix(&format!("{}-", self.boot));
            let lives = image.and_then(Image::parse).is_some_and(|i| i.lives());
            if !lives {
                drop(fs::remove_file(entry.path()));
            }
        }
    }
}

impl Memory {
    fn open(path: PathBuf) -> io::Result<Self> {
        let objects = match fs::read_to_string(&path) {
            Ok(text) => read(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(error),
        };
        let file = rewrite(&path, &objects)?;
        let lines = objects.len();
        Ok(Self {
            path,
            content: Mutex::new(Content {
                file,
                objects,
                lines,
                told: false,
            }),
        })
    }

    /// What the process may hold.
    pub(super) fn objects(&self) -> Vec<ActorKey> {
        lock(&self.content).objects.iter().cloned().collect()
    }

    /// A callback of this actor is about to be sent: the process may hold it from now on.
    pub(super) fn will_hold(&self, actor: &ActorKey) {
        let mut content = lock(&self.content);
        if !content.objects.contains(actor) {
            content.objects.insert(actor.clone());
            self.note(&mut content, '+', actor);
        }
    }

    /// The process has answered that it let go of this actor.
    pub(super) fn let_go(&self, actor: &ActorKey) {
        let mut content = lock(&self.content);
        if content.objects.remove(actor) {
            self.note(&mut content, '-', actor);
        }
    }

    fn note(&self, content: &mut Content, sign: char, actor: &ActorKey) {
        content.lines += 1;
        let written = if content.lines > 2 * content.objects.len() + STALE_LINES_MAX {
            content.lines = content.objects.len();
            rewrite(&self.path, &content.objects).map(|file| content.file = file)
        } else {
            // One call, so that a node that is killed leaves whole lines.
            content.file.write_all(line(sign, actor).as_bytes())
        };
        if let (Err(error), false) = (written, content.told) {
            content.told = true;
            tracing::warn!(
                file = %self.path.display(),
                %error,
                "cannot write down which actors the application holds: when this node is started again, start \
                 the application again, too"
            );
        }
    }
}

fn line(sign: char, actor: &ActorKey) -> String {
    format!("{sign}{}\n", STANDARD_NO_PAD.encode(actor.as_bytes()))
}

/// A file with these objects alone, in the place of the one that is there.
fn rewrite(path: &Path, objects: &BTreeSet<ActorKey>) -> io::Result<File> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    let text: String = objects.iter().map(|actor| line('+', actor)).collect();
    file.write_all(text.as_bytes())?;
    fs::rename(&new, path)?;
    Ok(file)
}

/// Lines that cannot be read are left out: a disk that was full has cut them.
fn read(text: &str) -> BTreeSet<ActorKey> {
    let mut objects = BTreeSet::new();
    for line in text.lines() {
        let Some((sign, key)) = line.split_at_checked(1) else {
            continue;
        };
        let key = STANDARD_NO_PAD.decode(key).ok();
        let Some(actor) = key.and_then(|key| ActorKey::parse(Bytes::from(key)).ok()) else {
            continue;
        };
        match sign {
            "+" => drop(objects.insert(actor)),
            "-" => drop(objects.remove(&actor)),
            _ => {}
        }
    }
    objects
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(id: &str) -> ActorKey {
        ActorKey::new("default", "cart", id).unwrap()
    }

    fn own() -> Image {
        Image::of(std::process::id()).unwrap()
    }

    #[test]
    fn a_process_that_lives_is_remembered_and_one_that_ended_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = || Memories::in_folder(Some(folder.path().join("apps")));
        let first = at();
        let memory = first.of(own()).unwrap();
        assert_eq!(memory.objects(), []);
        for id in ["a", "b", "a", "c"] {
            memory.will_hold(&actor(id));
        }
        memory.let_go(&actor("b"));
        // As after a kill: nothing was closed.
        let again = at().of(own()).unwrap();
        assert_eq!(again.objects(), [actor("a"), actor("c")]);
        let ended = Image::parse("1-1-1").unwrap();
        drop(first.of(ended).unwrap());
        let files = || fs::read_dir(folder.path().join("apps")).unwrap().count();
        assert_eq!(files(), 2);
        drop(at());
        assert_eq!(files(), 1, "the file of a process that has ended goes");
    }

    #[test]
    fn a_file_does_not_grow_with_what_comes_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let memories = Memories::in_folder(Some(folder.path().to_owned()));
        let memory = memories.of(own()).unwrap();
        memory.will_hold(&actor("stays"));
        for round in 0..2 * STALE_LINES_MAX {
            let passing = actor(&round.to_string());
            memory.will_hold(&passing);
            memory.let_go(&passing);
        }
        let text = fs::read_to_string(&memory.path).unwrap();
        assert!(text.lines().count() <= STALE_LINES_MAX + 4);
        assert_eq!(read(&text), BTreeSet::from([actor("stays")]));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let whole = line('+', &actor("a"));
        let text = format!("{whole}+!!\n?\n\n{}", &whole[..whole.len() - 4]);
        assert_eq!(read(&text), BTreeSet::from([actor("a")]));
        assert_eq!(Memories::none().of(own()).map(|_| ()), None);
    }
}
