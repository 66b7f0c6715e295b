//! Cuts text into chunks of whole sentences that one model call can take.

use crate::{
    document,
    tokenizer::{Tokenizer, TokenizerError},
};

/// What ends a part of a sentence.
const CLAUSE_ENDS: [char; 6] = ['，', '；', '：', '、', ',', ';'];

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

/// Every sentence of `text` by itself, as a model that was trained on sentences wants it. One of more than `max_tokens`
/// tokens is cut, at the comma or the like that is nearest to its middle.
pub(super) fn one_by_one<'a>(
    text: &'a str,
    max_tokens: usize,
    tokenizer: &Tokenizer,
) -> Result<Vec<&'a str>, TokenizerError> {
    let mut chunks = Vec::new();
    let mut waiting: Vec<&str> = sentences(text).collect();
    waiting.reverse();
    while let Some(part) = waiting.pop() {
        let is_cut = tokenizer.count(part)? > max_tokens;
        match middle(part).filter(|_| is_cut) {
            Some(at) => waiting.extend([&part[at..], &part[..at]]),
            None => chunks.push(part),
        }
    }
    Ok(chunks)
}

/// Where a text can be cut in two; `None` when it is a character.
fn middle(text: &str) -> Option<usize> {
    let nearest = |places: &mut dyn Iterator<Item = usize>| {
        places.filter(|at| (1..text.len()).contains(at)).min_by_key(|at| at.abs_diff(text.len() / 2))
    };
    let commas = text.char_indices().filter(|(_, c)| CLAUSE_ENDS.contains(c));
    nearest(&mut commas.map(|(at, c)| at + c.len_utf8()))
        .or_else(|| nearest(&mut text.char_indices().map(|(at, _)| at)))
}

/// The sentences of a text, which together are the text.
pub(super) fn sentences(text: &str) -> impl Iterator<Item = &str> {
    document::sentences(text).into_iter().map(|range| &text[range])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_the_comma_nearest_to_its_middle() {
        let cut = |text: &'static str| middle(text).map(|at| text.split_at(at));
        assert_eq!(cut("一二，三四五，六"), Some(("一二，", "三四五，六")));
        assert_eq!(cut("一，二三四五六"), Some(("一，", "二三四五六")));
        assert_eq!(cut("一二三四"), Some(("一二", "三四")));
        assert_eq!(cut("一二，"), Some(("一", "二，")), "behind the last comma there is nothing");
        assert_eq!((cut("一"), cut("")), (None, None));
    }
}
