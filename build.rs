//! Compiles the API definition with protox, so that no protoc is needed, and generates what depends on it: the messages
//! and the service, the descriptor set for server reflection, and the enum of RPCs. With the feature `cuda` it also
//! compiles the project's CUDA kernels to PTX.

use prost::Message as _;
use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["proto/yizhai/v1/digest.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("yizhai_descriptor.bin"), descriptors.encode_to_vec())?;
    let mut rpcs = Vec::new();
    for file in &descriptors.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                rpcs.push((method.name().to_owned(), path));
            }
        }
    }
    fs::write(out.join("api_rpc.rs"), rpc_enum(&rpcs)?)?;
    tonic_prost_build::configure()
        .extern_path(".google.rpc.Status", "::tonic_types::pb::Status")
        .compile_fds(descriptors)?;
    if env::var_os("CARGO_FEATURE_CUDA").is_some() {
        for kernels in ["attention", "choose"] {
            compile_to_ptx(kernels, &out)?;
        }
    }
    Ok(())
}

/// Returns the source of an enum with one variant for each RPC of the API, given as names and paths. An exhaustive
/// `match` on it stops compiling when an RPC is added to the proto.
fn rpc_enum(rpcs: &[(String, String)]) -> Result<String, std::fmt::Error> {
    let (mut variants, mut all, mut names, mut paths) =
        (String::new(), String::new(), String::new(), String::new());
    for (name, path) in rpcs {
        write!(variants, "{name}, ")?;
        write!(all, "Self::{name}, ")?;
        write!(names, "Self::{name} => {name:?}, ")?;
        write!(paths, "Self::{name} => {path:?}, ")?;
    }
    Ok(format!(
        "/// An RPC of the API, generated from the proto.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq)]\n\
         pub(in crate::server) enum ApiRpc {{ {variants} }}\n\
         impl ApiRpc {{\n\
         pub(in crate::server) const ALL: [Self; {count}] = [{all}];\n\
         pub(in crate::server) const fn name(self) -> &'static str {{ match self {{ {names} }} }}\n\
         pub(in crate::server) const fn path(self) -> &'static str {{ match self {{ {paths} }} }}\n\
         }}\n",
        count = rpcs.len(),
    ))
}

/// Compiles a file of kernels with the `nvcc` on the PATH, which candle's crates use as well.
fn compile_to_ptx(kernels: &str, out: &Path) -> Result<(), Box<dyn Error>> {
    let source = format!("src/kernels/cuda/{kernels}.cu");
    println!("cargo:rerun-if-changed={source}");
    // The oldest architecture that CUDA 13 supports. The driver compiles the PTX for the GPU it finds.
    let arguments = ["--ptx", "-arch=compute_75", "-O3", "-std=c++17", "-o"];
    let target = out.join(kernels).with_extension("ptx");
    let status = Command::new("nvcc").args(arguments).arg(target).arg(&source).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("nvcc failed to compile {source}: {status}").into()),
        Err(error) => {
            Err(format!("the feature `cuda` needs a CUDA toolkit with nvcc on the PATH: {error}").into())
        }
    }
}
