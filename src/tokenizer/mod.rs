//! Text to token ids and back, and the chat format that the model was trained on.
//!
//! Called by `pipeline`. Wraps the tokenizer that stands in the model's file; knows no model and no engine.

mod chat;
mod detokenize;
mod script;

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
    /// The tokenizer library refused.
    #[error("the tokenizer failed: {0}")]
    Library(String),
}

/// The tokenizer of one model, with its chat format.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    chat: chat::Chat,
    stop_tokens: Vec<u32>,
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
        Ok(Self { inner, chat, stop_tokens })
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
    /// When the tokenizer library fails.
    pub fn chat(&self, messages: &[Message<'_>]) -> Result<Vec<u32>, TokenizerError> {
        self.chat.render(messages, |text| self.encode(text))
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
        let encoding = self.inner.encode_fast(text, false).map_err(library)?;
        Ok(encoding.get_ids().to_vec())
    }
}

fn library(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Library(error.to_string())
}
