//! docrelay from the outside. The modules are the table of contents.

mod config;
