//! The janitor: a tiny process that outlives a demo or a bench only to tidy up after it.
//!
//! It reads its stdin. Each line is the PID of a process. When stdin ends, its employer has ended,
//! however that came: the janitor kills what is left (a frozen process cannot end by itself),
//! deletes the directory, and ends. A PID is only killed while its command line names the
//! directory, so a reused one is safe.

use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use super::Purpose;
use crate::cli::{Failure, Verdict};

/// How often the directory is tried to be deleted: nodes may need a moment to end.
const ATTEMPTS_MAX: u32 = 200;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(50);

/// The employer's side: a process, and the pipe whose end it waits for.
pub(super) struct Janitor {
    hired: Mutex<Option<(Child, ChildStdin)>>,
}

impl Janitor {
    pub(super) fn hire(program: &Path, directory: &Path) -> std::io::Result<Self> {
        let mut child = Command::new(program)
            .arg("janitor")
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Signals to its employer's group are not for the janitor.
            .process_group(0)
            .spawn()?;
        let pipe = child.stdin.take().expect("stdin was asked to be a pipe");
        Ok(Self {
            hired: Mutex::new(Some((child, pipe))),
        })
    }

    /// Names a process.
    pub(super) fn watch_over(&self, pid: u32) {
        let mut hired = self.hired.lock().expect("no holder panics");
        if let Some((_, pipe)) = hired.as_mut() {
            // A janitor that is gone has deleted the directory; the next start will fail and say
            // so.
            drop(writeln!(pipe, "{pid}"));
        }
    }

    /// Closes the pipe and waits until everything is gone.
    pub(super) async fn finish(&self) {
        let hired = self.hired.lock().expect("no holder panics").take();
        let Some((mut child, pipe)) = hired else {
            return;
        };
        drop(pipe);
        // It has a bounded number of attempts, so this ends.
        let waited = tokio::task::spawn_blocking(move || child.wait());
        drop(waited.await);
    }
}

/// Whoever is dropped before its end, such as by a signal, waits here until everything is gone.
impl Drop for Janitor {
    fn drop(&mut self) {
        let hired = self.hired.get_mut().expect("no holder panics").take();
        if let Some((mut child, pipe)) = hired {
            drop(pipe);
            // It has a bounded number of attempts, so this ends.
            drop(child.wait());
        }
    }
}

/// The janitor's process.
pub(in crate::cli) fn run(directory: &Path) -> Result<Verdict, Failure> {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let ours = Purpose::ALL
        .iter()
        .any(|purpose| name.starts_with(purpose.prefix()));
    if !ours {
        return Err(Purpose::Demo.failed(format!(
            "{} is not the directory of a demo or a bench; it is left alone",
            directory.display()
        )));
    }
    let pids: Vec<u32> = std::io::stdin()
        .lock()
        .lines()
        .map_while(Result::ok)
        .filter_map(|l| l.parse().ok())
        .collect();
    for pid in pids {
        kill(pid, &name);
    }
    for _ in 0..ATTEMPTS_MAX {
        match std::fs::remove_dir_all(directory) {
            Ok(()) => break,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
            // A node is just ending and still writes: try again.
            Err(_) => std::thread::sleep(ATTEMPT_PAUSE),
        }
    }
    Ok(Verdict::Ok)
}

fn kill(pid: u32, directory_name: &str) {
    let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if String::from_utf8_lossy(&command_line).contains(directory_name) {
        // No process or no permission: then it is not ours any more.
        drop(
            Command::new("kill")
                .args(["-9", &pid.to_string()])
                .stderr(Stdio::null())
                .status(),
        );
    }
}
