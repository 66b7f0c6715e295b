//! Paragraph → sentences, by the rules of Chinese punctuation.
//!
//! `pipeline` cuts paragraphs into chunks at these borders and `fidelity` compares sentence by sentence. Pieces are
//! ranges of the paragraph: put together they are the paragraph again, so nothing is lost between two of them.

use std::ops::Range;

use super::recognize::chars::{closer, is_closer, is_han, prefix_len};

/// No sentence is longer than this many characters: a longer one is cut at a weaker mark, or anywhere if it has none.
pub const MAX_SENTENCE_CHARS: usize = 240;

/// Brackets and quotations that hold a whole speech are cut inside, at full stops, when they are longer than this.
const MAX_QUOTED_CHARS: usize = 120;

/// The sentences of `paragraph`, as byte ranges that follow each other without a gap.
pub fn sentences(paragraph: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for end in stops(paragraph) {
        bounded(paragraph, start..end, &mut found);
        start = end;
    }
    bounded(paragraph, start..paragraph.len(), &mut found);
    found
}

/// Where sentences end, in order; closing quotes and the spaces after a full stop belong to the sentence before.
fn stops(paragraph: &str) -> Vec<usize> {
    let mut stops = Vec::new();
    let mut characters = paragraph.char_indices().peekable();
    let mut open = OpenBrackets::default();
    let mut before = ' ';
    while let Some((at, character)) = characters.next() {
        open.pass(character);
        let next = characters.peek().map(|(_, next)| *next);
        let ends = match character {
            '。' | '！' | '？' | '｡' => true,
            '!' | '?' => next.is_none_or(|next| !next.is_ascii_alphanumeric()),
            // The full stop of English, but not of 3.5, U.S. or p.m.
            '.' if before.is_ascii_lowercase() => next.is_none_or(char::is_whitespace) && at > 3,
            // Some pages have the marks of English after Chinese, too.
            '.' => {
                is_han(before)
                    && next.is_none_or(|next| is_han(next) || next.is_whitespace() || is_closer(next))
            }
            // …… stands between the items of lists more often than after the last one.
            '…' => next.is_some_and(is_closer),
            _ => false,
        };
        before = character;
        if !ends {
            continue;
        }
        let mut end = at + character.len_utf8();
        // ？！, 。” and 。） stay together.
        while let Some((at, next)) =
            characters.next_if(|(_, next)| "。！？!?…".contains(*next) || is_closer(*next))
        {
            open.pass(next);
            before = next;
            end = at + next.len_utf8();
        }
        let after = characters.peek().map(|(_, next)| *next);
        let goes_on = is_closer(before) && after.is_some_and(|next| "，、；：".contains(next));
        if goes_on || open.is_short() || is_tag(before, &paragraph[end..]) {
            continue;
        }
        while let Some((at, space)) = characters.next_if(|(_, next)| next.is_whitespace()) {
            end = at + space.len_utf8();
        }
        stops.push(end);
    }
    stops
}

/// The brackets and quotations that are open at some point of a paragraph.
#[derive(Default)]
struct OpenBrackets {
    closers: Vec<char>,
    /// How many characters ago the outermost one opened.
    length: usize,
}

impl OpenBrackets {
    /// More of them at once are no quotations but noise.
    const DEEPEST: usize = 16;

    fn pass(&mut self, character: char) {
        self.length = if self.closers.is_empty() { 0 } else { self.length + 1 };
        if let Some(close) = closer(character) {
            if self.closers.len() < Self::DEEPEST {
                self.closers.push(close);
            }
        } else if is_closer(character) {
            // One that closes an outer mark closes the inner ones too; one that nothing opened closes nothing.
            if let Some(depth) = self.closers.iter().rposition(|close| *close == character) {
                self.closers.truncate(depth);
            }
        }
    }

    /// Whether something is open that is better kept whole: a quotation of a few sentences, not one of a paragraph.
    fn is_short(&self) -> bool {
        !self.closers.is_empty() && self.length <= MAX_QUOTED_CHARS
    }
}

/// Whether a quotation that ends here is followed by who said it: …。”他说。
fn is_tag(before: char, rest: &str) -> bool {
    if !"”』」".contains(before) {
        return false;
    }
    let window = &rest[..prefix_len(rest, 16)];
    let Some(stop) = window.find(['。', '，', '：', '！', '？']) else {
        return false;
    };
    let said = &window[..stop];
    window[stop..].starts_with('。')
        && ["说", "說", "道", "表示", "指出", "强调", "称", "介绍", "认为", "写道", "说道", "告诉记者"]
            .iter()
            .any(|word| said.ends_with(word))
}

/// Adds `range` to `found`, in pieces of at most [`MAX_SENTENCE_CHARS`].
fn bounded(paragraph: &str, mut range: Range<usize>, found: &mut Vec<Range<usize>>) {
    while !range.is_empty() {
        let text = &paragraph[range.clone()];
        let most = prefix_len(text, MAX_SENTENCE_CHARS);
        if most == text.len() {
            found.push(range);
            return;
        }
        // The last mark in the second half of what fits, the stronger the better.
        let least = prefix_len(text, MAX_SENTENCE_CHARS / 3);
        let after = |marks: &str| {
            let mark = text[least..most].char_indices().rev().find(|(_, c)| marks.contains(*c));
            mark.map(|(at, c)| least + at + c.len_utf8())
        };
        let cut = after("。！？")
            .or_else(|| after("；;…—"))
            .or_else(|| after("，,："))
            .or_else(|| after("、 "))
            .unwrap_or(most);
        found.push(range.start..range.start + cut);
        range.start += cut;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(paragraph: &str) -> Vec<&str> {
        sentences(paragraph).into_iter().map(|range| &paragraph[range]).collect()
    }

    #[test]
    fn sentences_end_where_a_reader_ends_them() {
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
            assert_eq!(cut(&paragraph), *case, "{paragraph}");
        }
    }

    #[test]
    fn no_sentence_is_over_the_bound() {
        for paragraph in [
            "一".repeat(10_000),
            "一，".repeat(5000),
            format!("“{}", "好。".repeat(5000)),
            "”".repeat(3000),
            "（".repeat(3000),
        ] {
            let pieces = cut(&paragraph);
            assert!(pieces.iter().all(|piece| piece.chars().count() <= MAX_SENTENCE_CHARS));
            assert_eq!(pieces.concat(), paragraph);
        }
    }
}
