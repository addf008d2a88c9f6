//! Compiles what events, and parked events, look like.

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../proto/docrelay/v1");
    let descriptors = protox::compile(["docrelay/v1/event.proto", "docrelay/v1/parked.proto"], ["../proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    prost_build::Config::new().bytes(["."]).out_dir(out).compile_fds(descriptors)?;
    Ok(())
}
