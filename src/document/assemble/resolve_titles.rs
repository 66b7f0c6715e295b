//! Decides from their surroundings which ambiguous lines are titles.
//!
//! `segment` calls [`resolve_titles`] before it groups the blocks. It handles questions, names of authors, lead-ins that
//! end in a colon, tables of contents, verse, lists, and the signatures of notices.

use crate::document::blocks::line::MarkupHint;
use crate::document::blocks::{Block, BlockKind};
use crate::document::recognize::{byline, caption, credit, furniture, marks, title};

/// The maximum number of titles in a row. More of them are verse, a table of contents or a list.
const MAX_TITLES: usize = 4;

/// The minimum number of lines that are verse after the name of a poet.
const MIN_VERSE: usize = 3;

/// The minimum number of lines that are a list after a paragraph that ends in a colon.
const MIN_LIST: usize = 2;

/// The maximum length of a lead-in such as 专访有关负责人：, in characters.
const MAX_LEAD_IN: usize = 24;

/// Sets the kind of every ambiguous block. Afterwards there are no [`BlockKind::Question`]s.
pub(crate) fn resolve_titles(blocks: &mut [Block<'_>]) {
    resolve_contents_titles(blocks);
    resolve_picture_descriptions(blocks);
    let mut at = 0;
    let mut story_ended = true;
    // The last heading of the story; the next ones often have the same structure.
    let mut heading: Option<usize> = None;
    while at < blocks.len() {
        match blocks[at].kind {
            BlockKind::Question => blocks[at].kind = resolve_question(blocks, at, story_ended, heading),
            BlockKind::Title if is_author(blocks, at) => blocks[at].kind = BlockKind::Byline,
            BlockKind::Title if is_notice_signature(blocks, at) => blocks[at].kind = BlockKind::Body,
            // Under a text, a dash attributes a quotation: “…”／——一位教授说.
            BlockKind::Subtitle
                if at > 0 && blocks[at - 1].kind == BlockKind::Body && blocks[at].hint.is_none() =>
            {
                blocks[at].kind = BlockKind::Body;
            }
            BlockKind::Body if is_lead_in(blocks, at, story_ended) => blocks[at].kind = BlockKind::Title,
            _ => {}
        }
        match blocks[at].kind {
            BlockKind::Title | BlockKind::Subtitle | BlockKind::Column => {
                heading = Some(at);
                at += resolve_title_run(blocks, at, story_ended) - 1;
            }
            BlockKind::Byline | BlockKind::Dateline | BlockKind::Editor | BlockKind::Continuation(_) => {
                story_ended = true
            }
            BlockKind::Body => story_ended = marks::ends_story(&blocks[at].text),
            BlockKind::Caption | BlockKind::Furniture | BlockKind::Question => {}
        }
        at += 1;
    }
}

/// Resolves the consecutive titles from `at` on and returns their number. `title_expected` is `true` if the first of them
/// may be a headline.
fn resolve_title_run(blocks: &mut [Block<'_>], at: usize, title_expected: bool) -> usize {
    let run = (at..blocks.len())
        .take_while(|next| {
            blocks[*next].kind.is_title() && (*next == at || !title::is_notice(&blocks[*next].text))
        })
        .count();
    // The name of the author ends the titles above a text.
    let run = (at + 1..at + run).position(|next| is_author(blocks, next)).map_or(run, |before| before + 1);
    // Several lines of the form 《…》 are a list of works.
    let is_work = |block: &Block<'_>| {
        block.hint.is_none()
            && block.text.starts_with('《')
            && block.text.find('》') == Some(block.text.len() - 3)
    };
    if blocks[at..at + run].iter().filter(|block| is_work(block)).count() > 1 {
        blocks[at..at + run]
            .iter_mut()
            .filter(|block| is_work(block))
            .for_each(|block| block.kind = BlockKind::Body);
        return run;
    }
    let after_byline = at > 1 && blocks[at - 1].kind == BlockKind::Byline && blocks[at - 2].kind.is_title();
    let after_colon = at > 0 && blocks[at - 1].kind == BlockKind::Body && blocks[at - 1].text.ends_with('：');
    if after_byline && run >= MIN_VERSE || after_colon && run >= MIN_LIST {
        demote(&mut blocks[at..at + run], false);
    } else if run > MAX_TITLES {
        demote(&mut blocks[at..at + run], title_expected);
    }
    run
}

/// Returns the kind of a line that ends in ？ or ！. It is a title where one is expected and text follows, or if it is
/// parallel to the previous heading.
fn resolve_question(blocks: &[Block<'_>], at: usize, story_ended: bool, heading: Option<usize>) -> BlockKind {
    let next = blocks.get(at + 1);
    let title_expected = story_ended
        || at > 0 && blocks[at - 1].kind == BlockKind::Column
        || next.is_some_and(|next| match next.kind {
            BlockKind::Byline | BlockKind::Dateline => {
                blocks.get(at + 2).is_some_and(|after| after.kind == BlockKind::Body)
            }
            _ => credit::at_start(&next.text).is_some(),
        })
        || heading.is_some_and(|heading| title::are_parallel(&blocks[heading].text, &blocks[at].text));
    let text_follows = next.is_some_and(|next| {
        matches!(
            next.kind,
            BlockKind::Body
                | BlockKind::Byline
                | BlockKind::Dateline
                | BlockKind::Subtitle
                | BlockKind::Caption
        )
    });
    if title_expected && text_follows { BlockKind::Title } else { BlockKind::Body }
}

/// Returns `true` if the line is the name of the author: under a headline, or at the end of the text.
fn is_author(blocks: &[Block<'_>], at: usize) -> bool {
    let text = &blocks[at].text;
    if blocks[at].hint.is_some() {
        return false;
    }
    let is_signature = byline::is_signature(text) && at > 0 && blocks[at - 1].kind == BlockKind::Body;
    if !is_signature && !byline::are_only_names(text) {
        return false;
    }
    // The date of a speech may come between the title and the name.
    let before =
        blocks[..at].iter().rev().take(2).map(|block| block.kind).find(|kind| *kind != BlockKind::Furniture);
    match before.unwrap_or(BlockKind::Furniture) {
        BlockKind::Title | BlockKind::Subtitle => blocks.get(at + 1).is_some(),
        BlockKind::Body => blocks.get(at + 1).is_none_or(|next| next.kind.is_title()),
        _ => false,
    }
}

/// Returns `true` if the line is the signature of the notice above it, which is followed by the date.
fn is_notice_signature(blocks: &[Block<'_>], at: usize) -> bool {
    #[rustfmt::skip]
    const OFFICES: &[&str] = &[
        "公司", "委员会", "董事会", "局", "厅", "部", "院", "办公室", "中心", "协会", "学会", "大学", "政府",
        "委", "组委会", "联合会", "指挥部", "银行", "学校", "法院", "总社", "集团",
    ];
    at > 0
        && blocks[at - 1].kind == BlockKind::Body
        && blocks[at].hint.is_none()
        && OFFICES.iter().any(|office| blocks[at].text.ends_with(office))
        && blocks.get(at + 1).is_some_and(|next| furniture::is_day(&next.text))
}

/// Returns `true` if the line leads in to the headline under it: 专访有关负责人：.
fn is_lead_in(blocks: &[Block<'_>], at: usize, story_ended: bool) -> bool {
    let text = blocks[at].text.as_ref();
    if blocks[at].hint.is_some()
        || !text.ends_with(['：', ':'])
        || text.contains(['，', '。', '；', '！', '？'])
        || text.chars().count() > MAX_LEAD_IN
        || !blocks.get(at + 1).is_some_and(|next| matches!(next.kind, BlockKind::Title | BlockKind::Question))
    {
        return false;
    }
    let credit_follows = blocks.get(at + 2).is_some_and(|after| {
        matches!(after.kind, BlockKind::Byline | BlockKind::Dateline | BlockKind::Subtitle)
            || credit::at_start(&after.text).is_some()
    });
    let follows_title = at > 0 && blocks[at - 1].kind.is_title();
    story_ended && !follows_title || credit_follows || at > 0 && blocks[at - 1].kind == BlockKind::Column
}

/// Turns descriptions of a picture above the name of its photographer into captions.
fn resolve_picture_descriptions(blocks: &mut [Block<'_>]) {
    for at in 1..blocks.len() {
        if blocks[at].kind == BlockKind::Caption
            && blocks[at - 1].kind == BlockKind::Body
            && blocks[at - 1].hint.is_none()
            && caption::is_photographer(&blocks[at].text)
            && caption::describes_picture(&blocks[at - 1].text)
        {
            blocks[at - 1].kind = BlockKind::Caption;
        }
    }
}

/// Turns the title of a table of contents into furniture: 今日导读 above headlines with page numbers.
fn resolve_contents_titles(blocks: &mut [Block<'_>]) {
    for at in 1..blocks.len() {
        if blocks[at].kind == BlockKind::Furniture
            && marks::is_contents_entry(&blocks[at].text)
            && blocks[at - 1].kind.is_title()
            && marks::is_contents_title(&blocks[at - 1].text)
        {
            blocks[at - 1].kind = BlockKind::Furniture;
        }
    }
}

/// Turns a long run of titles into body text. Exceptions are a group that a gap separates at the end, a last title that
/// repeats an earlier one (the first chapter after a table of contents), and, if a title is expected, the first one.
fn demote(run: &mut [Block<'_>], title_expected: bool) {
    let gap = run[1..].iter().map(|block| block.blank_above).max().unwrap_or(0);
    let is_even = run[1..].iter().all(|block| block.blank_above == gap);
    let last_group = run.iter().rposition(|block| block.blank_above == gap).unwrap_or(0);
    let without_spaces = |block: &Block<'_>| block.text.replace(char::is_whitespace, "");
    let is_repeated = run.split_last().is_some_and(|(last, list)| {
        let last = without_spaces(last);
        list.iter().any(|earlier| without_spaces(earlier) == last)
    });
    let end = if is_repeated {
        run.len() - 1
    } else if is_even || last_group == 0 || run.len() - last_group > MAX_TITLES {
        run.len()
    } else {
        last_group
    };
    for block in run.iter_mut().take(end).skip(usize::from(title_expected)) {
        if !matches!(block.hint, Some(MarkupHint::Title | MarkupHint::Heading)) {
            block.kind = BlockKind::Body;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::blocks::line::lines;

    /// Returns one letter per line: T(itle), B(ody), A(uthor), F(urniture), or - for other kinds.
    fn resolved(page: &str) -> String {
        let lines = lines(page, &[]);
        let mut blocks: Vec<Block<'_>> = lines.iter().map(Block::new).collect();
        resolve_titles(&mut blocks);
        let letter = |block: &Block<'_>| match block.kind {
            kind if kind.is_title() => 'T',
            BlockKind::Body => 'B',
            BlockKind::Byline => 'A',
            BlockKind::Furniture => 'F',
            _ => '-',
        };
        blocks.iter().map(letter).collect()
    }

    #[test]
    fn resolves_verse() {
        assert_eq!(resolved("春天的诗\n花儿开放\n鸟儿歌唱\n河水流淌\n孩子奔跑\n风筝飞翔"), "TBBBBB");
        assert_eq!(resolved("春雨\n李强\n细雨落在瓦上\n像谁在轻声说话\n燕子飞过屋檐"), "TABBB");
    }

    #[test]
    fn resolves_lists() {
        assert_eq!(resolved("评选结果揭晓\n正文一。\n特别奖\n《大国粮仓》\n《黄河入海》"), "TBTBB");
        assert_eq!(resolved("声音\n“要把时间用在科研上。”\n——一位教授说"), "TBB");
        assert_eq!(
            resolved("题目之一\n主要数据如下：\n出口增长百分之五\n进口增长百分之三\n正文一。"),
            "TBBBB"
        );
        assert_eq!(
            resolved("题目\n（2024年4月28日）\n王民\n正文一。\n谢谢大家！\n（新华社北京4月28日电）"),
            "TFABB-"
        );
    }

    #[test]
    fn resolves_questions() {
        assert_eq!(resolved("谁来养老？\n本报记者 王民\n正文一。"), "TAB");
        assert_eq!(resolved("题目之一\n正文一。\n谁来养老？\n正文二。"), "TBBB");
        assert_eq!(resolved("题目\n正文一。\n钱从哪里来\n正文二。\n人往哪里去？\n正文三。"), "TBTBTB");
    }

    #[test]
    fn resolves_names_of_authors() {
        assert_eq!(resolved("在实干中成就梦想\n王 民\n正文一。\n李强\n另一个题目\n正文二。"), "TABATB");
        assert_eq!(resolved("题目之一\n正文一。\n湖南某县 王民\n另一个题目\n正文二。"), "TBATB");
        assert_eq!(resolved("人民论坛\n方向感\n王民\n正文一。"), "TTAB");
        // A heading may look like a name.
        assert_eq!(resolved("题目之一\n正文一。\n高山\n正文二。"), "TBTB");
    }

    #[test]
    fn resolves_tables_of_contents() {
        assert_eq!(resolved("题目之一\n正文一。\n今日导读\n春耕开始（第二版）\n古籍修复（第八版）"), "TBFFF");
        assert_eq!(
            resolved("某某法\n目录\n第一章 总则\n第二章 措施\n第三章 附则\n第一章 总 则\n第一条 正文。"),
            "TBBBBTB"
        );
    }

    #[test]
    fn resolves_lead_ins_and_signatures() {
        assert_eq!(resolved("专访有关负责人：\n让绿色电力走进千家万户\n本报记者 王民\n正文一。"), "TTAB");
        assert_eq!(resolved("题目之一\n正文一。\n主要措施有：\n新建三座水库\n正文二。"), "TBBTB");
        assert_eq!(resolved("公告\n请股东准时参加。\n某某公司董事会\n2024年5月10日"), "TBBF");
    }
}
