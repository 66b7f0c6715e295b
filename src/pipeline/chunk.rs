//! Cuts text into chunks of whole sentences that one model call can take.

use crate::{
    document,
    tokenizer::{Tokenizer, TokenizerError},
};

/// Joins neighbouring sentences of `text` into chunks of at most `max_tokens` tokens. A sentence that is
/// longer by itself is a chunk of its own. The chunks together are the text.
pub(super) fn by_sentences<'a>(
    text: &'a str,
    max_tokens: usize,
    tokenizer: &Tokenizer,
) -> Result<Vec<&'a str>, TokenizerError> {
    if tokenizer.count(text)? <= max_tokens {
        return Ok(vec![text]);
    }
    let mut chunks = Vec::new();
    let (mut start, mut end, mut tokens) = (0, 0, 0);
    for sentence in sentences(text) {
        let count = tokenizer.count(sentence)?;
        if end > start && tokens + count > max_tokens {
            chunks.push(&text[start..end]);
            start = end;
            tokens = 0;
        }
        end += sentence.len();
        tokens += count;
    }
    if end > start {
        chunks.push(&text[start..end]);
    }
    Ok(chunks)
}

/// The sentences of a text, which together are the text.
pub(super) fn sentences(text: &str) -> impl Iterator<Item = &str> {
    document::sentences(text).into_iter().map(|range| &text[range])
}
