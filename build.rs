//! Compiles the API definition with protox, so that no protoc is needed, and keeps the descriptor
//! set for server reflection. With the feature `cuda` it compiles the project's own CUDA kernels to PTX as well.

use prost::Message as _;
use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["proto/yizhai/v1/digest.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("yizhai_descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .extern_path(".google.rpc.Status", "::tonic_types::pb::Status")
        .compile_fds(descriptors)?;
    if env::var_os("CARGO_FEATURE_CUDA").is_some() {
        for kernels in ["attention", "choose"] {
            to_ptx(kernels, &out)?;
        }
    }
    Ok(())
}

/// Compiles a file of kernels with the `nvcc` of the PATH, where candle's crates look for theirs as well.
fn to_ptx(kernels: &str, out: &Path) -> Result<(), Box<dyn Error>> {
    let source = format!("src/kernels/cuda/{kernels}.cu");
    println!("cargo:rerun-if-changed={source}");
    // The oldest GPU that CUDA 13 knows: the driver compiles PTX for whatever GPU it finds.
    let arguments = ["--ptx", "-arch=compute_75", "-O3", "-std=c++17", "-o"];
    let target = out.join(kernels).with_extension("ptx");
    let status = Command::new("nvcc").args(arguments).arg(target).arg(&source).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("nvcc could not compile {source}: {status}").into()),
        Err(error) => {
            Err(format!("the feature `cuda` needs a CUDA toolkit with its nvcc in the PATH: {error}").into())
        }
    }
}
