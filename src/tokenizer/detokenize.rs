//! Incremental conversion of token ids to text, with stop strings. Called by `pipeline` for every token of a
//! completion.

use tokenizers::{
    DecodeStream, DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
};

use super::{TokenizerError, library_error};

/// The growing text of one completion.
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

    /// Appends the next token. Returns `true` once the text contains a stop string: it then ends before that string and
    /// ignores further tokens.
    ///
    /// # Errors
    /// If the tokenizer library fails.
    pub fn push(&mut self, token: u32) -> Result<bool, TokenizerError> {
        if self.stopped {
            return Ok(true);
        }
        if let Some(new_text) = self.stream.step(token).map_err(library_error)? {
            // A stop string may start in the text before this token.
            let mut from = self.text.len().saturating_sub(self.longest_stop);
            while !self.text.is_char_boundary(from) {
                from -= 1;
            }
            self.text.push_str(&new_text);
            let first = self.stop_strings.iter().filter_map(|stop| self.text[from..].find(stop)).min();
            if let Some(at) = first {
                self.text.truncate(from + at);
                self.stopped = true;
            }
        }
        Ok(self.stopped)
    }

    /// Returns the text so far.
    pub fn text(&self) -> &str {
        &self.text
    }
}
