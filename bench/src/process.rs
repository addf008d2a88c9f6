//! What processes used: CPU time and memory, from `/proc`. Linux only.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// Linux counts CPU time in hundredths of a second on every platform that we run on (`getconf CLK_TCK`).
const TICK: Duration = Duration::from_millis(10);

/// The CPU time, user and system, of a process and of all its descendants that live.
///
/// # Errors
/// When the process is gone.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    // The second field is the program's name in parentheses, and may hold anything; after it comes field 3.
    let (_, fields) = stat.rsplit_once(") ").context("/proc/PID/stat looks different here")?;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    let children = descendants(pid).into_iter().map(cpu_time).filter_map(Result::ok).sum::<Duration>();
    Ok(TICK * ticks + children)
}

fn descendants(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// The most memory a process has held so far (`VmHWM`), in MiB.
///
/// # Errors
/// When the process is gone.
pub fn peak_memory_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} is gone"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc/PID/status")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn working_costs_cpu_time() {
        let before = cpu_time(process::id()).expect("we live");
        let mut sum = 0_u64;
        while cpu_time(process::id()).expect("we live") < before + 3 * TICK {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }

    #[test]
    fn a_living_process_holds_memory() {
        assert!(peak_memory_mib(process::id()).expect("we live") > 0.5);
    }
}
