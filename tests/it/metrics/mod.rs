//! Metrics: what the service shows at `/metrics` of what it did, in both formats, and that it never shows too much.

mod broker;
mod catalogue;
mod deliveries;
mod lanes;
mod postgres;
mod secrecy;
