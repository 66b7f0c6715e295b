//! Recognizes page furniture, which belongs to the page and not to a story: 第3版, issue dates, rules, page numbers,
//! imprints.
//!
//! `blocks` asks about whole lines. The word lists contain terms of the trade, never words of particular stories.

use super::chars::{is_digit, is_han, prefix_len, unbracketed};

/// Returns `true` if the line is page furniture.
pub(crate) fn is_furniture(text: &str) -> bool {
    if text.len() > 360 {
        return false;
    }
    let count = text.chars().count();
    is_rule(text, count)
        || count <= 6 && is_page_number(text)
        || count <= 40 && (is_page_name(text) || is_issue_date(text))
        || is_imprint(text, count)
        || is_source(text)
}

/// Returns `true` for a line of dashes, stars and the like. A line of …… is text, because it means "and so on".
fn is_rule(text: &str, count: usize) -> bool {
    count >= 3 && text.chars().all(|c| "-—–―─━═=_*＊＝－+~～·#■□◆◇●○★☆▲△".contains(c) || c.is_whitespace())
}

fn is_page_number(text: &str) -> bool {
    let number = text.trim_matches(|c: char| "-—–·. 第页頁/".contains(c) || c.is_whitespace());
    !number.is_empty() && number.len() <= 3 && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns `true` for the name of a page: 第3版, 03版：要闻, A12版, 第1版(要闻), 第1版(), 专栏：.
fn is_page_name(text: &str) -> bool {
    if matches!(text.trim_end_matches(['：', ':', ' ']), "专栏" | "專欄" | "版面" | "版次")
        && text.ends_with(['：', ':'])
    {
        return true;
    }
    let rest = text.trim_start_matches('第');
    let number = rest.chars().take_while(|c| is_digit(*c) || c.is_ascii_uppercase()).count();
    let Some(rest) = rest[prefix_len(rest, number)..].trim_start().strip_prefix('版') else {
        return false;
    };
    let name = rest.trim_matches(|c: char| c.is_whitespace() || "：:（）()|·-—".contains(c));
    (1..=4).contains(&number) && name.chars().count() <= 10 && (rest.is_empty() || !rest.starts_with(is_han))
}

/// Returns `true` for the date or number of an issue: 2025年12月6日 星期六, 1951-09-15, 第28012期, alone or with the name of
/// the paper.
fn is_issue_date(text: &str) -> bool {
    if !text.contains(is_digit) {
        return false;
    }
    // Every word must be of such a line, and at least one a date or an issue number.
    let mut is_dated = false;
    let words = text.split(|c: char| {
        c.is_whitespace() || matches!(c, '｜' | '|' | '·' | '，' | ',' | '（' | '）' | '(' | ')' | ':' | '：')
    });
    let all_fit = words.filter(|word| !word.is_empty()).all(|word| {
        let dates = is_date(word) || word.starts_with('第') && word.ends_with('期');
        is_dated |= dates;
        dates || goes_with_date(word)
    });
    all_fit && is_dated
}

/// Returns `true` for a date alone on its line, as it appears under a notice.
pub(crate) fn is_day(text: &str) -> bool {
    text.len() <= 60 && is_date(text)
}

/// Returns `true` for a date: 2025年12月6日, 1951-09-15.
fn is_date(word: &str) -> bool {
    let consists_of = |other: &str| word.chars().all(|c| is_digit(c) || other.contains(c));
    word.starts_with(is_digit)
        && (word.contains('年') && consists_of("年月日")
            || word.len() >= 8 && word.matches(['-', '.', '/']).count() == 2 && consists_of("-./"))
}

/// Returns `true` for a word that may accompany the date of an issue: 星期六, 农历乙巳年十月十七, 第2版, 今日20版, 某某日报, 3.
fn goes_with_date(word: &str) -> bool {
    let count = word.chars().count();
    let starts = |words: &[&str]| words.iter().any(|start| word.starts_with(start));
    let ends = |words: &[&str]| words.iter().any(|end| word.ends_with(end));
    count <= 14 && starts(&["星期", "周", "礼拜", "农历", "夏历", "農曆", "总第"])
        || starts(&["第", "今日"]) && ends(&["号", "號", "版"])
        || count <= 6
            && ends(&["日报", "晚报", "时报", "早报", "晨报", "商报", "周报", "日報", "晚報", "時報"])
        || count <= 3 && word.chars().all(is_digit)
}

/// Returns `true` for the line with date and source that web pages have under the headline: 2024年03月05日08:12 | 来源：….
fn is_source(text: &str) -> bool {
    const WORDS: &[&str] = &[
        "来源：",
        "来源:",
        "來源：",
        "发布时间",
        "发表时间",
        "字号：",
        "浏览次数",
        "阅读次数",
        "分享到",
        "打印本页",
    ];
    if is_within(text, 60) && is_reference(text) {
        return true;
    }
    if !text.starts_with(|first| "来來发字浏阅分打2".contains(first)) {
        return false;
    }
    let is_dated = text.starts_with("20")
        && text.contains(':')
        && text.chars().filter(char::is_ascii_digit).count() >= 8;
    let count = text.chars().count();
    count <= 80
        && !text.ends_with('。')
        && (WORDS.iter().any(|word| text.starts_with(word))
            || is_dated && count <= 60 && (WORDS.iter().any(|word| text.contains(word)) || count <= 20))
}

/// Returns `true` for a reference to the issue in which a text was printed: 《某某日报》（2024年3月5日 02版）.
fn is_reference(text: &str) -> bool {
    let text = unbracketed(text).unwrap_or(text);
    text.strip_prefix('《').and_then(|rest| rest.split_once('》')).is_some_and(|(_, rest)| {
        let rest = rest.trim();
        let inside = unbracketed(rest).unwrap_or(rest);
        let mut words =
            inside.split(|c: char| c.is_whitespace() || "，,、".contains(c)).filter(|word| !word.is_empty());
        words.next().is_some_and(is_date) && words.all(|word| goes_with_date(word) || word.ends_with('版'))
    })
}

/// Returns `true` if `text` has at most `max_chars` characters.
fn is_within(text: &str, max_chars: usize) -> bool {
    text.chars().nth(max_chars).is_none()
}

/// Returns `true` for the address, telephone number or price of the paper.
fn is_imprint(text: &str, count: usize) -> bool {
    #[rustfmt::skip]
    const WORDS: &[&str] = &[
        "本报地址", "社址", "地址：", "邮政编码", "邮编", "网址", "本报网址", "电子信箱", "电子邮箱", "邮箱：",
        "本版邮箱", "零售每份", "定价", "国内统一", "国内统一连续出版物号", "广告经营许可证", "印刷：",
        "发行部", "版权所有", "未经授权", "http://", "https://", "www.", "扫码", "扫一扫", "本报社址",
        "热线电话", "订阅热线", "统一刊号", "邮发代号", "代号",
    ];
    let first = |c: char| "hw代印发国地定广扫未本热版电社统网订邮零".contains(c);
    count <= 100
        && text.starts_with(first)
        && WORDS.iter().any(|word| text.starts_with(word))
        && !text.ends_with('。')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_page_furniture() {
        for line in [
            "第3版",
            "03版：要闻",
            "第1版()",
            "专栏:",
            "2025年12月6日 星期六",
            "1951-09-15",
            "人民日报 2025年12月6日 星期六 第2版",
            "- 3 -",
            "———————",
            "第28012期",
            "社址：北京",
            "2024年03月05日08:12 | 来源：某某日报",
            "2024-03-05 08:12",
            "http://example.com",
            "《某某日报》（2024年3月5日 02版）",
        ] {
            assert!(is_furniture(line), "{line}");
        }
        for line in ["……", "第3版的故事", "2025年的春天", "12月6日，", "三", "版画展在京开幕", "人民日报"]
        {
            assert!(!is_furniture(line), "{line}");
        }
    }
}
