//! Moves headlines that come after their articles.
//!
//! On extracted pages the headline in large type often comes last. `segment` calls [`attach`] with the articles in page
//! order. Each title is assigned to the text before or after it, whichever is more similar. Dynamic programming finds the
//! best assignment for the whole page, so a clear case also decides its doubtful neighbors.

use super::{ArticleDraft, SectionDraft, title_roles};
use crate::document::blocks::{Block, BlockKind};
use crate::document::recognize::credit;
use crate::document::recognize::topic::CharPairs;

// The costs of an assignment. For comparison: a title gains 1 if its text repeats all of it.

/// The cost of a title after its text.
const LATE: f32 = 0.15;
/// The cost of a story without a headline.
const UNTITLED: f32 = 0.5;
/// The cost of a story whose only title is the name of its column.
const ONLY_COLUMN: f32 = 0.3;
/// The cost of a headline without a text.
const BODILESS: f32 = 0.8;
/// The cost of splitting a text at a dateline.
const DIVIDED: f32 = 0.2;

/// An assignment that is worse than another one by this much is not pursued.
const HOPELESS: f32 = 3.0;

/// The number of paragraphs of a text that are compared.
const COMPARED_PARAGRAPHS: usize = 30;
/// The number of characters of a paragraph or title that are compared.
const COMPARED_CHARS: usize = 1000;

/// Moves late headlines to their articles.
pub(crate) fn attach(blocks: &[Block<'_>], drafts: Vec<ArticleDraft>) -> Vec<ArticleDraft> {
    let stories: Vec<Story> = drafts.into_iter().flat_map(|draft| Story::divide(blocks, draft)).collect();
    if !stories
        .iter()
        .any(|story| story.is_split_off || story.titles.is_empty() || story.only_column || story.bodiless)
    {
        return stories.into_iter().map(|story| story.draft).collect();
    }
    let choices = choose(blocks, &stories);
    let mut attached: Vec<ArticleDraft> = Vec::with_capacity(stories.len());
    for (mut story, choice) in stories.into_iter().zip(choices) {
        let taken = match choice {
            TitleChoice::Own => 0,
            TitleChoice::FirstToPrevious(count) => count,
            TitleChoice::AllToPrevious => story.titles.len(),
            TitleChoice::Join => {
                if let Some(before) = attached.last_mut() {
                    before.sections.extend(story.draft.sections);
                    rejoin(before);
                }
                continue;
            }
        };
        if taken > 0
            && let Some(before) = attached.last_mut()
        {
            give_titles(blocks, before, &story.titles[..taken]);
            if taken == story.titles.len() {
                give_credits(blocks, before, &mut story.draft);
            }
            if story.bodiless && taken == story.titles.len() {
                before.sections.extend(story.draft.sections);
                continue;
            }
            story.draft.titles =
                title_roles::assign(blocks, &story.titles[taken..], lead(blocks, &story.draft));
        }
        attached.push(story.draft);
    }
    attached
}

/// A text with the titles above it, which may belong to the story before.
struct Story {
    draft: ArticleDraft,
    /// The titles in page order.
    titles: Vec<usize>,
    /// `true` if the text was split off the story before at a dateline.
    is_split_off: bool,
    /// `true` if the only title is the name of a column.
    only_column: bool,
    /// `true` if the last title is the name of a column, which belongs to the text under it.
    ends_in_column: bool,
    /// `true` if previous_gains is no text under the titles.
    bodiless: bool,
}

impl Story {
    /// Converts a draft into stories, splitting its last section at paragraphs that begin with a dateline.
    fn divide(blocks: &[Block<'_>], mut draft: ArticleDraft) -> Vec<Self> {
        let has_dateline = |at: &usize| {
            blocks[*at].kind == BlockKind::Body
                && credit::at_start(&blocks[*at].text).is_some_and(|credit| {
                    credit.dateline.is_some() || blocks[*at].text.starts_with(['【', '〔'])
                })
        };
        let mut rest = Vec::new();
        // Only the last section can be followed by another story. Its first paragraph stays with the draft.
        if let Some(SectionDraft { blocks: under, .. }) = draft.sections.last_mut() {
            let first = under.iter().position(|at| blocks[*at].kind == BlockKind::Body).unwrap_or(0);
            while let Some(cut) = under.iter().rposition(has_dateline).filter(|cut| *cut > first) {
                rest.push(under.split_off(cut));
            }
        }
        let mut stories = vec![Self::new(blocks, draft, false)];
        let split_off = |under| ArticleDraft {
            sections: vec![SectionDraft { titles: Vec::new(), blocks: under }],
            ..ArticleDraft::default()
        };
        stories.extend(rest.into_iter().rev().map(|under| Self::new(blocks, split_off(under), true)));
        stories
    }

    fn new(blocks: &[Block<'_>], draft: ArticleDraft, is_split_off: bool) -> Self {
        let roles = &draft.titles;
        let assigned = [roles.kicker, roles.headline, roles.subtitle];
        let mut titles: Vec<usize> =
            assigned.into_iter().flatten().chain(roles.rest.iter().copied()).collect();
        titles.sort_unstable();
        let only_column = !titles.is_empty() && roles.lacks_headline(blocks);
        let mut under = draft.sections.iter().flat_map(|section| &section.blocks);
        let bodiless = !under.any(|at| matches!(blocks[*at].kind, BlockKind::Body | BlockKind::Caption));
        let ends_in_column = titles.last().is_some_and(|at| blocks[*at].kind == BlockKind::Column);
        Self { draft, titles, is_split_off, only_column, ends_in_column, bodiless }
    }
}

/// The assignment of the titles of a story.
#[derive(Debug, Clone, Copy, PartialEq)]
enum TitleChoice {
    /// The titles belong to the story.
    Own,
    /// The given number of titles at the beginning are the late headline of the story before.
    FirstToPrevious(usize),
    /// All titles are the late headline of the story before.
    AllToPrevious,
    /// The story is the end of the story before.
    Join,
}

/// The states of the search: the story before has a headline, or still needs one.
const HEADED: usize = 0;
const WAITING: usize = 1;

/// Returns the best choice for each story.
fn choose(blocks: &[Block<'_>], stories: &[Story]) -> Vec<TitleChoice> {
    // The best score in each state, and for each story and state the choice and the previous state.
    let mut score = [0.0f32, f32::NEG_INFINITY];
    let mut back: Vec<[(TitleChoice, usize); 2]> = Vec::with_capacity(stories.len());
    // The topics of the story before and of this story.
    let (mut before, mut own) = (CharPairs::new(), CharPairs::new());
    for (at, story) in stories.iter().enumerate() {
        if score[WAITING] < score[HEADED] - HOPELESS {
            score[WAITING] = f32::NEG_INFINITY;
        }
        // Nothing is compared unless some story lacks a headline, which is rare.
        let may_need_headline = story.titles.is_empty() || story.only_column || story.is_split_off;
        // The gain of assigning each title to this story, and to the story before.
        let (mut own_gains, mut previous_gains) =
            (vec![0.0; story.titles.len()], vec![0.0; story.titles.len()]);
        own.clear();
        if may_need_headline || score[WAITING] > f32::NEG_INFINITY {
            body(blocks, &story.draft)
                .take(COMPARED_PARAGRAPHS)
                .for_each(|block| own.add(&block.text, COMPARED_CHARS));
            for (number, title) in story.titles.iter().enumerate() {
                own_gains[number] = own.share(&blocks[*title].text, COMPARED_CHARS);
                previous_gains[number] = before.share(&blocks[*title].text, COMPARED_CHARS) - LATE;
            }
        }
        // The cost of leaving the story before without a headline.
        let untitled_cost = at
            .checked_sub(1)
            .map_or(0.0, |before| if stories[before].ends_in_column { ONLY_COLUMN } else { UNTITLED });
        let mut next = [(f32::NEG_INFINITY, (TitleChoice::Own, HEADED)); 2];
        let mut offer = |to: usize, value: f32, choice: TitleChoice, from: usize| {
            if value > next[to].0 {
                next[to] = (value, (choice, from));
            }
        };
        let text_cost = if story.bodiless { BODILESS } else { 0.0 };
        for from in [HEADED, WAITING] {
            let base = score[from] - if from == WAITING { untitled_cost } else { 0.0 };
            let to = if story.titles.is_empty() || story.only_column { WAITING } else { HEADED };
            let split_cost = if story.is_split_off { DIVIDED } else { 0.0 };
            offer(to, base + own_gains.iter().sum::<f32>() - text_cost - split_cost, TitleChoice::Own, from);
            if story.is_split_off {
                offer(from, score[from], TitleChoice::Join, from);
            }
            if from == WAITING && !story.titles.is_empty() && (!story.ends_in_column || story.bodiless) {
                // Without text and titles nothing remains of the story, so nothing needs a headline.
                let to = if story.bodiless { HEADED } else { WAITING };
                offer(to, score[from] + previous_gains.iter().sum::<f32>(), TitleChoice::AllToPrevious, from);
            }
            if from == WAITING && story.titles.len() > 1 && blocks[story.titles[0]].kind != BlockKind::Column
            {
                for count in 1..story.titles.len() {
                    let gain = previous_gains[..count].iter().chain(&own_gains[count..]).sum::<f32>();
                    let only_column = story.ends_in_column && count + 1 == story.titles.len();
                    let to = if only_column { WAITING } else { HEADED };
                    offer(to, score[from] + gain - text_cost, TitleChoice::FirstToPrevious(count), from);
                }
            }
        }
        score = [next[0].0, next[1].0];
        back.push([next[0].1, next[1].1]);
        // A text that may be joined to the story before is part of its topic.
        if story.is_split_off {
            body(blocks, &story.draft)
                .take(COMPARED_PARAGRAPHS)
                .for_each(|block| before.add(&block.text, COMPARED_CHARS));
        } else {
            std::mem::swap(&mut before, &mut own);
        }
    }
    let mut state = if score[WAITING] - UNTITLED > score[HEADED] { WAITING } else { HEADED };
    let mut choices = vec![TitleChoice::Own; stories.len()];
    for (choice, back) in choices.iter_mut().zip(&back).rev() {
        (*choice, state) = back[state];
    }
    choices
}

/// Adds `titles` to `draft`. If it already had a headline, that becomes the kicker.
fn give_titles(blocks: &[Block<'_>], draft: &mut ArticleDraft, titles: &[usize]) {
    let new = title_roles::assign(blocks, titles, lead(blocks, draft));
    let old = std::mem::take(&mut draft.titles);
    let mut over = old.kicker.into_iter().chain(old.headline).chain(new.kicker);
    let mut under = old.subtitle.into_iter().chain(new.subtitle);
    draft.titles.kicker = over.next();
    draft.titles.headline = new.headline;
    draft.titles.subtitle = under.next();
    draft.titles.rest = over.chain(under).chain(old.rest).chain(new.rest).collect();
}

/// Moves the bylines and datelines under a late headline to the story before.
fn give_credits(blocks: &[Block<'_>], before: &mut ArticleDraft, draft: &mut ArticleDraft) {
    let Some(SectionDraft { blocks: under, .. }) = draft.sections.first_mut() else {
        return;
    };
    let is_credit = |at: &&usize| matches!(blocks[**at].kind, BlockKind::Byline | BlockKind::Dateline);
    let credits: Vec<usize> = under.drain(..under.iter().take_while(is_credit).count()).collect();
    if let Some(last) = before.sections.last_mut() {
        last.blocks.extend(credits);
    }
}

/// Joins the last two sections of a draft, which were split at a dateline.
fn rejoin(draft: &mut ArticleDraft) {
    if let Some(section) = draft.sections.pop() {
        match draft.sections.last_mut().filter(|_| section.titles.is_empty()) {
            Some(before) => before.blocks.extend(section.blocks),
            None => draft.sections.push(section),
        }
    }
}

/// Returns the first paragraph of a draft.
fn lead<'b>(blocks: &'b [Block<'_>], draft: &ArticleDraft) -> &'b str {
    body(blocks, draft).next().map_or("", |block| block.text.as_ref())
}

/// Returns the paragraphs of a draft.
fn body<'b, 'a>(blocks: &'b [Block<'a>], draft: &ArticleDraft) -> impl Iterator<Item = &'b Block<'a>> {
    let all = draft.sections.iter().flat_map(|section| &section.blocks).map(|at| &blocks[*at]);
    all.filter(|block| block.kind == BlockKind::Body)
}
