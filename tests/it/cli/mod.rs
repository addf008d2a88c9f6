//! The program's commands, run as people run them.

mod asyncapi;
mod dead;
mod healthcheck;
mod keys;
mod publish;
mod results;
mod topology;
mod usage;
