//! Finds the headlines that stand after their articles.
//!
//! On extracted pages the title in the large type often comes last. `segment` calls [`attach`] with the articles as
//! they follow each other. Each title goes to the text before or after it, whichever speaks of the same; the best
//! distribution over the page is found from left to right, so one sure headline settles its uncertain neighbours.

use super::ArticleDraft;
use super::title_roles;
use crate::document::blocks::{Block, BlockKind};
use crate::document::recognize::credit;
use crate::document::recognize::topic::CharPairs;

/// What it costs, in shares of pairs per title: to stand after the text, to leave a text without a headline or with
/// only the name of its column, to have a headline without a text, and to divide a text where a dateline stands.
const LATE: f32 = 0.15;
const UNTITLED: f32 = 0.5;
const ONLY_COLUMN: f32 = 0.3;
const BODILESS: f32 = 0.8;
const DIVIDED: f32 = 0.2;

/// A division of the page that is so much worse than another one will not be the best in the end.
const HOPELESS: f32 = 3.0;

/// How many paragraphs of a text are compared, and how many characters of each.
const PARAGRAPHS: usize = 30;
const COMPARED: usize = 1000;

/// Gives late headlines to their articles.
pub(crate) fn attach(blocks: &[Block<'_>], drafts: Vec<ArticleDraft>) -> Vec<ArticleDraft> {
    let stories: Vec<Story> = drafts.into_iter().flat_map(|draft| Story::divide(blocks, draft)).collect();
    if !stories
        .iter()
        .any(|story| story.is_cut_off || story.run.is_empty() || story.only_column || story.bodiless)
    {
        return stories.into_iter().map(|story| story.draft).collect();
    }
    let choices = choose(blocks, &stories);
    let mut attached: Vec<ArticleDraft> = Vec::with_capacity(stories.len());
    for (mut story, choice) in stories.into_iter().zip(choices) {
        let taken = match choice {
            TitleChoice::Own => 0,
            TitleChoice::FirstBack(count) => count,
            TitleChoice::Back => story.run.len(),
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
            give(blocks, before, &story.run[..taken]);
            if taken == story.run.len() {
                give_credits(blocks, before, &mut story.draft);
            }
            if story.bodiless && taken == story.run.len() {
                before.sections.extend(story.draft.sections);
                continue;
            }
            story.draft.titles = title_roles::name(blocks, &story.run[taken..], lead(blocks, &story.draft));
        }
        attached.push(story.draft);
    }
    attached
}

/// A text with the titles over it, before it is known whether these are its own.
struct Story {
    draft: ArticleDraft,
    /// Its titles in page order.
    run: Vec<usize>,
    /// Whether it follows the story before without a title between.
    is_cut_off: bool,
    only_column: bool,
    /// The last of its titles is the name of a column, which stands over what follows.
    ends_in_column: bool,
    bodiless: bool,
}

impl Story {
    /// The draft, and as stories of their own its later paragraphs that open with a dateline.
    fn divide(blocks: &[Block<'_>], mut draft: ArticleDraft) -> Vec<Self> {
        let dated = |at: &usize| {
            blocks[*at].kind == BlockKind::Body
                && credit::at_head(&blocks[*at].text).is_some_and(|credit| {
                    credit.dateline.is_some() || blocks[*at].text.starts_with(['【', '〔'])
                })
        };
        let mut rest = Vec::new();
        // Only the last section can be followed by another story; its first paragraph is where the draft begins.
        if let Some((_, under)) = draft.sections.last_mut() {
            let first = under.iter().position(|at| blocks[*at].kind == BlockKind::Body).unwrap_or(0);
            while let Some(cut) = under.iter().rposition(dated).filter(|cut| *cut > first) {
                rest.push(under.split_off(cut));
            }
        }
        let mut stories = vec![Self::of(blocks, draft, false)];
        let cut_off = |under| ArticleDraft { sections: vec![(Vec::new(), under)], ..ArticleDraft::default() };
        stories.extend(rest.into_iter().rev().map(|under| Self::of(blocks, cut_off(under), true)));
        stories
    }

    fn of(blocks: &[Block<'_>], draft: ArticleDraft, is_cut_off: bool) -> Self {
        let titles = &draft.titles;
        let named = [titles.kicker, titles.headline, titles.subtitle];
        let mut run: Vec<usize> = named.into_iter().flatten().chain(titles.rest.iter().copied()).collect();
        run.sort_unstable();
        let only_column = !run.is_empty() && titles.wants_headline(blocks);
        let mut all = draft.sections.iter().flat_map(|(_, under)| under);
        let bodiless = !all.any(|at| matches!(blocks[*at].kind, BlockKind::Body | BlockKind::Caption));
        let ends_in_column = run.last().is_some_and(|at| blocks[*at].kind == BlockKind::Column);
        Self { draft, run, is_cut_off, only_column, ends_in_column, bodiless }
    }
}

/// What becomes of a story and its titles.
#[derive(Debug, Clone, Copy, PartialEq)]
enum TitleChoice {
    /// The titles are its own.
    Own,
    /// The first titles, so many, are the late headline of the story before.
    FirstBack(usize),
    /// All of them are.
    Back,
    /// It is no story of its own but the end of the one before.
    Join,
}

/// Whether the story before has its headline; by this number, states of the search.
const HEADED: usize = 0;
const WAITING: usize = 1;

/// The best choice for each story.
fn choose(blocks: &[Block<'_>], stories: &[Story]) -> Vec<TitleChoice> {
    let mut score = [0.0f32, f32::NEG_INFINITY];
    let mut back: Vec<[(TitleChoice, usize); 2]> = Vec::with_capacity(stories.len());
    let (mut before, mut own) = (CharPairs::new(), CharPairs::new());
    for (at, story) in stories.iter().enumerate() {
        if score[WAITING] < score[HEADED] - HOPELESS {
            score[WAITING] = f32::NEG_INFINITY;
        }
        // Where nothing waits for a headline, nothing has to be compared; so most pages are not.
        let may_wait = story.run.is_empty() || story.only_column || story.is_cut_off;
        let (mut here, mut there) = (vec![0.0; story.run.len()], vec![0.0; story.run.len()]);
        own.clear();
        if may_wait || score[WAITING] > f32::NEG_INFINITY {
            body(blocks, &story.draft).take(PARAGRAPHS).for_each(|block| own.add(&block.text, COMPARED));
            for ((here, there), title) in here.iter_mut().zip(&mut there).zip(&story.run) {
                *here = own.share(&blocks[*title].text, COMPARED);
                *there = before.share(&blocks[*title].text, COMPARED) - LATE;
            }
        }
        let price = at
            .checked_sub(1)
            .map_or(0.0, |before| if stories[before].ends_in_column { ONLY_COLUMN } else { UNTITLED });
        let mut next = [(f32::NEG_INFINITY, (TitleChoice::Own, HEADED)); 2];
        let mut offer = |to: usize, value: f32, choice: TitleChoice, from: usize| {
            if value > next[to].0 {
                next[to] = (value, (choice, from));
            }
        };
        let without_text = if story.bodiless { BODILESS } else { 0.0 };
        for from in [HEADED, WAITING] {
            let left = score[from] - if from == WAITING { price } else { 0.0 };
            let to = if story.run.is_empty() || story.only_column { WAITING } else { HEADED };
            let divided = if story.is_cut_off { DIVIDED } else { 0.0 };
            offer(to, left + here.iter().sum::<f32>() - without_text - divided, TitleChoice::Own, from);
            if story.is_cut_off {
                offer(from, score[from], TitleChoice::Join, from);
            }
            if from == WAITING && !story.run.is_empty() && (!story.ends_in_column || story.bodiless) {
                // A story without text and titles is none, and leaves nothing that waits.
                let to = if story.bodiless { HEADED } else { WAITING };
                offer(to, score[from] + there.iter().sum::<f32>(), TitleChoice::Back, from);
            }
            if from == WAITING && story.run.len() > 1 && blocks[story.run[0]].kind != BlockKind::Column {
                for back in 1..story.run.len() {
                    let shared = there[..back].iter().chain(&here[back..]).sum::<f32>();
                    let only_column = story.ends_in_column && back + 1 == story.run.len();
                    let to = if only_column { WAITING } else { HEADED };
                    offer(to, score[from] + shared - without_text, TitleChoice::FirstBack(back), from);
                }
            }
        }
        score = [next[0].0, next[1].0];
        back.push([next[0].1, next[1].1]);
        // What is joined to a story speaks for it, too.
        if story.is_cut_off {
            body(blocks, &story.draft).take(PARAGRAPHS).for_each(|block| before.add(&block.text, COMPARED));
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

/// Gives `run` to `draft`; what was its headline for want of a better one becomes the kicker.
fn give(blocks: &[Block<'_>], draft: &mut ArticleDraft, run: &[usize]) {
    let named = title_roles::name(blocks, run, lead(blocks, draft));
    let had = std::mem::take(&mut draft.titles);
    let mut over = had.kicker.into_iter().chain(had.headline).chain(named.kicker);
    let mut under = had.subtitle.into_iter().chain(named.subtitle);
    draft.titles.kicker = over.next();
    draft.titles.headline = named.headline;
    draft.titles.subtitle = under.next();
    draft.titles.rest = over.chain(under).chain(had.rest).chain(named.rest).collect();
}

/// Gives the lines that name the writer under a late headline to the story before, together with the headline.
fn give_credits(blocks: &[Block<'_>], before: &mut ArticleDraft, draft: &mut ArticleDraft) {
    let Some((_, under)) = draft.sections.first_mut() else {
        return;
    };
    let is_credit = |at: &&usize| matches!(blocks[**at].kind, BlockKind::Byline | BlockKind::Dateline);
    let credits: Vec<usize> = under.drain(..under.iter().take_while(is_credit).count()).collect();
    if let Some((_, last)) = before.sections.last_mut() {
        last.extend(credits);
    }
}

/// Makes one section again of two that were divided at a dateline.
fn rejoin(draft: &mut ArticleDraft) {
    if let Some((titles, under)) = draft.sections.pop() {
        match draft.sections.last_mut().filter(|_| titles.is_empty()) {
            Some((_, before)) => before.extend(under),
            None => draft.sections.push((titles, under)),
        }
    }
}

fn lead<'b>(blocks: &'b [Block<'_>], draft: &ArticleDraft) -> &'b str {
    body(blocks, draft).next().map_or("", |block| block.text.as_ref())
}

fn body<'b, 'a>(blocks: &'b [Block<'a>], draft: &ArticleDraft) -> impl Iterator<Item = &'b Block<'a>> {
    let all = draft.sections.iter().flat_map(|(_, under)| under).map(|at| &blocks[*at]);
    all.filter(|block| block.kind == BlockKind::Body)
}
