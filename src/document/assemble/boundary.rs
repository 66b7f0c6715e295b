//! Decides which story parts begin an article and which are sections of the article before.
//!
//! `segment` calls [`article_starts`]. Every part is scored by the evidence for and against a new article: its dateline,
//! the similarity of its first sentence to its title, its similarity to the parts before. Articles must also be plausible
//! as a whole: no text after the end of a story, one dateline per story. Dynamic programming with two states finds the best
//! division of the page in linear time.

use super::story_part::StoryPart;
use crate::document::blocks::line::MarkupHint;
use crate::document::blocks::{Block, BlockKind};
use crate::document::recognize::chars::{is_digit, prefix_len};
use crate::document::recognize::title;
use crate::document::recognize::topic::{CharPairs, list_pairs};

/// The number of characters of a paragraph that count as its lead.
const LEAD_CHARS: usize = 110;

/// The number of pairs of the lead that are compared with the parts before.
const LEAD_PAIRS: usize = 50;

/// The number of characters of a paragraph that define its topic.
const TOPIC_CHARS: usize = 250;

/// The cost of an article without a credit on a page where others have one.
const UNCREDITED: f32 = 3.5;

/// The cost of a section after the end of its story.
const AFTER_THE_END: f32 = 6.0;

/// The cost of a section with a credit in an article that already has one.
const SECOND_DATELINE: f32 = 5.0;

/// The cost of a section with the first credit of its article.
const LATE_DATELINE: f32 = 3.0;

/// The cost of a section without text. Titles without text are a late headline or a story of one line.
const EMPTY_SECTION: f32 = 20.0;

/// Returns for each part whether an article begins with it. The first part always begins one.
pub(crate) fn article_starts(blocks: &[Block<'_>], parts: &[StoryPart]) -> Vec<bool> {
    let page = PageHabits::of(blocks, parts);
    // The topics of this part and the two before it, and the titles of this part and the three before it.
    let mut topic = [CharPairs::new(), CharPairs::new(), CharPairs::new()];
    let mut titles: [Vec<u16>; 4] = Default::default();
    let mut lead = LeadPairs::default();
    // The best score of a division up to here, without (0) and with (1) a credit in the current article; and for each part
    // and state, whether an article starts there and the previous state.
    let mut score = [0.0f32, f32::NEG_INFINITY];
    let mut back: Vec<[(bool, usize); 2]> = Vec::with_capacity(parts.len());
    for (at, part) in parts.iter().enumerate() {
        topic.rotate_right(1);
        topic[0].clear();
        for block in part.titles.iter().chain(&part.body).map(|at| &blocks[*at]).take(12) {
            topic[0].add(&block.text, TOPIC_CHARS);
        }
        titles.rotate_right(1);
        list_pairs(part.titles.first().map_or("", |at| &blocks[*at].text), LEAD_CHARS, &mut titles[0]);
        let mut next = [(f32::NEG_INFINITY, (true, 0)); 2];
        let before = at.checked_sub(1).and_then(|before| parts.get(before));
        let evidence = before.map_or(0.0, |before| {
            start_evidence(blocks, [before, part], parts.get(at + 1), &topic, &titles, &mut lead, &page)
        });
        for (state, score) in score.iter().enumerate() {
            let mut offer = |to: usize, value: f32, started: bool| {
                if value > next[to].0 {
                    next[to] = (value, (started, state));
                }
            };
            let uncredited = if state == 0 && page.credits && before.is_some() { UNCREDITED } else { 0.0 };
            offer(usize::from(part.has_credit()), score + evidence - uncredited, true);
            if let Some(before) = before {
                let credited = state == 1 || part.has_credit();
                offer(usize::from(credited), score - section_cost(before, part, state == 1), false);
            }
        }
        score = [next[0].0, next[1].0];
        back.push([next[0].1, next[1].1]);
    }
    // The last article may lack a credit as well.
    let uncredited = if page.credits { UNCREDITED } else { 0.0 };
    let mut state = usize::from(score[1] >= score[0] - uncredited);
    let mut starts = vec![true; parts.len()];
    for (start, back) in starts.iter_mut().zip(&back).rev() {
        (*start, state) = back[state];
    }
    if let Some(first) = starts.first_mut() {
        *first = true;
    }
    starts
}

/// Returns the cost of `part` as a section of the article of `before`, which has a credit if `credited`.
fn section_cost(before: &StoryPart, part: &StoryPart, credited: bool) -> f32 {
    let mut cost = 0.0;
    if part.is_only_titles() {
        cost += EMPTY_SECTION;
    }
    if before.ends_story {
        cost += AFTER_THE_END;
    }
    if part.opens_with_dateline || part.opens_with_byline {
        cost += if credited { SECOND_DATELINE } else { LATE_DATELINE };
    } else if part.closing_credit && credited && !before.ends_story {
        cost += 1.0;
    }
    cost
}

/// The conventions of a page.
struct PageHabits {
    /// `true` if articles have credits.
    credits: bool,
    /// The number of blank lines between paragraphs.
    paragraph_gap: usize,
    /// `true` if stories are as short as news in brief.
    has_briefs: bool,
}

impl PageHabits {
    fn of(blocks: &[Block<'_>], parts: &[StoryPart]) -> Self {
        let credited = parts.iter().filter(|part| part.has_credit()).count();
        let titled = parts.iter().filter(|part| !part.titles.is_empty());
        let (titled, short) =
            titled.fold((0, 0), |(all, short), part| (all + 1, short + usize::from(part.body.len() <= 2)));
        let mut gaps = [0usize; 4];
        for pair in blocks.windows(2).filter(|pair| pair.iter().all(|block| block.kind == BlockKind::Body)) {
            gaps[pair[1].blank_above.min(3)] += 1;
        }
        let gap = (0..4).max_by_key(|gap| gaps[*gap]).unwrap_or(0);
        Self {
            credits: credited * 4 >= titled.max(1),
            paragraph_gap: if gaps == [0; 4] { 1 } else { gap },
            has_briefs: titled >= 3 && short * 10 >= titled * 8,
        }
    }
}

/// Returns the evidence that an article begins with `part`: positive for, negative against.
fn start_evidence(
    blocks: &[Block<'_>],
    [before, part]: [&StoryPart; 2],
    after: Option<&StoryPart>,
    [own, topic @ ..]: &[CharPairs; 3],
    [title, titles @ ..]: &[Vec<u16>; 4],
    lead_pairs: &mut LeadPairs,
    page: &PageHabits,
) -> f32 {
    let Some(first) = part.titles.first().map(|at| &blocks[*at]) else {
        // Without a title, only a continuation mark or the end of the story before begins an article.
        return if part.continued {
            8.0
        } else if before.ends_story {
            3.0
        } else {
            -3.0
        };
    };
    // In long stories, more of the titles are headings.
    let mut score = if page.has_briefs { -0.5 } else { -1.5 };
    let mut add = |holds: bool, weight: f32| score += if holds { weight } else { 0.0 };
    let has = |kind: BlockKind| part.titles.iter().any(|at| blocks[*at].kind == kind);
    let hinted = |hint: MarkupHint| part.titles.iter().any(|at| blocks[*at].hint == Some(hint));
    add(part.opens_with_dateline, 5.0);
    add(part.opens_with_byline, 3.0);
    add(part.continued, 5.0);
    add(part.new_page, 3.0);
    add(has(BlockKind::Subtitle), 2.5);
    add(has(BlockKind::Column), 4.0);
    add(part.titles.len() > 1, 0.8);
    add(hinted(MarkupHint::Title), 6.0);
    add(hinted(MarkupHint::Heading) && !hinted(MarkupHint::Title), -4.0);
    add(title::is_numbered(&first.text), -6.0);
    add(title::is_notice(&first.text), 4.0);
    // The headings of one story are often parallel: 岸线变了, 产业变了, 日子变了.
    let is_parallel =
        |other: &StoryPart| other.titles.iter().any(|at| title::are_parallel(&blocks[*at].text, &first.text));
    add(is_parallel(before) || after.is_some_and(is_parallel), -3.0);
    add(before.titles.is_empty(), 1.5);
    add(page.has_briefs, 1.5);
    add(has_reporting_verb(&first.text), 0.8);
    add(first.text.chars().count() >= 20, 0.6);
    add(
        first.blank_above > page.paragraph_gap.max(1) || page.paragraph_gap == 0 && first.blank_above > 0,
        1.2,
    );
    add(part.has_picture && part.body.is_empty(), 3.0);
    let Some(lead) = part.body.first().map(|at| &blocks[*at].text) else {
        return score;
    };
    let lead = &lead[..prefix_len(lead, LEAD_CHARS)];
    add(opens_as_news(lead), 1.5);
    list_pairs(lead, LEAD_CHARS, &mut lead_pairs.list);
    lead_pairs.pairs.clear();
    lead_pairs.pairs.add_list(&lead_pairs.list);
    let title_share = lead_pairs.pairs.share_of(title);
    score += (4.0 * (title_share - 0.3)).clamp(-1.2, 2.4);
    let known_share = |list: &[u16]| topic.iter().map(|topic| topic.share_of(list)).fold(0.0, f32::max);
    score += (6.0 * (0.22 - known_share(&lead_pairs.list[..lead_pairs.list.len().min(LEAD_PAIRS)])))
        .clamp(-3.0, 1.2);
    score += (3.0 * (0.3 - known_share(title))).clamp(-1.5, 0.9);
    // The text of a section repeats words of the headline of its article.
    let headline_share = titles.iter().map(|title| own.share_of(title)).fold(0.0, f32::max);
    score + (8.0 * (0.12 - headline_share)).clamp(-3.0, 0.9)
}

/// The pairs of the current lead; the buffers are reused.
#[derive(Default)]
struct LeadPairs {
    list: Vec<u16>,
    pairs: CharPairs,
}

/// Returns `true` if a paragraph begins with the time or the source of the news.
fn opens_as_news(lead: &str) -> bool {
    const FIRST: &[&str] =
        &["据", "據", "记者", "来自", "由", "截至", "今年", "目前", "最新", "为期", "本周", "上周"];
    const DAYS: &[&str] =
        &["今天", "昨天", "昨日", "今日", "近日", "日前", "近期", "当天", "当地时间", "北京时间", "明天"];
    if FIRST.iter().any(|word| lead.starts_with(word)) {
        return true;
    }
    let mut before = ' ';
    lead.char_indices().take(30).any(|(at, character)| {
        let is_date = matches!(character, '日' | '月') && is_digit(before);
        before = character;
        let may_be_day = matches!(character, '今' | '昨' | '近' | '日' | '当' | '北' | '明');
        is_date || may_be_day && DAYS.iter().any(|word| lead[at..].starts_with(word))
    })
}

/// Returns `true` if a title contains a verb of reporting, which is common in headlines and rare in section headings.
fn has_reporting_verb(title: &str) -> bool {
    const WORDS: &[&str] = &[
        "称", "宣布", "呼吁", "谴责", "警告", "敦促", "指责", "要求", "印发", "发布", "举行", "召开", "启动",
        "会见", "开幕",
    ];
    // Checks the first character of each word before comparing words.
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

    fn starts(page: &str) -> Vec<bool> {
        let lines = lines(page, &[]);
        let mut blocks: Vec<Block<'_>> = lines.iter().map(Block::new).collect();
        resolve_titles(&mut blocks);
        article_starts(&blocks, &story_part::group(&blocks))
    }

    #[test]
    fn separates_news_in_brief() {
        let page = "市图书馆新馆开放\n市图书馆新馆今天（3月2日）开放，藏书八十万册。\n渔船队启程远航\n由十二条船组成的渔船队昨天启程，前往南太平洋。\n\
                    全省冬小麦返青\n据省农业厅消息，全省冬小麦已经返青，长势好于去年。";
        assert_eq!(starts(page), [true, true, true]);
    }

    #[test]
    fn keeps_sections_together() {
        let page = "山村的变化\n新华社成都3月2日电（记者 王民）走进山村，新修的水泥路通到了家家户户门前，山村的变化让返乡的人吃惊。\n水泥路通到门前\n\
                    过去山村没有路，果子运不出山。如今水泥路修好了，山村的果子当天就能进城。\n果子卖出好价钱\n山村的果子又大又甜，合作社的人说，路修好了，价钱也好了。";
        assert_eq!(starts(page), [true, false, false]);
    }
}
