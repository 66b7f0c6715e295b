//! Splits paragraphs into sentences by the rules of Chinese punctuation.
//!
//! `pipeline` cuts paragraphs into chunks at these boundaries. Sentences are byte ranges that add up to the paragraph,
//! so no character is lost between two of them.

use std::ops::Range;

use super::recognize::chars::{closer, is_closer, is_han, prefix_len};

/// The maximum length of a sentence, in characters. A longer one is split at a weaker mark, or anywhere if it has none.
pub const MAX_SENTENCE_CHARS: usize = 240;

/// A quotation or a text in brackets that is longer than this, in characters, is split at the full stops inside it.
const MAX_QUOTED_CHARS: usize = 120;

/// Returns the sentences of `paragraph` as consecutive byte ranges.
pub fn sentences(paragraph: &str) -> Vec<Range<usize>> {
    let mut sentences = Vec::new();
    let mut start = 0;
    for end in sentence_ends(paragraph) {
        push_bounded(paragraph, start..end, &mut sentences);
        start = end;
    }
    push_bounded(paragraph, start..paragraph.len(), &mut sentences);
    sentences
}

/// Returns the offsets at which sentences end, in order. Closing quotes and the spaces after a full stop belong to the
/// sentence before them.
fn sentence_ends(paragraph: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut characters = paragraph.char_indices().peekable();
    let mut open = OpenBrackets::default();
    let mut before = ' ';
    while let Some((at, character)) = characters.next() {
        open.update(character);
        let next = characters.peek().map(|(_, next)| *next);
        let is_stop = match character {
            '。' | '！' | '？' | '｡' => true,
            '!' | '?' => next.is_none_or(|next| !next.is_ascii_alphanumeric()),
            // An English full stop, but not the dot of 3.5, U.S. or p.m.
            '.' if before.is_ascii_lowercase() => next.is_none_or(char::is_whitespace) && at > 3,
            // Some pages use English punctuation after Chinese text, too.
            '.' => {
                is_han(before)
                    && next.is_none_or(|next| is_han(next) || next.is_whitespace() || is_closer(next))
            }
            // …… more often separates the items of a list than ends it.
            '…' => next.is_some_and(is_closer),
            _ => false,
        };
        before = character;
        if !is_stop {
            continue;
        }
        let mut end = at + character.len_utf8();
        // Keep ？！, 。” and 。） together.
        while let Some((at, next)) =
            characters.next_if(|(_, next)| "。！？!?…".contains(*next) || is_closer(*next))
        {
            open.update(next);
            before = next;
            end = at + next.len_utf8();
        }
        let after = characters.peek().map(|(_, next)| *next);
        let sentence_continues = is_closer(before) && after.is_some_and(|next| "，、；：".contains(next));
        if sentence_continues || open.is_short() || is_speech_tag(before, &paragraph[end..]) {
            continue;
        }
        while let Some((at, space)) = characters.next_if(|(_, next)| next.is_whitespace()) {
            end = at + space.len_utf8();
        }
        ends.push(end);
    }
    ends
}

/// The brackets and quotation marks that are open at a position of a paragraph.
#[derive(Default)]
struct OpenBrackets {
    closers: Vec<char>,
    /// The number of characters since the outermost one opened.
    length: usize,
}

impl OpenBrackets {
    /// The maximum nesting depth; deeper brackets are noise.
    const MAX_DEPTH: usize = 16;

    fn update(&mut self, character: char) {
        self.length = if self.closers.is_empty() { 0 } else { self.length + 1 };
        if let Some(close) = closer(character) {
            if self.closers.len() < Self::MAX_DEPTH {
                self.closers.push(close);
            }
        } else if is_closer(character) {
            // A mark that closes an outer bracket closes the inner ones too; an unmatched one closes nothing.
            if let Some(depth) = self.closers.iter().rposition(|close| *close == character) {
                self.closers.truncate(depth);
            }
        }
    }

    /// Returns `true` inside a bracket or quotation that is still short enough to be kept in one sentence.
    fn is_short(&self) -> bool {
        !self.closers.is_empty() && self.length <= MAX_QUOTED_CHARS
    }
}

/// Returns `true` if a quotation ends before `rest` and `rest` begins by naming the speaker: …。”他说。
fn is_speech_tag(before: char, rest: &str) -> bool {
    const VERBS: &[&str] =
        &["说", "說", "道", "表示", "指出", "强调", "称", "介绍", "认为", "写道", "说道", "告诉记者"];
    if !"”』」".contains(before) {
        return false;
    }
    let window = &rest[..prefix_len(rest, 16)];
    let Some(stop) = window.find(['。', '，', '：', '！', '？']) else {
        return false;
    };
    window[stop..].starts_with('。') && VERBS.iter().any(|verb| window[..stop].ends_with(verb))
}

/// Appends `range` to `sentences`, split into ranges of at most [`MAX_SENTENCE_CHARS`] characters.
fn push_bounded(paragraph: &str, mut range: Range<usize>, sentences: &mut Vec<Range<usize>>) {
    while !range.is_empty() {
        let text = &paragraph[range.clone()];
        let longest = prefix_len(text, MAX_SENTENCE_CHARS);
        if longest == text.len() {
            sentences.push(range);
            return;
        }
        // Prefer the strongest mark in the last two thirds, and of those the last.
        let shortest = prefix_len(text, MAX_SENTENCE_CHARS / 3);
        let after = |marks: &str| {
            let mark = text[shortest..longest].char_indices().rev().find(|(_, c)| marks.contains(*c));
            mark.map(|(at, c)| shortest + at + c.len_utf8())
        };
        let cut = after("。！？")
            .or_else(|| after("；;…—"))
            .or_else(|| after("，,："))
            .or_else(|| after("、 "))
            .unwrap_or(longest);
        sentences.push(range.start..range.start + cut);
        range.start += cut;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(paragraph: &str) -> Vec<&str> {
        sentences(paragraph).into_iter().map(|range| &paragraph[range]).collect()
    }

    #[test]
    fn splits_at_full_stops_but_not_within_quotations_or_numbers() {
        let cases: &[&[&str]] = &[
            &["今天下雨。", "明天不下。"],
            &["真的吗？！", "真的！"],
            &["他说：“下雨了。”", "大家都走了。"],
            &["“下雨了。走吧。”他说。", "大家都走了。"],
            &["增长3.5%，达到1.2万亿元。", "其中出口下降0.7%。"],
            &["水库……水渠……都建成了。", "还有堤坝……"],
            &["“水库……”", "他想起了那年。"],
            &["It rained. ", "今天下雨。"],
            &["约有U.S. Steel等公司。"],
            &["体育成绩计入总分.", "考试时间为三天."],
            &["让要素流动；让创新涌流。", "第一，改革。"],
            &["（一）总体要求。", "（二）原则。"],
            &["他说（当时正在下雨。），不走了。"],
            &["没有句号"],
            &[],
        ];
        for case in cases {
            let paragraph = case.concat();
            assert_eq!(split(&paragraph), *case, "{paragraph}");
        }
    }

    #[test]
    fn splits_sentences_that_are_too_long() {
        for paragraph in [
            "一".repeat(10_000),
            "一，".repeat(5000),
            format!("“{}", "好。".repeat(5000)),
            "”".repeat(3000),
            "（".repeat(3000),
        ] {
            let sentences = split(&paragraph);
            assert!(sentences.iter().all(|sentence| sentence.chars().count() <= MAX_SENTENCE_CHARS));
            assert_eq!(sentences.concat(), paragraph);
        }
    }
}
