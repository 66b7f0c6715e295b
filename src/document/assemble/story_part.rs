//! Groups the blocks of a page into [`StoryPart`]s: some titles (or none) and what follows up to the next ones.
//!
//! A unit is a short article, the beginning of a longer one, or one of its sections; `boundary` decides which. The
//! blocks have been through `settle`, so that every line is a title or is none.

use std::ops::Range;

use crate::document::blocks::{Block, BlockKind};
use crate::document::recognize::credit;
use crate::document::recognize::marks::{self, Continuation};

/// Some titles and what follows them.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoryPart {
    /// The blocks of it, titles first.
    pub(crate) blocks: Range<usize>,
    /// The titles among them.
    pub(crate) titles: Vec<usize>,
    /// The paragraphs among them.
    pub(crate) body: Vec<usize>,
    /// Its text opens with agency, place and day, or such a line stands before it.
    pub(crate) opens_with_dateline: bool,
    /// Its text opens with the name of the writer, or such a line stands before it.
    pub(crate) opens_with_byline: bool,
    /// It came from another page (上接).
    pub(crate) continued: bool,
    /// It ends as stories end: with a credit, the editor, （完） or 下转.
    pub(crate) closed: bool,
    /// A picture stands under its titles.
    pub(crate) pictured: bool,
    /// It ends with a credit.
    pub(crate) closing_credit: bool,
    /// The name of a page, or a new one, stands over it.
    pub(crate) new_page: bool,
}

impl StoryPart {
    /// Whether a credit says who filed it.
    pub(crate) fn credited(&self) -> bool {
        self.opens_with_dateline || self.opens_with_byline || self.closing_credit
    }

    /// Whether nothing follows its titles.
    pub(crate) fn is_only_titles(&self) -> bool {
        !self.titles.is_empty() && self.titles.len() == self.blocks.len()
    }

    fn is_new(&self) -> bool {
        self.blocks.is_empty()
    }
}

/// Groups settled blocks.
pub(crate) fn units(blocks: &[Block<'_>]) -> Vec<StoryPart> {
    let mut units = Vec::new();
    let mut unit = StoryPart::default();
    // Where the page names start that may stand over the next unit.
    let mut furniture_from = None;
    for (at, block) in blocks.iter().enumerate() {
        if begins_unit(&unit, block, blocks.get(at + 1))
            || (furniture_from.is_some() && block.kind.is_title() && !unit.is_new())
        {
            let from = furniture_from.unwrap_or(at);
            unit.blocks.end = from;
            units.push(std::mem::take(&mut unit));
            unit.blocks = from..from;
            unit.new_page = furniture_from.is_some();
        }
        unit.new_page |= block.new_page && at > 0 && unit.blocks.len() <= 1;
        if block.kind == BlockKind::Furniture {
            unit.new_page |= unit.titles.is_empty() && unit.body.is_empty();
            furniture_from = furniture_from.or(Some(at));
        } else {
            furniture_from = None;
        }
        note(&mut unit, at, block);
        unit.blocks.end = at + 1;
    }
    units.push(unit);
    units
}

/// Whether `block` cannot belong to `unit` any more.
fn begins_unit(unit: &StoryPart, block: &Block<'_>, next: Option<&Block<'_>>) -> bool {
    let told = !unit.body.is_empty() || unit.closed;
    match block.kind {
        // A headline, a picture and another headline: the first story is the picture.
        BlockKind::Title | BlockKind::Column => told || unit.pictured,
        BlockKind::Subtitle | BlockKind::Continuation(Continuation::From) => told,
        // （上接第一版）: what goes on here began elsewhere, so it is no part of what stands over it.
        BlockKind::Body => told && (unit.closed || marks::continuation_at_head(&block.text).is_some()),
        // A second credit is the first of the next story when text follows it.
        BlockKind::Dateline | BlockKind::Byline => {
            told && unit.credited() && unit.closed && next.is_some_and(|next| next.kind == BlockKind::Body)
        }
        _ => false,
    }
}

/// Enters `block`, number `at`, into `unit`.
fn note(unit: &mut StoryPart, at: usize, block: &Block<'_>) {
    let told = !unit.body.is_empty();
    match block.kind {
        BlockKind::Title | BlockKind::Subtitle | BlockKind::Column => unit.titles.push(at),
        BlockKind::Question | BlockKind::Body => {
            if !told {
                let rest = marks::continuation_at_head(&block.text).unwrap_or(0);
                unit.continued |= rest > 0;
                if let Some(credit) = credit::at_head(block.text[rest..].trim_start()) {
                    unit.opens_with_dateline |= credit.dateline.is_some();
                    unit.opens_with_byline |= credit.byline.is_some();
                }
            }
            unit.body.push(at);
            unit.closing_credit = credit::at_tail(&block.text).is_some_and(|tail| tail != credit::Tail::End)
                && !credit::is_contribution(&block.text);
            unit.closed = marks::ends_story(&block.text);
        }
        BlockKind::Dateline if told => (unit.closed, unit.closing_credit) = (true, true),
        BlockKind::Byline if told => {
            unit.closed = true;
            unit.closing_credit |= !credit::is_contribution(&block.text);
        }
        BlockKind::Dateline => unit.opens_with_dateline = true,
        BlockKind::Byline => unit.opens_with_byline = true,
        BlockKind::Continuation(Continuation::From) => unit.continued = true,
        BlockKind::Continuation(Continuation::To) | BlockKind::Editor => unit.closed |= told,
        BlockKind::Caption => unit.pictured |= !unit.titles.is_empty() && !told,
        BlockKind::Furniture => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::assemble::resolve_titles::resolve_titles;
    use crate::document::blocks::line::lines;

    fn shape(page: &str) -> Vec<(usize, usize, bool)> {
        let lines = lines(page, &[]);
        let mut blocks: Vec<Block<'_>> = lines.iter().map(Block::of).collect();
        resolve_titles(&mut blocks);
        units(&blocks).iter().map(|unit| (unit.titles.len(), unit.body.len(), unit.closed)).collect()
    }

    #[test]
    fn titles_open_units_and_credits_close_them() {
        assert_eq!(shape("题目之一\n正文一。\n正文二。\n题目之二\n正文三。"), [(1, 2, false), (1, 1, false)]);
        assert_eq!(
            shape("题目之一\n本报记者 王民\n正文一。\n题目之二\n正文三。\n新华社北京12月6日电"),
            [(1, 1, false), (1, 1, true)]
        );
        assert_eq!(shape("稻田里的画\n图为稻田。\n龙舟竞渡\n正文一。"), [(1, 0, false), (1, 1, false)]);
        assert_eq!(shape("正文一。（完）\n正文二。"), [(0, 1, true), (0, 1, false)]);
        assert_eq!(shape("题目之一\n正文一。\n第3版\n题目之二\n正文二。"), [(1, 1, false), (1, 1, false)]);
        assert_eq!(
            shape("（上接一版）正文一。\n正文二。\n（上接一版）正文三。"),
            [(0, 2, false), (0, 1, false)]
        );
    }
}
