//! What the kernel knows: processor time and memory of processes, and this machine.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// The kernel counts a process' time in hundredths of a second, on every platform that has `/proc`.
const TICK: Duration = Duration::from_millis(10);

type Result<T> = std::result::Result<T, String>;

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))
}

/// Processor time of a process since its start, all threads, user and system.
pub(super) fn process_cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = read(&path)?;
    // The second field is the name in brackets, which may hold spaces; times are the 14th and 15th.
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<u32>().ok());
    match (ticks(), ticks()) {
        (Some(user), Some(system)) => Ok(TICK * (user + system)),
        _ => Err(format!("{path} has another form than expected")),
    }
}

/// Processor time of this thread since its start.
pub(super) fn thread_cpu() -> Result<Duration> {
    let path = "/proc/thread-self/schedstat";
    let text = read(path)?;
    let nanos = text.split_whitespace().next().and_then(|n| n.parse().ok());
    nanos
        .map(Duration::from_nanos)
        .ok_or_else(|| format!("{path} has another form than expected"))
}

/// Resident memory of a process, in bytes.
pub(super) fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let kib = field(&read(&path)?, "VmRSS:");
    kib.map(|kib| kib * 1_024)
        .ok_or_else(|| format!("{path} has another form than expected"))
}

/// The number after a name.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Where figures come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Machine {
    pub(super) cores: usize,
    /// Processor, memory, kernel, file system.
    pub(super) text: String,
    /// Type of the file system, such as `ext4`.
    pub(super) file_system: String,
}

impl Machine {
    /// This machine, with the file system that a directory is on.
    pub(super) fn look(directory: &Path) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, Into::into);
        let cpu = read("/proc/cpuinfo").unwrap_or_default();
        let model = cpu
            .lines()
            .find(|line| line.starts_with("model name"))
            .and_then(|line| line.split_once(": "))
            .map_or("unknown processor", |(_, model)| model);
        let memory = field(&read("/proc/meminfo").unwrap_or_default(), "MemTotal:");
        let kernel = read("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mounts = read("/proc/self/mounts").unwrap_or_default();
        let file_system = file_system(&mounts, directory);
        let build = if cfg!(debug_assertions) {
            "shared profile, assertions on"
        } else {
            "release"
        };
        Self {
            cores,
            text: format!(
                "{model}, {} MiB, Linux {}, {file_system}; {build}",
                memory.unwrap_or(0) / 1_024,
                kernel.trim()
            ),
            file_system,
        }
    }
}

fn file_system(mounts: &str, directory: &Path) -> String {
    let directory = directory
        .canonicalize()
        .unwrap_or_else(|_| directory.to_owned());
    let found = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(at, _)| directory.starts_with(at))
        .max_by_key(|(at, _)| at.len());
    found.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let pid = std::process::id();
        let (process, thread) = (process_cpu(pid).unwrap(), thread_cpu().unwrap());
        let begin = std::time::Instant::now();
        let mut work = 0_u64;
        while begin.elapsed() < Duration::from_millis(100) {
            work = work.wrapping_mul(31).wrapping_add(7);
        }
        assert!(work != 1);
        assert!(thread_cpu().unwrap() > thread);
        assert!(process_cpu(pid).unwrap() >= process);
        assert!(resident_bytes(pid).unwrap() > 1 << 20);
    }

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "a / ext4 rw 0 0\nb /tmp tmpfs rw 0 0\nc /tmpfiles xfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/tmp")), "tmpfs");
        assert_eq!(file_system(mounts, Path::new("/usr")), "ext4");
    }
}
