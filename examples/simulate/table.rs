//! Figures, for people.

#![expect(clippy::cast_precision_loss, reason = "figures are rounded for people")]

use std::time::Duration;

use super::model::{Figures, GroupFigures};

/// The table of a run; `watched` has the moments that each group was watched for.
pub(crate) fn of(figures: &Figures, watched: &[Option<Duration>]) -> String {
    let mut table = format!(
        "{:<12} {:>9} {:>9} {:>7} {:>7} {:>7} {:>7} {:>8} {:>6} {:>4} {:>11} {:>5} {:>7} {:>6}\n",
        "group",
        "events",
        "delivered",
        "exhaust",
        "too old",
        "p50",
        "p99",
        "longest",
        "tries",
        "most",
        "hops/bound",
        "over",
        "rate",
        "used",
    );
    for (group, watched) in figures.groups.iter().zip(watched) {
        table.push_str(&line(group));
        if let Some(moment) = watched {
            let after = group.last_watched.saturating_sub(*moment);
            let (moment, after) = (time(*moment), time(after));
            table.extend([format!("{:<12} the last from before {moment} ended {after} after it\n", "")]);
        }
    }
    let seconds = figures.ended.as_secs_f64().max(1.0);
    let per_second = figures.hops as f64 / seconds;
    table.extend([format!(
        "hops {} ({per_second:.1}/s, most {}/s); most in flight {}, in line {}, in a queue {}; given again {}; most lanes {}; {}\n",
        figures.hops,
        figures.most_hops_in_a_second,
        figures.most_in_flight,
        figures.most_in_line,
        figures.longest_queue,
        figures.given_again,
        figures.most_lanes,
        time(figures.ended),
    )]);
    table
}

fn line(group: &GroupFigures) -> String {
    let GroupFigures { name, published, delivered, exhausted, too_old, waits, attempts, most_attempts, .. } = group;
    let turns = match group.worst_over_bound {
        Some(_) => format!("{:.2}", group.turn_hops as f64 / group.turn_hops_bound.max(1) as f64),
        None => "-".to_owned(),
    };
    let tries = *attempts as f64 / (delivered + exhausted + too_old).max(1) as f64;
    let (p50, p99, longest) = (waits.quantile(0.5), waits.quantile(0.99), waits.max());
    format!(
        "{name:<12} {published:>9} {delivered:>9} {exhausted:>7} {too_old:>7} {:>7} {:>7} {:>8} {tries:>6.2} \
         {most_attempts:>4} {turns:>11} {:>5} {:>7} {:>6}\n",
        time(p50),
        time(p99),
        time(longest),
        group.turns_over_bound,
        group.worst_over_rate.map_or("-".to_owned(), |over| format!("{over:.2}")),
        group.rate_used.map_or("-".to_owned(), |used| format!("{:.1}%", used * 100.0)),
    )
}

fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        0.0 => "0".to_owned(),
        seconds if seconds < 1.0 => format!("{:.0}ms", seconds * 1e3),
        seconds if seconds < 600.0 => format!("{seconds:.1}s"),
        seconds => format!("{:.1}min", seconds / 60.0),
    }
}
