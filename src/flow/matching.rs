//! Which subscriptions an event goes to. Pure.

use std::sync::Arc;

use crate::{
    domain::{DocumentEvent, Subscription},
    store::Snapshot,
};

/// The subscriptions of the event's organization that want it, each once, in the order they were given. Those that their
/// owner disabled want nothing.
///
/// Unscoped ones match whatever inbox and project the event has; scoped ones match by any of their inboxes or projects.
/// Costs as much as there are matches, however many subscriptions there are.
#[must_use]
pub fn matches<'a>(event: &DocumentEvent, snapshot: &'a Snapshot) -> Vec<&'a Arc<Subscription>> {
    let Some(organization) = snapshot.organization(&event.organization) else { return Vec::new() };
    let mut found: Vec<_> =
        organization.candidates(event.name(), event.inbox.as_ref(), event.project.as_ref()).collect();
    found.sort_unstable_by_key(|(place, _)| *place);
    found.dedup_by_key(|(place, _)| *place);
    found.into_iter().map(|(_, subscription)| subscription).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::domain::{
        EventName, Happening, HttpTarget, InboxId, OrganizationId, ProjectId, State, Target, TargetUrl,
    };

    /// What decides about a match.
    #[derive(Debug, Clone)]
    struct Wanted {
        organization: &'static str,
        inboxes: Vec<&'static str>,
        projects: Vec<&'static str>,
        events: Vec<EventName>,
        enabled: bool,
    }

    fn subscription(id: usize, wanted: &Wanted) -> Subscription {
        let organization: OrganizationId = wanted.organization.parse().unwrap();
        let url = TargetUrl::parse("https://erp.example/hooks").unwrap();
        let target = Target::Http(HttpTarget::post(url, Duration::from_secs(15)));
        Subscription {
            id: format!("s{id}").parse().unwrap(),
            inboxes: wanted.inboxes.iter().map(|inbox| inbox.parse().unwrap()).collect(),
            projects: wanted.projects.iter().map(|project| project.parse().unwrap()).collect(),
            events: wanted.events.iter().copied().collect(),
            state: State::enabled(wanted.enabled),
            ..Subscription::shipped(organization, target)
        }
    }

    fn snapshot(all: &[Wanted]) -> Snapshot {
        Snapshot::new(all.iter().enumerate().map(|(id, wanted)| subscription(id, wanted)).collect())
    }

    fn event(organization: &str, inbox: Option<&str>, project: Option<&str>, name: EventName) -> DocumentEvent {
        let happening = match name {
            EventName::DocumentFail => Happening::Fail { reason: String::new() },
            EventName::DocumentText => Happening::Text { text: String::new() },
            _ => Happening::Delete,
        };
        DocumentEvent {
            id: "evt".parse().unwrap(),
            occurred_at: None,
            organization: organization.parse().unwrap(),
            project: project.map(|project| project.parse().unwrap()),
            inbox: inbox.map(|inbox| inbox.parse().unwrap()),
            document: "doc".parse().unwrap(),
            metadata: BTreeMap::new(),
            happening,
        }
    }

    fn ids(event: &DocumentEvent, snapshot: &Snapshot) -> Vec<String> {
        matches(event, snapshot).iter().map(|found| found.id.to_string()).collect()
    }

    /// The rule's words, tried on every subscription.
    fn naive(event: &DocumentEvent, all: &[Wanted]) -> Vec<String> {
        let inbox = event.inbox.as_ref().map(InboxId::as_str);
        let project = event.project.as_ref().map(ProjectId::as_str);
        let wants = |wanted: &Wanted| {
            wanted.enabled
                && wanted.organization == event.organization.as_str()
                && wanted.events.contains(&event.name())
                && (wanted.inboxes.is_empty() && wanted.projects.is_empty()
                    || inbox.is_some_and(|inbox| wanted.inboxes.contains(&inbox))
                    || project.is_some_and(|project| wanted.projects.contains(&project)))
        };
        all.iter().enumerate().filter(|(_, wanted)| wants(wanted)).map(|(id, _)| format!("s{id}")).collect()
    }

    const EVENTS: [EventName; 3] = [EventName::DocumentText, EventName::DocumentDelete, EventName::DocumentFail];
    const ORGANIZATIONS: [&str; 3] = ["acme", "globex", "initech"];
    // Inboxes and projects share names, also with organizations: an index that mixed them up would be found out.
    const SCOPES: [&str; 3] = ["a", "b", "acme"];

    fn any_wanted() -> impl Strategy<Value = Wanted> {
        (
            select(&ORGANIZATIONS[..]),
            vec(select(&SCOPES[..]), 0..3),
            vec(select(&SCOPES[..]), 0..3),
            vec(select(&EVENTS[..]), 1..4),
            prop::bool::weighted(0.9),
        )
            .prop_map(|(organization, inboxes, projects, events, enabled)| Wanted {
                organization,
                inboxes,
                projects,
                events,
                enabled,
            })
    }

    fn any_event() -> impl Strategy<Value = DocumentEvent> {
        let scope = || prop::option::of(select(&SCOPES[..]));
        (select(&ORGANIZATIONS[..]), scope(), scope(), select(&EVENTS[..]))
            .prop_map(|(organization, inbox, project, name)| event(organization, inbox, project, name))
    }

    proptest! {
        #[test]
        fn the_index_finds_what_asking_every_subscription_finds(all in vec(any_wanted(), 0..40), event in any_event()) {
            // Which includes: only this organization's, each at most once, in the order given.
            prop_assert_eq!(ids(&event, &snapshot(&all)), naive(&event, &all));
        }

        #[test]
        fn no_match_is_another_organizations(all in vec(any_wanted(), 0..40), event in any_event()) {
            for found in matches(&event, &snapshot(&all)) {
                prop_assert_eq!(&found.organization, &event.organization);
            }
        }

        #[test]
        fn a_subscription_matches_at_most_once(all in vec(any_wanted(), 0..40), event in any_event()) {
            let mut found = ids(&event, &snapshot(&all));
            let count = found.len();
            found.sort();
            found.dedup();
            prop_assert_eq!(found.len(), count);
        }

        #[test]
        fn somebody_elses_subscription_changes_nothing(
            mut all in vec(any_wanted(), 0..40),
            other in any_wanted(),
            event in any_event(),
        ) {
            let before = ids(&event, &snapshot(&all));
            all.push(Wanted { organization: "somebody-else", ..other });
            prop_assert_eq!(ids(&event, &snapshot(&all)), before);
        }
    }

    fn unscoped() -> Wanted {
        Wanted { organization: "acme", inboxes: vec![], projects: vec![], events: EVENTS.to_vec(), enabled: true }
    }

    #[test]
    fn one_that_names_inbox_and_project_of_the_event_gets_it_once() {
        let both = Wanted { inboxes: vec!["a"], projects: vec!["b"], ..unscoped() };
        let event = event("acme", Some("a"), Some("b"), EventName::DocumentText);
        assert_eq!(ids(&event, &snapshot(&[both])), ["s0"]);
    }

    #[test]
    fn one_that_names_projects_gets_only_theirs_whatever_the_inbox() {
        let scoped = Wanted { projects: vec!["a"], ..unscoped() };
        let found = |inbox, project| {
            ids(&event("acme", inbox, project, EventName::DocumentText), &snapshot(std::slice::from_ref(&scoped)))
        };
        assert_eq!(found(None, Some("a")), ["s0"]);
        assert_eq!(found(Some("b"), Some("a")), ["s0"], "any inbox of the project");
        for (inbox, project) in [(None, Some("b")), (Some("a"), Some("b")), (Some("a"), None), (None, None)] {
            assert!(found(inbox, project).is_empty(), "{inbox:?} {project:?}");
        }
    }

    #[test]
    fn unscoped_ones_go_on_receiving_beside_scoped_ones() {
        let scoped = Wanted { inboxes: vec!["a"], ..unscoped() };
        let snapshot = snapshot(&[scoped, unscoped()]);
        assert_eq!(ids(&event("acme", Some("a"), None, EventName::DocumentText), &snapshot), ["s0", "s1"]);
        assert_eq!(ids(&event("acme", Some("b"), None, EventName::DocumentText), &snapshot), ["s1"]);
        assert_eq!(ids(&event("acme", None, None, EventName::DocumentText), &snapshot), ["s1"]);
    }

    #[test]
    fn work_depends_on_the_matches_and_not_on_the_number_of_subscriptions() {
        let inboxes: Vec<&'static str> = (0..20_000).map(|index| &*format!("inbox-{index}").leak()).collect();
        let scoped = |inbox: &&'static str| Wanted { inboxes: vec![inbox], ..unscoped() };
        let elsewhere = |_| Wanted { organization: "globex", ..unscoped() };
        let visited = |subscriptions: &[Wanted]| {
            let snapshot = snapshot(subscriptions);
            let organization = snapshot.organization(&"acme".parse().unwrap()).unwrap();
            organization.candidates(EventName::DocumentText, Some(&"inbox-7".parse().unwrap()), None).count()
        };
        let few: Vec<Wanted> = inboxes[..10].iter().map(scoped).collect();
        let many: Vec<Wanted> = inboxes.iter().map(scoped).chain((0..20_000).map(elsewhere)).collect();
        assert_eq!(visited(&few), 1);
        assert_eq!(visited(&many), 1);
    }
}
