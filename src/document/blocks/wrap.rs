//! Joins the lines of pages that break every line at a fixed width.
//!
//! `assemble` calls [`unwrap`] on plain text. Such a page is recognized by the widths of its lines: many are as wide as
//! the widest, and most of those end in the middle of a sentence. On any other page each line becomes a block.

use super::Block;
use super::line::PageLine;
use crate::document::recognize::chars::{is_closer, is_han};
use crate::document::recognize::credit;

/// The minimum and maximum line width, in terminal columns (two for a Chinese character).
const MIN_WIDTH: usize = 20;
const MAX_WIDTH: usize = 120;

/// The number of columns by which a full line may be narrower than the widest, because punctuation never begins a line and
/// words are not split.
const RAGGED: usize = 3;

/// The minimum number of full lines for a fixed width.
const MIN_FULL_LINES: usize = 5;

/// Converts lines into blocks, joining the lines of a paragraph that was broken at a fixed width.
pub(crate) fn unwrap<'a>(lines: &[PageLine<'a>]) -> Vec<Block<'a>> {
    // Some pages count characters, some count columns. The measure with more full lines is the right one.
    let candidates = [WidthMeasure::FixedWidth, WidthMeasure::Characters]
        .map(|measure| FixedWidth::detect(lines, measure));
    let Some(layout) = candidates.into_iter().flatten().max_by_key(|layout| layout.full_lines) else {
        return lines.iter().map(Block::new).collect();
    };
    let mut blocks: Vec<Block<'a>> = Vec::new();
    let mut before: Option<&PageLine<'a>> = None;
    let mut joined = false;
    for line in lines {
        match blocks.last_mut().filter(|_| before.is_some_and(|before| layout.continues(before, line))) {
            Some(block) => {
                block.push_text(line.text);
                block.range.end = line.range.end;
                joined = true;
            }
            None => {
                if let Some(block) = blocks.last_mut().filter(|_| std::mem::take(&mut joined)) {
                    block.reclassify();
                }
                blocks.push(Block::new(line));
            }
        }
        before = Some(line);
    }
    if let Some(block) = blocks.last_mut() {
        block.reclassify();
    }
    blocks
}

/// The unit of line widths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WidthMeasure {
    /// Terminal columns, two for a Chinese character.
    FixedWidth,
    /// Characters, counted twice so that the same bounds apply.
    Characters,
}

impl WidthMeasure {
    /// Returns the width of a line without and with its indent, which is two ideographic spaces or nothing.
    fn widths(self, line: &PageLine<'_>) -> [usize; 2] {
        let width = match self {
            Self::FixedWidth => line.width,
            Self::Characters => 2 * line.text.chars().count(),
        };
        [width, width + if line.indent >= 2 { 4 } else { 0 }]
    }
}

/// The layout of a page with lines of fixed width.
struct FixedWidth {
    measure: WidthMeasure,
    /// The widths of its columns, widest first.
    widths: Vec<usize>,
    /// The indent of the lines inside a paragraph.
    indent: usize,
    full_lines: usize,
}

impl FixedWidth {
    /// Detects the layout; returns `None` if lines are not broken at a fixed width.
    fn detect(lines: &[PageLine<'_>], measure: WidthMeasure) -> Option<Self> {
        let mut count = [0usize; MAX_WIDTH + 1];
        let mut unfinished = [0usize; MAX_WIDTH + 1];
        let mut wider = 0;
        for line in lines {
            // Longer lines are too wide in any case.
            let [_, width] =
                if line.text.len() > 4 * MAX_WIDTH { [MAX_WIDTH + 1; 2] } else { measure.widths(line) };
            if width > MAX_WIDTH {
                wider += 1;
            } else {
                count[width] += 1;
                unfinished[width] += usize::from(is_unfinished(line.text));
            }
        }
        if wider * 25 > lines.len() {
            return None;
        }
        let sum = |count: &[usize], width: usize| count[width - RAGGED..=width].iter().sum::<usize>();
        let mut widths = Vec::new();
        let mut limit = MAX_WIDTH;
        // A page may have columns of up to three widths.
        while widths.len() < 3 && limit >= MIN_WIDTH {
            let Some(width) = (MIN_WIDTH..=limit).rev().find(|width| {
                let full = sum(&count, *width);
                count[*width] > 0
                    && full >= MIN_FULL_LINES
                    && full * 4 >= lines.len()
                    && sum(&unfinished, *width) * 2 >= full
            }) else {
                break;
            };
            widths.push(width);
            limit = width.saturating_sub(3 * RAGGED);
        }
        let widest = *widths.first()?;
        if (wider + count[widest + 1..].iter().sum::<usize>()) * 12 > lines.len() {
            return None;
        }
        let full_lines = widths.iter().map(|width| sum(&count, *width)).sum();
        let mut layout = Self { measure, widths, indent: 0, full_lines };
        let mut indents: Vec<usize> =
            lines.iter().filter(|line| layout.is_full(line)).map(|line| line.indent).collect();
        let middle = indents.len() / 2;
        layout.indent = *indents.select_nth_unstable(middle).1;
        Some(layout)
    }

    /// Returns `true` if the paragraph of `line` continues in `next`.
    fn continues(&self, line: &PageLine<'_>, next: &PageLine<'_>) -> bool {
        next.blank_above == 0
            && !next.new_page
            && next.indent < self.indent + 2
            && self.is_full(line)
            && credit::at_start(next.text).is_none()
    }

    fn is_full(&self, line: &PageLine<'_>) -> bool {
        let fits = |width: usize| self.widths.iter().any(|full| (full - RAGGED..=full + 2).contains(&width));
        line.text.len() <= 4 * MAX_WIDTH && self.measure.widths(line).into_iter().any(fits)
    }
}

/// Returns `true` if a line ends inside a sentence.
fn is_unfinished(text: &str) -> bool {
    text.chars().next_back().is_some_and(|last| {
        is_han(last) || last.is_ascii_alphanumeric() || is_closer(last) || "，、“‘《（".contains(last)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::blocks::line::lines;

    const STORY: &str = "今年入秋以来全市雨水充足各县的水库蓄水量都超过了去年同期农业部门的技术人员走村入户帮助农民抢收晚稻播种冬麦\
                         并为山区的果农联系了外地的客商到昨天为止全市的秋收已经完成了八成冬播完成了六成。";

    /// Breaks `text` after every `width` characters.
    fn wrapped(text: &str, width: usize) -> String {
        text.chars()
            .enumerate()
            .flat_map(|(at, c)| [(at > 0 && at % width == 0).then_some('\n'), Some(c)])
            .flatten()
            .collect()
    }

    #[test]
    fn joins_lines_of_fixed_width() {
        let story = wrapped(&format!("  {STORY}"), 18);
        let source = format!("秋收近尾声\n\n{story}\n{story}");
        let blocks: Vec<String> =
            unwrap(&lines(&source, &[])).into_iter().map(|block| block.text.into_owned()).collect();
        assert_eq!(blocks, ["秋收近尾声", STORY, STORY]);
    }

    #[test]
    fn keeps_the_lines_of_other_pages() {
        let verse = "床前明月光，\n疑是地上霜。\n举头望明月，\n低头思故乡。\n".repeat(5);
        assert_eq!(unwrap(&lines(&verse, &[])).len(), 20);
        let page = format!("秋收近尾声\n{STORY}\n冬播过半\n{STORY}");
        assert_eq!(unwrap(&lines(&page, &[])).len(), 4);
    }
}
