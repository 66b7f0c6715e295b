//! Joins paragraphs that a column break or a caption split in two.
//!
//! `assemble` calls [`join`] before it looks for articles. A first half ends in the middle of a sentence. Usually the
//! second half follows, with at most a caption in between. Where the columns of two stories are side by side, another
//! story may begin first; then each story is a [`StoryStream`], and a second half is assigned to a stream by its topic.

use super::{Block, BlockKind};
use crate::document::recognize::chars::{is_closer, is_stop, prefix_len};
use crate::document::recognize::topic::CharPairs;
use crate::document::recognize::{credit, marks, seam, title};

/// The minimum length of a first half, in characters; a shorter one is a line of verse or of a list.
const MIN_HALF: usize = 16;

/// The maximum number of interrupted stories.
const MAX_WAITING: usize = 4;

/// The evidence, as the logarithm of the odds, from which a line that looks like a title is joined to the next line.
const MIN_EVIDENCE: f32 = 3.5;

/// The number of paragraphs of a story, and of characters of each, that define its topic.
const TOPIC_BLOCKS: usize = 24;
const TOPIC_CHARS: usize = 600;

/// Joins interrupted paragraphs and collects the parts of interrupted stories.
pub(crate) fn join(mut blocks: Vec<Block<'_>>) -> Vec<Block<'_>> {
    reclassify_first_halves(&mut blocks);
    let mut joiner = ColumnJoiner {
        streams: vec![StoryStream::default()],
        current: 0,
        waiting: Vec::new(),
        uses_indents: uses_indents(&blocks),
        resumed: false,
    };
    let count = blocks.len();
    joiner.streams[0].blocks.reserve_exact(count);
    let mut blocks = blocks.into_iter().peekable();
    while let Some(block) = blocks.next() {
        joiner.push(
            block,
            blocks.peek().filter(|next| next.kind == BlockKind::Body).map(|next| next.text.as_ref()),
        );
    }
    if joiner.streams.len() == 1 {
        return joiner.streams.pop().map(|stream| stream.blocks).unwrap_or_default();
    }
    let mut joined = Vec::with_capacity(count);
    for stream in joiner.streams {
        joined.extend(stream.blocks);
    }
    joined
}

/// Turns lines that look like titles into body text if the next line shows that they end inside a sentence.
fn reclassify_first_halves(blocks: &mut [Block<'_>]) {
    for at in 0..blocks.len().saturating_sub(1) {
        let (head, tail) = blocks.split_at_mut(at + 1);
        let block = &mut head[at];
        if block.kind != BlockKind::Title || block.hint.is_some() || title::is_numbered(&block.text) {
            continue;
        }
        let Some(next) =
            tail.iter().find(|next| !matches!(next.kind, BlockKind::Caption | BlockKind::Furniture))
        else {
            continue;
        };
        if next.kind != BlockKind::Body || starts_paragraph(&next.text) || !is_first_half(&block.text) {
            continue;
        }
        // A text repeats its title, but the second half of a sentence does not repeat the first.
        let mut evidence = seam::ends_mid_sentence(&block.text) + seam::starts_mid_sentence(&next.text);
        if evidence >= MIN_EVIDENCE - 0.8 {
            let repeated = CharPairs::of(&next.text, 110).share(&block.text, 60);
            evidence -= (5.0 * (repeated - 0.25)).clamp(-0.8, 3.0);
        }
        if evidence >= MIN_EVIDENCE {
            block.kind = BlockKind::Body;
        }
    }
}

/// The blocks of one story in reading order.
#[derive(Default)]
struct StoryStream<'a> {
    blocks: Vec<Block<'a>>,
    /// The last paragraph, if it ends inside a sentence.
    unfinished: Option<usize>,
    /// The topic since the last title; computed when it is first needed.
    topic: Option<CharPairs>,
}

impl StoryStream<'_> {
    /// Adds a text to the topic, if the topic is needed at all.
    fn update_topic(&mut self, text: &str) {
        if let Some(topic) = &mut self.topic {
            topic.add(text, TOPIC_CHARS);
        }
    }

    /// Returns the evidence that `text` continues this story, as the logarithm of the odds: by its topic, and by its first
    /// character if the last paragraph is unfinished.
    fn affinity(&mut self, text: &str) -> f32 {
        let seam = self
            .unfinished
            .and_then(|at| self.blocks.get(at))
            .map_or(0.0, |first| seam::continuity(&first.text, text));
        12.0 * self.topic_share(text) + seam
    }

    /// Returns the similarity of `text` to the topic, from 0 to 1.
    fn topic_share(&mut self, text: &str) -> f32 {
        let blocks = &self.blocks;
        let topic = self.topic.get_or_insert_with(|| {
            let title = blocks.iter().rposition(|block| block.kind.is_title()).unwrap_or(0);
            let mut topic = CharPairs::new();
            let latest = &blocks[title.max(blocks.len().saturating_sub(TOPIC_BLOCKS))..];
            latest.iter().for_each(|block| topic.add(&block.text, TOPIC_CHARS));
            topic
        });
        topic.share(text, TOPIC_CHARS)
    }
}

/// Distributes the blocks of a page to the streams of its stories.
struct ColumnJoiner<'a> {
    streams: Vec<StoryStream<'a>>,
    /// The stream of the last block.
    current: usize,
    /// The other streams with an unfinished paragraph, most recent last.
    waiting: Vec<usize>,
    /// `true` if paragraphs begin with an indent.
    uses_indents: bool,
    /// `true` if the last block continued an interrupted story. Then the columns are read line by line, and the other
    /// story probably comes next.
    resumed: bool,
}

impl<'a> ColumnJoiner<'a> {
    /// Appends `block` to its stream; `next` is the text of the following block.
    fn push(&mut self, block: Block<'a>, next: Option<&str>) {
        match block.kind {
            BlockKind::Title | BlockKind::Subtitle | BlockKind::Column => self.push_title(block),
            BlockKind::Body | BlockKind::Question => self.push_text(block, next),
            BlockKind::Caption | BlockKind::Furniture => self.streams[self.current].blocks.push(block),
            _ => {
                let stream = &mut self.streams[self.current];
                stream.unfinished = None;
                stream.blocks.push(block);
            }
        }
    }

    /// A title under an unfinished paragraph interrupts its story.
    fn push_title(&mut self, block: Block<'a>) {
        let interrupts = self.streams[self.current].unfinished.is_some();
        if interrupts {
            self.waiting.push(self.current);
            if self.waiting.len() > MAX_WAITING {
                let abandoned = self.waiting.remove(0);
                self.streams[abandoned].unfinished = None;
                self.streams[abandoned].topic = None;
            }
        }
        let stream = &mut self.streams[self.current];
        let in_body = stream.blocks.last().is_some_and(|last| !last.kind.is_title());
        if interrupts || (in_body && !self.waiting.is_empty()) {
            self.streams.push(StoryStream::default());
            self.current = self.streams.len() - 1;
        } else if in_body {
            stream.topic = None;
        }
        let stream = &mut self.streams[self.current];
        stream.update_topic(&block.text);
        stream.blocks.push(block);
    }

    fn push_text(&mut self, block: Block<'a>, next: Option<&str>) {
        if let Some(stream) = self.first_half_of(&block, next) {
            self.waiting.retain(|waiting| *waiting != stream);
            self.resumed = stream != self.current;
            if stream != self.current && self.streams[self.current].unfinished.is_some() {
                self.waiting.push(self.current);
            }
            self.current = stream;
            let stream = &mut self.streams[stream];
            stream.update_topic(&block.text);
            if let Some(first) = stream.unfinished.and_then(|at| stream.blocks.get_mut(at)) {
                first.push_text(&block.text);
                first.later_ranges.push(block.range);
                first.later_ranges.extend(block.later_ranges);
                if !is_unfinished(&first.text) {
                    stream.unfinished = None;
                }
            }
            return;
        }
        self.resumed = false;
        let stream = &mut self.streams[self.current];
        stream.unfinished =
            (block.kind == BlockKind::Body && is_first_half(&block.text)).then_some(stream.blocks.len());
        stream.update_topic(&block.text);
        stream.blocks.push(block);
    }

    /// Returns the stream whose last paragraph `block` continues.
    fn first_half_of(&mut self, block: &Block<'_>, next: Option<&str>) -> Option<usize> {
        if self.streams[self.current].unfinished.is_none() && self.waiting.is_empty() {
            return None;
        }
        if block.hint.is_some() || starts_paragraph(&block.text) {
            return None;
        }
        let is_indented = self.uses_indents && block.indent >= 2;
        let accepts = |stream: &StoryStream<'_>| {
            let first = stream.unfinished.and_then(|at| stream.blocks.get(at));
            first.is_some_and(|first| !(is_indented && first.indent >= 2))
        };
        let current = accepts(&self.streams[self.current]).then_some(self.current);
        let waiting: Vec<usize> =
            self.waiting.iter().copied().filter(|at| accepts(&self.streams[*at])).collect();
        let affinities = waiting.into_iter().map(|at| (at, self.streams[at].affinity(&block.text)));
        let Some((likeliest, other_affinity)) = affinities.max_by(|a, b| a.1.total_cmp(&b.1)) else {
            return current;
        };
        let current_affinity = self.streams[self.current].affinity(&block.text);
        let continues_other = if current.is_some() {
            // Both stories are unfinished. Side by side, they continue in turn, so the next text belongs to the story
            // that this text does not continue.
            let next = next.filter(|next| !starts_paragraph(next) && seam::starts_mid_sentence(next) > -1.0);
            let (next_current, next_other) = next.map_or((0.0, 0.0), |next| {
                (self.streams[self.current].affinity(next), self.streams[likeliest].affinity(next))
            });
            other_affinity + next_current > current_affinity + next_other
        } else {
            // The paragraph above is complete. To continue another story, this text must start inside a sentence or have
            // the topic of that story, or the story above must have ended.
            let last = self.streams[self.current].blocks.last();
            let has_ended = last.is_some_and(|last| match last.kind {
                BlockKind::Body => marks::ends_story(&last.text),
                kind => matches!(kind, BlockKind::Byline | BlockKind::Dateline | BlockKind::Editor),
            });
            let evidence = seam::starts_mid_sentence(&block.text)
                + (other_affinity - current_affinity)
                + if has_ended { 4.0 } else { 0.0 }
                + if self.resumed { 2.5 } else { 0.0 };
            evidence > 2.5 || self.uses_indents && block.indent == 0 && evidence > 0.0
        };
        if continues_other { Some(likeliest) } else { current }
    }
}

/// Returns `true` if most paragraphs begin with an indent, so that one without is probably a second half.
fn uses_indents(blocks: &[Block<'_>]) -> bool {
    let body = blocks.iter().filter(|block| block.kind == BlockKind::Body);
    let (all, indented) =
        body.fold((0, 0), |(all, indented), block| (all + 1, indented + usize::from(block.indent >= 2)));
    indented * 5 > all * 3
}

/// Returns `true` if `text` can only be the start of a paragraph: it begins with a number, a symbol or a credit.
fn starts_paragraph(text: &str) -> bool {
    title::is_numbered(text)
        || text.starts_with(['—', '…', '●', '■', '▲', '◆'])
        || is_enumerated(text)
        || marks::continuation_at_start(text).is_some()
        || credit::at_start(text).is_some()
}

/// Returns `true` for an item of an enumeration or a line of an interview: 第一，…, 首先，…, 问：…, 答：….
fn is_enumerated(text: &str) -> bool {
    let window = &text[..prefix_len(text, 6)];
    let starts = |words: &[&str]| words.iter().any(|word| window.starts_with(word));
    let is_item =
        starts(&["第", "其一", "其二", "其三", "首先", "再次", "最后"]) && window.contains(['，', '、']);
    (is_item && !starts(&["第三产业", "第二产业"])) || starts(&["问：", "答：", "记者：", "问:", "答:"])
}

/// Returns `true` if `text` ends inside a sentence and is long enough for the first half of a paragraph.
fn is_first_half(text: &str) -> bool {
    is_unfinished(text) && prefix_len(text, MIN_HALF) < text.len()
}

/// Returns `true` if `text` ends inside a sentence.
fn is_unfinished(text: &str) -> bool {
    let unquoted = text.trim_end_matches(is_closer);
    let Some(last) = unquoted.chars().next_back() else {
        return false;
    };
    // A signature after the last sentence: …请帮忙反映。 读者 周明.
    if let Some(stop) = unquoted.rfind(is_stop) {
        let rest = unquoted[stop..].trim_start_matches(is_stop);
        let signature = rest.trim_start_matches(is_closer);
        if signature.starts_with(' ')
            && signature.chars().count() <= 14
            && !signature.contains(['，', '、', '的'])
        {
            return false;
        }
    }
    // A closing bracket may end a paragraph without a full stop.
    let is_bracketed = unquoted.len() < text.len() && text.ends_with(['）', ')', '】']);
    !(is_stop(last) || matches!(last, '.' | '；' | '：' | ';' | ':' | '—' | '─' | '～') || is_bracketed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::blocks::line::lines;

    fn joined(page: &str) -> Vec<String> {
        let page = page.replace('　', " ");
        let lines = lines(&page, &[]);
        join(lines.iter().map(Block::new).collect())
            .into_iter()
            .map(|block| block.text.into_owned())
            .collect()
    }

    #[test]
    fn joins_halves_across_captions() {
        let page = "全市今年新建了三座水库，灌溉面积扩大到了\n\n图为新建成的水库。\n\n五万亩，粮食产量也随之提高。\n\n明年还要再建两座。";
        assert_eq!(
            joined(page),
            [
                "全市今年新建了三座水库，灌溉面积扩大到了五万亩，粮食产量也随之提高。",
                "图为新建成的水库。",
                "明年还要再建两座。"
            ]
        );
        assert_eq!(joined("目前全市各县的水库蓄水量都超过了去\n年同期，农民放心了。").len(), 1);
    }

    #[test]
    fn keeps_complete_paragraphs_separate() {
        for page in [
            "全市今年新建了三座水库，灌溉面积扩大。\n明年还要再建两座。",
            "今年以来，围绕水利建设，全市打出“组合拳”：\n新建三座水库；\n修缮五条水渠；",
            "床前明月光，\n疑是地上霜。",
            "破解灌溉难题，推动农业发展——\n全市新建了三座水库。",
            "　　全市今年新建了三座水库，灌溉面积扩大到五万亩\n　　明年还要再建两座，投资已经落实。",
            "全市今年新建了三座水库，灌溉面积扩大到\n新华社北京12月6日电（记者 王民）今天，会议开幕。",
            "全市今年新建了三座水库，灌溉面积扩大到\n第二，要抓好冬季的水利建设。",
            "水库建成蓄水\n全市今年新建了三座水库。",
        ] {
            assert_eq!(joined(page).len(), page.lines().count(), "{page}");
        }
    }

    #[test]
    fn separates_stories_side_by_side() {
        let page = "三座水库建成\n今年全市新建三座水库，灌溉面积大大增加，水库的\n渔船启航远海\n渔船队昨天离港，渔民带足了粮食和淡水，渔船将在从未到过\n\
                    大坝又高又厚，水库蓄水后可灌溉农田五万亩。\n的远海捕鱼半年，渔民说今年鱼多。";
        let expected = [
            "三座水库建成",
            "今年全市新建三座水库，灌溉面积大大增加，水库的大坝又高又厚，水库蓄水后可灌溉农田五万亩。",
            "渔船启航远海",
            "渔船队昨天离港，渔民带足了粮食和淡水，渔船将在从未到过的远海捕鱼半年，渔民说今年鱼多。",
        ];
        assert_eq!(joined(page), expected);
    }
}
