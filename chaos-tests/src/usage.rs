//! What the kernel has counted for processes: processor time, and resident memory at its largest.

use std::time::Duration;

/// The kernel counts a process' time in hundredths of a second, on every platform that has `/proc`.
const TICK: Duration = Duration::from_millis(10);

/// Processor time of a process since its start, all threads, user and system.
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn processor_time(pid: u32) -> Duration {
    let text = read(&format!("/proc/{pid}/stat"));
    // The second field is the name in brackets, which may hold spaces; times are the 14th and 15th.
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields = after_name.split_whitespace().skip(11).take(2);
    let ticks: u32 = fields
        .map(|field| field.parse::<u32>().expect("a count"))
        .sum();
    TICK * ticks
}

/// Processor time of the calling thread.
///
/// # Panics
/// When the kernel does not count it.
#[must_use]
pub fn thread_time() -> Duration {
    let text = read("/proc/thread-self/schedstat");
    let nanos = text.split_whitespace().next().map(str::parse);
    Duration::from_nanos(nanos.and_then(Result::ok).expect("a count"))
}

/// Resident memory of a process now, in bytes.
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn resident_bytes(pid: u32) -> u64 {
    memory(pid, "VmRSS:")
}

/// The most that it has had since its start, in bytes.
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn resident_bytes_max(pid: u32) -> u64 {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, name: &str) -> u64 {
    let text = read(&format!("/proc/{pid}/status"));
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("a size in KiB") * 1_024
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let pid = std::process::id();
        let began = std::time::Instant::now();
        let mut work = 0_u64;
        while began.elapsed() < Duration::from_millis(60) {
            work = work.wrapping_mul(31).wrapping_add(7);
        }
        assert!(work != 1);
        assert!(thread_time() > Duration::ZERO);
        assert!(processor_time(pid) > Duration::ZERO);
        assert!(resident_bytes(pid) > 1 << 20);
        assert!(resident_bytes_max(pid) >= resident_bytes(pid) / 2);
    }
}
