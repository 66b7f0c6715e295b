//! Joins headlines that were set in two or three lines: 《关于促进家政服务业 / 提质扩容的意见》.
//!
//! `assemble` calls [`join`] on plain text, before `column` joins interrupted paragraphs. A line continues on the next one
//! if it has an open bracket or ends in a word that cannot end a title. Two titles are also joined if the text under them
//! contains the end of the first directly followed by the beginning of the second.

use super::{Block, BlockKind};
use crate::document::recognize::chars::{is_closer, is_han, is_stop};
use crate::document::recognize::credit;
use crate::document::recognize::title::{self, TitleLikeness};

/// The maximum length of one line of a headline, in characters.
const MAX_PART: usize = 30;

/// The maximum number of lines of a headline.
const MAX_PARTS: usize = 3;

/// The minimum length of a paragraph, in characters, to conclude that the lines above it are a headline.
const MIN_LEAD: usize = 30;

/// The number of characters of the lead that are searched.
const MAX_SEARCHED: usize = 160;

/// The maximum distance between a headline and its lead, in blocks.
const MAX_DISTANCE: usize = 6;

/// Joins headlines of several lines.
pub(crate) fn join(blocks: Vec<Block<'_>>) -> Vec<Block<'_>> {
    let is_complete = |block: &Block<'_>| !is_part(block) || !title::is_unfinished(&block.text);
    if blocks.iter().all(is_complete) {
        return join_confirmed_by_lead(blocks);
    }
    let mut joined: Vec<Block<'_>> = Vec::with_capacity(blocks.len());
    let mut at = 0;
    while at < blocks.len() {
        let parts = unfinished_parts(&blocks, at, joined.last()).unwrap_or(1);
        let mut block = blocks[at].clone();
        for part in &blocks[at + 1..at + parts] {
            append(&mut block, part);
        }
        if parts > 1 {
            block.kind = BlockKind::Title;
        }
        joined.push(block);
        at += parts;
    }
    join_confirmed_by_lead(joined)
}

fn append<'a>(block: &mut Block<'a>, part: &Block<'a>) {
    block.push_text(&part.text);
    block.later_ranges.extend(part.ranges().cloned());
}

/// Returns the number of blocks from `at` on that form one headline, if the first one cannot be a headline by itself.
fn unfinished_parts(blocks: &[Block<'_>], at: usize, before: Option<&Block<'_>>) -> Option<usize> {
    let first = &blocks[at];
    if !is_part(first) || !title::is_unfinished(&first.text) {
        return None;
    }
    // A line of an unfinished paragraph is not part of a headline.
    if before.is_some_and(|before| before.kind == BlockKind::Body && !is_finished(&before.text)) {
        return None;
    }
    let mut text = first.text.to_string();
    for parts in 2..=MAX_PARTS {
        let part = blocks.get(at + parts - 1).filter(|part| is_part(part) && part.blank_above <= 1)?;
        text.push_str(&part.text);
        if !title::is_unfinished(&text) && title::likeness(&text) != TitleLikeness::None {
            return blocks.get(at + parts).is_some_and(can_follow_headline).then_some(parts);
        }
    }
    None
}

/// Returns `true` if `block` can be one line of a headline.
fn is_part(block: &Block<'_>) -> bool {
    block.hint.is_none()
        && block.later_ranges.is_empty()
        && matches!(block.kind, BlockKind::Body | BlockKind::Title)
        && block.text.len() <= 4 * MAX_PART
        && block.text.chars().count() <= MAX_PART
        && !block.text.contains(['。', '；', '！', '？'])
}

/// Returns `true` if a paragraph ends with a complete sentence or a closing mark.
fn is_finished(text: &str) -> bool {
    text.trim_end_matches(is_closer).ends_with(is_stop) || text.ends_with(is_closer)
}

/// Returns `true` if `block` can follow a headline.
fn can_follow_headline(block: &Block<'_>) -> bool {
    match block.kind {
        BlockKind::Body => {
            block.text.chars().nth(MIN_LEAD).is_some() || credit::at_start(&block.text).is_some()
        }
        kind => kind != BlockKind::Furniture,
    }
}

/// Joins two titles in a row if the lead contains the seam between them.
fn join_confirmed_by_lead(blocks: Vec<Block<'_>>) -> Vec<Block<'_>> {
    if !blocks.windows(2).any(|pair| pair.iter().all(|block| block.kind == BlockKind::Title)) {
        return blocks;
    }
    let mut joined: Vec<Block<'_>> = Vec::with_capacity(blocks.len());
    let mut lead = (0, String::new());
    for at in 0..blocks.len() {
        let block = &blocks[at];
        let continues = block.kind == BlockKind::Title
            && block.hint.is_none()
            && joined.last().is_some_and(|before| before.kind == BlockKind::Title && before.hint.is_none())
            && {
                if lead.0 <= at {
                    lead = lead_under(&blocks, at);
                }
                let before = joined.last().map_or("", |before| before.text.as_ref());
                may_be_one_title(before, &block.text)
                    && seam(before, &block.text).is_some_and(|seam| lead.1.contains(&seam))
            };
        match joined.last_mut().filter(|_| continues) {
            Some(before) => append(before, block),
            None => joined.push(block.clone()),
        }
    }
    joined
}

/// Returns `true` if the ending of one title or the beginning of the next suggests that they are one: …常委会 /
/// 第十次会议开幕, …印发 / 《…意见》.
fn may_be_one_title(before: &str, after: &str) -> bool {
    #[rustfmt::skip]
    const ENDS: &[&str] = &[
        "印发", "发布", "公布", "通过", "下发", "出台", "印發", "委会", "全会", "党组", "关于", "公报", "代表",
        "举办", "举行", "召开", "获得", "成为", "实现", "建成", "突破", "达到", "超过", "的",
    ];
    after.starts_with(['第', '《', '在', '于', '将', '等', '和', '与'])
        || ENDS.iter().any(|end| before.ends_with(end))
}

/// Returns the index of the first paragraph under the titles at `at` and its beginning without punctuation. The text is
/// empty if there is no such paragraph.
fn lead_under(blocks: &[Block<'_>], at: usize) -> (usize, String) {
    let under = (at..blocks.len()).take(MAX_DISTANCE).find(|under| {
        matches!(blocks[*under].kind, BlockKind::Body | BlockKind::Furniture | BlockKind::Editor)
    });
    match under {
        Some(under) if blocks[under].kind == BlockKind::Body => {
            (under, without_punctuation(blocks[under].text.chars().take(MAX_SEARCHED)).collect())
        }
        _ => (at + 1, String::new()),
    }
}

/// Returns the last two characters of `before` followed by the first two of `after`.
fn seam(before: &str, after: &str) -> Option<String> {
    let mut end: Vec<char> = without_punctuation(before.chars().rev()).take(2).collect();
    end.reverse();
    end.extend(without_punctuation(after.chars()).take(2));
    (end.len() == 4).then(|| end.into_iter().collect())
}

fn without_punctuation(characters: impl Iterator<Item = char>) -> impl Iterator<Item = char> {
    characters.filter(|c| is_han(*c) || c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::blocks::line::lines;

    fn joined(page: &str) -> Vec<String> {
        let lines = lines(page, &[]);
        join(lines.iter().map(Block::new).collect())
            .into_iter()
            .map(|block| block.text.into_owned())
            .collect()
    }

    #[test]
    fn joins_headlines_of_two_and_three_lines() {
        assert_eq!(
            joined(
                "省政府办公厅印发\n《关于促进水利建设\n加快发展的意见》\n本报讯 省政府办公厅日前印发《关于促进水利建设加快发展的意见》。"
            ),
            [
                "省政府办公厅印发《关于促进水利建设加快发展的意见》",
                "本报讯 省政府办公厅日前印发《关于促进水利建设加快发展的意见》。"
            ]
        );
        assert_eq!(
            joined("省政协第三届常委会\n第十次会议开幕\n\n省政协第三届常委会第十次会议昨天上午开幕。")[0],
            "省政协第三届常委会第十次会议开幕"
        );
        assert_eq!(joined("让古老的\n手艺活起来\n本报记者 王民\n正文。")[0], "让古老的手艺活起来");
    }

    #[test]
    fn keeps_other_lines_separate() {
        for page in [
            "省政协常委会开幕\n王民出席并讲话\n省政协常委会昨天上午开幕，王民出席会议并且讲话，会期三天。",
            "村里的老人对来访的人说起了过去，那时候\n他说：“我们的\n村子变了”\n大家都这么说。",
            "国际观察\n贸易战没有赢家\n国际上都在观察。",
        ] {
            assert_eq!(joined(page).len(), page.lines().count(), "{page}");
        }
    }
}
