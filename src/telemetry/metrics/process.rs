//! What the system says about the process, as Linux tells it; elsewhere it is absent.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
};

use prometheus_client::{metrics::counter::Counter, registry::Unit};

use super::book::{Book, Known, set};

/// What times in `/proc` are counted in: a hundredth of a second, whatever the kernel itself ticks by.
const TICKS: f64 = 100.0;

/// The figures of the process, with the names that Prometheus has for them.
#[derive(Debug)]
pub(super) struct Process {
    started: Known,
    cpu: Counter<f64, AtomicU64>,
    memory: Known,
    files: Known,
    most_files: Known,
}

impl Process {
    pub(super) fn new(book: &mut Book) -> Self {
        Self {
            started: book.known("process_start_time", Some(Unit::Seconds), "When the process began, since 1970"),
            cpu: book.enter(
                ("process_cpu", Some(Unit::Seconds), &[]),
                "Time that the process has spent on processors",
                Counter::default(),
            ),
            memory: book.known("process_resident_memory", Some(Unit::Bytes), "Memory that the process holds"),
            files: book.known("process_open_fds", None, "Open files and connections"),
            most_files: book.known("process_max_fds", None, "How many may be open at once"),
        }
    }

    pub(super) fn show(&self) {
        let stat = fs::read_to_string("/proc/self/stat").ok();
        let times = stat.as_deref().and_then(times);
        let booted = fs::read_to_string("/proc/stat").ok().and_then(|text| number_after(&text, "btime "));
        set(&self.started, times.zip(booted).map(|((_, started), booted)| booted + started));
        if let Some((spent, _)) = times {
            self.cpu.inner().store(spent.to_bits(), Ordering::Relaxed);
        }
        let status = fs::read_to_string("/proc/self/status").ok();
        set(&self.memory, status.and_then(|text| number_after(&text, "VmRSS:")).map(|kilobytes| kilobytes * 1024.0));
        let open = fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
        set(&self.files, open.and_then(|open| u32::try_from(open).ok()).map(f64::from));
        let limits = fs::read_to_string("/proc/self/limits").ok();
        set(&self.most_files, limits.and_then(|text| number_after(&text, "Max open files")));
    }
}

/// Seconds on processors, and seconds from boot to start, out of `/proc/self/stat`.
fn times(stat: &str) -> Option<(f64, f64)> {
    // The name may contain anything, so that fields are counted from behind it: the first one is the third.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let seconds = |number: usize| Some(fields.get(number - 3)?.parse::<f64>().ok()? / TICKS);
    Some((seconds(14)? + seconds(15)?, seconds(22)?))
}

fn number_after(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_whatever_the_process_is_called() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 12345 1 2";
        assert_eq!(times(stat), Some((3.0, 123.45)));
        assert_eq!(times("nothing"), None);
    }

    #[test]
    fn numbers_stand_behind_their_names() {
        assert_eq!(number_after("a 1\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2048.0));
        assert_eq!(
            number_after("Max open files            1024                 4096  files", "Max open files"),
            Some(1024.0)
        );
        assert_eq!(number_after("Max open files  unlimited", "Max open files"), None);
    }
}
