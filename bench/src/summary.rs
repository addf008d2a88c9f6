//! From rounds to figures: paired ratios, their medians and their spread.
//!
//! A round is void, and repeated, when one of its loops has faults (deliveries that failed, repeated or were parked), or
//! when the bare loop reached less than [`LEAST_SHARE`] of the rate that the same round reached without HTTP: then
//! something else held it up, and a comparison with it says nothing.

use serde::Serialize;

use crate::round::Measured;

/// The least share of the rate without HTTP that the bare loop must reach.
pub const LEAST_SHARE: f64 = 0.6;

/// One round: all three loops, one after the other.
#[derive(Debug, Serialize)]
pub struct Round {
    /// Which fan-out.
    pub fan_out: usize,
    /// The service; `None` when the benchmark tries itself.
    pub docrelay: Option<Measured>,
    /// The bare loop.
    pub bare: Measured,
    /// The bare loop without HTTP.
    pub without_http: Measured,
}

impl Round {
    /// Why the round does not count; empty when it does.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, measured) in [("docrelay", self.docrelay.as_ref()), ("bare", Some(&self.bare))] {
            faults.extend(measured.into_iter().flat_map(|m| &m.faults).map(|fault| format!("{name}: {fault}")));
        }
        let share = self.bare.rate / self.without_http.rate;
        if share < LEAST_SHARE {
            faults.push(format!("the bare loop reached only {share:.2} of the rate without HTTP"));
        }
        faults
    }
}

/// The spread of a figure over the rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// A quarter is below.
    pub lower_quartile: f64,
    /// Half is below.
    pub median: f64,
    /// A quarter is above.
    pub upper_quartile: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// The spread of some values; `None` of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Some(Self {
            min: *values.first()?,
            lower_quartile: quantile(&values, 0.25)?,
            median: quantile(&values, 0.5)?,
            upper_quartile: quantile(&values, 0.75)?,
            max: *values.last()?,
        })
    }
}

/// Between two values the quantile is interpolated.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a handful of rounds")]
    let position = share * (sorted.len().checked_sub(1)? as f64);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the slice")]
    let (below, above) = (sorted.get(position.floor() as usize)?, sorted.get(position.ceil() as usize)?);
    Some(below + (above - below) * position.fract())
}

/// The figures of one fan-out: medians over the rounds that count.
#[derive(Debug, Serialize)]
pub struct FanOut {
    /// CPU per delivery of service, broker and receiver together, docrelay over bare, paired by round.
    pub cpu_ratio: f64,
    /// Its spread.
    pub cpu_ratio_spread: Spread,
    /// Deliveries per second, docrelay over bare, paired by round.
    pub rate_ratio: f64,
    /// Its spread.
    pub rate_ratio_spread: Spread,
    /// docrelay's own figures.
    pub docrelay: Figures,
    /// The bare loop's own figures.
    pub bare: Figures,
    /// Rounds that count.
    pub rounds: usize,
}

/// Medians of one loop. CPU in seconds per 1,000 deliveries.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// Deliveries per second.
    pub rate: f64,
    /// The service or the bare loop.
    pub service_cpu: f64,
    /// The broker.
    pub broker_cpu: f64,
    /// The receiver.
    pub receiver_cpu: f64,
    /// Peak memory of the service, the most of all rounds.
    pub rss_mib: f64,
}

impl Figures {
    /// The medians of some loops; `None` of none.
    #[must_use]
    pub fn of(loops: &[&Measured]) -> Option<Self> {
        let median = |figure: fn(&Measured) -> f64| Spread::of(loops.iter().map(|m| figure(m))).map(|s| s.median);
        Some(Self {
            rate: median(|m| m.rate)?,
            service_cpu: median(|m| m.service_cpu)?,
            broker_cpu: median(|m| m.broker_cpu)?,
            receiver_cpu: median(|m| m.receiver_cpu)?,
            rss_mib: Spread::of(loops.iter().map(|m| m.rss_mib))?.max,
        })
    }
}

impl FanOut {
    /// The figures of the rounds of one fan-out that count; `None` if none does or docrelay took no part.
    #[must_use]
    pub fn of(rounds: &[&Round]) -> Option<Self> {
        let pairs: Vec<(&Measured, &Measured)> =
            rounds.iter().filter_map(|round| Some((round.docrelay.as_ref()?, &round.bare))).collect();
        let cpu = Spread::of(pairs.iter().map(|(docrelay, bare)| docrelay.total_cpu() / bare.total_cpu()))?;
        let rate = Spread::of(pairs.iter().map(|(docrelay, bare)| docrelay.rate / bare.rate))?;
        Some(Self {
            cpu_ratio: cpu.median,
            cpu_ratio_spread: cpu,
            rate_ratio: rate.median,
            rate_ratio_spread: rate,
            docrelay: Figures::of(&pairs.iter().map(|pair| pair.0).collect::<Vec<_>>())?,
            bare: Figures::of(&pairs.iter().map(|pair| pair.1).collect::<Vec<_>>())?,
            rounds: pairs.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        let spread = Spread::of([4.0, 1.0, 2.0, 3.0]).expect("four values");
        assert!((spread.median - 2.5).abs() < 1e-9, "{spread:?}");
        assert!((spread.lower_quartile - 1.75).abs() < 1e-9, "{spread:?}");
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let round = |docrelay: f64, bare: f64| Round {
            fan_out: 1,
            docrelay: Some(measured(docrelay)),
            bare: measured(bare),
            without_http: measured(bare),
        };
        let rounds = [round(2.0, 1.0), round(20.0, 10.0), round(200.0, 100.0)];
        let figures = FanOut::of(&rounds.iter().collect::<Vec<_>>()).expect("three rounds");
        assert!((figures.cpu_ratio_spread.max - 2.0).abs() < 1e-9, "{figures:?}");
        assert!((figures.rate_ratio_spread.min - 2.0).abs() < 1e-9, "{figures:?}");
    }

    #[test]
    fn a_slow_bare_loop_makes_a_round_void() {
        let round = Round { fan_out: 1, docrelay: None, bare: measured(59.0), without_http: measured(100.0) };
        assert_eq!(round.faults(), ["the bare loop reached only 0.59 of the rate without HTTP"]);
    }

    fn measured(figure: f64) -> Measured {
        Measured {
            deliveries: 1,
            rate: figure,
            service_cpu: figure,
            broker_cpu: figure,
            receiver_cpu: figure,
            rss_mib: 1.0,
            faults: Vec::new(),
        }
    }
}
