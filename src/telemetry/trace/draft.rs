//! A span in the making: its attributes one by one, by the conventions' names.

use std::{borrow::Cow, sync::Arc};

use opentelemetry::{
    InstrumentationScope, KeyValue, Value,
    trace::{SpanId, SpanKind, Status},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::{Begun, facts::Server, names};
use crate::domain::{DeliveryId, DocumentEvent, OrganizationId, SubscriptionId, Timestamp};

/// The most attributes that a span of ours has: the list is allocated once.
const ATTRIBUTES: usize = 20;

/// A method's name. Subscriptions have only these.
pub(super) fn method(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "HTTP",
    }
}

/// A span in the making.
pub(super) struct Draft {
    begun: Begun,
    name: Cow<'static, str>,
    kind: SpanKind,
    attributes: Vec<KeyValue>,
    status: Status,
}

impl Draft {
    pub(super) fn new(begun: Begun, name: impl Into<Cow<'static, str>>, kind: SpanKind) -> Self {
        let attributes = Vec::with_capacity(ATTRIBUTES);
        Self { begun, name: name.into(), kind, attributes, status: Status::Unset }
    }

    pub(super) fn add(&mut self, name: &'static str, value: impl Into<Value>) {
        self.attributes.push(KeyValue::new(name, value));
    }

    pub(super) fn messaging(&mut self, name: &'static str, kind: &'static str, destination: Arc<str>) {
        self.add(names::MESSAGING_SYSTEM, names::RABBITMQ);
        self.add(names::OPERATION_NAME, name);
        self.add(names::OPERATION_TYPE, kind);
        self.add(names::DESTINATION_NAME, destination);
    }

    pub(super) fn http(&mut self, by: &http::Method, server: Server) {
        let Server { scheme, host, port } = server;
        self.add(names::REQUEST_METHOD, method(by));
        self.add(names::URL_SCHEME, scheme);
        self.add(names::SERVER_ADDRESS, host);
        if let Some(port) = port {
            self.add(names::SERVER_PORT, i64::from(port));
        }
    }

    pub(super) fn organization(&mut self, organization: &OrganizationId) {
        self.add(names::ORGANIZATION, organization.shared());
    }

    pub(super) fn event(&mut self, event: &DocumentEvent) {
        self.organization(&event.organization);
        if let Some(inbox) = &event.inbox {
            self.add(names::INBOX, inbox.shared());
        }
        self.add(names::DOCUMENT, event.document.shared());
        self.add(names::EVENT, event.name().as_str());
    }

    pub(super) fn delivery(&mut self, subscription: &SubscriptionId, delivery: DeliveryId, attempt: u32) {
        self.add(names::SUBSCRIPTION, subscription.shared());
        self.add(names::DELIVERY, delivery.to_string());
        self.add(names::ATTEMPT, i64::from(attempt));
    }

    pub(super) fn failed(&mut self, kind: Cow<'static, str>) {
        self.add(names::ERROR_TYPE, kind);
        self.status = Status::error("");
    }

    pub(super) fn until(self, until: Timestamp) -> SpanData {
        let Self { begun, name, kind, attributes, status } = self;
        SpanData {
            span_context: begun.span_context(),
            parent_span_id: begun.parent.map_or(SpanId::INVALID, |parent| SpanId::from(parent.span)),
            parent_span_is_remote: begun.parent.is_some_and(|parent| parent.is_remote),
            span_kind: kind,
            name,
            start_time: begun.at.into(),
            // The wall clock may have stepped back.
            end_time: until.max(begun.at).into(),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: InstrumentationScope::builder("docrelay").build(),
        }
    }
}
