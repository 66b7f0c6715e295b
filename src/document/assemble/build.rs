//! Builds the [`Document`] of the drafts: copies texts, looks up spans, and extracts credits and captions.
//!
//! The last step of `segment`; all decisions about titles and boundaries have been made.

use std::ops::Range;

use super::{ArticleDraft, SectionDraft};
use crate::document::blocks::{Block, BlockKind};
use crate::document::decode::normalize::CleanText;
use crate::document::recognize::chars::{strip_bullets, unbracketed};
use crate::document::recognize::marks::Continuation;
use crate::document::recognize::{caption, credit, marks};
use crate::document::{Article, Document, ElementRole, LabeledText, Region, Section, Span, Text};

/// Builds the document of a page.
pub(super) fn document(
    source: &CleanText,
    encoding: &'static str,
    blocks: &[Block<'_>],
    drafts: &[ArticleDraft],
) -> Document {
    let regions = Vec::with_capacity(blocks.len() + source.left_out.len());
    let mut builder = DocumentBuilder { source, blocks, regions };
    let articles = drafts.iter().enumerate().map(|(number, draft)| builder.article(number, draft)).collect();
    let notes = builder.furniture();
    let regions = source.with_left_out(builder.regions);
    Document { encoding, articles, notes, regions }
}

struct DocumentBuilder<'a> {
    source: &'a CleanText,
    blocks: &'a [Block<'a>],
    /// The regions of the blocks built so far.
    regions: Vec<Region>,
}

impl DocumentBuilder<'_> {
    fn article(&mut self, number: usize, draft: &ArticleDraft) -> Article {
        let article_index = Some(number);
        let mut article = Article {
            continued: draft.continued,
            kicker: draft.titles.kicker.map(|at| self.text(at, ElementRole::Kicker, article_index)),
            headline: draft.titles.headline.map(|at| self.text(at, ElementRole::Headline, article_index)),
            subtitle: draft.titles.subtitle.map(|at| self.text(at, ElementRole::Subtitle, article_index)),
            ..Article::default()
        };
        if let Some(kicker) = &mut article.kicker
            && let Some(name) = marks::column_label(&kicker.text)
        {
            kicker.text = name.to_string();
        }
        for &at in &draft.titles.rest {
            let text = self.text(at, ElementRole::Subtitle, article_index);
            article.notes.push(LabeledText { role: ElementRole::Subtitle, text });
        }
        let all = || draft.sections.iter().flat_map(|section| &section.blocks);
        let first = all().find(|at| is_paragraph(self.blocks[**at].kind)).copied();
        let last = all().rfind(|at| self.blocks[**at].kind == BlockKind::Body).copied();
        for section in &draft.sections {
            let section = self.section(section, article_index, [first, last], &mut article);
            if section.heading.is_some() || !section.paragraphs.is_empty() {
                article.sections.push(section);
            }
        }
        article
    }

    /// Builds a section and adds its other elements to `article`, whose first and last paragraphs may contain credits.
    fn section(
        &mut self,
        draft: &SectionDraft,
        article_index: Option<usize>,
        [first, last]: [Option<usize>; 2],
        article: &mut Article,
    ) -> Section {
        let heading = self.title(&draft.titles, ElementRole::Heading, article_index);
        let mut section = Section { heading, paragraphs: Vec::new() };
        let mut before = None;
        for &at in &draft.blocks {
            let kind = self.blocks[at].kind;
            let role = match kind {
                kind if is_paragraph(kind) => {
                    if first == Some(at) {
                        self.credit_at_start(at, article);
                    }
                    if last == Some(at) {
                        self.credit_at_end(at, article);
                    }
                    section.paragraphs.push(self.text(at, ElementRole::Paragraph, article_index));
                    before = Some(kind);
                    continue;
                }
                BlockKind::Caption => ElementRole::Caption,
                BlockKind::Dateline => ElementRole::Dateline,
                BlockKind::Byline => ElementRole::Byline,
                BlockKind::Continuation(direction) => {
                    article.continued |= direction == Continuation::From;
                    ElementRole::Continuation
                }
                BlockKind::Editor => ElementRole::Editor,
                _ => ElementRole::Furniture,
            };
            let text = self.text(at, role, article_index);
            if role == ElementRole::Caption {
                push_caption(text, before == Some(BlockKind::Caption), article);
            } else {
                self.push_note(role, at, text, article);
            }
            before = Some(kind);
        }
        section
    }

    /// Returns the text of a block and records its regions.
    fn text(&mut self, at: usize, role: ElementRole, article: Option<usize>) -> Text {
        let block = &self.blocks[at];
        let spans: Vec<Span> = block.ranges().map(|range| self.source.map.span(range.clone())).collect();
        self.regions.extend(spans.iter().map(|span| Region { role, span: *span, article }));
        Text { text: block.text.to_string(), spans }
    }

    /// Returns the text of several blocks that form one title.
    fn title(&mut self, blocks: &[usize], role: ElementRole, article: Option<usize>) -> Option<Text> {
        blocks.iter().map(|at| self.text(*at, role, article)).reduce(|mut all, next| {
            all.text.push(' ');
            all.text.push_str(&next.text);
            all.spans.extend(next.spans);
            all
        })
    }

    /// Returns a part of the text of a block. It has no region of its own.
    fn part(&self, at: usize, range: Range<usize>) -> Text {
        let block = &self.blocks[at];
        let text = block.text[range.clone()].to_string();
        // A credit is in the first or the last range of an interrupted block.
        let guess = if range.end <= block.range.len() {
            block.range.start + range.start..block.range.start + range.end
        } else {
            let last = block.later_ranges.last().unwrap_or(&block.range);
            let from_end = block.text.len() - range.start;
            last.end.saturating_sub(from_end).max(last.start)
                ..last.end - (block.text.len() - range.end).min(last.len())
        };
        let is_exact = self.source.text.get(guess.clone()).is_some_and(|found| found == text);
        let spans = if is_exact {
            vec![self.source.map.span(guess)]
        } else {
            block.ranges().map(|range| self.source.map.span(range.clone())).collect()
        };
        Text { text, spans }
    }

    /// Adds a line that is not body text: the first dateline and byline to the article, others to its notes.
    fn push_note(&self, role: ElementRole, at: usize, text: Text, article: &mut Article) {
        if role == ElementRole::Dateline
            && article.dateline.is_none()
            && let Some(credit) = credit::whole_line(&self.blocks[at].text)
        {
            self.take_credit(at, 0, credit, article);
            return;
        }
        if role == ElementRole::Byline && article.byline.is_none() {
            let byline = strip_bullets(&text.text);
            let byline = unbracketed(byline).unwrap_or(byline);
            let start = text.text.find(byline).unwrap_or(0);
            article.byline = Some(self.part(at, start..start + byline.len()));
            return;
        }
        article.notes.push(LabeledText { role, text });
    }

    fn credit_at_start(&self, at: usize, article: &mut Article) {
        let text = &self.blocks[at].text;
        let mark = marks::continuation_at_start(text).unwrap_or(0);
        article.continued |= mark > 0;
        let skipped = mark + text[mark..].len() - text[mark..].trim_start().len();
        if let Some(credit) = credit::at_start(&text[skipped..]) {
            self.take_credit(at, skipped, credit, article);
        }
    }

    fn credit_at_end(&self, at: usize, article: &mut Article) {
        if let Some(credit::StoryEnd::Credit(credit)) = credit::at_end(&self.blocks[at].text) {
            self.take_credit(at, 0, credit, article);
        }
    }

    /// Sets the dateline and byline that the article lacks. The ranges of `credit` start at byte `offset` of the block.
    fn take_credit(&self, at: usize, offset: usize, credit: credit::Credit, article: &mut Article) {
        let part = |range: Range<usize>| self.part(at, range.start + offset..range.end + offset);
        if article.dateline.is_none() {
            article.dateline = credit.dateline.map(part);
        }
        if article.byline.is_none() {
            article.byline = credit.byline.map(part);
        }
    }

    /// Returns the furniture of the page.
    fn furniture(&mut self) -> Vec<LabeledText> {
        let furniture: Vec<usize> =
            (0..self.blocks.len()).filter(|at| self.blocks[*at].kind == BlockKind::Furniture).collect();
        furniture
            .into_iter()
            .map(|at| LabeledText {
                role: ElementRole::Furniture,
                text: self.text(at, ElementRole::Furniture, None),
            })
            .collect()
    }
}

/// Returns `true` if a block under a title is a paragraph of the body.
fn is_paragraph(kind: BlockKind) -> bool {
    kind == BlockKind::Body || kind == BlockKind::Question || kind.is_title()
}

/// Adds a caption. The name of a photographer directly after a caption is appended to that caption.
fn push_caption(text: Text, follows_caption: bool, article: &mut Article) {
    let credits_last =
        follows_caption && caption::is_photographer(&text.text) && !text.text.starts_with("以上");
    match article.captions.last_mut().filter(|_| credits_last) {
        Some(caption) => {
            caption.text.push(' ');
            caption.text.push_str(&text.text);
            caption.spans.extend(text.spans);
        }
        None => article.captions.push(text),
    }
}
