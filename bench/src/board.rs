//! The summary of the second part: figures with their bars beside them.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use crate::{
    backlog::{Hops, Row},
    isolation::{Figures, P50_RATIO, P99_EXTRA_MS, P99_RATIO},
    limiter::{self, USED_BY_FOUR, USED_BY_ONE},
    outage::Outage,
    summary::Spread,
};

/// A table of figures.
#[derive(Debug, Default)]
pub struct Board {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    name: String,
    figure: String,
    bar: String,
    holds: Option<bool>,
}

impl Board {
    fn line(
        &mut self,
        name: impl Into<String>,
        figure: impl Into<String>,
        bar: impl Into<String>,
        holds: Option<bool>,
    ) {
        self.lines.push(Line { name: name.into(), figure: figure.into(), bar: bar.into(), holds });
    }

    /// A case of isolation.
    pub fn isolation(&mut self, name: &str, figures: &Figures) {
        let (p50, p99, extra) = (&figures.p50_ratio_spread, &figures.p99_ratio_spread, &figures.p99_extra_ms_spread);
        self.line(
            format!("{name} p50"),
            format!("{:.2} times ({:.2} to {:.2})", p50.median, p50.min, p50.max),
            format!("{P50_RATIO} times"),
            Some(p50.median <= P50_RATIO),
        );
        self.line(
            format!("{name} p99"),
            format!(
                "{:.2} times ({:.2} to {:.2}), {:+.1} ms ({:+.1} to {:+.1})",
                p99.median, p99.min, p99.max, extra.median, extra.min, extra.max
            ),
            format!("{P99_RATIO} times + {P99_EXTRA_MS} ms"),
            Some(figures.p99_over_ms <= 0.0),
        );
        self.line(format!("{name} missing"), figures.missing.to_string(), "0", Some(figures.missing == 0));
    }

    /// What others noticed of something.
    pub fn beside(&mut self, name: &str, figures: Option<&Figures>) {
        if let Some(figures) = figures {
            self.isolation(&format!("{name}, others"), figures);
        }
    }

    /// How many more cores the broker kept busy because of something.
    pub fn extra_cores(&mut self, name: &str, cores: Option<&Spread>) {
        if let Some(Spread { median, min, max, .. }) = cores {
            let figure = format!("{median:+.2} cores ({min:+.2} to {max:+.2})");
            self.line(format!("{name}, the broker"), figure, "", None);
        }
    }

    /// Rates.
    pub fn limiter(&mut self, figures: &limiter::Figures) {
        let over = figures.worst_over;
        self.line("limiter.worst_over", format!("{over:.2}"), "0", Some(over <= 0.0));
        for (replicas, used, bar) in [
            ("1 replica", figures.utilisation, Some(USED_BY_ONE)),
            ("2 replicas", figures.utilisation_2_replicas, None),
            ("4 replicas", figures.utilisation_4_replicas, Some(USED_BY_FOUR)),
            ("1 to 4 replicas", figures.utilisation_changing, None),
        ] {
            let (text, holds) = bar.map_or((String::new(), None), |bar| (format!("at least {bar}"), Some(used >= bar)));
            self.line(format!("limiter.utilisation, {replicas}"), format!("{used:.3}"), text, holds);
        }
    }

    /// A backlog.
    pub fn backlog(&mut self, hops: &Hops, row: &Row) {
        self.line(
            "backlog.hops_per_delivery",
            format!("{:.2} (at most {})", hops.hops_per_delivery, hops.hops_most),
            format!("{:.2} on average, each its own", hops.hops_bound),
            Some(hops.deliveries_over == 0),
        );
        self.line(
            "backlog delivered",
            format!("{} in {:.0} s", row.delivered, row.seconds),
            row.waiting.to_string(),
            Some(row.delivered == row.waiting),
        );
        self.line("backlog memory", format!("{:.0} MiB", row.observed.rss_mib), "", None);
        self.line("backlog parked", format!("{:.0}/s", row.parked_per_second), "", None);
    }

    /// An outage.
    pub fn outage(&mut self, outage: &Outage) {
        let (held, events) = (outage.held_delivered, outage.events);
        self.line("outage, hold: delivered", held.to_string(), events.to_string(), Some(held == events));
        self.line("outage, lost", outage.lost().to_string(), "0", Some(outage.lost() == 0));
    }

    /// Prints it.
    pub fn print(&self) {
        println!("\n{:<34} {:<54} {:<28}", "part two", "figure", "bar");
        for Line { name, figure, bar, holds } in &self.lines {
            let verdict = match holds {
                Some(true) => "holds",
                Some(false) => "MISSED",
                None => "",
            };
            println!("{name:<34} {figure:<54} {bar:<28} {verdict}");
        }
    }
}
