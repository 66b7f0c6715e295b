//! Tells apart the titles that stand together over an article: kicker, headline, subtitle.
//!
//! `segment` calls [`name`] with the titles of each article, in page order.

use crate::document::blocks::line::MarkupHint;
use crate::document::blocks::{Block, BlockKind};
use crate::document::recognize::topic::CharPairs;
use crate::document::recognize::{marks, title};

/// Which block is what; whatever has no place here is a further title.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ArticleTitles {
    /// The line over the headline.
    pub(crate) kicker: Option<usize>,
    /// The headline.
    pub(crate) headline: Option<usize>,
    /// The line under it.
    pub(crate) subtitle: Option<usize>,
    /// Lines under that.
    pub(crate) rest: Vec<usize>,
}

impl ArticleTitles {
    /// Whether the article still waits for its headline: it has only the name of its column, or nothing.
    pub(crate) fn wants_headline(&self, blocks: &[Block<'_>]) -> bool {
        self.headline.is_none_or(|at| blocks[at].kind == BlockKind::Column)
    }
}

/// Names the titles `run`; `lead` is the text of the first paragraph under them.
pub(crate) fn name(blocks: &[Block<'_>], run: &[usize], lead: &str) -> ArticleTitles {
    let form = |at: usize| blocks[at].kind;
    let mut titles = ArticleTitles::default();
    let mut plain: Vec<usize> = Vec::new();
    for &at in run {
        match form(at) {
            BlockKind::Subtitle if titles.subtitle.is_none() && !plain.is_empty() => {
                titles.subtitle = Some(at)
            }
            // 社论 stands under the headline as well.
            BlockKind::Column if titles.kicker.is_none() => titles.kicker = Some(at),
            _ => plain.push(at),
        }
    }
    // Where the markup names the title, what stands over it is over it.
    let marked = plain.iter().position(|at| blocks[*at].hint == Some(MarkupHint::Title));
    if let Some(marked) = marked
        .filter(|_| plain.len() > 1 && plain.iter().any(|at| blocks[*at].hint != Some(MarkupHint::Title)))
    {
        let (over, under) = (&plain[..marked], &plain[marked + 1..]);
        titles.headline = Some(plain[marked]);
        let (mut over, mut under) = (over.iter().copied(), under.iter().copied());
        titles.kicker = titles.kicker.or_else(|| over.next());
        titles.subtitle = titles.subtitle.or_else(|| under.next());
        titles.rest.extend(over.chain(under));
        return titles;
    }
    match *plain.as_slice() {
        [] => titles.headline = titles.kicker.take(),
        [only] => titles.headline = Some(only),
        [first, second] if titles.kicker.is_none() && is_over(blocks, first, second, lead) => {
            (titles.kicker, titles.headline) = (Some(first), Some(second));
        }
        [over, main, under] if titles.kicker.is_none() && titles.subtitle.is_none() => {
            (titles.kicker, titles.headline, titles.subtitle) = (Some(over), Some(main), Some(under));
        }
        [over, main, under, ref rest @ ..]
            if titles.kicker.is_none() && titles.subtitle.is_none() && opens_headline(&blocks[over].text) =>
        {
            (titles.kicker, titles.headline, titles.subtitle) = (Some(over), Some(main), Some(under));
            titles.rest = rest.to_vec();
        }
        [first, ref rest @ ..] => {
            titles.headline = Some(first);
            titles.rest = rest.to_vec();
            if titles.subtitle.is_none() && form(rest[0]) != BlockKind::Column {
                titles.subtitle = Some(titles.rest.remove(0));
            }
        }
    }
    titles
}

/// Whether the line is the beginning of what the headline under it says: it ends in a colon or names the speaker.
fn opens_headline(over: &str) -> bool {
    over.ends_with(['：', ':']) || leads_in(over)
}

/// …在全国会议上强调, …宣布: the line names the speaker, the headline under it what was said.
fn leads_in(over: &str) -> bool {
    const WORDS: &[&str] = &[
        "强调",
        "指出",
        "要求",
        "宣布",
        "时说",
        "表示",
        "阐述",
        "提出",
        "时指出",
        "时强调",
        "批示",
        "致信",
        "讲话",
        "致电",
        "發表",
        "强调：",
        "认为",
        "呼吁",
    ];
    WORDS.iter().any(|word| over.ends_with(word))
}

/// Whether `first` is a line over the headline `second` rather than a headline with a line under it. The line over it
/// is short or the beginning of the sentence that the headline ends; the lead repeats the headline rather than it.
fn is_over(blocks: &[Block<'_>], first: usize, second: usize, lead: &str) -> bool {
    let (over, main) = (&blocks[first].text, &blocks[second].text);
    if marks::is_column(over) || opens_headline(over) {
        return true;
    }
    if title::is_subtitle(main) || title::is_numbered(main) {
        return false;
    }
    let count = |text: &str| text.chars().count();
    let lead = CharPairs::of(lead, 150);
    let (over_told, main_told) = (lead.share(over, 60), lead.share(main, 60));
    if count(over) <= 8 && count(main) >= count(over) + 3 {
        return over_told <= main_told + 0.35;
    }
    main_told > over_told + 0.3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::blocks::line::lines;

    fn named(page: &str, lead: &str) -> [Option<usize>; 3] {
        let lines = lines(page, &[]);
        let blocks: Vec<Block<'_>> = lines.iter().map(Block::of).collect();
        let run: Vec<usize> = (0..blocks.len()).collect();
        let titles = name(&blocks, &run, lead);
        [titles.kicker, titles.headline, titles.subtitle]
    }

    #[test]
    fn kickers_headlines_and_subtitles() {
        assert_eq!(named("全省秋收结束", ""), [None, Some(0), None]);
        assert_eq!(named("国际观察", ""), [None, Some(0), None]);
        assert_eq!(named("国际观察\n贸易战没有赢家", ""), [Some(0), Some(1), None]);
        assert_eq!(named("全省秋收结束\n——来自田间的报告", ""), [None, Some(0), Some(1)]);
        assert_eq!(named("国际观察\n贸易战没有赢家\n——来自港口的报告", ""), [Some(0), Some(1), Some(2)]);
        assert_eq!(named("各地抢抓农时\n全省秋收结束\n粮食总产量创新高", ""), [Some(0), Some(1), Some(2)]);
        assert_eq!(
            named("全省秋收结束\n粮食总产量创新高", "全省秋收结束，总产量比去年高。"),
            [None, Some(0), Some(1)]
        );
    }
}
