//! Compiles the API definition with protox, so that no protoc is needed, and keeps the descriptor
//! set for server reflection.

use prost::Message as _;
use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["proto/yizhai/v1/digest.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?).join("yizhai_descriptor.bin");
    fs::write(out, descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .extern_path(".google.rpc.Status", "::tonic_types::pb::Status")
        .compile_fds(descriptors)?;
    Ok(())
}
