//! Compiles `proto/` into Rust without a system `protoc`.

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = ["disabled", "event", "parked", "result"].map(|name| format!("proto/docrelay/v1/{name}.proto"));
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    // `Bytes` fields are slices of the message that came in: a document is never copied to be passed on.
    prost_build::Config::new().bytes(["."]).out_dir(out).compile_fds(descriptors)?;
    Ok(())
}
