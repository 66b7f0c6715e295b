//! Recognises lines that have the form of a title: no full stop, not long, brackets in balance, not cut off.
//!
//! Whether such a line is a headline, a section heading, a kicker or no title after all depends on what stands around
//! it; that is decided in `titles` and `boundary`.

use super::chars::{closer, is_closer, is_digit, is_han, is_stop};

/// The longest title, in characters. Names of laws and conferences make some of them long.
const MAX_TITLE: usize = 52;

/// How much a line looks like a title.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TitleLikeness {
    /// It is none.
    Not,
    /// It may be one where a title is due: it ends in ？ or ！.
    Maybe,
    /// It is one, unless it is the end of something cut off.
    Like,
}

/// Words that no title ends with, but a line that a column cut off may; `seam` weighs the less certain ones.
const LEADING_ON: &str = "的是或把被而但";

/// Whether `text`, a whole line, has the form of a title.
pub(crate) fn looks(text: &str) -> TitleLikeness {
    if text.len() > MAX_TITLE * 4 {
        return TitleLikeness::Not;
    }
    let mut open = [' '; 8];
    let (mut depth, mut count, mut commas, mut listed, mut letters) = (0, 0, 0, 0, 0);
    let mut last = ' ';
    for character in text.chars() {
        if let Some(close) = closer(character) {
            if depth == open.len() {
                return TitleLikeness::Not;
            }
            open[depth] = close;
            depth += 1;
        } else if is_closer(character) {
            if depth == 0 || open[depth - 1] != character {
                return TitleLikeness::Not;
            }
            depth -= 1;
        } else if matches!(character, '。' | '；') && depth == 0 {
            return TitleLikeness::Not;
        }
        commas += usize::from(depth == 0 && matches!(character, '，' | ','));
        listed += usize::from(character == '、');
        letters += usize::from(is_han(character) || character.is_alphabetic());
        count += 1;
        last = character;
    }
    let first = text.chars().next().unwrap_or(' ');
    if depth > 0
        || !(2..=MAX_TITLE).contains(&count)
        || letters < 2
        || commas > 2
        || listed > 2
        || "，。、；：！？…—".contains(first)
    {
        return TitleLikeness::Not;
    }
    if "，、；：,:;.—…".contains(last) || is_enumerated(text) || is_spoken(text) || is_tabular(text) {
        return TitleLikeness::Not;
    }
    let inner = text.trim_end_matches(['”', '’', '」', '』', '）', ')']).chars().next_back().unwrap_or(' ');
    if matches!(inner, '。' | '…') {
        return TitleLikeness::Not;
    }
    if is_stop(inner) {
        return if count <= 36 && commas <= 1 { TitleLikeness::Maybe } else { TitleLikeness::Not };
    }
    if LEADING_ON.contains(last) || commas > 0 && count > 32 {
        return TitleLikeness::Not;
    }
    TitleLikeness::Like
}

/// Whether `text` cannot be a whole title: a bracket is open, or it ends in a word that leads on.
pub(crate) fn is_unfinished(text: &str) -> bool {
    if text.ends_with(|c: char| LEADING_ON.contains(c) || "和与及、".contains(c)) {
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

/// ——新质生产力发展一线见闻
pub(crate) fn is_subtitle(text: &str) -> bool {
    let rest = text.trim_start_matches(['—', '―', '─', '–', '-']);
    let dashes = text.len() - rest.len();
    dashes >= 3
        && rest.len() < 180
        && matches!(looks(rest.trim()), TitleLikeness::Like | TitleLikeness::Maybe)
        && !rest.ends_with(['。', '！'])
}

/// 第一，…: a paragraph that counts, be it ever so short.
fn is_enumerated(text: &str) -> bool {
    text.strip_prefix('第').is_some_and(|rest| {
        let rest = rest.trim_start_matches(is_digit);
        rest.starts_with(['，', ',', '、', '：'])
    })
}

/// 问：…, 答：…, 记者：…
fn is_spoken(text: &str) -> bool {
    ["问", "答", "记者", "記者", "问题", "主持人"]
        .iter()
        .any(|who| text.strip_prefix(who).is_some_and(|rest| rest.starts_with(['：', ':'])))
}

/// 公告, 启事, 更正: what stands under it is no news, and never part of the story before.
pub(crate) fn is_notice(text: &str) -> bool {
    const WORDS: &[&str] =
        &["公告", "通告", "启事", "声明", "更正", "讣告", "公示", "致歉", "遗失声明", "招标公告", "拍卖公告"];
    text.len() <= 24 && {
        let bare = text.replace(char::is_whitespace, "");
        WORDS.contains(&bare.as_str())
    }
}

/// Whether two titles are built alike, as the headings of one story are: 岸线变了, 产业变了; 钱从哪里来, 人往哪里去？
pub(crate) fn are_parallel(one: &str, other: &str) -> bool {
    const LONGEST: usize = 16;
    let plain = |text: &'_ str| -> usize { text.chars().filter(|c| is_han(*c)).take(LONGEST + 1).count() };
    let count = plain(one);
    if !(3..=LONGEST).contains(&count) || plain(other) != count {
        return false;
    }
    let pairs = one.chars().filter(|c| is_han(*c)).zip(other.chars().filter(|c| is_han(*c)));
    let alike = pairs.filter(|(a, b)| a == b).count();
    (2..count).contains(&alike) && alike * 5 >= count * 2
}

/// （一）…, 一、…, 1.…, ◆…: a title within a text, never of one.
pub(crate) fn is_numbered(text: &str) -> bool {
    let first = text.chars().next().unwrap_or(' ');
    let (inner, bracketed) =
        if "（(".contains(first) { (&text[first.len_utf8()..], true) } else { (text, false) };
    let rest = inner.trim_start_matches(is_digit);
    let digits = inner.len() - rest.len();
    let ends = if bracketed {
        rest.starts_with(['）', ')'])
    } else {
        rest.starts_with(['、', '.', '．'])
            && !rest.trim_start_matches(['、', '.', '．']).starts_with(|c: char| c.is_ascii_digit())
    };
    digits > 0 && digits <= 9 && ends || is_chapter(text) || "①②③④⑤⑥⑦⑧⑨⑩◆◇■▍▌".contains(first)
}

/// 第一章 总则, 第三节 法律责任.
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

/// 北京 晴 18℃/29℃, 金牌 12 8 3: the line of a table.
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
    fn titles_and_what_only_resembles_them() {
        for line in [
            "全国文物普查启动",
            "《关于加强保护的意见》发布",
            "攀高逐“新” “质”胜未来",
            "总理：共迎时代挑战",
            "IMF敦促减少限制",
            "增速0.7%",
            "冷空气南下 局地降温超12℃",
        ] {
            assert_eq!(looks(line), TitleLikeness::Like, "{line}");
        }
        for line in ["如何迈出第一步？", "从699天缩短至1.64小时！"] {
            assert_eq!(looks(line), TitleLikeness::Maybe, "{line}");
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
            assert_eq!(looks(line), TitleLikeness::Not, "{line}");
        }
    }

    #[test]
    fn headings_of_one_story_are_built_alike() {
        assert!(are_parallel("岸线变了", "日子变了") && are_parallel("钱从哪里来", "人往哪里去？"));
        assert!(!are_parallel("岸线变了", "岸线变了") && !are_parallel("岸线变了", "渔民上岸"));
        assert!(is_notice("公　告") && !is_notice("公告发布"));
    }

    #[test]
    fn numbers_and_dashes_before_titles() {
        assert!(is_numbered("一、总体要求") && is_numbered("（二）基本原则") && is_numbered("3.保障措施"));
        assert!(
            is_numbered("第一章 总则") && is_numbered("第三节 罚则") && !is_numbered("第三节能源论坛举行")
        );
        assert!(!is_numbered("3.5亿人受益") && !is_numbered("一带一路") && !is_numbered("（记者）"));
        assert!(is_subtitle("——一线见闻") && !is_subtitle("——") && !is_subtitle("—他说，今天下雨。"));
    }
}
