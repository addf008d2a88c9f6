//! What many lanes take in memory.

use super::memory;

#[test]
fn a_hundred_thousand_lanes_with_state_and_a_limit_each_take_less_than_fifty_mebibytes() {
    let cost = memory::cost(100_000, true);
    // Less than this could not even hold the names of the lanes: then nothing was measured.
    assert!((5 << 20..50 << 20).contains(&cost.bytes), "{} KiB", cost.bytes / 1024);
}
