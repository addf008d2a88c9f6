//! Times, counted in steps of five percent.

use std::time::Duration;

/// How much wider each step is.
const STEP: f64 = 1.05;

/// The first step ends here.
const FIRST: f64 = 1e-3;

/// Counts times.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: Duration,
}

impl Histogram {
    pub(crate) fn add(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        let step = if seconds <= FIRST { 0 } else { ((seconds / FIRST).ln() / STEP.ln()).ceil() as usize };
        if self.counts.len() <= step {
            self.counts.resize(step + 1, 0);
        }
        self.counts[step] += 1;
        self.total += 1;
        self.max = self.max.max(time);
    }

    pub(crate) fn max(&self) -> Duration {
        self.max
    }

    /// What a part of all times does not exceed, up to five percent; what is below a millisecond is nothing.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        let wanted = (part * self.total as f64).ceil() as u64;
        let mut seen = 0;
        for (step, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted.max(1) {
                let upper = if step == 0 { 0.0 } else { FIRST * STEP.powf(step as f64) };
                return Duration::from_secs_f64(upper).min(self.max);
            }
        }
        Duration::ZERO
    }
}
