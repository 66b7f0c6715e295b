//! Makes up its mind about lines whose form alone does not tell whether they are titles, from what stands around them.
//!
//! `segment` calls [`settle`] once, between `column` and `unit`: questions, names of writers, lines that lead in with a
//! colon, tables of contents, verse and lists, the names under a notice.

use crate::document::blocks::line::MarkupHint;
use crate::document::blocks::{Block, BlockKind};
use crate::document::recognize::{byline, caption, credit, furniture, marks, title};

/// More titles in a row than this are no titles: verse, a table of contents, the lines of a list.
const MAX_TITLES: usize = 4;

/// After the name of a poet, fewer lines are verse.
const MIN_VERSE: usize = 3;

/// After a paragraph that ends in a colon, fewer lines are no list.
const MIN_LIST: usize = 2;

/// A line that leads in (专访有关负责人：) is not longer than this, in characters.
const MAX_LEAD_IN: usize = 24;

/// Decides about every line that can be several things; afterwards there is no [`BlockKind::Question`] left.
pub(crate) fn resolve_titles(blocks: &mut [Block<'_>]) {
    contents(blocks);
    photographs(blocks);
    let mut at = 0;
    let mut closed = true;
    // The heading that the story had last: the others are built like it.
    let mut heading: Option<usize> = None;
    while at < blocks.len() {
        match blocks[at].kind {
            BlockKind::Question => blocks[at].kind = question(blocks, at, closed, heading),
            BlockKind::Title if is_writer(blocks, at) => blocks[at].kind = BlockKind::Byline,
            BlockKind::Title if is_signature(blocks, at) => blocks[at].kind = BlockKind::Body,
            // “…”／——一位教授说: under a text, the dash leads in whose words they were.
            BlockKind::Subtitle
                if at > 0 && blocks[at - 1].kind == BlockKind::Body && blocks[at].hint.is_none() =>
            {
                blocks[at].kind = BlockKind::Body;
            }
            BlockKind::Body if leads_in(blocks, at, closed) => blocks[at].kind = BlockKind::Title,
            _ => {}
        }
        match blocks[at].kind {
            BlockKind::Title | BlockKind::Subtitle | BlockKind::Column => {
                heading = Some(at);
                at += titles(blocks, at, closed) - 1;
            }
            BlockKind::Byline | BlockKind::Dateline | BlockKind::Editor | BlockKind::Continuation(_) => {
                closed = true
            }
            BlockKind::Body => closed = marks::ends_story(&blocks[at].text),
            BlockKind::Caption | BlockKind::Furniture | BlockKind::Question => {}
        }
        at += 1;
    }
}

/// TitleLikeness at the titles that follow each other from `at` on and returns how many blocks were dealt with.
fn titles(blocks: &mut [Block<'_>], at: usize, first_is_due: bool) -> usize {
    let run = (at..blocks.len())
        .take_while(|next| {
            blocks[*next].kind.is_title() && (*next == at || !title::is_notice(&blocks[*next].text))
        })
        .count();
    // The name of the writer ends the titles over a text.
    let run = (at + 1..at + run).position(|next| is_writer(blocks, next)).map_or(run, |before| before + 1);
    // 《…》 on several lines is a list of works.
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
    let signed = at > 1 && blocks[at - 1].kind == BlockKind::Byline && blocks[at - 2].kind.is_title();
    let listed = at > 0 && blocks[at - 1].kind == BlockKind::Body && blocks[at - 1].text.ends_with('：');
    if signed && run >= MIN_VERSE || listed && run >= MIN_LIST {
        demote(&mut blocks[at..at + run], false);
    } else if run > MAX_TITLES {
        demote(&mut blocks[at..at + run], first_is_due);
    }
    run
}

/// What a line that ends in ？ or ！ is: a title where one is due and text follows, or where it is built like the heading
/// before it.
fn question(blocks: &[Block<'_>], at: usize, closed: bool, heading: Option<usize>) -> BlockKind {
    let next = blocks.get(at + 1);
    let due = closed
        || at > 0 && blocks[at - 1].kind == BlockKind::Column
        || next.is_some_and(|next| match next.kind {
            BlockKind::Byline | BlockKind::Dateline => {
                blocks.get(at + 2).is_some_and(|after| after.kind == BlockKind::Body)
            }
            _ => credit::at_head(&next.text).is_some(),
        })
        || heading.is_some_and(|heading| title::are_parallel(&blocks[heading].text, &blocks[at].text));
    let led_in = next.is_some_and(|next| {
        matches!(
            next.kind,
            BlockKind::Body
                | BlockKind::Byline
                | BlockKind::Dateline
                | BlockKind::Subtitle
                | BlockKind::Caption
        )
    });
    if due && led_in { BlockKind::Title } else { BlockKind::Body }
}

/// Whether the line is the name of the writer: under a headline, or under the text when nothing of it follows.
fn is_writer(blocks: &[Block<'_>], at: usize) -> bool {
    let text = &blocks[at].text;
    if blocks[at].hint.is_some() {
        return false;
    }
    let signs = byline::is_signature(text) && at > 0 && blocks[at - 1].kind == BlockKind::Body;
    if !signs && !byline::are_only_names(text) {
        return false;
    }
    // The day of a speech may stand between the title and the name.
    let before =
        blocks[..at].iter().rev().take(2).map(|block| block.kind).find(|form| *form != BlockKind::Furniture);
    match before.unwrap_or(BlockKind::Furniture) {
        BlockKind::Title | BlockKind::Subtitle => blocks.get(at + 1).is_some(),
        BlockKind::Body => blocks.get(at + 1).is_none_or(|next| next.kind.is_title()),
        _ => false,
    }
}

/// Whether the line is the office that signed the notice over it: the day stands under it.
fn is_signature(blocks: &[Block<'_>], at: usize) -> bool {
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

/// Whether the line leads in to the headline under it: 专访有关负责人：.
fn leads_in(blocks: &[Block<'_>], at: usize, closed: bool) -> bool {
    let text = blocks[at].text.as_ref();
    if blocks[at].hint.is_some()
        || !text.ends_with(['：', ':'])
        || text.contains(['，', '。', '；', '！', '？'])
        || text.chars().count() > MAX_LEAD_IN
        || !blocks.get(at + 1).is_some_and(|next| matches!(next.kind, BlockKind::Title | BlockKind::Question))
    {
        return false;
    }
    let credited = blocks.get(at + 2).is_some_and(|after| {
        matches!(after.kind, BlockKind::Byline | BlockKind::Dateline | BlockKind::Subtitle)
            || credit::at_head(&after.text).is_some()
    });
    let under_title = at > 0 && blocks[at - 1].kind.is_title();
    closed && !under_title || credited || at > 0 && blocks[at - 1].kind == BlockKind::Column
}

/// Makes captions of what stands over the name of a photographer and tells what the picture shows.
fn photographs(blocks: &mut [Block<'_>]) {
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

/// Makes furniture of the title of a table of contents: 今日导读 over headlines with their pages.
fn contents(blocks: &mut [Block<'_>]) {
    for at in 1..blocks.len() {
        if blocks[at].kind == BlockKind::Furniture
            && marks::is_pointer(&blocks[at].text)
            && blocks[at - 1].kind.is_title()
            && marks::is_contents(&blocks[at - 1].text)
        {
            blocks[at - 1].kind = BlockKind::Furniture;
        }
    }
}

/// Makes body text of a long run of titles, but for the group of them that a gap sets off at its end, for a last one
/// that was in the list over it already (the chapter after the table of contents), and for the title of a poem or list
/// at its head.
fn demote(run: &mut [Block<'_>], first_is_due: bool) {
    let gap = run[1..].iter().map(|block| block.blank_above).max().unwrap_or(0);
    let even = run[1..].iter().all(|block| block.blank_above == gap);
    let last_group = run.iter().rposition(|block| block.blank_above == gap).unwrap_or(0);
    let bare = |block: &Block<'_>| block.text.replace(char::is_whitespace, "");
    let is_repeated = run.split_last().is_some_and(|(last, list)| {
        let last = bare(last);
        list.iter().any(|listed| bare(listed) == last)
    });
    let spared = if is_repeated {
        run.len() - 1
    } else if even || last_group == 0 || run.len() - last_group > MAX_TITLES {
        run.len()
    } else {
        last_group
    };
    for block in run.iter_mut().take(spared).skip(usize::from(first_is_due)) {
        if !matches!(block.hint, Some(MarkupHint::Title | MarkupHint::Heading)) {
            block.kind = BlockKind::Body;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::blocks::line::lines;

    /// One letter a line: T(itle), B(ody), W(riter), F(urniture), - anything else.
    fn settled(page: &str) -> String {
        let lines = lines(page, &[]);
        let mut blocks: Vec<Block<'_>> = lines.iter().map(Block::of).collect();
        resolve_titles(&mut blocks);
        let letter = |block: &Block<'_>| match block.kind {
            form if form.is_title() => 'T',
            BlockKind::Body => 'B',
            BlockKind::Byline => 'W',
            BlockKind::Furniture => 'F',
            _ => '-',
        };
        blocks.iter().map(letter).collect()
    }

    #[test]
    fn verse_is_a_title_and_text() {
        assert_eq!(settled("春天的诗\n花儿开放\n鸟儿歌唱\n河水流淌\n孩子奔跑\n风筝飞翔"), "TBBBBB");
        assert_eq!(settled("春雨\n李强\n细雨落在瓦上\n像谁在轻声说话\n燕子飞过屋檐"), "TWBBB");
    }

    #[test]
    fn lists_are_text() {
        assert_eq!(settled("评选结果揭晓\n正文一。\n特别奖\n《大国粮仓》\n《黄河入海》"), "TBTBB");
        assert_eq!(settled("声音\n“要把时间用在科研上。”\n——一位教授说"), "TBB");
        assert_eq!(
            settled("题目之一\n主要数据如下：\n出口增长百分之五\n进口增长百分之三\n正文一。"),
            "TBBBB"
        );
        assert_eq!(
            settled("题目\n（2024年4月28日）\n王民\n正文一。\n谢谢大家！\n（新华社北京4月28日电）"),
            "TFWBB-"
        );
    }

    #[test]
    fn questions_are_titles_where_one_is_due() {
        assert_eq!(settled("谁来养老？\n本报记者 王民\n正文一。"), "TWB");
        assert_eq!(settled("题目之一\n正文一。\n谁来养老？\n正文二。"), "TBBB");
        assert_eq!(settled("题目\n正文一。\n钱从哪里来\n正文二。\n人往哪里去？\n正文三。"), "TBTBTB");
    }

    #[test]
    fn names_under_titles_and_texts_are_writers() {
        assert_eq!(settled("在实干中成就梦想\n王 民\n正文一。\n李强\n另一个题目\n正文二。"), "TWBWTB");
        assert_eq!(settled("题目之一\n正文一。\n湖南某县 王民\n另一个题目\n正文二。"), "TBWTB");
        assert_eq!(settled("人民论坛\n方向感\n王民\n正文一。"), "TTWB");
        // A heading may look like a name.
        assert_eq!(settled("题目之一\n正文一。\n高山\n正文二。"), "TBTB");
    }

    #[test]
    fn lists_of_contents_and_chapters() {
        assert_eq!(settled("题目之一\n正文一。\n今日导读\n春耕开始（第二版）\n古籍修复（第八版）"), "TBFFF");
        assert_eq!(
            settled("某某法\n目录\n第一章 总则\n第二章 措施\n第三章 附则\n第一章 总 则\n第一条 正文。"),
            "TBBBBTB"
        );
    }

    #[test]
    fn lead_ins_and_signatures() {
        assert_eq!(settled("专访有关负责人：\n让绿色电力走进千家万户\n本报记者 王民\n正文一。"), "TTWB");
        assert_eq!(settled("题目之一\n正文一。\n主要措施有：\n新建三座水库\n正文二。"), "TBBTB");
        assert_eq!(settled("公告\n请股东准时参加。\n某某公司董事会\n2024年5月10日"), "TBBF");
    }
}
