//! Token ids to text, one at a time, with stop strings.

use tokenizers::{
    DecodeStream, DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
};

use super::{TokenizerError, library};

/// The text of one answer as it grows.
///
/// A character whose bytes are spread over several tokens appears when it is complete.
pub struct Detokenizer<'a> {
    stream: DecodeStream<
        'a,
        ModelWrapper,
        NormalizerWrapper,
        PreTokenizerWrapper,
        PostProcessorWrapper,
        DecoderWrapper,
    >,
    stop_strings: &'a [&'a str],
    longest_stop: usize,
    text: String,
    stopped: bool,
}

impl<'a> Detokenizer<'a> {
    pub(super) fn new(tokenizer: &'a tokenizers::Tokenizer, stop_strings: &'a [&'a str]) -> Self {
        Self {
            stream: tokenizer.decode_stream(true),
            stop_strings,
            longest_stop: stop_strings.iter().map(|s| s.len()).max().unwrap_or(0),
            text: String::new(),
            stopped: false,
        }
    }

    /// Takes the next token. True when a stop string has been written: the text ends before it, and no
    /// further token is wanted.
    ///
    /// # Errors
    /// When the tokenizer library fails.
    pub fn push(&mut self, token: u32) -> Result<bool, TokenizerError> {
        if self.stopped {
            return Ok(true);
        }
        if let Some(piece) = self.stream.step(token).map_err(library)? {
            // A stop string may have begun before this piece.
            let mut from = self.text.len().saturating_sub(self.longest_stop);
            while !self.text.is_char_boundary(from) {
                from -= 1;
            }
            self.text.push_str(&piece);
            let first = self.stop_strings.iter().filter_map(|stop| self.text[from..].find(stop)).min();
            if let Some(at) = first {
                self.text.truncate(from + at);
                self.stopped = true;
            }
        }
        Ok(self.stopped)
    }

    /// The text so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The whole text.
    pub fn into_text(self) -> String {
        self.text
    }
}
