//! Conversion between text and token ids, including the form in which a model takes its input: a conversation or a
//! source.
//!
//! Called by `pipeline`. Wraps the tokenizer from the model's files; independent of models and the engine.

mod chat;
mod detokenize;
mod script;
mod sentence_piece;
mod source;

use std::collections::HashMap;

pub use chat::{ChatFormat, ChatMessage, ChatRole};
pub use detokenize::Detokenizer;

/// An error while building or using a tokenizer.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The chat template of the file matches no supported format.
    #[error(
        "the model's chat format is not supported (supported: those of Qwen2.5, Qwen3, SmolLM2, Llama 3 and Gemma); \
         use an instruction-tuned model"
    )]
    UnknownChatFormat,
    /// The vocabulary lacks a token of the chat format.
    #[error("the model's vocabulary lacks the token {0}, which its chat format needs")]
    MissingToken(String),
    /// A SentencePiece vocabulary cannot be used.
    #[error("the vocabulary {file} cannot be used: {detail}")]
    SentencePiece {
        /// The file.
        file: String,
        /// The reason, with the name of the field.
        detail: String,
    },
    /// The model does not support conversations.
    #[error("the model takes no conversation, only a source text")]
    NoChat,
    /// The tokenizer library failed.
    #[error("the tokenizer failed: {0}")]
    Library(String),
}

/// The tokenizer of one model.
pub struct Tokenizer {
    /// Encodes the texts of conversations, and decodes completions of any model.
    inner: tokenizers::Tokenizer,
    input: InputEncoder,
    stop_tokens: Vec<u32>,
}

/// Encodes a model's input in the form that the model takes.
enum InputEncoder {
    Chat(chat::ChatEncoder),
    Source(Box<source::SourceEncoder>),
}

/// The vocabulary files of an encoder-decoder.
pub struct SourceVocabulary<'a> {
    /// The name of the SentencePiece file, for error messages, and its contents.
    pub pieces: (&'a str, &'a [u8]),
    /// The ids of the pieces as JSON; without it, the indices of the pieces are their ids.
    pub ids: Option<&'a [u8]>,
    /// A prefix for every source.
    pub prefix: &'a str,
    /// The token that ends a source and a completion.
    pub end: u32,
}

impl Tokenizer {
    /// Creates the tokenizer of a decoder model from the tokenizer, the chat template and the end token of its file.
    ///
    /// # Errors
    /// If the chat format is not supported, or the vocabulary lacks one of its markers.
    pub fn new(
        mut inner: tokenizers::Tokenizer,
        chat_template: Option<&str>,
        eos_token_id: Option<u32>,
    ) -> Result<Self, TokenizerError> {
        let format = chat_template.and_then(ChatFormat::detect).ok_or(TokenizerError::UnknownChatFormat)?;
        let chat = format.encoder(&inner)?;
        // Markers enter a prompt as ids only; in a page they are ordinary text.
        inner.set_encode_special_tokens(true);
        let mut stop_tokens = vec![chat.end];
        stop_tokens.extend(eos_token_id.filter(|id| *id != chat.end));
        Ok(Self { inner, input: InputEncoder::Chat(chat), stop_tokens })
    }

    /// Creates the tokenizer of an encoder-decoder from its vocabulary files.
    ///
    /// # Errors
    /// If a file is malformed, or the vocabulary has no token for unknown text.
    pub fn for_sources(files: &SourceVocabulary<'_>) -> Result<Self, TokenizerError> {
        let pieces = sentence_piece::SentencePiece::parse(files.pieces.0, files.pieces.1)?;
        let ids: HashMap<String, u32> = match files.ids {
            Some(json) => serde_json::from_slice(json).map_err(|error| TokenizerError::SentencePiece {
                file: "vocab.json".to_owned(),
                detail: error.to_string(),
            })?,
            None => pieces.pieces().iter().cloned().zip(0..).collect(),
        };
        let source = source::SourceEncoder::new(pieces, ids, files.prefix, files.end)?;
        let inner = source.decoder(&["</s>", "<pad>", "<unk>"])?;
        Ok(Self { inner, input: InputEncoder::Source(Box::new(source)), stop_tokens: vec![files.end] })
    }

    /// Returns `true` if the model takes a plain source, without instructions, examples or hints.
    pub fn takes_sources(&self) -> bool {
        matches!(self.input, InputEncoder::Source(_))
    }

    /// Encodes a source with its prefix and end token; returns `None` if the model takes conversations.
    ///
    /// # Errors
    /// If the tokenizer library fails.
    pub fn encode_source(&self, text: &str) -> Option<Result<Vec<u32>, TokenizerError>> {
        match &self.input {
            InputEncoder::Chat(_) => None,
            InputEncoder::Source(source) => Some(source.encode_source(text)),
        }
    }

    /// Returns the number of tokens of a text.
    ///
    /// # Errors
    /// If the tokenizer library fails.
    pub fn count(&self, text: &str) -> Result<usize, TokenizerError> {
        Ok(self.encode(text)?.len())
    }

    /// Encodes a conversation up to the start of the model's reply.
    ///
    /// # Errors
    /// If the tokenizer library fails, or the model takes no conversations.
    pub fn encode_chat(&self, messages: &[ChatMessage<'_>]) -> Result<Vec<u32>, TokenizerError> {
        match &self.input {
            InputEncoder::Chat(chat) => chat.encode(messages, |text| self.encode(text)),
            InputEncoder::Source(_) => Err(TokenizerError::NoChat),
        }
    }

    /// Returns the tokens that end a completion.
    pub fn stop_tokens(&self) -> &[u32] {
        &self.stop_tokens
    }

    /// Returns, for every token id, `true` if the token may occur in English text: it contains no part of a Chinese
    /// character or of Chinese punctuation. Iterates over the whole vocabulary.
    pub fn tokens_without_chinese(&self) -> Vec<bool> {
        script::tokens_without_chinese(&self.inner)
    }

    /// Creates a detokenizer for one completion.
    pub fn detokenizer<'a>(&'a self, stop_strings: &'a [&'a str]) -> Detokenizer<'a> {
        Detokenizer::new(&self.inner, stop_strings)
    }

    /// Encodes a text on its own, without a conversation, prefix or end token.
    ///
    /// # Errors
    /// If the tokenizer library fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        match &self.input {
            InputEncoder::Chat(_) => {
                Ok(self.inner.encode_fast(text, false).map_err(library_error)?.get_ids().to_vec())
            }
            InputEncoder::Source(source) => source.encode(text),
        }
    }
}

fn library_error(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Library(error.to_string())
}
