//! Joins the lines of pages that break every line at a fixed width, whatever the sentence.
//!
//! `segment` calls [`unwrap`] on plain text. Whether a page is of that kind is seen in the widths of its lines: many
//! are as wide as the widest, and most of those end in mid-sentence. On any other page each line stays a block.

use super::Block;
use super::line::PageLine;
use crate::document::recognize::chars::{is_closer, is_han};
use crate::document::recognize::credit;

/// The narrowest and widest columns, counted in columns of a terminal (two for a Chinese character).
const NARROWEST: usize = 20;
const WIDEST: usize = 120;

/// A full line may be this much narrower than the widest: punctuation never begins a line, words are not split.
const RAGGED: usize = 3;

/// The fewest full lines that tell a fixed width.
const FEWEST: usize = 5;

/// Makes blocks of lines, joining those that a fixed width broke.
pub(crate) fn unwrap<'a>(lines: &[PageLine<'a>]) -> Vec<Block<'a>> {
    // Some pages count characters, some count columns; the right measure is the one that makes more lines full.
    let counted =
        [WidthMeasure::FixedWidth, WidthMeasure::Characters].map(|measure| FixedWidth::of(lines, measure));
    let Some(page) = counted.into_iter().flatten().max_by_key(|page| page.full_lines) else {
        return lines.iter().map(Block::of).collect();
    };
    let mut blocks: Vec<Block<'a>> = Vec::new();
    let mut before: Option<&PageLine<'a>> = None;
    let mut joined = false;
    for line in lines {
        match blocks.last_mut().filter(|_| before.is_some_and(|before| page.goes_on(before, line))) {
            Some(block) => {
                block.push_text(line.text);
                block.range.end = line.range.end;
                joined = true;
            }
            None => {
                if let Some(block) = blocks.last_mut().filter(|_| std::mem::take(&mut joined)) {
                    block.reclassify();
                }
                blocks.push(Block::of(line));
            }
        }
        before = Some(line);
    }
    if let Some(block) = blocks.last_mut() {
        block.reclassify();
    }
    blocks
}

/// What the width of a line is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WidthMeasure {
    /// FixedWidth of a terminal, two for a Chinese character.
    FixedWidth,
    /// Characters, whatever they are, doubled so that the bounds are the same.
    Characters,
}

impl WidthMeasure {
    /// The width of a line without and with its indent, which is two ideographic spaces or nothing.
    fn widths(self, line: &PageLine<'_>) -> [usize; 2] {
        let width = match self {
            Self::FixedWidth => line.width,
            Self::Characters => 2 * line.text.chars().count(),
        };
        [width, width + if line.indent >= 2 { 4 } else { 0 }]
    }
}

/// The layout of a page of fixed width.
struct FixedWidth {
    measure: WidthMeasure,
    /// The widths that its columns have.
    widths: Vec<usize>,
    /// The indent of lines within a paragraph.
    indent: usize,
    full_lines: usize,
}

impl FixedWidth {
    /// The layout, if lines are broken at a fixed width at all.
    fn of(lines: &[PageLine<'_>], measure: WidthMeasure) -> Option<Self> {
        let mut count = [0usize; WIDEST + 1];
        let mut open = [0usize; WIDEST + 1];
        let mut wider = 0;
        for line in lines {
            // Longer lines need not be measured.
            let [_, width] =
                if line.text.len() > 4 * WIDEST { [WIDEST + 1; 2] } else { measure.widths(line) };
            if width > WIDEST {
                wider += 1;
            } else {
                count[width] += 1;
                open[width] += usize::from(is_open(line.text));
            }
        }
        if wider * 25 > lines.len() {
            return None;
        }
        let sum = |count: &[usize], width: usize| count[width - RAGGED..=width].iter().sum::<usize>();
        let mut widths = Vec::new();
        let mut highest = WIDEST;
        // A page may have columns of two or three widths.
        while widths.len() < 3 && highest >= NARROWEST {
            let Some(width) = (NARROWEST..=highest).rev().find(|width| {
                let full = sum(&count, *width);
                count[*width] > 0
                    && full >= FEWEST
                    && full * 4 >= lines.len()
                    && sum(&open, *width) * 2 >= full
            }) else {
                break;
            };
            widths.push(width);
            highest = width.saturating_sub(3 * RAGGED);
        }
        let widest = *widths.first()?;
        if (wider + count[widest + 1..].iter().sum::<usize>()) * 12 > lines.len() {
            return None;
        }
        let full_lines = widths.iter().map(|width| sum(&count, *width)).sum();
        let mut page = Self { measure, widths, indent: 0, full_lines };
        let mut indents: Vec<usize> =
            lines.iter().filter(|line| page.is_full(line)).map(|line| line.indent).collect();
        let middle = indents.len() / 2;
        page.indent = *indents.select_nth_unstable(middle).1;
        Some(page)
    }

    /// Whether the paragraph of `line` goes on in `next`.
    fn goes_on(&self, line: &PageLine<'_>, next: &PageLine<'_>) -> bool {
        next.blank_above == 0
            && !next.new_page
            && next.indent < self.indent + 2
            && self.is_full(line)
            && credit::at_head(next.text).is_none()
    }

    fn is_full(&self, line: &PageLine<'_>) -> bool {
        let fits = |width: usize| self.widths.iter().any(|full| (full - RAGGED..=full + 2).contains(&width));
        line.text.len() <= 4 * WIDEST && self.measure.widths(line).into_iter().any(fits)
    }
}

/// Whether a line ends in mid-sentence.
fn is_open(text: &str) -> bool {
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

    /// Breaks a text after every `width` characters.
    fn wrapped(text: &str, width: usize) -> String {
        text.chars()
            .enumerate()
            .flat_map(|(at, c)| [(at > 0 && at % width == 0).then_some('\n'), Some(c)])
            .flatten()
            .collect()
    }

    #[test]
    fn lines_of_fixed_width_are_joined() {
        let story = wrapped(&format!("  {STORY}"), 18);
        let source = format!("秋收近尾声\n\n{story}\n{story}");
        let blocks: Vec<String> =
            unwrap(&lines(&source, &[])).into_iter().map(|block| block.text.into_owned()).collect();
        assert_eq!(blocks, ["秋收近尾声", STORY, STORY]);
    }

    #[test]
    fn other_pages_are_left_alone() {
        let verse = "床前明月光，\n疑是地上霜。\n举头望明月，\n低头思故乡。\n".repeat(5);
        assert_eq!(unwrap(&lines(&verse, &[])).len(), 20);
        let page = format!("秋收近尾声\n{STORY}\n冬播过半\n{STORY}");
        assert_eq!(unwrap(&lines(&page, &[])).len(), 4);
    }
}
