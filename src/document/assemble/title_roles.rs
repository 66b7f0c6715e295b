//! Assigns the titles above an article to their roles: kicker, headline, subtitle.
//!
//! `segment` calls [`assign`] with the titles of each article in page order.

use crate::document::blocks::line::MarkupHint;
use crate::document::blocks::{Block, BlockKind};
use crate::document::recognize::topic::CharPairs;
use crate::document::recognize::{marks, title};

/// The titles of an article, as indices of blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ArticleTitles {
    /// The line above the headline.
    pub(crate) kicker: Option<usize>,
    /// The headline.
    pub(crate) headline: Option<usize>,
    /// The line under the headline.
    pub(crate) subtitle: Option<usize>,
    /// Further titles.
    pub(crate) rest: Vec<usize>,
}

impl ArticleTitles {
    /// Returns `true` if the article has no title but the name of its column.
    pub(crate) fn lacks_headline(&self, blocks: &[Block<'_>]) -> bool {
        self.headline.is_none_or(|at| blocks[at].kind == BlockKind::Column)
    }
}

/// Assigns roles to `run`, the titles of an article. `lead` is the text of the first paragraph under them.
pub(crate) fn assign(blocks: &[Block<'_>], run: &[usize], lead: &str) -> ArticleTitles {
    let kind = |at: usize| blocks[at].kind;
    let mut titles = ArticleTitles::default();
    let mut plain: Vec<usize> = Vec::new();
    for &at in run {
        match kind(at) {
            BlockKind::Subtitle if titles.subtitle.is_none() && !plain.is_empty() => {
                titles.subtitle = Some(at)
            }
            // The name of a column may also follow the headline: 社论.
            BlockKind::Column if titles.kicker.is_none() => titles.kicker = Some(at),
            _ => plain.push(at),
        }
    }
    // If the markup marks one title as the headline, the others are above or under it.
    let hinted = plain.iter().position(|at| blocks[*at].hint == Some(MarkupHint::Title));
    if let Some(hinted) = hinted
        .filter(|_| plain.len() > 1 && plain.iter().any(|at| blocks[*at].hint != Some(MarkupHint::Title)))
    {
        let (over, under) = (&plain[..hinted], &plain[hinted + 1..]);
        titles.headline = Some(plain[hinted]);
        let (mut over, mut under) = (over.iter().copied(), under.iter().copied());
        titles.kicker = titles.kicker.or_else(|| over.next());
        titles.subtitle = titles.subtitle.or_else(|| under.next());
        titles.rest.extend(over.chain(under));
        return titles;
    }
    match *plain.as_slice() {
        [] => titles.headline = titles.kicker.take(),
        [only] => titles.headline = Some(only),
        [first, second] if titles.kicker.is_none() && is_kicker(blocks, first, second, lead) => {
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
            if titles.subtitle.is_none() && kind(rest[0]) != BlockKind::Column {
                titles.subtitle = Some(titles.rest.remove(0));
            }
        }
    }
    titles
}

/// Returns `true` if the headline completes the sentence of the line above: that ends in a colon or names the speaker.
fn opens_headline(over: &str) -> bool {
    over.ends_with(['：', ':']) || names_speaker(over)
}

/// Returns `true` if the line names the speaker whose words are the headline: …在全国会议上强调, …宣布.
fn names_speaker(over: &str) -> bool {
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

/// Returns `true` if `first` is a kicker above the headline `second` rather than a headline above a subtitle. A kicker is
/// short or begins the sentence that the headline completes, and the lead repeats the headline rather than the kicker.
fn is_kicker(blocks: &[Block<'_>], first: usize, second: usize, lead: &str) -> bool {
    let (over, main) = (&blocks[first].text, &blocks[second].text);
    if marks::is_column(over) || opens_headline(over) {
        return true;
    }
    if title::is_subtitle(main) || title::is_numbered(main) {
        return false;
    }
    let count = |text: &str| text.chars().count();
    let lead = CharPairs::of(lead, 150);
    let (over_share, main_share) = (lead.share(over, 60), lead.share(main, 60));
    if count(over) <= 8 && count(main) >= count(over) + 3 {
        return over_share <= main_share + 0.35;
    }
    main_share > over_share + 0.3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::blocks::line::lines;

    fn roles(page: &str, lead: &str) -> [Option<usize>; 3] {
        let lines = lines(page, &[]);
        let blocks: Vec<Block<'_>> = lines.iter().map(Block::new).collect();
        let run: Vec<usize> = (0..blocks.len()).collect();
        let titles = assign(&blocks, &run, lead);
        [titles.kicker, titles.headline, titles.subtitle]
    }

    #[test]
    fn assigns_kickers_headlines_and_subtitles() {
        assert_eq!(roles("全省秋收结束", ""), [None, Some(0), None]);
        assert_eq!(roles("国际观察", ""), [None, Some(0), None]);
        assert_eq!(roles("国际观察\n贸易战没有赢家", ""), [Some(0), Some(1), None]);
        assert_eq!(roles("全省秋收结束\n——来自田间的报告", ""), [None, Some(0), Some(1)]);
        assert_eq!(roles("国际观察\n贸易战没有赢家\n——来自港口的报告", ""), [Some(0), Some(1), Some(2)]);
        assert_eq!(roles("各地抢抓农时\n全省秋收结束\n粮食总产量创新高", ""), [Some(0), Some(1), Some(2)]);
        assert_eq!(
            roles("全省秋收结束\n粮食总产量创新高", "全省秋收结束，总产量比去年高。"),
            [None, Some(0), Some(1)]
        );
    }
}
