//! All subscriptions at one moment, indexed for matching: by organization, then inbox or project, then event. Immutable.

use std::{collections::HashMap, sync::Arc};

use crate::domain::{EventName, InboxId, OrganizationId, ProjectId, Subscription, SubscriptionId};

/// All subscriptions at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    by_id: HashMap<SubscriptionId, Arc<Subscription>>,
    organizations: HashMap<OrganizationId, OrganizationIndex>,
}

/// The enabled subscriptions of one organization. Nobody else's can be reached from here.
#[derive(Debug, Default)]
pub struct OrganizationIndex {
    /// In the order they were given.
    subscriptions: Vec<Arc<Subscription>>,
    unscoped: ByEvent,
    inboxes: HashMap<InboxId, ByEvent>,
    projects: HashMap<ProjectId, ByEvent>,
}

/// Positions in the organization's list, sorted by event and then by position: small, and one event's are together.
#[derive(Debug, Default)]
struct ByEvent(Vec<(EventName, u32)>);

/// How one snapshot differs from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// Ids that were not there before.
    pub added: usize,
    /// Ids whose subscription is another one now.
    pub changed: usize,
    /// Ids that are gone.
    pub removed: usize,
}

impl Snapshot {
    /// Indexes subscriptions; their order is the order of matches. No two may have the same id.
    #[must_use]
    pub fn new(subscriptions: Vec<Subscription>) -> Self {
        Self::of(subscriptions.into_iter().map(Arc::new))
    }

    /// The same, of subscriptions that are shared with others.
    #[must_use]
    pub fn of(subscriptions: impl IntoIterator<Item = Arc<Subscription>>) -> Self {
        let mut snapshot = Self::default();
        for subscription in subscriptions {
            if subscription.enabled {
                snapshot.organizations.entry(subscription.organization.clone()).or_default().add(&subscription);
            }
            snapshot.by_id.insert(subscription.id.clone(), subscription);
        }
        for organization in snapshot.organizations.values_mut() {
            organization.sort();
        }
        snapshot
    }

    /// The subscription with this id, enabled or not.
    #[must_use]
    pub fn by_id(&self, id: &SubscriptionId) -> Option<&Arc<Subscription>> {
        self.by_id.get(id)
    }

    /// The enabled subscriptions of an organization; `None` when it has none.
    #[must_use]
    pub fn organization(&self, id: &OrganizationId) -> Option<&OrganizationIndex> {
        self.organizations.get(id)
    }

    /// Every subscription, enabled or not, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Subscription>> {
        self.by_id.values()
    }

    /// How many subscriptions there are, enabled or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// What became different since `before`.
    #[must_use]
    pub fn change_since(&self, before: &Self) -> Change {
        let mut change = Change::default();
        for (id, subscription) in &self.by_id {
            match before.by_id(id) {
                None => change.added += 1,
                Some(old) if old != subscription => change.changed += 1,
                Some(_) => {}
            }
        }
        change.removed = before.by_id.keys().filter(|id| !self.by_id.contains_key(*id)).count();
        change
    }
}

impl OrganizationIndex {
    /// The positions of all subscriptions that want an event of this name from this inbox and project. One that matches
    /// by inbox and by project is told twice. Each takes one step; those that do not match take none.
    pub fn candidates(
        &self,
        event: EventName,
        inbox: Option<&InboxId>,
        project: Option<&ProjectId>,
    ) -> impl Iterator<Item = u32> {
        let by_inbox = inbox.and_then(|inbox| self.inboxes.get(inbox));
        let by_project = project.and_then(|project| self.projects.get(project));
        [Some(&self.unscoped), by_inbox, by_project].into_iter().flatten().flat_map(move |scope| scope.of(event))
    }

    /// The subscription at a position.
    #[must_use]
    pub fn get(&self, position: u32) -> Option<&Arc<Subscription>> {
        self.subscriptions.get(usize::try_from(position).ok()?)
    }

    fn add(&mut self, subscription: &Arc<Subscription>) {
        // More than 2^32 subscriptions do not fit into any memory.
        let Ok(position) = u32::try_from(self.subscriptions.len()) else { return };
        self.subscriptions.push(Arc::clone(subscription));
        if subscription.inboxes.is_empty() && subscription.projects.is_empty() {
            self.unscoped.add(subscription, position);
        }
        for inbox in &subscription.inboxes {
            self.inboxes.entry(inbox.clone()).or_default().add(subscription, position);
        }
        for project in &subscription.projects {
            self.projects.entry(project.clone()).or_default().add(subscription, position);
        }
    }

    fn sort(&mut self) {
        for scope in [&mut self.unscoped].into_iter().chain(self.inboxes.values_mut()).chain(self.projects.values_mut())
        {
            scope.0.sort_unstable();
            scope.0.shrink_to_fit();
        }
        self.subscriptions.shrink_to_fit();
    }
}

impl ByEvent {
    fn add(&mut self, subscription: &Subscription, position: u32) {
        self.0.extend(subscription.events.iter().map(|event| (event, position)));
    }

    fn of(&self, event: EventName) -> impl Iterator<Item = u32> {
        let start = self.0.partition_point(|(name, _)| *name < event);
        self.0.iter().skip(start).take_while(move |(name, _)| *name == event).map(|(_, position)| *position)
    }
}
