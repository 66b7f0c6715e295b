//! The arguments that choose the models of an in-process server and how they run.

use std::path::PathBuf;

use super::positive;
use crate::{
    config::{ModelChoice, ModelConfig},
    engine::EngineConfig,
    model::{CpuFeatures, DeviceChoice, KvType, ModelOptions},
};

#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct ModelArgs {
    /// Model to run: an id (see `yizhai models list`) or a path
    ///
    /// A path names a GGUF file, or the directory of an encoder-decoder model. A model that is given by its id is
    /// downloaded if necessary (about 1.1 GB for the default). Prefix it with `summary=` or `translation=` to choose
    /// the model of that task; if both tasks have their own, two models are loaded.
    #[arg(long, env = "YIZHAI_MODEL", value_delimiter = ',', value_name = "[TASK=]ID|PATH")]
    pub(in crate::cli) model: Vec<ModelChoice>,

    #[command(flatten)]
    pub(in crate::cli) runtime: RuntimeArgs,
}

/// How models run, whichever they are.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct RuntimeArgs {
    /// Device to run on: cpu, cuda (the first GPU), cuda:N, or auto
    ///
    /// `auto` uses the first GPU if this build supports CUDA and a GPU is present, and the CPU otherwise.
    #[arg(long, env = "YIZHAI_DEVICE", default_value_t)]
    pub(in crate::cli) device: DeviceChoice,

    /// CPU instruction set to use: auto (the best available), portable, avx2, avx512 or amx
    #[arg(long, env = "YIZHAI_CPU_FEATURES", default_value = "auto", value_name = "SET")]
    pub(in crate::cli) cpu_features: CpuFeatures,

    /// Number of compute threads; 0 means one per CPU
    #[arg(long, env = "YIZHAI_THREADS", default_value_t = 0, value_name = "N")]
    pub(in crate::cli) threads: usize,

    /// Maximum sequences per batch
    ///
    /// A larger batch increases throughput and memory use.
    #[arg(long, env = "YIZHAI_MAX_SEQUENCES", default_value_t = EngineConfig::default().max_sequences,
          value_parser = positive, value_name = "N")]
    pub(in crate::cli) max_sequences: usize,

    /// Size of the KV cache in tokens, over all sequences
    ///
    /// The KV cache is most of the memory used besides the weights. The default is 16384 on a CPU. On a GPU it is what
    /// fits into the free memory less 1 GiB, but no more than the sequences can fill.
    #[arg(long, env = "YIZHAI_KV_TOKENS", value_parser = positive, value_name = "TOKENS")]
    pub(in crate::cli) kv_tokens: Option<usize>,

    /// Type of the values in the KV cache: f16, or int8 for half the memory and less precision
    #[arg(long, env = "YIZHAI_KV_TYPE", default_value_t = KvType::F16, value_name = "TYPE")]
    pub(in crate::cli) kv_type: KvType,

    /// TOML file with custom prompts
    ///
    /// It has the same structure as the built-in prompts in src/pipeline/prompts.toml.
    #[arg(long, env = "YIZHAI_PROMPTS", value_name = "FILE")]
    pub(in crate::cli) prompts: Option<PathBuf>,
}

impl From<ModelArgs> for ModelConfig {
    fn from(args: ModelArgs) -> Self {
        args.runtime.config(args.model)
    }
}

impl RuntimeArgs {
    /// Returns the configuration that runs these models.
    pub(in crate::cli) fn config(self, models: Vec<ModelChoice>) -> ModelConfig {
        let engine = EngineConfig {
            max_sequences: self.max_sequences,
            kv_tokens: self.kv_tokens,
            ..EngineConfig::default()
        };
        let options = ModelOptions {
            device: self.device,
            cpu_features: self.cpu_features,
            threads: self.threads,
            kv_type: self.kv_type,
            max_positions: engine.max_model_len,
            ..ModelOptions::default()
        };
        ModelConfig { models, options, engine, prompts: self.prompts }
    }
}
