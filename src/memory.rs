//! How the process takes memory from the system: in small pages.
//!
//! Where huge pages are allowed, the allocator asks for them, and the kernel fills one with zeros when its first byte is touched:
//! two megabytes, which took 5 ms on the machine of the benchmark. Where a hop of thousands of deliveries ends, memory grows by
//! tens of megabytes at once, and requests that had been let go by their limiter left late, by up to a quarter of a second.

/// No huge pages from now on. Where the system cannot be told so (not Linux, or one without them) there is nothing to do.
pub(crate) fn take_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "The system does not let go of huge pages");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_system_gives_no_huge_pages() {
        take_small_pages();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let allowed = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
        assert_eq!(allowed.map(str::trim), Some("0"));
    }
}
