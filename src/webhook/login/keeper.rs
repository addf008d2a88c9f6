//! Tokens that are good for a while, one for each subscription, and one login at a time for each.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::HeaderValue;
use tokio::{sync::Mutex as Turn, time::Instant};

use super::token::Token;
use crate::domain::{Auth, OrganizationId, Subscription, SubscriptionId};

/// A token is given up so long before it ends: it must still be good when it arrives.
const MARGIN: Duration = Duration::from_secs(30);

/// How many subscriptions may have a token here. Each is at most 16 KiB, and usually one: with more subscriptions that
/// log in, those that were used longest ago log in again.
const MOST: usize = 10_000;

/// Keeps tokens by subscription. What it keeps belongs to one version of the subscription's `auth`: another version
/// finds nothing.
pub(in crate::webhook) struct TokenKeeper {
    inner: Mutex<Inner>,
    most: usize,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<SubscriptionId, Entry>,
    /// Counts uses.
    uses: u64,
}

struct Entry {
    organization: OrganizationId,
    auth: Auth,
    last_used: u64,
    kept: Arc<Turn<Option<Kept>>>,
}

struct Kept {
    authorization: HeaderValue,
    until: Instant,
}

impl Default for TokenKeeper {
    fn default() -> Self {
        Self { inner: Mutex::default(), most: MOST }
    }
}

impl TokenKeeper {
    /// The `Authorization` of a subscription: the one that is kept, or what `fetch` brings. `refused` is one that the
    /// target did not take: if it is kept, it is dropped. Whoever comes while another one fetches waits for that.
    pub(super) async fn get<E>(
        &self,
        subscription: &Subscription,
        refused: Option<&HeaderValue>,
        fetch: impl Future<Output = Result<Token, E>>,
    ) -> Result<HeaderValue, E> {
        let turn = self.turn(subscription);
        let mut kept = turn.lock().await;
        if let Some(Kept { authorization, until }) = &*kept
            && Instant::now() < *until
            && Some(authorization) != refused
        {
            return Ok(authorization.clone());
        }
        *kept = None;
        // From before it is asked for: the time on the way counts.
        let asked = Instant::now();
        let Token { authorization, expires_in } = fetch.await?;
        let until = expires_in.and_then(|good_for| asked.checked_add(good_for.checked_sub(MARGIN)?));
        *kept = until.map(|until| Kept { authorization: authorization.clone(), until });
        Ok(authorization)
    }

    /// Whether a token is kept that is still good: then nobody is asked for one.
    pub(super) fn has(&self, subscription: &Subscription) -> bool {
        let inner = self.lock();
        let Some(entry) = inner.entries.get(&subscription.id) else { return false };
        let is_its_own = entry.organization == subscription.organization && entry.auth == subscription.auth;
        // Whoever holds it just now is fetching one, or has it in a moment.
        let kept = entry.kept.try_lock();
        is_its_own && kept.is_ok_and(|kept| kept.as_ref().is_some_and(|kept| Instant::now() < kept.until))
    }

    /// The subscription's place, a new one if its `auth` is another one now.
    fn turn(&self, subscription: &Subscription) -> Arc<Turn<Option<Kept>>> {
        let mut inner = self.lock();
        inner.uses += 1;
        let now = inner.uses;
        if let Some(entry) = inner.entries.get_mut(&subscription.id)
            && entry.organization == subscription.organization
            && entry.auth == subscription.auth
        {
            entry.last_used = now;
            return Arc::clone(&entry.kept);
        }
        let kept = Arc::default();
        let entry = Entry {
            organization: subscription.organization.clone(),
            auth: subscription.auth.clone(),
            last_used: now,
            kept: Arc::clone(&kept),
        };
        inner.entries.insert(subscription.id.clone(), entry);
        if inner.entries.len() > self.most {
            inner.forget_the_oldest();
        }
        kept
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget_the_oldest(&mut self) {
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.last_used).map(|(id, _)| id.clone());
        if let Some(id) = oldest {
            self.entries.remove(&id);
        }
    }
}

impl fmt::Debug for TokenKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKeeper").field("entries", &self.lock().entries.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::atomic::AtomicU32, sync::atomic::Ordering};

    use futures_util::future::join_all;
    use http::{HeaderMap, Method};

    use super::*;
    use crate::domain::{HttpTarget, Login, Target, TargetUrl, TokenSource};

    fn subscription(id: &str, scheme: &str) -> Subscription {
        let (organization, url) = ("acme".parse().unwrap(), TargetUrl::parse("https://h/").unwrap());
        let login = Login {
            url: url.clone(),
            method: Method::POST,
            headers: HeaderMap::new(),
            body: vec![],
            token_attribute: "access_token".into(),
            scheme: scheme.into(),
        };
        let target = Target::Http(HttpTarget::post(url, Duration::from_secs(15)));
        Subscription {
            id: id.parse().unwrap(),
            auth: Auth::Token(Box::new(TokenSource::Login(login))),
            ..Subscription::shipped(organization, target)
        }
    }

    /// Logins that each take a second and bring a token of their own.
    struct Logins {
        made: AtomicU32,
        expires_in: Option<Duration>,
    }

    impl Logins {
        fn good_for(seconds: u64) -> Self {
            Self { made: AtomicU32::new(0), expires_in: Some(Duration::from_secs(seconds)) }
        }

        async fn login(&self) -> Result<Token, Infallible> {
            let number = self.made.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(Token { authorization: number.into(), expires_in: self.expires_in })
        }

        async fn get(&self, keeper: &TokenKeeper, subscription: &Subscription) -> HeaderValue {
            keeper.get(subscription, None, self.login()).await.unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_kept_until_thirty_seconds_before_it_ends() {
        let (keeper, logins, erp) = (TokenKeeper::default(), Logins::good_for(60), subscription("erp", ""));
        assert_eq!(logins.get(&keeper, &erp).await, "0");
        // It was asked for a second ago.
        tokio::time::advance(Duration::from_millis(28_999)).await;
        assert_eq!(logins.get(&keeper, &erp).await, "0");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(logins.get(&keeper, &erp).await, "1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_of_unknown_or_short_life_is_not_kept() {
        for expires_in in [None, Some(Duration::ZERO), Some(Duration::from_secs(30)), Some(Duration::MAX)] {
            let (keeper, logins) = (TokenKeeper::default(), Logins { made: AtomicU32::new(0), expires_in });
            for number in 0..3 {
                assert_eq!(logins.get(&keeper, &subscription("erp", "")).await, HeaderValue::from(number));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_together_shares_one_login_and_others_are_not_held_up() {
        let (keeper, logins) = (TokenKeeper::default(), Logins::good_for(3600));
        let (erp, crm) = (subscription("erp", ""), subscription("crm", ""));
        let begin = Instant::now();
        let all = [&erp, &crm, &erp, &crm, &erp];
        let tokens = join_all(all.map(|subscription| logins.get(&keeper, subscription))).await;
        assert_eq!(tokens, ["0", "1", "0", "1", "0"]);
        assert_eq!(begin.elapsed(), Duration::from_secs(1), "both at the same time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_is_broken_off_or_fails_lets_the_next_one_try() {
        let (keeper, logins, erp) = (TokenKeeper::default(), Logins::good_for(3600), subscription("erp", ""));
        assert_eq!(keeper.get(&erp, None, async { Err("no") }).await, Err("no"));
        let broken_off = tokio::time::timeout(Duration::from_millis(10), logins.get(&keeper, &erp)).await;
        assert!(broken_off.is_err());
        assert_eq!(logins.get(&keeper, &erp).await, "1");
        assert_eq!(logins.get(&keeper, &erp).await, "1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_token_is_dropped_once_and_what_replaced_it_is_not() {
        let (keeper, logins, erp) = (TokenKeeper::default(), Logins::good_for(3600), subscription("erp", ""));
        let refused = logins.get(&keeper, &erp).await;
        let again = || keeper.get(&erp, Some(&refused), logins.login());
        let renewed = join_all([again(), again(), again()]).await;
        assert_eq!(renewed, ["1", "1", "1"].map(|token| Ok(HeaderValue::from_static(token))));
        assert_eq!(logins.get(&keeper, &erp).await, "1");
    }

    #[tokio::test(start_paused = true)]
    async fn another_auth_or_organization_finds_nothing() {
        let (keeper, logins, erp) = (TokenKeeper::default(), Logins::good_for(3600), subscription("erp", ""));
        assert_eq!(logins.get(&keeper, &erp).await, "0");
        let changed = subscription("erp", "JWT");
        assert_eq!(logins.get(&keeper, &changed).await, "1");
        assert_eq!(logins.get(&keeper, &changed).await, "1");
        let moved = Subscription { organization: "globex".parse().unwrap(), ..changed };
        assert_eq!(logins.get(&keeper, &moved).await, "2");
        assert_eq!(logins.get(&keeper, &erp).await, "3", "the old version is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_used_longest_ago_goes_first_when_there_is_too_much() {
        let (keeper, logins) = (TokenKeeper { most: 2, ..TokenKeeper::default() }, Logins::good_for(3600));
        let [a, b, c] = ["a", "b", "c"].map(|id| subscription(id, ""));
        for (subscription, expected) in [(&a, "0"), (&b, "1"), (&a, "0"), (&c, "2"), (&a, "0"), (&b, "3"), (&c, "4")] {
            assert_eq!(logins.get(&keeper, subscription).await, expected);
        }
        assert!(keeper.lock().entries.len() <= 2);
        assert_eq!(format!("{keeper:?}"), "TokenKeeper { entries: 2, .. }");
    }
}
