//! How lanes stand in this process, for whoever shows them to people.

use std::time::Duration;

use super::{Flow, ports::Courier};
use crate::{
    domain::{LaneFigure, LaneHealth, LaneKey, Timestamp, now},
    policy::lane::{Figure, Health},
    telemetry::metrics::{LaneReadings, TargetReading},
};

/// Knows how lanes stand, whatever the flow sends through.
pub trait LaneFigures: Send + Sync + 'static {
    /// How a lane stands here and now; `None` when nothing is known of it: nothing was sent there lately.
    fn figures(&self, lane: &LaneKey) -> Option<LaneFigure>;
}

impl<C: Courier> LaneFigures for Flow<C> {
    fn figures(&self, lane: &LaneKey) -> Option<LaneFigure> {
        let (figure, epoch) = self.lanes.figure(lane)?;
        Some(by_the_wall(&figure, epoch.elapsed(), now()))
    }
}

impl<C: Courier> Flow<C> {
    /// How all lanes stand together, and how old the oldest event is that came back lately.
    pub fn lane_readings(&self) -> LaneReadings {
        let (totals, fallen) = (self.lanes.totals(), self.lanes.fallen());
        let target = |(lane, up): (LaneKey, bool)| {
            Some(TargetReading { organization: lane.organization()?, place: lane.place(), up })
        };
        LaneReadings {
            in_flight: totals.in_flight,
            in_line: totals.in_line,
            by_health: totals.by_health,
            paused: self.subscriptions.current().lanes_paused(),
            quick: totals.quick,
            slow: totals.slow,
            targets: fallen.into_iter().filter_map(target).collect(),
            oldest: self.returns.oldest(),
        }
    }
}

/// A figure with the times of the wall clock. `elapsed` is the lanes' own time at `now`.
fn by_the_wall(figure: &Figure, elapsed: Duration, now: Timestamp) -> LaneFigure {
    let left = figure.held_until.saturating_sub(elapsed);
    LaneFigure {
        health: match figure.health {
            Health::Answering => LaneHealth::Answering,
            Health::Suspect => LaneHealth::Suspect,
            Health::Down => LaneHealth::Down,
        },
        since: (!figure.since.is_zero()).then(|| now.before(elapsed.saturating_sub(figure.since))),
        in_flight: figure.in_flight,
        in_line: figure.in_line,
        held_until: (!left.is_zero()).then(|| now.after(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_wall_and_a_hold_that_is_over_is_none() {
        let (second, now) = (Duration::from_secs(1), now());
        let figure =
            Figure { health: Health::Down, since: second * 60, in_flight: 3, in_line: 2, held_until: second * 75 };
        let at = |elapsed| by_the_wall(&figure, second * elapsed, now);
        let expected = LaneFigure {
            health: LaneHealth::Down,
            since: Some(now.before(second * 10)),
            in_flight: 3,
            in_line: 2,
            held_until: Some(now.after(second * 5)),
        };
        assert_eq!(at(70), expected);
        let never = Figure { since: Duration::ZERO, ..figure };
        assert_eq!(by_the_wall(&never, second, now).since, None, "it was never tried");
        assert_eq!(at(75), LaneFigure { since: Some(now.before(second * 15)), held_until: None, ..expected });
    }
}
