//! Counts wrong keys by the address they come from, so that nobody guesses without end. Pure: time is an argument.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    time::Duration,
};

use tokio::time::Instant;

/// Wrong keys that an address may send at once.
const MOST_GUESSES: u32 = 30;

/// How long it takes until one is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(2);

/// Addresses that are remembered at once; the one that has been quiet the longest goes first.
const MOST_ADDRESSES: usize = 10_000;

/// Keys that worked lately, as hashes that mean nothing outside this process.
const MOST_GOOD: usize = 10_000;

/// How many wrong keys came from where.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    /// When the last wrong key of an address will be forgotten.
    until: HashMap<IpAddr, Instant>,
    good: HashSet<u64>,
    hasher: RandomState,
}

impl Guesses {
    /// How long nobody looks at a key from this address, if so. A key that worked lately is always looked at: many clients
    /// may stand behind one proxy.
    pub(super) fn wait(&self, from: IpAddr, key: &str, now: Instant) -> Option<Duration> {
        let debt = self.until.get(&network(from))?.saturating_duration_since(now);
        let wait = (debt + FORGOTTEN_AFTER).saturating_sub(FORGOTTEN_AFTER * MOST_GUESSES);
        (!wait.is_zero() && !self.good.contains(&self.hasher.hash_one(key))).then_some(wait)
    }

    /// A wrong key came from this address.
    pub(super) fn wrong(&mut self, from: IpAddr, key: &str, now: Instant) {
        self.good.remove(&self.hasher.hash_one(key));
        if self.until.len() >= MOST_ADDRESSES {
            self.until.retain(|_, until| *until > now);
            let quietest = self.until.iter().min_by_key(|(_, until)| **until).map(|(address, _)| *address);
            if self.until.len() >= MOST_ADDRESSES
                && let Some(quietest) = quietest
            {
                self.until.remove(&quietest);
            }
        }
        let until = self.until.entry(network(from)).or_insert(now);
        *until = (*until).max(now) + FORGOTTEN_AFTER;
    }

    /// A key worked.
    pub(super) fn right(&mut self, key: &str) {
        if self.good.len() >= MOST_GOOD {
            self.good.clear();
        }
        self.good.insert(self.hasher.hash_one(key));
    }
}

/// Whoever has one address of an IPv6 network of 64 bits has all of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn exhausted(from: IpAddr, now: Instant) -> Guesses {
        let mut guesses = Guesses::default();
        for guess in 0..MOST_GUESSES {
            assert_eq!(guesses.wait(from, "k", now), None, "{guess}");
            guesses.wrong(from, "k", now);
        }
        guesses
    }

    #[tokio::test(start_paused = true)]
    async fn after_many_wrong_keys_an_address_waits_and_another_does_not() {
        let now = Instant::now();
        let guesses = exhausted(HERE, now);
        assert_eq!(guesses.wait(HERE, "k", now), Some(FORGOTTEN_AFTER));
        assert_eq!(guesses.wait(HERE, "k", now + FORGOTTEN_AFTER / 2), Some(FORGOTTEN_AFTER / 2));
        assert_eq!(guesses.wait(HERE, "k", now + FORGOTTEN_AFTER), None);
        assert_eq!(guesses.wait(Ipv4Addr::BROADCAST.into(), "k", now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_worked_lately_goes_on_working_until_it_is_wrong() {
        let now = Instant::now();
        let mut guesses = exhausted(HERE, now);
        guesses.right("good");
        assert_eq!(guesses.wait(HERE, "good", now), None);
        guesses.wrong(HERE, "good", now);
        assert!(guesses.wait(HERE, "good", now).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_network_of_ipv6_is_one_address() {
        let now = Instant::now();
        let [one, other, far] = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|text| text.parse().unwrap());
        let guesses = exhausted(one, now);
        assert!(guesses.wait(other, "k", now).is_some() && guesses.wait(far, "k", now).is_none());
        let mapped: IpAddr = Ipv4Addr::LOCALHOST.to_ipv6_mapped().into();
        assert!(exhausted(HERE, now).wait(mapped, "k", now).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_the_quietest_address_is_forgotten_first() {
        let now = Instant::now();
        let mut guesses = Guesses::default();
        let address = |number: usize| IpAddr::V6(Ipv6Addr::from_bits(u128::try_from(number).unwrap() << 64));
        for number in 0..MOST_ADDRESSES + 10 {
            guesses.wrong(address(number), "k", now + Duration::from_nanos(number.try_into().unwrap()));
            guesses.right(&number.to_string());
        }
        assert!(guesses.until.len() == MOST_ADDRESSES && guesses.good.len() <= MOST_GOOD);
        assert!(!guesses.until.contains_key(&address(0)) && guesses.until.contains_key(&address(10)));
    }
}
