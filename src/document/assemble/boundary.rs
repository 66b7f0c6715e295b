//! Decides which units begin an article and which are sections of the one before.
//!
//! `segment` calls [`starts`]. Each unit has evidence for and against (its dateline, how much its first sentence
//! repeats its title, how much it speaks of the same as the text before), weighed in half a dozen plain numbers; and
//! articles as a whole have to make sense: nothing follows the end of a story, one story has one dateline. The best
//! division of the page is found from left to right with two states, so the time is linear.

use super::story_part::StoryPart;
use crate::document::blocks::line::MarkupHint;
use crate::document::blocks::{Block, BlockKind};
use crate::document::recognize::chars::{is_digit, prefix_len};
use crate::document::recognize::title;
use crate::document::recognize::topic::{CharPairs, list_pairs};

/// How many characters of a paragraph are looked at as its lead.
const LEAD: usize = 110;

/// How many pairs of those are compared with the text before.
const KNOWN: usize = 50;

/// How many characters of a paragraph are remembered as its topic.
const TOPIC: usize = 250;

/// What an article that ends without a credit costs where others have one.
const UNCREDITED: f32 = 3.5;

/// What the sections of one article cost that should not be together.
const AFTER_THE_END: f32 = 6.0;
const SECOND_DATELINE: f32 = 5.0;
const LATE_DATELINE: f32 = 3.0;

/// ArticleTitles without text under them are the late headline of what is before, or a story in a line; no section.
const NO_SECTION: f32 = 20.0;

/// For each unit, whether an article begins with it; the first one always does.
pub(crate) fn starts(blocks: &[Block<'_>], units: &[StoryPart]) -> Vec<bool> {
    let page = PageHabits::of(blocks, units);
    // What this unit and the two before it speak of, and the title of those before.
    let mut topic = [CharPairs::new(), CharPairs::new(), CharPairs::new()];
    let mut titles: [Vec<u16>; 4] = Default::default();
    let mut lead = LeadPairs::default();
    // The best score of a division up to here, without and with a credit in the article that is under way; and, for
    // each unit and state, whether it started there and the state before.
    let mut score = [0.0f32, f32::NEG_INFINITY];
    let mut back: Vec<[(bool, usize); 2]> = Vec::with_capacity(units.len());
    for (at, unit) in units.iter().enumerate() {
        topic.rotate_right(1);
        topic[0].clear();
        for block in unit.titles.iter().chain(&unit.body).map(|at| &blocks[*at]).take(12) {
            topic[0].add(&block.text, TOPIC);
        }
        titles.rotate_right(1);
        list_pairs(unit.titles.first().map_or("", |at| &blocks[*at].text), LEAD, &mut titles[0]);
        let mut next = [(f32::NEG_INFINITY, (true, 0)); 2];
        let before = at.checked_sub(1).and_then(|before| units.get(before));
        let evidence = before.map_or(0.0, |before| {
            weigh(blocks, [before, unit], units.get(at + 1), &topic, &titles, &mut lead, &page)
        });
        for (state, score) in score.iter().enumerate() {
            let mut offer = |to: usize, value: f32, started: bool| {
                if value > next[to].0 {
                    next[to] = (value, (started, state));
                }
            };
            let uncredited = if state == 0 && page.credits && before.is_some() { UNCREDITED } else { 0.0 };
            offer(usize::from(unit.credited()), score + evidence - uncredited, true);
            if let Some(before) = before {
                let credited = state == 1 || unit.credited();
                offer(usize::from(credited), score - as_section(before, unit, state == 1), false);
            }
        }
        score = [next[0].0, next[1].0];
        back.push([next[0].1, next[1].1]);
    }
    // The last article ends here, too.
    let uncredited = if page.credits { UNCREDITED } else { 0.0 };
    let mut state = usize::from(score[1] >= score[0] - uncredited);
    let mut starts = vec![true; units.len()];
    for (start, back) in starts.iter_mut().zip(&back).rev() {
        (*start, state) = back[state];
    }
    if let Some(first) = starts.first_mut() {
        *first = true;
    }
    starts
}

/// What it costs to take `unit` for a section of the article that goes on in `before`.
fn as_section(before: &StoryPart, unit: &StoryPart, credited: bool) -> f32 {
    let mut cost = 0.0;
    if unit.is_only_titles() {
        cost += NO_SECTION;
    }
    if before.closed {
        cost += AFTER_THE_END;
    }
    if unit.opens_with_dateline || unit.opens_with_byline {
        cost += if credited { SECOND_DATELINE } else { LATE_DATELINE };
    } else if unit.closing_credit && credited && !before.closed {
        cost += 1.0;
    }
    cost
}

/// What is usual on the page.
struct PageHabits {
    /// Articles say who filed them.
    credits: bool,
    /// Blank lines between paragraphs.
    gap: usize,
    /// Units are as short as news in brief are.
    brief: bool,
}

impl PageHabits {
    fn of(blocks: &[Block<'_>], units: &[StoryPart]) -> Self {
        let credited = units.iter().filter(|unit| unit.credited()).count();
        let titled = units.iter().filter(|unit| !unit.titles.is_empty());
        let (titled, short) =
            titled.fold((0, 0), |(all, short), unit| (all + 1, short + usize::from(unit.body.len() <= 2)));
        let mut gaps = [0usize; 4];
        for pair in blocks.windows(2).filter(|pair| pair.iter().all(|block| block.kind == BlockKind::Body)) {
            gaps[pair[1].blank_above.min(3)] += 1;
        }
        let gap = (0..4).max_by_key(|gap| gaps[*gap]).unwrap_or(0);
        Self {
            credits: credited * 4 >= titled.max(1),
            gap: if gaps == [0; 4] { 1 } else { gap },
            brief: titled >= 3 && short * 10 >= titled * 8,
        }
    }
}

/// The evidence that an article begins with `unit`: above zero for, below against.
fn weigh(
    blocks: &[Block<'_>],
    [before, unit]: [&StoryPart; 2],
    after: Option<&StoryPart>,
    [own, topic @ ..]: &[CharPairs; 3],
    [title, titles @ ..]: &[Vec<u16>; 4],
    told: &mut LeadPairs,
    page: &PageHabits,
) -> f32 {
    let Some(first) = unit.titles.first().map(|at| &blocks[*at]) else {
        // Text without a title that does not belong to what is before it: only the end of a story tells.
        return if unit.continued {
            8.0
        } else if before.closed {
            3.0
        } else {
            -3.0
        };
    };
    // Where stories are long, more of their titles are headings.
    let mut score = if page.brief { -0.5 } else { -1.5 };
    let mut add = |holds: bool, weight: f32| score += if holds { weight } else { 0.0 };
    let has = |form: BlockKind| unit.titles.iter().any(|at| blocks[*at].kind == form);
    let hinted = |hint: MarkupHint| unit.titles.iter().any(|at| blocks[*at].hint == Some(hint));
    add(unit.opens_with_dateline, 5.0);
    add(unit.opens_with_byline, 3.0);
    add(unit.continued, 5.0);
    add(unit.new_page, 3.0);
    add(has(BlockKind::Subtitle), 2.5);
    add(has(BlockKind::Column), 4.0);
    add(unit.titles.len() > 1, 0.8);
    add(hinted(MarkupHint::Title), 6.0);
    add(hinted(MarkupHint::Heading) && !hinted(MarkupHint::Title), -4.0);
    add(title::is_numbered(&first.text), -6.0);
    add(title::is_notice(&first.text), 4.0);
    // 岸线变了, 产业变了, 日子变了: the headings of one story are built alike.
    let alike =
        |other: &StoryPart| other.titles.iter().any(|at| title::are_parallel(&blocks[*at].text, &first.text));
    add(alike(before) || after.is_some_and(alike), -3.0);
    add(before.titles.is_empty(), 1.5);
    add(page.brief, 1.5);
    add(reports(&first.text), 0.8);
    add(first.text.chars().count() >= 20, 0.6);
    add(first.blank_above > page.gap.max(1) || page.gap == 0 && first.blank_above > 0, 1.2);
    add(unit.pictured && unit.body.is_empty(), 3.0);
    let Some(lead) = unit.body.first().map(|at| &blocks[*at].text) else {
        return score;
    };
    let lead = &lead[..prefix_len(lead, LEAD)];
    add(opens_as_news(lead), 1.5);
    list_pairs(lead, LEAD, &mut told.list);
    told.pairs.clear();
    told.pairs.add_list(&told.list);
    let restated = told.pairs.share_of(title);
    score += (4.0 * (restated - 0.3)).clamp(-1.2, 2.4);
    let known = |list: &[u16]| topic.iter().map(|topic| topic.share_of(list)).fold(0.0, f32::max);
    score += (6.0 * (0.22 - known(&told.list[..told.list.len().min(KNOWN)]))).clamp(-3.0, 1.2);
    score += (3.0 * (0.3 - known(title))).clamp(-1.5, 0.9);
    // A section speaks of what the headline of its article says.
    let headline_told = titles.iter().map(|title| own.share_of(title)).fold(0.0, f32::max);
    score + (8.0 * (0.12 - headline_told)).clamp(-3.0, 0.9)
}

/// Room for the pairs of the paragraph that is looked at, used again for each.
#[derive(Default)]
struct LeadPairs {
    list: Vec<u16>,
    pairs: CharPairs,
}

/// Whether a paragraph begins with when it happened, or from whom one knows.
fn opens_as_news(lead: &str) -> bool {
    const FIRST: &[&str] =
        &["据", "據", "记者", "来自", "由", "截至", "今年", "目前", "最新", "为期", "本周", "上周"];
    const SOON: &[&str] =
        &["今天", "昨天", "昨日", "今日", "近日", "日前", "近期", "当天", "当地时间", "北京时间", "明天"];
    if FIRST.iter().any(|word| lead.starts_with(word)) {
        return true;
    }
    let mut before = ' ';
    lead.char_indices().take(30).any(|(at, character)| {
        let dated = matches!(character, '日' | '月') && is_digit(before);
        before = character;
        let may_be_soon = matches!(character, '今' | '昨' | '近' | '日' | '当' | '北' | '明');
        dated || may_be_soon && SOON.iter().any(|word| lead[at..].starts_with(word))
    })
}

/// Whether a title says who said or did something, as headlines do and headings hardly ever.
fn reports(title: &str) -> bool {
    const WORDS: &[&str] = &[
        "称", "宣布", "呼吁", "谴责", "警告", "敦促", "指责", "要求", "印发", "发布", "举行", "召开", "启动",
        "会见", "开幕",
    ];
    // Nearly no character begins one of them.
    title
        .char_indices()
        .filter(|(_, first)| "称宣呼谴警敦指要印发举召启会开".contains(*first))
        .any(|(at, _)| WORDS.iter().any(|word| title[at..].starts_with(word)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::assemble::resolve_titles::resolve_titles;
    use crate::document::assemble::story_part;
    use crate::document::blocks::line::lines;

    fn headed(page: &str) -> Vec<bool> {
        let lines = lines(page, &[]);
        let mut blocks: Vec<Block<'_>> = lines.iter().map(Block::of).collect();
        resolve_titles(&mut blocks);
        starts(&blocks, &story_part::units(&blocks))
    }

    #[test]
    fn news_in_brief_are_articles() {
        let page = "市图书馆新馆开放\n市图书馆新馆今天（3月2日）开放，藏书八十万册。\n渔船队启程远航\n由十二条船组成的渔船队昨天启程，前往南太平洋。\n\
                    全省冬小麦返青\n据省农业厅消息，全省冬小麦已经返青，长势好于去年。";
        assert_eq!(headed(page), [true, true, true]);
    }

    #[test]
    fn sections_are_not() {
        let page = "山村的变化\n新华社成都3月2日电（记者 王民）走进山村，新修的水泥路通到了家家户户门前，山村的变化让返乡的人吃惊。\n水泥路通到门前\n\
                    过去山村没有路，果子运不出山。如今水泥路修好了，山村的果子当天就能进城。\n果子卖出好价钱\n山村的果子又大又甜，合作社的人说，路修好了，价钱也好了。";
        assert_eq!(headed(page), [true, false, false]);
    }
}
