//! What lanes cost: their memory, and what a delivery for a target costs that nobody has asked for before.

use std::{fs, hint::black_box, time::Duration};

use tokio::time::Instant;

use docrelay::{
    domain::{HttpTarget, LaneKey, Target, TargetUrl},
    policy::{
        lane::{Admission, Ask, Came, Heard, Lanes, Limits, Rate, WindowSizes},
        share::Share,
    },
};

/// Windows that admit everyone.
const SIZES: WindowSizes = WindowSizes { quick: u32::MAX, slow: u32::MAX, slow_bytes: u64::MAX, lines: u32::MAX };

/// How many are asked for one after the other, to measure one.
const ASKED: usize = 1_000;

/// What so many lanes with state cost.
pub(crate) struct Cost {
    /// What they take in memory.
    pub(crate) bytes: u64,
    /// How long the first delivery for one more takes beside few, in nanoseconds,
    beside_few: u128,
    /// and beside all.
    beside_all: u128,
}

/// Measures so many lanes, as a table.
pub(crate) fn measure(count: usize) -> String {
    let mut report = format!("{count} lanes with state: each answered once\n");
    for (name, limited) in [("with a limit each", true), ("without a limit", false)] {
        let Cost { bytes, beside_few, beside_all } = cost(count, limited);
        let (kib, each) = (bytes / 1024, bytes / count.max(1) as u64);
        report.extend([format!(
            "  {name:<18} {kib} KiB, {each} bytes each; a new one takes {beside_few} ns beside few and {beside_all} ns \
             beside all\n"
        )]);
    }
    report
}

/// Measures so many lanes.
pub(crate) fn cost(count: usize, limited: bool) -> Cost {
    let rate = Rate { interval: Duration::from_millis(100), burst: std::num::NonZeroU32::MIN };
    let limits = Limits { max_in_flight: 32, rate: limited.then_some(rate) };
    // Names are the subscriptions': they are there anyway.
    let keys: Vec<_> = (0..count + 2 * ASKED).filter_map(key).collect();
    let before = resident();
    let mut lanes = Lanes::new(SIZES, Duration::from_secs(1));
    lanes.set_share(Duration::ZERO, Share { limited: true, ..Share::NOT_JOINED });
    let mut parts = [10, ASKED, count.saturating_sub(10 + ASKED), ASKED].into_iter();
    let mut keys = keys.iter();
    let mut ask_next = || {
        let part: Vec<_> = keys.by_ref().take(parts.next().unwrap_or_default()).collect();
        ask_all(&mut lanes, &part, limits).as_nanos()
    };
    let (_, beside_few, _) = (ask_next(), ask_next(), ask_next());
    let bytes = resident().saturating_sub(before);
    let beside_all = ask_next();
    assert_eq!(lanes.totals().lanes, count + ASKED, "every target has a lane");
    black_box(lanes);
    Cost { bytes, beside_few, beside_all }
}

/// A first delivery for each: what one takes, the median.
fn ask_all(lanes: &mut Lanes, keys: &[&LaneKey], limits: Limits) -> Duration {
    let mut took = Vec::with_capacity(keys.len());
    for key in keys {
        let began = Instant::now();
        let left = Duration::from_hours(24);
        let ask = Ask {
            lane: key,
            limits,
            came: Came::New,
            bytes: 1,
            age: Duration::ZERO,
            left,
            hold: false,
            is_asked_later: false,
        };
        let now = Duration::from_mins(1);
        if let Admission::Go(place) = lanes.admit(now, &ask) {
            lanes.finished(now, key, place, Heard::Answer { latency: Duration::from_millis(5), retry_after: None });
        }
        took.push(began.elapsed());
    }
    took.sort_unstable();
    took.get(took.len() / 2).copied().unwrap_or_default()
}

fn key(number: usize) -> Option<LaneKey> {
    let url = TargetUrl::parse(&format!("https://hooks.customer-{number}.example/")).ok()?;
    let organization = format!("organization-{number}").parse().ok()?;
    Some(LaneKey::of_target(&organization, &Target::Http(HttpTarget::post(url, Duration::from_secs(15)))))
}

/// The memory of this process, as the system counts it; nothing where there is no `/proc`.
fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096
}
