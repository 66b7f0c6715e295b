//! Clean text → [`Document`]: chains the steps and builds the tree out of what they decide.
//!
//! [`parse`](super::parse) and the readers of other formats call [`segment`] with a filled [`CleanText`].

mod boundary;
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
use super::recognize::chars::{strip_bullets, unbracketed};
use super::recognize::marks::Continuation;
use super::recognize::{caption, credit, marks, title};
use super::{Article, Document, DocumentError, ElementRole, LabeledText, Region, Section, Span, Text};

/// An article before its texts are copied out of the page: block numbers only.
#[derive(Debug, Clone, Default)]
pub(crate) struct ArticleDraft {
    /// What stands over it.
    pub(crate) titles: ArticleTitles,
    /// Whether a mark says that it began elsewhere.
    pub(crate) continued: bool,
    /// Its sections: titles, and everything under them in page order.
    pub(crate) sections: Vec<(Vec<usize>, Vec<usize>)>,
}

/// Takes a page apart. `hints` say what the markup knew, for ranges of the clean text in order.
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
        lines.iter().map(Block::of).collect()
    };
    let mut blocks = column::join(blocks);
    if blocks.iter().all(|block| block.kind == BlockKind::Furniture) {
        // Nothing but numbers and dashes: then these are the text.
        blocks.iter_mut().for_each(|block| block.kind = BlockKind::Body);
    }
    resolve_titles(&mut blocks);
    let units = story_part::units(&blocks);
    let starts = boundary::starts(&blocks, &units);
    let drafts = late_headlines::attach(&blocks, drafts(&blocks, &units, &starts));
    let mut builder = ArticleBuilder {
        source,
        blocks: &blocks,
        regions: Vec::with_capacity(blocks.len() + source.left_out.len()),
    };
    let articles = drafts.iter().enumerate().map(|(number, draft)| builder.article(number, draft)).collect();
    let notes = builder.furniture();
    let regions = source.with_left_out(builder.regions);
    Ok(Document { encoding, articles, notes, regions })
}

/// Puts units together to articles.
fn drafts(blocks: &[Block<'_>], units: &[StoryPart], starts: &[bool]) -> Vec<ArticleDraft> {
    let mut drafts: Vec<ArticleDraft> = Vec::new();
    for (unit, start) in units.iter().zip(starts) {
        let under: Vec<usize> = unit
            .blocks
            .clone()
            .filter(|at| !blocks[*at].kind.is_title() && blocks[*at].kind != BlockKind::Furniture)
            .collect();
        if unit.titles.is_empty() && under.is_empty() {
            continue;
        }
        match drafts.last_mut().filter(|_| !start) {
            Some(draft) => {
                // 二、重点任务 and （一）完善设施 under it are two headings, not one in two lines.
                let mut titles = unit.titles.as_slice();
                while let [first, second, ..] = titles
                    && [first, second].iter().all(|at| title::is_numbered(&blocks[**at].text))
                {
                    draft.sections.push((vec![*first], Vec::new()));
                    titles = &titles[1..];
                }
                draft.sections.push((titles.to_vec(), under));
            }
            None => {
                let lead = unit.body.first().map_or("", |at| blocks[*at].text.as_ref());
                drafts.push(ArticleDraft {
                    titles: title_roles::name(blocks, &unit.titles, lead),
                    continued: unit.continued,
                    sections: vec![(Vec::new(), under)],
                });
            }
        }
    }
    drafts
}

/// Copies texts and spans out of the page.
struct ArticleBuilder<'a> {
    source: &'a CleanText,
    blocks: &'a [Block<'a>],
    regions: Vec<Region>,
}

impl ArticleBuilder<'_> {
    /// The text of a block, which becomes regions of `role`.
    fn text(&mut self, at: usize, role: ElementRole, article: Option<usize>) -> Text {
        let block = &self.blocks[at];
        let spans: Vec<Span> = block.ranges().map(|piece| self.source.map.span(piece.clone())).collect();
        self.regions.extend(spans.iter().map(|span| Region { role, span: *span, article }));
        Text { text: block.text.to_string(), spans }
    }

    /// The text of several blocks that make one title.
    fn title(&mut self, run: &[usize], role: ElementRole, article: Option<usize>) -> Option<Text> {
        run.iter().map(|at| self.text(*at, role, article)).reduce(|mut all, next| {
            all.text.push(' ');
            all.text.push_str(&next.text);
            all.spans.extend(next.spans);
            all
        })
    }

    /// A part of a block, which has no region of its own.
    fn part(&self, at: usize, range: Range<usize>) -> Text {
        let block = &self.blocks[at];
        let text = block.text[range.clone()].to_string();
        // Of a block in pieces, the part lies in the first or the last.
        let piece = if range.end <= block.range.len() {
            block.range.start + range.start..block.range.start + range.end
        } else {
            let last = block.later_ranges.last().unwrap_or(&block.range);
            let from_end = block.text.len() - range.start;
            last.end.saturating_sub(from_end).max(last.start)
                ..last.end - (block.text.len() - range.end).min(last.len())
        };
        let whole = self.source.text.get(piece.clone()).is_some_and(|found| found == text);
        let spans = if whole {
            vec![self.source.map.span(piece)]
        } else {
            block.ranges().map(|piece| self.source.map.span(piece.clone())).collect()
        };
        Text { text, spans }
    }

    fn article(&mut self, number: usize, draft: &ArticleDraft) -> Article {
        let here = Some(number);
        let mut article = Article {
            continued: draft.continued,
            kicker: draft.titles.kicker.map(|at| self.text(at, ElementRole::Kicker, here)),
            headline: draft.titles.headline.map(|at| self.text(at, ElementRole::Headline, here)),
            subtitle: draft.titles.subtitle.map(|at| self.text(at, ElementRole::Subtitle, here)),
            ..Article::default()
        };
        if let Some(kicker) = &mut article.kicker
            && let Some(name) = marks::column_label(&kicker.text)
        {
            kicker.text = name.to_string();
        }
        for &at in &draft.titles.rest {
            let text = self.text(at, ElementRole::Subtitle, here);
            article.notes.push(LabeledText { role: ElementRole::Subtitle, text });
        }
        let last_paragraph = draft
            .sections
            .iter()
            .flat_map(|(_, under)| under)
            .rfind(|at| self.blocks[**at].kind == BlockKind::Body);
        let mut first = true;
        for (titles, under) in &draft.sections {
            let mut section =
                Section { heading: self.title(titles, ElementRole::Heading, here), paragraphs: Vec::new() };
            let mut last = None;
            for &at in under {
                let before = last.replace(self.blocks[at].kind);
                let role = match self.blocks[at].kind {
                    BlockKind::Body
                    | BlockKind::Question
                    | BlockKind::Title
                    | BlockKind::Subtitle
                    | BlockKind::Column => {
                        if first {
                            self.credit_at_head(at, &mut article);
                        }
                        first = false;
                        if last_paragraph == Some(&at) {
                            self.credit_at_tail(at, &mut article);
                        }
                        section.paragraphs.push(self.text(at, ElementRole::Paragraph, here));
                        continue;
                    }
                    BlockKind::Caption => {
                        let text = self.text(at, ElementRole::Caption, here);
                        // Who took the picture belongs to what it shows.
                        match article.captions.last_mut().filter(|_| {
                            before == Some(BlockKind::Caption)
                                && caption::is_photographer(&text.text)
                                && !text.text.starts_with("以上")
                        }) {
                            Some(caption) => {
                                caption.text.push(' ');
                                caption.text.push_str(&text.text);
                                caption.spans.extend(text.spans);
                            }
                            None => article.captions.push(text),
                        }
                        continue;
                    }
                    BlockKind::Dateline => ElementRole::Dateline,
                    BlockKind::Byline => ElementRole::Byline,
                    BlockKind::Continuation(way) => {
                        article.continued |= way == Continuation::From;
                        ElementRole::Continuation
                    }
                    BlockKind::Editor => ElementRole::Editor,
                    BlockKind::Furniture => ElementRole::Furniture,
                };
                let text = self.text(at, role, here);
                self.enter(role, at, text, &mut article);
            }
            if section.heading.is_some() || !section.paragraphs.is_empty() {
                article.sections.push(section);
            }
        }
        article
    }

    /// Enters a line that is not body text: the first dateline and byline are the article's, the others notes.
    fn enter(&self, role: ElementRole, at: usize, text: Text, article: &mut Article) {
        if role == ElementRole::Dateline
            && let Some(credit) = credit::whole(&self.blocks[at].text)
            && article.dateline.is_none()
        {
            article.dateline = credit.dateline.map(|range| self.part(at, range));
            if article.byline.is_none() {
                article.byline = credit.byline.map(|range| self.part(at, range));
            }
            return;
        }
        if role == ElementRole::Byline && article.byline.is_none() {
            let inner = strip_bullets(&text.text);
            let inner = unbracketed(inner).unwrap_or(inner);
            let start = text.text.find(inner).unwrap_or(0);
            article.byline = Some(self.part(at, start..start + inner.len()));
            return;
        }
        article.notes.push(LabeledText { role, text });
    }

    fn credit_at_head(&self, at: usize, article: &mut Article) {
        let text = &self.blocks[at].text;
        let mark = marks::continuation_at_head(text).unwrap_or(0);
        article.continued |= mark > 0;
        let skipped = mark + text[mark..].len() - text[mark..].trim_start().len();
        if let Some(credit) = credit::at_head(&text[skipped..]) {
            self.take(at, skipped, credit, article);
        }
    }

    fn credit_at_tail(&self, at: usize, article: &mut Article) {
        if let Some(credit::Tail::Credit(credit)) = credit::at_tail(&self.blocks[at].text) {
            self.take(at, 0, credit, article);
        }
    }

    fn take(&self, at: usize, shift: usize, credit: credit::Credit, article: &mut Article) {
        let part = |range: Range<usize>| self.part(at, range.start + shift..range.end + shift);
        if article.dateline.is_none() {
            article.dateline = credit.dateline.map(part);
        }
        if article.byline.is_none() {
            article.byline = credit.byline.map(part);
        }
    }

    /// What belongs to the page.
    fn furniture(&mut self) -> Vec<LabeledText> {
        let all = (0..self.blocks.len()).filter(|at| self.blocks[*at].kind == BlockKind::Furniture);
        let all: Vec<usize> = all.collect();
        all.into_iter()
            .map(|at| LabeledText {
                role: ElementRole::Furniture,
                text: self.text(at, ElementRole::Furniture, None),
            })
            .collect()
    }
}
