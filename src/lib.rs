//! yizhai (译摘): Chinese newspaper text in; for every section of every article a Chinese summary and an
//! English translation out, by an open model on this machine.
//!
//! The parts and how they hang together are described in ARCHITECTURE.md. Imports point one way:
//! `cli → client, server → pipeline → document, fidelity, tokenizer, engine → model → kernels`.

pub mod catalog;
pub mod cli;
pub mod client;
pub mod config;
pub mod document;
pub mod engine;
pub mod fidelity;
pub mod glossary;
pub mod kernels;
pub mod model;
pub mod pipeline;
pub mod server;
pub mod shutdown;
pub mod task;
pub mod telemetry;
pub mod tokenizer;

/// The API, generated from `proto/yizhai/v1/digest.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used)]
pub mod pb {
    tonic::include_proto!("yizhai.v1");

    /// The descriptors of the API, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/yizhai_descriptor.bin"));
}
