//! Counts wrong keys by the address they come from, so that nobody guesses without end. Pure: time is an argument.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use tokio::time::Instant;

/// Wrong keys that an address may send at once.
const MOST_GUESSES: u32 = 30;

/// How long it takes until one is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(2);

/// Addresses that are remembered at once; the one that has been quiet the longest goes first.
const MOST_ADDRESSES: usize = 10_000;

/// How many wrong keys came from where.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    /// When the last wrong key of an address will be forgotten.
    until: HashMap<IpAddr, Instant>,
}

impl Guesses {
    /// How long wrong keys from this address are told to wait, if so.
    fn wait(&self, from: IpAddr, now: Instant) -> Option<Duration> {
        let debt = self.until.get(&network(from))?.saturating_duration_since(now);
        let wait = (debt + FORGOTTEN_AFTER).saturating_sub(FORGOTTEN_AFTER * MOST_GUESSES);
        (!wait.is_zero()).then_some(wait)
    }

    /// A wrong key came from this address. Says how long it is to wait before it sends another, if it sent too many.
    pub(super) fn wrong(&mut self, from: IpAddr, now: Instant) -> Option<Duration> {
        let wait = self.wait(from, now);
        if wait.is_none() {
            self.count(from, now);
        }
        wait
    }

    fn count(&mut self, from: IpAddr, now: Instant) {
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
            assert_eq!(guesses.wrong(from, now), None, "{guess}");
        }
        guesses
    }

    #[tokio::test(start_paused = true)]
    async fn after_many_wrong_keys_an_address_waits_and_another_does_not() {
        let now = Instant::now();
        let mut guesses = exhausted(HERE, now);
        assert_eq!(guesses.wrong(HERE, now), Some(FORGOTTEN_AFTER));
        assert_eq!(guesses.wrong(HERE, now + FORGOTTEN_AFTER / 2), Some(FORGOTTEN_AFTER / 2), "waiting is not counted");
        assert_eq!(guesses.wrong(HERE, now + FORGOTTEN_AFTER), None);
        assert_eq!(guesses.wrong(HERE, now + FORGOTTEN_AFTER), Some(FORGOTTEN_AFTER));
        assert_eq!(guesses.wrong(Ipv4Addr::BROADCAST.into(), now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_network_of_ipv6_is_one_address() {
        let now = Instant::now();
        let [one, other, far] = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|text| text.parse().unwrap());
        let mut guesses = exhausted(one, now);
        assert!(guesses.wrong(other, now).is_some() && guesses.wrong(far, now).is_none());
        let mapped: IpAddr = Ipv4Addr::LOCALHOST.to_ipv6_mapped().into();
        assert!(exhausted(HERE, now).wrong(mapped, now).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_the_quietest_address_is_forgotten_first() {
        let now = Instant::now();
        let mut guesses = Guesses::default();
        let address = |number: usize| IpAddr::V6(Ipv6Addr::from_bits(u128::try_from(number).unwrap() << 64));
        for number in 0..MOST_ADDRESSES + 10 {
            guesses.wrong(address(number), now + Duration::from_nanos(number.try_into().unwrap()));
        }
        assert_eq!(guesses.until.len(), MOST_ADDRESSES);
        assert!(!guesses.until.contains_key(&address(0)) && guesses.until.contains_key(&address(10)));
    }
}
