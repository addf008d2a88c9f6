//! The generated protobuf types. Nothing outside `codec` uses them.

#![expect(unreachable_pub, clippy::pedantic, clippy::enum_variant_names, reason = "generated code")]

include!(concat!(env!("OUT_DIR"), "/docrelay.v1.rs"));
