//! Recognizes lines that look like a title: no full stop, not too long, balanced brackets, not cut off.
//!
//! `assemble` decides from the surroundings which of them are headlines, section headings or kickers.

use super::chars::{closer, is_closer, is_digit, is_han, is_stop};

/// The maximum length of a title, in characters. Some contain the long names of laws and conferences.
const MAX_TITLE: usize = 52;

/// The degree to which a line looks like a title.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TitleLikeness {
    /// The line is not a title.
    None,
    /// The line ends in ？ or ！ and is a title only where one is expected.
    Possible,
    /// The line is a title unless it is a fragment of an interrupted paragraph.
    Likely,
}

/// Characters that never end a title but may end a line that was cut off. `seam` weighs the less certain ones.
const NEVER_LAST_OF_TITLE: &str = "的是或把被而但";

/// Returns the degree to which `text`, a whole line, looks like a title.
pub(crate) fn likeness(text: &str) -> TitleLikeness {
    if text.len() > MAX_TITLE * 4 {
        return TitleLikeness::None;
    }
    let mut closers = [' '; 8];
    let (mut depth, mut count, mut commas, mut list_commas, mut letters) = (0, 0, 0, 0, 0);
    let mut last = ' ';
    for character in text.chars() {
        if let Some(close) = closer(character) {
            if depth == closers.len() {
                return TitleLikeness::None;
            }
            closers[depth] = close;
            depth += 1;
        } else if is_closer(character) {
            if depth == 0 || closers[depth - 1] != character {
                return TitleLikeness::None;
            }
            depth -= 1;
        } else if matches!(character, '。' | '；') && depth == 0 {
            return TitleLikeness::None;
        }
        commas += usize::from(depth == 0 && matches!(character, '，' | ','));
        list_commas += usize::from(character == '、');
        letters += usize::from(is_han(character) || character.is_alphabetic());
        count += 1;
        last = character;
    }
    let first = text.chars().next().unwrap_or(' ');
    if depth > 0
        || !(2..=MAX_TITLE).contains(&count)
        || letters < 2
        || commas > 2
        || list_commas > 2
        || "，。、；：！？…—".contains(first)
    {
        return TitleLikeness::None;
    }
    if "，、；：,:;.—…".contains(last) || is_enumerated(text) || is_spoken(text) || is_tabular(text) {
        return TitleLikeness::None;
    }
    let unquoted =
        text.trim_end_matches(['”', '’', '」', '』', '）', ')']).chars().next_back().unwrap_or(' ');
    if matches!(unquoted, '。' | '…') {
        return TitleLikeness::None;
    }
    if is_stop(unquoted) {
        return if count <= 36 && commas <= 1 { TitleLikeness::Possible } else { TitleLikeness::None };
    }
    if NEVER_LAST_OF_TITLE.contains(last) || commas > 0 && count > 32 {
        return TitleLikeness::None;
    }
    TitleLikeness::Likely
}

/// Returns `true` if `text` cannot be a whole title: it has an open bracket or ends in a word that needs another.
pub(crate) fn is_unfinished(text: &str) -> bool {
    if text.ends_with(|c: char| NEVER_LAST_OF_TITLE.contains(c) || "和与及、".contains(c)) {
        return true;
    }
    let mut open = Vec::new();
    for character in text.chars() {
        if let Some(close) = closer(character) {
            open.push(close);
        } else if is_closer(character) && open.pop() != Some(character) {
            return false;
        }
    }
    !open.is_empty()
}

/// Returns `true` for a subtitle: ——新质生产力发展一线见闻.
pub(crate) fn is_subtitle(text: &str) -> bool {
    let rest = text.trim_start_matches(['—', '―', '─', '–', '-']);
    let dashes = text.len() - rest.len();
    dashes >= 3
        && rest.len() < 180
        && matches!(likeness(rest.trim()), TitleLikeness::Likely | TitleLikeness::Possible)
        && !rest.ends_with(['。', '！'])
}

/// Returns `true` for a paragraph that enumerates, however short: 第一，….
fn is_enumerated(text: &str) -> bool {
    text.strip_prefix('第').is_some_and(|rest| {
        let rest = rest.trim_start_matches(is_digit);
        rest.starts_with(['，', ',', '、', '：'])
    })
}

/// Returns `true` for a line of an interview: 问：…, 答：…, 记者：….
fn is_spoken(text: &str) -> bool {
    ["问", "答", "记者", "記者", "问题", "主持人"]
        .iter()
        .any(|who| text.strip_prefix(who).is_some_and(|rest| rest.starts_with(['：', ':'])))
}

/// Returns `true` for the title of a public notice: 公告, 启事, 更正. The text under it is never part of the story before.
pub(crate) fn is_notice(text: &str) -> bool {
    const WORDS: &[&str] =
        &["公告", "通告", "启事", "声明", "更正", "讣告", "公示", "致歉", "遗失声明", "招标公告", "拍卖公告"];
    text.len() <= 24 && {
        let bare = text.replace(char::is_whitespace, "");
        WORDS.contains(&bare.as_str())
    }
}

/// Returns `true` if two titles have the same structure, as the headings of one story often do: 岸线变了, 产业变了;
/// 钱从哪里来, 人往哪里去？
pub(crate) fn are_parallel(one: &str, other: &str) -> bool {
    const MAX_CHARS: usize = 16;
    let han_count =
        |text: &'_ str| -> usize { text.chars().filter(|c| is_han(*c)).take(MAX_CHARS + 1).count() };
    let count = han_count(one);
    if !(3..=MAX_CHARS).contains(&count) || han_count(other) != count {
        return false;
    }
    let pairs = one.chars().filter(|c| is_han(*c)).zip(other.chars().filter(|c| is_han(*c)));
    let equal = pairs.filter(|(a, b)| a == b).count();
    (2..count).contains(&equal) && equal * 5 >= count * 2
}

/// Returns `true` for a numbered or bulleted title, which is a heading and never a headline: （一）…, 一、…, 1.…, ◆….
pub(crate) fn is_numbered(text: &str) -> bool {
    let first = text.chars().next().unwrap_or(' ');
    let (unbracketed, is_bracketed) =
        if "（(".contains(first) { (&text[first.len_utf8()..], true) } else { (text, false) };
    let rest = unbracketed.trim_start_matches(is_digit);
    let digits = unbracketed.len() - rest.len();
    let has_delimiter = if is_bracketed {
        rest.starts_with(['）', ')'])
    } else {
        rest.starts_with(['、', '.', '．'])
            && !rest.trim_start_matches(['、', '.', '．']).starts_with(|c: char| c.is_ascii_digit())
    };
    digits > 0 && digits <= 9 && has_delimiter || is_chapter(text) || "①②③④⑤⑥⑦⑧⑨⑩◆◇■▍▌".contains(first)
}

/// Returns `true` for the title of a chapter of a law: 第一章 总则, 第三节 法律责任.
fn is_chapter(text: &str) -> bool {
    text.strip_prefix('第').is_some_and(|rest| {
        let kind = rest.trim_start_matches(is_digit);
        let digits = rest.len() - kind.len();
        let name = kind.strip_prefix(['章', '节', '節', '编', '編', '篇']);
        (1..=12).contains(&digits)
            && name.is_some_and(|name| {
                name.is_empty() || kind.starts_with('章') || name.starts_with([' ', '：'])
            })
    })
}

/// Returns `true` for a row of a table: 北京 晴 18℃/29℃, 金牌 12 8 3.
fn is_tabular(text: &str) -> bool {
    if !text.contains(|c: char| c.is_ascii_digit() || c == '℃') {
        return false;
    }
    let cells = text.split_whitespace();
    let (all, numbers) = cells.fold((0, 0), |(all, numbers), cell| {
        (all + 1, numbers + usize::from(cell.chars().all(|c| c.is_ascii_digit() || ".,%-/℃:：+".contains(c))))
    });
    numbers > 0 && (all >= 3 && numbers >= 2 || text.contains('℃'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_titles_from_similar_lines() {
        for line in [
            "全国文物普查启动",
            "《关于加强保护的意见》发布",
            "攀高逐“新” “质”胜未来",
            "总理：共迎时代挑战",
            "IMF敦促减少限制",
            "增速0.7%",
            "冷空气南下 局地降温超12℃",
        ] {
            assert_eq!(likeness(line), TitleLikeness::Likely, "{line}");
        }
        for line in ["如何迈出第一步？", "从699天缩短至1.64小时！"] {
            assert_eq!(likeness(line), TitleLikeness::Possible, "{line}");
        }
        for line in [
            "全市的中小学今天开学。",
            "……",
            "今年以来：",
            "第四，推进应用是",
            "问：何时开工",
            "以场景为抓手，推动应用——",
            "抓好教育，促进就业，扩大消费，改善民生",
            "他说“好",
            "）的通知",
            "题",
            "让技术的种子的",
            "体育成绩计入总分.",
            "北京 晴转多云 18℃/29℃",
            "中国 12 8 3",
        ] {
            assert_eq!(likeness(line), TitleLikeness::None, "{line}");
        }
    }

    #[test]
    fn recognizes_parallel_headings_and_notices() {
        assert!(are_parallel("岸线变了", "日子变了") && are_parallel("钱从哪里来", "人往哪里去？"));
        assert!(!are_parallel("岸线变了", "岸线变了") && !are_parallel("岸线变了", "渔民上岸"));
        assert!(is_notice("公　告") && !is_notice("公告发布"));
    }

    #[test]
    fn recognizes_numbered_titles_and_subtitles() {
        assert!(is_numbered("一、总体要求") && is_numbered("（二）基本原则") && is_numbered("3.保障措施"));
        assert!(
            is_numbered("第一章 总则") && is_numbered("第三节 罚则") && !is_numbered("第三节能源论坛举行")
        );
        assert!(!is_numbered("3.5亿人受益") && !is_numbered("一带一路") && !is_numbered("（记者）"));
        assert!(is_subtitle("——一线见闻") && !is_subtitle("——") && !is_subtitle("—他说，今天下雨。"));
    }
}
