//! Compiles the API's messages for the target `request`, without the service, which would require tonic.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../proto");
    let descriptors = protox::compile(["yizhai/v1/digest.proto"], ["../proto"])?;
    prost_build::Config::new().include_file("api.rs").compile_fds(descriptors)?;
    Ok(())
}
