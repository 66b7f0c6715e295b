//! Clean text → [`Document`]: chains the steps and builds the tree out of what they decide.
//!
//! [`parse`](super::parse) and the readers of other formats call [`segment`] with a filled [`Source`].

use std::ops::Range;

use super::block::{Block, Form};
use super::line::{self, Hint};
use super::mark::Continuation;
use super::normalize::Source;
use super::titles::{self, Titles};
use super::unit::{self, Unit};
use super::{Article, Document, DocumentError, Labelled, Role, Section, Span, Text, Tile};
use super::{boundary, caption, column, credit, headline, late, mark, settle, title, wrap};

/// An article before its texts are copied out of the page: block numbers only.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    /// What stands over it.
    pub(super) titles: Titles,
    /// Whether a mark says that it began elsewhere.
    pub(super) continued: bool,
    /// Its sections: titles, and everything under them in page order.
    pub(super) sections: Vec<(Vec<usize>, Vec<usize>)>,
}

/// Takes a page apart. `hints` say what the markup knew, for ranges of the clean text in order.
pub(super) fn segment(
    source: Source,
    encoding: &'static str,
    hints: &[(Range<usize>, Hint)],
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
    if blocks.iter().all(|block| block.form == Form::Furniture) {
        // Nothing but numbers and dashes: then these are the text.
        blocks.iter_mut().for_each(|block| block.form = Form::Body);
    }
    settle::settle(&mut blocks);
    let units = unit::units(&blocks);
    let starts = boundary::starts(&blocks, &units);
    let drafts = late::attach(&blocks, drafts(&blocks, &units, &starts));
    let mut builder = Builder {
        source: &source,
        blocks: &blocks,
        tiles: Vec::with_capacity(blocks.len() + source.left_out.len()),
    };
    let articles = drafts.iter().enumerate().map(|(number, draft)| builder.article(number, draft)).collect();
    let notes = builder.furniture();
    Ok(Document { encoding, articles, notes, tiles: in_page_order(builder.tiles, &source.left_out) })
}

/// Makes one article of a page whose lines are sections of their own, blank ones too.
pub(super) fn sections_of_lines(source: Source, encoding: &'static str) -> Result<Document, DocumentError> {
    let mut article = Article::default();
    let mut tiles = Vec::new();
    let mut at = 0;
    for raw in source.text.split_inclusive(['\n', super::normalize::PAGE_BREAK]) {
        let text = raw.trim();
        let start = at + raw.len() - raw.trim_start().len();
        at += raw.len();
        let mut section = Section::default();
        if !text.is_empty() {
            let span = source.map.span(start..start + text.len());
            tiles.push(Tile { role: Role::Paragraph, span, article: Some(0) });
            section.paragraphs.push(Text { text: text.to_string(), spans: vec![span] });
        }
        article.sections.push(section);
    }
    if tiles.is_empty() {
        return Err(DocumentError::Empty);
    }
    Ok(Document {
        encoding,
        articles: vec![article],
        notes: Vec::new(),
        tiles: in_page_order(tiles, &source.left_out),
    })
}

/// Puts units together to articles.
fn drafts(blocks: &[Block<'_>], units: &[Unit], starts: &[bool]) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    for (unit, start) in units.iter().zip(starts) {
        let under: Vec<usize> = unit
            .blocks
            .clone()
            .filter(|at| !blocks[*at].form.is_title() && blocks[*at].form != Form::Furniture)
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
                drafts.push(Draft {
                    titles: titles::name(blocks, &unit.titles, lead),
                    continued: unit.continued,
                    sections: vec![(Vec::new(), under)],
                });
            }
        }
    }
    drafts
}

/// Copies texts and spans out of the page.
struct Builder<'a> {
    source: &'a Source,
    blocks: &'a [Block<'a>],
    tiles: Vec<Tile>,
}

impl Builder<'_> {
    /// The text of a block, which becomes tiles of `role`.
    fn text(&mut self, at: usize, role: Role, article: Option<usize>) -> Text {
        let block = &self.blocks[at];
        let spans: Vec<Span> = block.pieces().map(|piece| self.source.map.span(piece.clone())).collect();
        self.tiles.extend(spans.iter().map(|span| Tile { role, span: *span, article }));
        Text { text: block.text.to_string(), spans }
    }

    /// The text of several blocks that make one title.
    fn title(&mut self, run: &[usize], role: Role, article: Option<usize>) -> Option<Text> {
        run.iter().map(|at| self.text(*at, role, article)).reduce(|mut all, next| {
            all.text.push(' ');
            all.text.push_str(&next.text);
            all.spans.extend(next.spans);
            all
        })
    }

    /// A part of a block, which has no tile of its own.
    fn part(&self, at: usize, range: Range<usize>) -> Text {
        let block = &self.blocks[at];
        let text = block.text[range.clone()].to_string();
        // Of a block in pieces, the part lies in the first or the last.
        let piece = if range.end <= block.range.len() {
            block.range.start + range.start..block.range.start + range.end
        } else {
            let last = block.more.last().unwrap_or(&block.range);
            let from_end = block.text.len() - range.start;
            last.end.saturating_sub(from_end).max(last.start)
                ..last.end - (block.text.len() - range.end).min(last.len())
        };
        let whole = self.source.text.get(piece.clone()).is_some_and(|found| found == text);
        let spans = if whole {
            vec![self.source.map.span(piece)]
        } else {
            block.pieces().map(|piece| self.source.map.span(piece.clone())).collect()
        };
        Text { text, spans }
    }

    fn article(&mut self, number: usize, draft: &Draft) -> Article {
        let here = Some(number);
        let mut article = Article {
            continued: draft.continued,
            kicker: draft.titles.kicker.map(|at| self.text(at, Role::Kicker, here)),
            headline: draft.titles.headline.map(|at| self.text(at, Role::Headline, here)),
            subtitle: draft.titles.subtitle.map(|at| self.text(at, Role::Subtitle, here)),
            ..Article::default()
        };
        if let Some(kicker) = &mut article.kicker
            && let Some(name) = mark::column_label(&kicker.text)
        {
            kicker.text = name.to_string();
        }
        for &at in &draft.titles.rest {
            let text = self.text(at, Role::Subtitle, here);
            article.notes.push(Labelled { role: Role::Subtitle, text });
        }
        let last_paragraph = draft
            .sections
            .iter()
            .flat_map(|(_, under)| under)
            .rfind(|at| self.blocks[**at].form == Form::Body);
        let mut first = true;
        for (titles, under) in &draft.sections {
            let mut section =
                Section { heading: self.title(titles, Role::Heading, here), paragraphs: Vec::new() };
            let mut last = None;
            for &at in under {
                let before = last.replace(self.blocks[at].form);
                let role = match self.blocks[at].form {
                    Form::Body | Form::Question | Form::Title | Form::Subtitle | Form::Column => {
                        if first {
                            self.credit_at_head(at, &mut article);
                        }
                        first = false;
                        if last_paragraph == Some(&at) {
                            self.credit_at_tail(at, &mut article);
                        }
                        section.paragraphs.push(self.text(at, Role::Paragraph, here));
                        continue;
                    }
                    Form::Caption => {
                        let text = self.text(at, Role::Caption, here);
                        // Who took the picture belongs to what it shows.
                        match article.captions.last_mut().filter(|_| {
                            before == Some(Form::Caption)
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
                    Form::Dateline => Role::Dateline,
                    Form::Byline => Role::Byline,
                    Form::Continuation(way) => {
                        article.continued |= way == Continuation::From;
                        Role::Continuation
                    }
                    Form::Editor => Role::Editor,
                    Form::Furniture => Role::Furniture,
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
    fn enter(&self, role: Role, at: usize, text: Text, article: &mut Article) {
        if role == Role::Dateline
            && let Some(credit) = credit::whole(&self.blocks[at].text)
            && article.dateline.is_none()
        {
            article.dateline = credit.dateline.map(|range| self.part(at, range));
            if article.byline.is_none() {
                article.byline = credit.byline.map(|range| self.part(at, range));
            }
            return;
        }
        if role == Role::Byline && article.byline.is_none() {
            let inner = super::chars::strip_bullets(&text.text);
            let inner = super::chars::unbracketed(inner).unwrap_or(inner);
            let start = text.text.find(inner).unwrap_or(0);
            article.byline = Some(self.part(at, start..start + inner.len()));
            return;
        }
        article.notes.push(Labelled { role, text });
    }

    fn credit_at_head(&self, at: usize, article: &mut Article) {
        let text = &self.blocks[at].text;
        let mark = mark::continuation_at_head(text).unwrap_or(0);
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
    fn furniture(&mut self) -> Vec<Labelled> {
        let all = (0..self.blocks.len()).filter(|at| self.blocks[*at].form == Form::Furniture);
        let all: Vec<usize> = all.collect();
        all.into_iter()
            .map(|at| Labelled { role: Role::Furniture, text: self.text(at, Role::Furniture, None) })
            .collect()
    }
}

/// All tiles in page order, with those of `left_out` that no other one covers.
pub(super) fn in_page_order(mut tiles: Vec<Tile>, left_out: &[Tile]) -> Vec<Tile> {
    tiles.sort_unstable_by_key(|tile| tile.span);
    if left_out.is_empty() {
        return tiles;
    }
    let mut all = Vec::with_capacity(tiles.len() + left_out.len());
    let mut left_out = left_out.iter().peekable();
    for tile in tiles {
        while let Some(left) = left_out.next_if(|left| left.span.end <= tile.span.start) {
            all.push(*left);
        }
        while left_out.next_if(|left| left.span.end <= tile.span.end).is_some() {}
        all.push(tile);
    }
    all.extend(left_out);
    all
}
