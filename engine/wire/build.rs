//! Compiles the protocol files, without `protoc`.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../protos");
    let public = [
        "inference/grpc_service.proto",
        "grpc/health/v1/health.proto",
        "grpc/reflection/v1/reflection.proto",
        "grpc/reflection/v1alpha/reflection.proto",
    ];
    let internal = ["bettong/internal/v1/snapshot.proto", "bettong/internal/v1/link.proto", "google/rpc/status.proto"];
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let served = protox::compile(public, [&root])?;
    std::fs::write(out.join("served.bin"), prost_bytes(&served))?;
    let all = protox::compile(public.iter().chain(&internal), [&root])?;
    prost_build::Config::new().bytes(["."]).include_file("protos.rs").compile_fds(all)?;
    println!("cargo::rerun-if-changed={}", root.display());
    Ok(())
}

fn prost_bytes(descriptors: &impl prost::Message) -> Vec<u8> {
    descriptors.encode_to_vec()
}
