//! Joins the halves of paragraphs that a column break or a caption cut in two.
//!
//! `segment` calls [`join`] before it looks for articles. A half ends in mid-sentence. Mostly the other one follows,
//! with at most a caption between. Where columns of two stories stand side by side, another story may begin before
//! the first one goes on: then each story is a [`StoryStream`] of its own, and a half finds its stream by what it speaks of.

use super::{Block, BlockKind};
use crate::document::recognize::chars::{is_closer, is_stop, prefix_len};
use crate::document::recognize::topic::CharPairs;
use crate::document::recognize::{credit, marks, seam, title};

/// A shorter first half is a line of verse or of a list rather than a part of a paragraph.
const MIN_HALF: usize = 16;

/// How many interrupted stories are kept in mind.
const MAX_WAITING: usize = 4;

/// The evidence, as logarithm of the odds, that makes halves of a line in the form of a title and the line after it.
const CERTAIN: f32 = 3.5;

/// How many paragraphs of a story, and how many characters of each, say what it is about.
const MAX_COMPARED: usize = 24;
const TOPIC: usize = 600;

/// Joins cut paragraphs, and brings together the parts of interrupted stories.
pub(crate) fn join(mut blocks: Vec<Block<'_>>) -> Vec<Block<'_>> {
    unmask_halves(&mut blocks);
    let mut page = ColumnJoiner {
        streams: vec![StoryStream::default()],
        current: 0,
        waiting: Vec::new(),
        indented: uses_indents(&blocks),
        resumed: false,
    };
    let count = blocks.len();
    page.streams[0].blocks.reserve_exact(count);
    let mut blocks = blocks.into_iter().peekable();
    while let Some(block) = blocks.next() {
        page.push(
            block,
            blocks.peek().filter(|next| next.kind == BlockKind::Body).map(|next| next.text.as_ref()),
        );
    }
    if page.streams.len() == 1 {
        return page.streams.pop().map(|stream| stream.blocks).unwrap_or_default();
    }
    let mut joined = Vec::with_capacity(count);
    for stream in page.streams {
        joined.extend(stream.blocks);
    }
    joined
}

/// Makes body text of lines that have the form of a title but end in mid-sentence, as the next line shows.
fn unmask_halves(blocks: &mut [Block<'_>]) {
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
        if next.kind != BlockKind::Body || begins_afresh(&next.text) || !is_half(&block.text) {
            continue;
        }
        // A title is retold by its text, the first half of a sentence is not by the second.
        let mut evidence = seam::is_cut_off(&block.text) + seam::goes_on(&next.text);
        if evidence >= CERTAIN - 0.8 {
            let retold = CharPairs::of(&next.text, 110).share(&block.text, 60);
            evidence -= (5.0 * (retold - 0.25)).clamp(-0.8, 3.0);
        }
        if evidence >= CERTAIN {
            block.kind = BlockKind::Body;
        }
    }
}

/// A story as it runs through the columns of a page.
#[derive(Default)]
struct StoryStream<'a> {
    blocks: Vec<Block<'a>>,
    /// The paragraph that ends in mid-sentence, if the last one does.
    open: Option<usize>,
    /// What it speaks of since its last title.
    topic: Option<CharPairs>,
}

impl StoryStream<'_> {
    /// Takes note of more text, if this story has ever been compared with another one.
    fn learn(&mut self, text: &str) {
        if let Some(topic) = &mut self.topic {
            topic.add(text, TOPIC);
        }
    }

    /// How well `text` goes on here, as a logarithm of odds: by what it speaks of, and in mid-sentence by its first word.
    fn takes(&mut self, text: &str) -> f32 {
        let seam =
            self.open.and_then(|at| self.blocks.get(at)).map_or(0.0, |open| seam::fits(&open.text, text));
        12.0 * self.share(text) + seam
    }

    /// How much `text` speaks of what this story does, since its last title.
    fn share(&mut self, text: &str) -> f32 {
        let blocks = &self.blocks;
        let topic = self.topic.get_or_insert_with(|| {
            let title = blocks.iter().rposition(|block| block.kind.is_title()).unwrap_or(0);
            let mut topic = CharPairs::new();
            let latest = &blocks[title.max(blocks.len().saturating_sub(MAX_COMPARED))..];
            latest.iter().for_each(|block| topic.add(&block.text, TOPIC));
            topic
        });
        topic.share(text, TOPIC)
    }
}

/// The page while its blocks are put into streams.
struct ColumnJoiner<'a> {
    streams: Vec<StoryStream<'a>>,
    /// The stream that the last block went into.
    current: usize,
    /// The other streams that end in mid-sentence, the latest last.
    waiting: Vec<usize>,
    /// Whether paragraphs begin with an indent.
    indented: bool,
    /// The last block went on a story that another one had interrupted: the columns are read line by line, and the
    /// other one is next.
    resumed: bool,
}

impl<'a> ColumnJoiner<'a> {
    /// Puts `block` where it belongs; `next` is the text after it.
    fn push(&mut self, block: Block<'a>, next: Option<&str>) {
        match block.kind {
            BlockKind::Title | BlockKind::Subtitle | BlockKind::Column => self.push_title(block),
            BlockKind::Body | BlockKind::Question => self.push_text(block, next),
            BlockKind::Caption | BlockKind::Furniture => self.streams[self.current].blocks.push(block),
            _ => {
                let stream = &mut self.streams[self.current];
                stream.open = None;
                stream.blocks.push(block);
            }
        }
    }

    /// A title under an unfinished paragraph interrupts its story.
    fn push_title(&mut self, block: Block<'a>) {
        let interrupts = self.streams[self.current].open.is_some();
        if interrupts {
            self.waiting.push(self.current);
            if self.waiting.len() > MAX_WAITING {
                let forgotten = self.waiting.remove(0);
                self.streams[forgotten].open = None;
                self.streams[forgotten].topic = None;
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
        stream.learn(&block.text);
        stream.blocks.push(block);
    }

    fn push_text(&mut self, block: Block<'a>, next: Option<&str>) {
        if let Some(stream) = self.first_half_of(&block, next) {
            self.waiting.retain(|waiting| *waiting != stream);
            self.resumed = stream != self.current;
            if stream != self.current && self.streams[self.current].open.is_some() {
                self.waiting.push(self.current);
            }
            self.current = stream;
            let stream = &mut self.streams[stream];
            stream.learn(&block.text);
            if let Some(first) = stream.open.and_then(|at| stream.blocks.get_mut(at)) {
                first.push_text(&block.text);
                first.later_ranges.push(block.range);
                first.later_ranges.extend(block.later_ranges);
                if !is_open(&first.text) {
                    stream.open = None;
                }
            }
            return;
        }
        self.resumed = false;
        let stream = &mut self.streams[self.current];
        stream.open = (block.kind == BlockKind::Body && is_half(&block.text)).then_some(stream.blocks.len());
        stream.learn(&block.text);
        stream.blocks.push(block);
    }

    /// The stream whose last paragraph goes on in `block`.
    fn first_half_of(&mut self, block: &Block<'_>, next: Option<&str>) -> Option<usize> {
        if self.streams[self.current].open.is_none() && self.waiting.is_empty() {
            return None;
        }
        if block.hint.is_some() || begins_afresh(&block.text) {
            return None;
        }
        let indented = self.indented && block.indent >= 2;
        let fits = |stream: &StoryStream<'_>| {
            let first = stream.open.and_then(|at| stream.blocks.get(at));
            first.is_some_and(|first| !(indented && first.indent >= 2))
        };
        let current = fits(&self.streams[self.current]).then_some(self.current);
        let waiting: Vec<usize> =
            self.waiting.iter().copied().filter(|at| fits(&self.streams[*at])).collect();
        let shares = waiting.into_iter().map(|at| (at, self.streams[at].takes(&block.text)));
        let Some((likeliest, there)) = shares.max_by(|a, b| a.1.total_cmp(&b.1)) else {
            return current;
        };
        let here = self.streams[self.current].takes(&block.text);
        let elsewhere = if current.is_some() {
            // Both stories were cut off. Side by side, they go on in the order in which they began, so the next text
            // goes to the one that this does not go to.
            let next = next.filter(|next| !begins_afresh(next) && seam::goes_on(next) > -1.0);
            let (next_here, next_there) = next.map_or((0.0, 0.0), |next| {
                (self.streams[self.current].takes(next), self.streams[likeliest].takes(next))
            });
            there + next_here > here + next_there
        } else {
            // The paragraph above is whole: this one must begin in mid-sentence, or speak of the other story; or the
            // story above is at its end.
            let last = self.streams[self.current].blocks.last();
            let at_end = last.is_some_and(|last| match last.kind {
                BlockKind::Body => marks::ends_story(&last.text),
                form => matches!(form, BlockKind::Byline | BlockKind::Dateline | BlockKind::Editor),
            });
            let evidence = seam::goes_on(&block.text)
                + (there - here)
                + if at_end { 4.0 } else { 0.0 }
                + if self.resumed { 2.5 } else { 0.0 };
            evidence > 2.5 || self.indented && block.indent == 0 && evidence > 0.0
        };
        if elsewhere { Some(likeliest) } else { current }
    }
}

/// Whether most paragraphs begin with an indent, so that one without is the second half of another.
fn uses_indents(blocks: &[Block<'_>]) -> bool {
    let body = blocks.iter().filter(|block| block.kind == BlockKind::Body);
    let (all, indented) =
        body.fold((0, 0), |(all, indented), block| (all + 1, indented + usize::from(block.indent >= 2)));
    indented * 5 > all * 3
}

/// Whether no half begins like `text`: with a number, a mark, a credit.
fn begins_afresh(text: &str) -> bool {
    title::is_numbered(text)
        || text.starts_with(['—', '…', '●', '■', '▲', '◆'])
        || is_counted(text)
        || marks::continuation_at_head(text).is_some()
        || credit::at_head(text).is_some()
}

/// 第一，…, 首先，…, 问：…, 答：…: always the beginning of a paragraph.
fn is_counted(text: &str) -> bool {
    let window = &text[..prefix_len(text, 6)];
    let starts = |words: &[&str]| words.iter().any(|word| window.starts_with(word));
    let counts =
        starts(&["第", "其一", "其二", "其三", "首先", "再次", "最后"]) && window.contains(['，', '、']);
    (counts && !starts(&["第三产业", "第二产业"])) || starts(&["问：", "答：", "记者：", "问:", "答:"])
}

/// Whether `text` is long enough for a paragraph and ends in mid-sentence.
fn is_half(text: &str) -> bool {
    is_open(text) && prefix_len(text, MIN_HALF) < text.len()
}

/// Whether `text` ends in mid-sentence.
fn is_open(text: &str) -> bool {
    let inner = text.trim_end_matches(is_closer);
    let Some(last) = inner.chars().next_back() else {
        return false;
    };
    // …请帮忙反映。 读者 周明: a name after the last sentence.
    if let Some(stop) = inner.rfind(is_stop) {
        let rest = inner[stop..].trim_start_matches(is_stop);
        let signed = rest.trim_start_matches(is_closer);
        if signed.starts_with(' ') && signed.chars().count() <= 14 && !signed.contains(['，', '、', '的'])
        {
            return false;
        }
    }
    // …） without a full stop may end a paragraph after all.
    let bracketed = inner.len() < text.len() && text.ends_with(['）', ')', '】']);
    !(is_stop(last) || matches!(last, '.' | '；' | '：' | ';' | ':' | '—' | '─' | '～') || bracketed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::blocks::line::lines;

    fn joined(page: &str) -> Vec<String> {
        let page = page.replace('　', " ");
        let lines = lines(&page, &[]);
        join(lines.iter().map(Block::of).collect()).into_iter().map(|block| block.text.into_owned()).collect()
    }

    #[test]
    fn halves_meet_across_captions() {
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
    fn whole_paragraphs_stay_apart() {
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
    fn stories_side_by_side_come_apart() {
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
