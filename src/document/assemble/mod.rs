//! Segments clean text: finds the articles and sections among the blocks of a page and builds the [`Document`].
//!
//! `formats` calls [`segment`]. The steps are:
//!
//! ```text
//! blocks ─ resolve_titles ─▶ every line is a title or is not
//!        ─ story_part ─────▶ titles with the text that follows them
//!        ─ boundary ───────▶ which parts begin an article, and which are sections
//!        ─ late_headlines ─▶ headlines that are printed after their article are moved
//!        ─ build ──────────▶ texts, spans and credits
//! ```

mod boundary;
mod build;
mod late_headlines;
mod resolve_titles;
mod story_part;
mod title_roles;

use std::ops::Range;

use resolve_titles::resolve_titles;
use story_part::StoryPart;
use title_roles::ArticleTitles;

use super::blocks::line::{self, MarkupHint};
use super::blocks::{Block, BlockKind, column, headline, wrap};
use super::decode::normalize::CleanText;
use super::recognize::title;
use super::{Document, DocumentError};

/// An article as indices of blocks, before its texts are built.
#[derive(Debug, Clone, Default)]
struct ArticleDraft {
    titles: ArticleTitles,
    /// `true` if a mark says that the article began on another page.
    continued: bool,
    sections: Vec<SectionDraft>,
}

/// A section as indices of blocks.
#[derive(Debug, Clone, Default)]
struct SectionDraft {
    /// The blocks that form its heading.
    titles: Vec<usize>,
    /// The blocks under the heading, in page order.
    blocks: Vec<usize>,
}

/// Segments the clean text of a page. `hints` are the roles that the markup gives to ranges of the text, in order.
pub(crate) fn segment(
    source: &CleanText,
    encoding: &'static str,
    hints: &[(Range<usize>, MarkupHint)],
) -> Result<Document, DocumentError> {
    let lines = line::lines(&source.text, hints);
    if lines.is_empty() {
        return Err(DocumentError::Empty);
    }
    let blocks = if hints.is_empty() {
        headline::join(wrap::unwrap(&lines))
    } else {
        lines.iter().map(Block::new).collect()
    };
    let mut blocks = column::join(blocks);
    if blocks.iter().all(|block| block.kind == BlockKind::Furniture) {
        // A page of nothing but numbers and dates is text after all.
        blocks.iter_mut().for_each(|block| block.kind = BlockKind::Body);
    }
    resolve_titles(&mut blocks);
    let parts = story_part::group(&blocks);
    let starts = boundary::article_starts(&blocks, &parts);
    let drafts = late_headlines::attach(&blocks, drafts(&blocks, &parts, &starts));
    Ok(build::document(source, encoding, &blocks, &drafts))
}

/// Combines story parts into articles. `starts` says for each part whether an article begins with it.
fn drafts(blocks: &[Block<'_>], parts: &[StoryPart], starts: &[bool]) -> Vec<ArticleDraft> {
    let mut drafts: Vec<ArticleDraft> = Vec::new();
    for (part, starts_article) in parts.iter().zip(starts) {
        let under: Vec<usize> = part
            .blocks
            .clone()
            .filter(|at| !blocks[*at].kind.is_title() && blocks[*at].kind != BlockKind::Furniture)
            .collect();
        if part.titles.is_empty() && under.is_empty() {
            continue;
        }
        match drafts.last_mut().filter(|_| !starts_article) {
            Some(draft) => {
                // 二、重点任务 and （一）完善设施 under it are two headings, not one of two lines.
                let mut titles = part.titles.as_slice();
                while let [first, second, ..] = titles
                    && [first, second].iter().all(|at| title::is_numbered(&blocks[**at].text))
                {
                    draft.sections.push(SectionDraft { titles: vec![*first], blocks: Vec::new() });
                    titles = &titles[1..];
                }
                draft.sections.push(SectionDraft { titles: titles.to_vec(), blocks: under });
            }
            None => {
                let lead = part.body.first().map_or("", |at| blocks[*at].text.as_ref());
                drafts.push(ArticleDraft {
                    titles: title_roles::assign(blocks, &part.titles, lead),
                    continued: part.continued,
                    sections: vec![SectionDraft { titles: Vec::new(), blocks: under }],
                });
            }
        }
    }
    drafts
}
