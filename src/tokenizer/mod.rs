//! Text to token ids and back, and the form in which the model takes a text: within a conversation, or as a source.
//!
//! Called by `pipeline`. Wraps the tokenizer that stands in the model's files; knows no model and no engine.

mod chat;
mod detokenize;
mod script;
mod sentence_piece;
mod source;

use std::collections::HashMap;

pub use chat::{ChatFormat, Message, Role};
pub use detokenize::Detokenizer;

/// What can go wrong between a model's file and a usable tokenizer.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file's chat template follows no known format.
    #[error(
        "the model has no chat format that is known here (known: those of Qwen2.5, Qwen3, \
         SmolLM2, Llama 3 and Gemma); use an instruction-tuned model"
    )]
    UnknownChatFormat,
    /// The chat format needs a token that the vocabulary lacks.
    #[error("the model's vocabulary lacks the token {0}, which its chat format needs")]
    MissingToken(String),
    /// A vocabulary of SentencePiece cannot be used.
    #[error("the vocabulary {file} cannot be used: {detail}")]
    SentencePiece {
        /// The file.
        file: String,
        /// What is wrong, naming the field.
        detail: String,
    },
    /// The text is to go into a conversation, and the model knows none.
    #[error("the model takes no conversation, only a source")]
    NoChat,
    /// The tokenizer library refused.
    #[error("the tokenizer failed: {0}")]
    Library(String),
}

/// The tokenizer of one model, with the form in which it takes a text.
pub struct Tokenizer {
    /// Encodes what goes into a conversation; turns ids into text in any case.
    inner: tokenizers::Tokenizer,
    form: Form,
    stop_tokens: Vec<u32>,
}

/// In which form a model takes a text.
enum Form {
    Chat(chat::Chat),
    Source(Box<source::Source>),
}

/// Where an encoder-decoder's vocabulary stands.
pub struct SourceFiles<'a> {
    /// The name of the SentencePiece file, for errors, and its bytes.
    pub pieces: (&'a str, &'a [u8]),
    /// The ids of the pieces as JSON; without it their numbers are the ids.
    pub ids: Option<&'a [u8]>,
    /// What stands before every source.
    pub prefix: &'a str,
    /// The token that ends a source and an answer.
    pub end: u32,
}

impl Tokenizer {
    /// Takes the tokenizer of a model's file, the chat template that stands there, and the token that ends
    /// an answer if the file names one.
    ///
    /// # Errors
    /// When the chat format is not known or the vocabulary does not hold its markers.
    pub fn new(
        mut inner: tokenizers::Tokenizer,
        chat_template: Option<&str>,
        eos_token_id: Option<u32>,
    ) -> Result<Self, TokenizerError> {
        let format = chat_template.and_then(ChatFormat::detect).ok_or(TokenizerError::UnknownChatFormat)?;
        let chat = format.over(&inner)?;
        // Markers enter a prompt by their ids only; in a page they are ordinary text.
        inner.set_encode_special_tokens(true);
        let mut stop_tokens = vec![chat.end];
        stop_tokens.extend(eos_token_id.filter(|id| *id != chat.end));
        Ok(Self { inner, form: Form::Chat(chat), stop_tokens })
    }

    /// Takes the vocabulary of an encoder-decoder.
    ///
    /// # Errors
    /// When a file is not of its form, or lacks the token for what is unknown.
    pub fn of_source(files: &SourceFiles<'_>) -> Result<Self, TokenizerError> {
        let pieces = sentence_piece::SentencePiece::read(files.pieces.0, files.pieces.1)?;
        let ids: HashMap<String, u32> = match files.ids {
            Some(json) => serde_json::from_slice(json).map_err(|error| TokenizerError::SentencePiece {
                file: "vocab.json".to_owned(),
                detail: error.to_string(),
            })?,
            None => pieces.pieces().iter().cloned().zip(0..).collect(),
        };
        let source = source::Source::new(pieces, ids, files.prefix, files.end)?;
        let inner = source.decoder(&["</s>", "<pad>", "<unk>"])?;
        Ok(Self { inner, form: Form::Source(Box::new(source)), stop_tokens: vec![files.end] })
    }

    /// Whether it takes a text as it is; then there are no instructions, examples or hints.
    pub fn takes_sources(&self) -> bool {
        matches!(self.form, Form::Source(_))
    }

    /// The token ids of a text as a source, where the model takes such.
    ///
    /// # Errors
    /// When the tokenizer library fails.
    pub fn source(&self, text: &str) -> Option<Result<Vec<u32>, TokenizerError>> {
        match &self.form {
            Form::Chat(_) => None,
            Form::Source(source) => Some(source.source(text)),
        }
    }

    /// Number of tokens of a text.
    ///
    /// # Errors
    /// When the tokenizer library fails.
    pub fn count(&self, text: &str) -> Result<usize, TokenizerError> {
        Ok(self.encode(text)?.len())
    }

    /// The token ids of a conversation, ending where the model's answer begins.
    ///
    /// # Errors
    /// When the tokenizer library fails, or the model takes no conversation.
    pub fn chat(&self, messages: &[Message<'_>]) -> Result<Vec<u32>, TokenizerError> {
        match &self.form {
            Form::Chat(chat) => chat.render(messages, |text| self.encode(text)),
            Form::Source(_) => Err(TokenizerError::NoChat),
        }
    }

    /// The tokens that end an answer.
    pub fn stop_tokens(&self) -> &[u32] {
        &self.stop_tokens
    }

    /// For every token id, whether it can stand in English text: it holds no part of a Chinese character or of
    /// Chinese punctuation. Takes a pass over the vocabulary.
    pub fn without_chinese(&self) -> Vec<bool> {
        script::without_chinese(&self.inner)
    }

    /// Turns the tokens of one answer into text as they come.
    pub fn detokenizer<'a>(&'a self, stop_strings: &'a [&'a str]) -> Detokenizer<'a> {
        Detokenizer::new(&self.inner, stop_strings)
    }

    /// The token ids of a text as it stands, without a conversation around it.
    ///
    /// # Errors
    /// When the library cannot encode it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        match &self.form {
            Form::Chat(_) => Ok(self.inner.encode_fast(text, false).map_err(library)?.get_ids().to_vec()),
            Form::Source(source) => source.encode(text),
        }
    }
}

fn library(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Library(error.to_string())
}
