//! A running model with its tokenizer, and how it is loaded.
//!
//! Held by `Pipeline`, one for each task or one for both.

use std::{path::Path, sync::Arc};

use super::{ModelInfo, PipelineError};
use crate::{
    engine::{Engine, EngineConfig, TokenMask},
    model::{
        self, ModelOptions,
        seq2seq::{ModelDirectory, Seq2Seq},
    },
    tokenizer::{SourceVocabulary, Tokenizer},
};

/// A running model and everything between text and its tokens.
pub(super) struct TaskModel {
    pub(super) info: Arc<ModelInfo>,
    pub(super) engine: Engine,
    pub(super) tokenizer: Tokenizer,
    /// The tokens that may appear in English text.
    pub(super) english: Arc<TokenMask>,
    /// The model understands Chinese in which terms and quantities are already in English.
    pub(super) accepts_pretranslated: bool,
}

impl TaskModel {
    /// Wraps the engine of a decoder model.
    pub(super) fn decoder(engine: Engine, tokenizer: Tokenizer, info: ModelInfo) -> Self {
        let english = Arc::new(TokenMask::new(tokenizer.tokens_without_chinese()));
        Self { info: Arc::new(info), engine, tokenizer, english, accepts_pretranslated: true }
    }

    /// Loads a GGUF file or the directory of an encoder-decoder and starts its engine.
    pub(super) fn load(
        path: &Path,
        info: ModelInfo,
        options: &ModelOptions,
        config: EngineConfig,
    ) -> Result<Self, PipelineError> {
        if path.is_dir() {
            return Self::load_directory(path, info, options, config);
        }
        let (file, weights) = model::load_path(path, options)?;
        let tokenizer = Tokenizer::new(file.tokenizer()?, file.chat_template(), file.eos_token_id())?;
        let engine = Engine::start(weights, config)?;
        Ok(Self::decoder(engine, tokenizer, info))
    }

    fn load_directory(
        path: &Path,
        info: ModelInfo,
        options: &ModelOptions,
        config: EngineConfig,
    ) -> Result<Self, PipelineError> {
        let directory = ModelDirectory::open(path)?;
        let weights = Seq2Seq::load(&directory, options)?;
        // Marian maps the tokens of its source vocabulary to ids in a file of its own; in the others, a token's position
        // in the vocabulary is its id.
        let (name, ids) = match directory.has_file("source.spm") {
            true => ("source.spm", Some(directory.vocabulary_file("vocab.json")?)),
            false => ("spiece.model", None),
        };
        let pieces = directory.vocabulary_file(name)?;
        let tokenizer = Tokenizer::for_sources(&SourceVocabulary {
            pieces: (name, &pieces),
            ids: ids.as_deref(),
            prefix: &directory.settings().prefix,
            end: weights.end_token(),
        })?;
        let (known_tokens, vocab_size) = (tokenizer.tokens_without_chinese(), weights.vocab_size());
        if known_tokens.len() > vocab_size {
            let detail = format!(
                "{name} and its ids have {} tokens, but `vocab_size` in config.json is {vocab_size}",
                known_tokens.len()
            );
            return Err(directory.unusable(detail).into());
        }
        let accepts_pretranslated = directory.settings().accepts_pretranslated;
        let engine = Engine::start_seq2seq(weights, config)?;
        let english = Arc::new(TokenMask::new(known_tokens));
        Ok(Self { info: Arc::new(info), engine, tokenizer, english, accepts_pretranslated })
    }
}
