//! Targets for those who may see them: where subscriptions lead, how that stands here, and to pause and resume it. Knows no
//! HTTP. What was paused is paused here before it is answered.

use std::{fmt, sync::Weak};

use serde_json::{Value, json};

use super::{
    desk::{Desk, Refusal},
    place::Behind,
    secrets::Json,
};
use crate::{
    domain::{LaneFigure, LaneKey, OrganizationId, RateLimit, TargetId, Timestamp},
    flow::LaneFigures,
    store::{KnownLane, Limits, Snapshot},
};

/// Whoever knows how lanes stand, as long as it is there: the API keeps nobody from stopping.
#[derive(Clone)]
pub(super) struct Figures(pub(super) Weak<dyn LaneFigures>);

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Figures")
    }
}

/// A target as it is shown.
#[derive(Debug)]
pub(super) struct ShownTarget {
    pub(super) id: TargetId,
    pub(super) organization: OrganizationId,
    lane: LaneKey,
    subscriptions: u32,
    limits: Option<Limits>,
    paused_at: Option<Timestamp>,
    figure: LaneFigure,
}

/// Part of a list.
#[derive(Debug)]
pub(super) struct ListedTargets {
    /// The targets.
    pub(super) items: Vec<ShownTarget>,
    /// Where the rest begins.
    pub(super) next: Option<Behind>,
}

/// What somebody wants of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Paused,
    Resumed,
}

impl Desk {
    /// Targets behind a place, at most `limit`; of one organization, or of all.
    pub(super) fn targets(
        &self,
        organization: Option<&OrganizationId>,
        from: Option<&Behind>,
        limit: u32,
    ) -> ListedTargets {
        let (snapshot, most) = (self.subscriptions.current(), usize::try_from(limit).unwrap_or(usize::MAX));
        let mut rest = snapshot.lanes().after(organization, from.map(|it| &it.0));
        let mut items = Vec::new();
        let mut last = None;
        for (place, lane) in rest.by_ref().take(most) {
            items.push(self.shown(&snapshot, &place.0, lane));
            last = Some(place);
        }
        let next = last.filter(|_| rest.next().is_some()).cloned().map(Behind);
        ListedTargets { items, next }
    }

    /// One target.
    ///
    /// # Errors
    /// It is not there.
    pub(super) fn target(&self, organization: Option<&OrganizationId>, id: TargetId) -> Result<ShownTarget, Refusal> {
        let snapshot = self.subscriptions.current();
        let (owner, lane) = snapshot.lanes().find(organization, id).ok_or(Refusal::NoTarget)?;
        Ok(self.shown(&snapshot, owner, lane))
    }

    /// Pauses a target, or resumes it. It may be so already.
    ///
    /// # Errors
    /// It is not there, or the store is away.
    pub(super) async fn turn(
        &self,
        organization: Option<&OrganizationId>,
        id: TargetId,
        wanted: Wanted,
    ) -> Result<ShownTarget, Refusal> {
        let before = self.target(organization, id)?;
        let (store, now) = (self.store()?, (self.clock)());
        match wanted {
            Wanted::Paused => store.pause(&before.organization, &before.lane, now).await?,
            Wanted::Resumed => store.resume(&before.organization, &before.lane, now).await?,
        }
        self.store.bring_into_force().await?;
        match self.target(organization, id) {
            // Nobody leads there any more, and it was known as paused only.
            Err(Refusal::NoTarget) => Ok(ShownTarget { paused_at: None, subscriptions: 0, limits: None, ..before }),
            shown => shown,
        }
    }

    fn shown(&self, snapshot: &Snapshot, organization: &OrganizationId, lane: &KnownLane) -> ShownTarget {
        let figures = self.figures().and_then(|Figures(figures)| figures.upgrade());
        ShownTarget {
            id: lane.key.id(),
            organization: organization.clone(),
            subscriptions: lane.subscriptions,
            limits: lane.limits,
            paused_at: snapshot.paused(&lane.key),
            figure: figures.and_then(|figures| figures.figures(&lane.key)).unwrap_or_default(),
            lane: lane.key.clone(),
        }
    }
}

impl ShownTarget {
    /// As JSON.
    #[must_use]
    pub(super) fn to_json(&self) -> Json {
        let time = |time: Option<Timestamp>| time.map(Timestamp::to_rfc3339);
        let LaneFigure { health, since, in_flight, in_line, held_until } = self.figure;
        let json = json!({
            "id": self.id.to_string(),
            "organization": self.organization.as_str(),
            "target": self.lane.place(),
            "subscription": self.lane.subscription().map(|id| id.as_str().to_owned()),
            "subscriptions": self.subscriptions,
            "paused": self.paused_at.is_some(),
            "paused_at": time(self.paused_at),
            "health": health.as_str(),
            "health_since": time(since),
            "in_flight": in_flight,
            "in_line": in_line,
            "max_in_flight": self.limits.map(|limits| limits.max_in_flight),
            "rate_limit": self.limits.and_then(|limits| limits.rate_limit).map(rate_limit),
            "waiting_until": time(held_until),
        });
        if let Value::Object(json) = json { json } else { Json::new() }
    }
}

fn rate_limit(limit: RateLimit) -> Value {
    let per_second = limit.whole_per_second().map_or_else(|| limit.per_second().into(), Value::from);
    json!({"per_second": per_second, "burst": limit.burst().get()})
}
