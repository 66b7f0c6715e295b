//! Splits text into chunks of complete sentences, each small enough for one model call.
//!
//! Called by `translate` and `summarize`. The chunks of a text always join to the text.

use crate::{
    document,
    tokenizer::{Tokenizer, TokenizerError},
};

/// Punctuation between the clauses of a sentence.
const CLAUSE_ENDS: [char; 6] = ['，', '；', '：', '、', ',', ';'];

/// Joins neighboring sentences into chunks of at most `max_tokens` tokens. A longer sentence is a chunk of its own.
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

/// Makes every sentence a chunk, for models that were trained on single sentences. A sentence of more than `max_tokens`
/// tokens is split at the clause end nearest to its middle, repeatedly if necessary.
pub(super) fn one_by_one<'a>(
    text: &'a str,
    max_tokens: usize,
    tokenizer: &Tokenizer,
) -> Result<Vec<&'a str>, TokenizerError> {
    let mut chunks = Vec::new();
    let mut stack: Vec<&str> = sentences(text).collect();
    stack.reverse();
    while let Some(part) = stack.pop() {
        let is_too_long = tokenizer.count(part)? > max_tokens;
        match split_point(part).filter(|_| is_too_long) {
            Some(at) => stack.extend([&part[at..], &part[..at]]),
            None => chunks.push(part),
        }
    }
    Ok(chunks)
}

/// Returns the byte offset at which to split a text in two: behind the clause end nearest to its middle, or else at the
/// character nearest to it. `None` for texts of one character or none.
fn split_point(text: &str) -> Option<usize> {
    let nearest = |offsets: &mut dyn Iterator<Item = usize>| {
        offsets.filter(|at| (1..text.len()).contains(at)).min_by_key(|at| at.abs_diff(text.len() / 2))
    };
    let clause_ends = text.char_indices().filter(|(_, c)| CLAUSE_ENDS.contains(c));
    nearest(&mut clause_ends.map(|(at, c)| at + c.len_utf8()))
        .or_else(|| nearest(&mut text.char_indices().map(|(at, _)| at)))
}

/// Iterates over the sentences of a text. They join to the text.
pub(super) fn sentences(text: &str) -> impl Iterator<Item = &str> {
    document::sentences(text).into_iter().map(|range| &text[range])
}

/// Returns `true` if a text has no more than one sentence.
pub(super) fn is_one_sentence(text: &str) -> bool {
    sentences(text).nth(1).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_the_clause_end_nearest_to_the_middle() {
        let split = |text: &'static str| split_point(text).map(|at| text.split_at(at));
        assert_eq!(split("一二，三四五，六"), Some(("一二，", "三四五，六")));
        assert_eq!(split("一，二三四五六"), Some(("一，", "二三四五六")));
        assert_eq!(split("一二三四"), Some(("一二", "三四")));
        assert_eq!(split("一二，"), Some(("一", "二，")), "the end of the text is not a split point");
        assert_eq!((split("一"), split("")), (None, None));
    }
}
