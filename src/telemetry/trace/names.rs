//! Names of attributes. Those with a dot after a word of everybody's are OpenTelemetry's, by its conventions for messaging
//! and HTTP; those of `docrelay` are ours, and the same in logs.

/// What a `messaging.system` is here.
pub(super) const RABBITMQ: &str = "rabbitmq";

pub(super) const MESSAGING_SYSTEM: &str = "messaging.system";
pub(super) const OPERATION_NAME: &str = "messaging.operation.name";
pub(super) const OPERATION_TYPE: &str = "messaging.operation.type";
pub(super) const DESTINATION_NAME: &str = "messaging.destination.name";
pub(super) const MESSAGE_ID: &str = "messaging.message.id";
pub(super) const MESSAGE_BODY_SIZE: &str = "messaging.message.body.size";
pub(super) const ROUTING_KEY: &str = "messaging.rabbitmq.destination.routing_key";

pub(super) const REQUEST_METHOD: &str = "http.request.method";
pub(super) const RESEND_COUNT: &str = "http.request.resend_count";
pub(super) const STATUS_CODE: &str = "http.response.status_code";
pub(super) const SERVER_ADDRESS: &str = "server.address";
pub(super) const SERVER_PORT: &str = "server.port";
pub(super) const URL_SCHEME: &str = "url.scheme";
pub(super) const ERROR_TYPE: &str = "error.type";

pub(super) const ORGANIZATION: &str = "docrelay.organization";
pub(super) const INBOX: &str = "docrelay.inbox";
pub(super) const DOCUMENT: &str = "docrelay.document";
pub(super) const EVENT: &str = "docrelay.event";
pub(super) const EVENT_ID: &str = "docrelay.event.id";
pub(super) const SUBSCRIPTION: &str = "docrelay.subscription";
pub(super) const DELIVERY: &str = "docrelay.delivery";
pub(super) const ATTEMPT: &str = "docrelay.attempt";
pub(super) const OUTCOME: &str = "docrelay.outcome";
pub(super) const FAN_OUT: &str = "docrelay.fan_out";
pub(super) const WAIT: &str = "docrelay.wait";
pub(super) const WAIT_MS: &str = "docrelay.wait_ms";

/// All of them, for the documents.
#[cfg(test)]
pub(super) const ALL: [&str; 26] = [
    MESSAGING_SYSTEM,
    OPERATION_NAME,
    OPERATION_TYPE,
    DESTINATION_NAME,
    MESSAGE_ID,
    MESSAGE_BODY_SIZE,
    ROUTING_KEY,
    REQUEST_METHOD,
    RESEND_COUNT,
    STATUS_CODE,
    SERVER_ADDRESS,
    SERVER_PORT,
    URL_SCHEME,
    ERROR_TYPE,
    ORGANIZATION,
    INBOX,
    DOCUMENT,
    EVENT,
    EVENT_ID,
    SUBSCRIPTION,
    DELIVERY,
    ATTEMPT,
    OUTCOME,
    FAN_OUT,
    WAIT,
    WAIT_MS,
];
