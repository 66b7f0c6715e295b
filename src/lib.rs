//! yizhai (译摘): summarizes and translates Chinese newspaper text with an open model on this machine.
//!
//! For every section of every article, it writes a Chinese summary and an English translation. ARCHITECTURE.md describes
//! the modules. Imports point one way:
//! `cli → client, server → pipeline → document, fidelity, tokenizer, engine → model → kernels`.

pub mod catalog;
pub mod cli;
pub mod client;
pub mod config;
pub mod document;
pub mod engine;
pub mod evaluation;
pub mod fidelity;
pub mod glossary;
pub mod kernels;
pub mod lexicon;
pub mod model;
pub mod pipeline;
pub mod server;
pub mod shutdown;
pub mod task;
pub mod telemetry;
pub mod tokenizer;

/// The API types, generated from `proto/yizhai/v1/digest.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used)]
pub mod pb {
    tonic::include_proto!("yizhai.v1");

    /// The file descriptors of the API, for server reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/yizhai_descriptor.bin"));
}
