//! Groups the blocks of a page into [`StoryPart`]s: titles, possibly none, and the blocks up to the next title.
//!
//! A part is a short article, the beginning of a longer one, or a section; `boundary` decides which. `resolve_titles` has
//! already decided which lines are titles.

use std::ops::Range;

use crate::document::blocks::{Block, BlockKind};
use crate::document::recognize::credit;
use crate::document::recognize::marks::{self, Continuation};

/// Titles and the blocks that follow them.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoryPart {
    /// All its blocks, titles first.
    pub(crate) blocks: Range<usize>,
    /// The titles among them.
    pub(crate) titles: Vec<usize>,
    /// The paragraphs among them.
    pub(crate) body: Vec<usize>,
    /// `true` if its text begins with a dateline, or a dateline is above it.
    pub(crate) opens_with_dateline: bool,
    /// `true` if its text begins with a byline, or a byline is above it.
    pub(crate) opens_with_byline: bool,
    /// `true` if the text began on another page (上接).
    pub(crate) continued: bool,
    /// `true` if it ends like a story: with a credit, the editors, （完） or 下转.
    pub(crate) ends_story: bool,
    /// `true` if a caption follows its titles directly.
    pub(crate) has_picture: bool,
    /// `true` if it ends with a credit.
    pub(crate) closing_credit: bool,
    /// `true` if a new page begins above it.
    pub(crate) new_page: bool,
}

impl StoryPart {
    /// Returns `true` if it has a dateline or a byline.
    pub(crate) fn has_credit(&self) -> bool {
        self.opens_with_dateline || self.opens_with_byline || self.closing_credit
    }

    /// Returns `true` if nothing follows its titles.
    pub(crate) fn is_only_titles(&self) -> bool {
        !self.titles.is_empty() && self.titles.len() == self.blocks.len()
    }

    fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Adds the block with index `at`.
    fn add(&mut self, at: usize, block: &Block<'_>) {
        let has_text = !self.body.is_empty();
        match block.kind {
            BlockKind::Title | BlockKind::Subtitle | BlockKind::Column => self.titles.push(at),
            BlockKind::Question | BlockKind::Body => {
                if !has_text {
                    let mark = marks::continuation_at_start(&block.text).unwrap_or(0);
                    self.continued |= mark > 0;
                    if let Some(credit) = credit::at_start(block.text[mark..].trim_start()) {
                        self.opens_with_dateline |= credit.dateline.is_some();
                        self.opens_with_byline |= credit.byline.is_some();
                    }
                }
                self.body.push(at);
                self.closing_credit = credit::at_end(&block.text)
                    .is_some_and(|tail| tail != credit::StoryEnd::Mark)
                    && !credit::is_contribution(&block.text);
                self.ends_story = marks::ends_story(&block.text);
            }
            BlockKind::Dateline if has_text => (self.ends_story, self.closing_credit) = (true, true),
            BlockKind::Byline if has_text => {
                self.ends_story = true;
                self.closing_credit |= !credit::is_contribution(&block.text);
            }
            BlockKind::Dateline => self.opens_with_dateline = true,
            BlockKind::Byline => self.opens_with_byline = true,
            BlockKind::Continuation(Continuation::From) => self.continued = true,
            BlockKind::Continuation(Continuation::To) | BlockKind::Editor => self.ends_story |= has_text,
            BlockKind::Caption => self.has_picture |= !self.titles.is_empty() && !has_text,
            BlockKind::Furniture => {}
        }
    }
}

/// Groups the blocks of a page.
pub(crate) fn group(blocks: &[Block<'_>]) -> Vec<StoryPart> {
    let mut parts = Vec::new();
    let mut part = StoryPart::default();
    // The first of the page names above the next part.
    let mut furniture_start = None;
    for (at, block) in blocks.iter().enumerate() {
        if begins_part(&part, block, blocks.get(at + 1))
            || (furniture_start.is_some() && block.kind.is_title() && !part.is_empty())
        {
            let from = furniture_start.unwrap_or(at);
            part.blocks.end = from;
            parts.push(std::mem::take(&mut part));
            part.blocks = from..from;
            part.new_page = furniture_start.is_some();
        }
        part.new_page |= block.new_page && at > 0 && part.blocks.len() <= 1;
        if block.kind == BlockKind::Furniture {
            part.new_page |= part.titles.is_empty() && part.body.is_empty();
            furniture_start = furniture_start.or(Some(at));
        } else {
            furniture_start = None;
        }
        part.add(at, block);
        part.blocks.end = at + 1;
    }
    parts.push(part);
    parts
}

/// Returns `true` if `block` cannot belong to `part`.
fn begins_part(part: &StoryPart, block: &Block<'_>, next: Option<&Block<'_>>) -> bool {
    let has_text = !part.body.is_empty() || part.ends_story;
    match block.kind {
        // A headline, a picture and another headline: the first story consists of the picture.
        BlockKind::Title | BlockKind::Column => has_text || part.has_picture,
        BlockKind::Subtitle | BlockKind::Continuation(Continuation::From) => has_text,
        // （上接第一版）: this story began on another page.
        BlockKind::Body => {
            has_text && (part.ends_story || marks::continuation_at_start(&block.text).is_some())
        }
        // A second credit belongs to the next story if text follows it.
        BlockKind::Dateline | BlockKind::Byline => {
            has_text
                && part.has_credit()
                && part.ends_story
                && next.is_some_and(|next| next.kind == BlockKind::Body)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::assemble::resolve_titles::resolve_titles;
    use crate::document::blocks::line::lines;

    fn shapes(page: &str) -> Vec<(usize, usize, bool)> {
        let lines = lines(page, &[]);
        let mut blocks: Vec<Block<'_>> = lines.iter().map(Block::new).collect();
        resolve_titles(&mut blocks);
        group(&blocks).iter().map(|part| (part.titles.len(), part.body.len(), part.ends_story)).collect()
    }

    #[test]
    fn starts_parts_at_titles_and_ends_stories_at_credits() {
        assert_eq!(
            shapes("题目之一\n正文一。\n正文二。\n题目之二\n正文三。"),
            [(1, 2, false), (1, 1, false)]
        );
        assert_eq!(
            shapes("题目之一\n本报记者 王民\n正文一。\n题目之二\n正文三。\n新华社北京12月6日电"),
            [(1, 1, false), (1, 1, true)]
        );
        assert_eq!(shapes("稻田里的画\n图为稻田。\n龙舟竞渡\n正文一。"), [(1, 0, false), (1, 1, false)]);
        assert_eq!(shapes("正文一。（完）\n正文二。"), [(0, 1, true), (0, 1, false)]);
        assert_eq!(shapes("题目之一\n正文一。\n第3版\n题目之二\n正文二。"), [(1, 1, false), (1, 1, false)]);
        assert_eq!(
            shapes("（上接一版）正文一。\n正文二。\n（上接一版）正文三。"),
            [(0, 2, false), (0, 1, false)]
        );
    }
}
