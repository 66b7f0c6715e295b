//! Recognizes the credit of a story, its dateline and byline: 新华社北京12月6日电（记者 吉宁 宋晨）, 本报讯,
//! 【新华社重庆十四日电】, 据新华社电.
//!
//! `blocks` asks whether a whole line is a credit; `assemble` looks for one at the beginning and end of paragraphs.

use std::ops::Range;

use super::byline;
use super::chars::{closer, is_digit, is_han, prefix_len, suffix_start, unbracketed};

/// The positions of the dateline and the byline in a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Credit {
    /// The dateline without brackets: 新华社北京12月6日电.
    pub(crate) dateline: Option<Range<usize>>,
    /// The byline without brackets: 记者 吉宁 宋晨.
    pub(crate) byline: Option<Range<usize>>,
    /// The end of the credit, including its closing bracket.
    pub(crate) end: usize,
}

/// The maximum length of place and date together, in characters.
const MAX_DATELINE: usize = 40;

/// The second characters of words that begin with 电 or 讯: 本报12月6日电视… is not a dateline.
const AFTER_DIAN: &str = "视视話话力信影子商脑腦网網台臺报報动動器压壓流量站价價灯燈缆纜池气氣源杆号號息机機";

/// Returns the end of the news agency or paper (新华社, 本报, 中国青年报, 央视网) at the beginning of `text`.
fn agency_end(text: &str) -> Option<usize> {
    let start = ["据", "據", "综合", "綜合"]
        .iter()
        .find(|word| text.starts_with(**word))
        .map_or(0, |word| word.len());
    let mut name = text[start..].char_indices().take(12).take_while(|(_, c)| is_han(*c) || *c == '·').skip(1);
    let last = name.find(|(_, c)| matches!(c, '社' | '报' | '報' | '网' | '網' | '台' | '臺' | '刊' | '线'));
    last.map(|(at, c)| start + at + c.len_utf8())
}

/// Returns the end of the dateline at the beginning of `text`.
fn dateline_end(text: &str) -> Option<usize> {
    let agency = agency_end(text)?;
    let window = &text[..agency + prefix_len(&text[agency..], MAX_DATELINE)];
    for (at, character) in window[agency..].char_indices() {
        let at = agency + at;
        if matches!(
            character,
            '，' | '。' | '、' | '；' | '：' | '？' | '！' | '“' | '”' | '《' | '》' | '（' | '）' | ','
        ) {
            return None;
        }
        let word = match character {
            '电' | '電' | '讯' | '訊' => 1,
            '专' | '專' if window[at..].starts_with("专电") || window[at..].starts_with("專電") => 2,
            '消' if window[at..].starts_with("消息") => 2,
            _ => continue,
        };
        let word = &window[at..at + prefix_len(&window[at..], word)];
        let middle = &window[agency..at];
        let end = at + word.len();
        let next = text[end..].chars().next();
        if next.is_some_and(|next| AFTER_DIAN.contains(next)) {
            continue;
        }
        // A date, perhaps followed by the desk of the agency: 12月6日体育(专电).
        let has_date = middle.rsplit_once('日').is_some_and(|(date, desk)| {
            date.ends_with(is_digit)
                && desk.chars().count() <= 4
                && desk.chars().all(|c| is_han(c) || c == ' ')
        });
        let is_short_form = middle.chars().count() <= 8
            && middle.chars().all(|c| is_han(c) || c == ' ')
            && !middle.contains("记者")
            && !middle.contains(['的', '了', '在', '是', '刊', '发'])
            && (word == "讯" || word == "訊" || next.is_none_or(|next| " （(】〕：:".contains(next)));
        if has_date || is_short_form {
            return Some(end);
        }
    }
    None
}

/// Returns the credit at the beginning of a paragraph.
pub(crate) fn at_start(text: &str) -> Option<Credit> {
    let open = text.chars().next()?;
    let close = closer(open).filter(|_| "（([【〔［".contains(open));
    let start = close.map_or(0, |_| open.len_utf8());
    if let Some(close) = close.filter(|_| open != '（' && open != '(')
        && let Some(end) = text[start..start + prefix_len(&text[start..], 24)].find(close)
        && is_compiled(&text[start..start + end])
    {
        return Some(Credit {
            dateline: Some(start..start + end),
            byline: None,
            end: start + end + close.len_utf8(),
        });
    }
    let Some(length) = dateline_end(&text[start..]) else {
        // （本报记者 甲）正文 and 〔記者王小明／台北報導〕正文 have no dateline.
        close?;
        let (byline, end) = byline::at_start(text)?;
        return (end < text.len() && byline::is_byline(&text[..end])).then_some(Credit {
            dateline: None,
            byline: Some(byline),
            end,
        });
    };
    let dateline = start..start + length;
    let mut end = dateline.end;
    let mut byline = None;
    let mut is_closed = false;
    if let Some(close) = close {
        // The rest of the bracket may be the byline: 【新华社北京12月6日电 记者 甲】.
        let window = &text[end..end + prefix_len(&text[end..], 60)];
        let at = window.find(close)?;
        if byline::is_byline(window[..at].trim()) {
            let lead = window[..at].len() - window[..at].trim_start().len();
            byline = Some(end + lead..end + window[..at].trim_end().len());
        }
        end += at + close.len_utf8();
        is_closed = true;
    }
    if byline.is_none() && text.len() - end < 180 && byline::is_byline(&text[end..]) {
        // The rest of the line or bracket is the byline: 新华社北京12月6日电 记者王民 李强.
        let rest = text[end..].trim();
        let inner = unbracketed(rest).unwrap_or(rest);
        let start = end + text[end..].find(inner).unwrap_or(0);
        byline = Some(start..start + inner.len());
        end = text.len();
        is_closed = true;
    } else if byline.is_none()
        && let Some((range, after)) = byline::at_start(&text[end..])
    {
        byline = Some(end + range.start..end + range.end);
        end += after;
        is_closed = true;
    }
    if !is_closed && let Some(colon) = text[end..].strip_prefix(['：', ':']) {
        end = text.len() - colon.len();
    }
    Some(Credit { dateline: Some(dateline), byline, end })
}

/// Returns `true` for the credit of a story compiled from other reports: 【环球时报综合报道】, 【本報綜合報導】.
fn is_compiled(inside: &str) -> bool {
    agency_end(inside).is_some()
        && ["报道", "報導", "報道"].iter().any(|word| inside.ends_with(word))
        && !inside.contains(['，', '。', '“', ' '])
        && byline::at_start(inside).is_none()
}

/// Returns the credit that takes up a whole line, with or without brackets.
pub(crate) fn whole_line(text: &str) -> Option<Credit> {
    if text.len() > 400 {
        return None;
    }
    let credit = at_start(text)?;
    credit.dateline.as_ref()?;
    let rest = text[credit.end..].trim();
    (rest.is_empty() || rest.chars().all(|c| "）)】。".contains(c))).then_some(credit)
}

/// Returns `true` if the names at the end of `text` are contributors (记者甲、乙参与采写) rather than authors.
pub(crate) fn is_contribution(text: &str) -> bool {
    text[suffix_start(text, 12)..].contains("参与")
}

/// The ending of the last paragraph of a story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoryEnd {
    /// A credit.
    Credit(Credit),
    /// An end mark such as （完） or （待续）.
    Mark,
}

/// Returns the ending of a paragraph that closes a story: （记者甲）, （据新华社北京12月6日电）, （完）.
pub(crate) fn at_end(text: &str) -> Option<StoryEnd> {
    let last = text.chars().next_back()?;
    // An end sign: …不会有赢家。▲
    if "▲■◆★●□".contains(last) {
        let rest = text[..text.len() - last.len_utf8()].trim_end();
        return rest.ends_with(['。', '！', '？', '”', '…', '）']).then_some(StoryEnd::Mark);
    }
    if matches!(last, '。' | '！' | '？' | '…' | '；' | '：' | '”' | '，') {
        return None;
    }
    let from = suffix_start(text, 90);
    let tail = &text[from..];
    if "）)】".contains(last) {
        let open = tail.rfind(['（', '(', '【'])?;
        let inside_at = open + tail[open..].chars().next()?.len_utf8();
        let inside = tail[inside_at..tail.len() - last.len_utf8()].trim();
        let at = from + inside_at;
        if matches!(inside, "完" | "待续" | "未完待续" | "全文完") || inside.ends_with("供本报专稿")
        {
            return Some(StoryEnd::Mark);
        }
        let shift = |range: Range<usize>| range.start + at..range.end + at;
        if let Some(credit) =
            whole_line(inside).or_else(|| at_start(inside).filter(|credit| inside.len() - credit.end < 60))
        {
            return Some(StoryEnd::Credit(Credit {
                dateline: credit.dateline.map(shift),
                byline: credit.byline.map(shift),
                end: text.len(),
            }));
        }
        return byline::is_byline(&tail[open..]).then(|| {
            StoryEnd::Credit(Credit { dateline: None, byline: Some(at..at + inside.len()), end: text.len() })
        });
    }
    // A dateline after the last sentence: …新优势。新华社北京12月6日电
    let stop = tail.rfind(['。', '！', '？', '…', '”'])?;
    let at = stop + tail[stop..].chars().next()?.len_utf8();
    let rest = tail[at..].trim_start();
    let start = text.len() - rest.len();
    if unbracketed(rest).is_some() {
        return None;
    }
    // A byline after the last sentence: …早开了一个星期。本报记者 李强
    if rest.len() <= 90
        && !tail[stop..].starts_with('”')
        && whole_line(rest).is_none()
        && byline::is_byline(rest)
    {
        return Some(StoryEnd::Credit(Credit {
            dateline: None,
            byline: Some(start..text.len()),
            end: text.len(),
        }));
    }
    whole_line(rest).map(|credit| {
        let shift = |range: Range<usize>| range.start + start..range.end + start;
        StoryEnd::Credit(Credit {
            dateline: credit.dateline.map(shift),
            byline: credit.byline.map(shift),
            end: text.len(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start_of(text: &str) -> Option<(Option<&str>, Option<&str>, &str)> {
        let credit = at_start(text)?;
        Some((
            credit.dateline.map(|range| &text[range]),
            credit.byline.map(|range| &text[range]),
            &text[credit.end..],
        ))
    }

    #[test]
    fn finds_credits_at_the_start_of_paragraphs() {
        let cases = [
            (
                "新华社北京12月6日电（记者 吉宁 宋晨）正文",
                Some("新华社北京12月6日电"),
                Some("记者 吉宁 宋晨"),
                "正文",
            ),
            ("新华社北京12月6日电《建议》提出", Some("新华社北京12月6日电"), None, "《建议》提出"),
            ("本报上海7月1日电 （记者甲乙）正文", Some("本报上海7月1日电"), Some("记者甲乙"), "正文"),
            ("本报讯 全市", Some("本报讯"), None, " 全市"),
            ("本报讯 记者李茜、刘桂莲报道：轻工业", Some("本报讯"), Some("记者李茜、刘桂莲"), "轻工业"),
            (
                "本报本溪12月19日电记者段心强报道：辽宁",
                Some("本报本溪12月19日电"),
                Some("记者段心强"),
                "辽宁",
            ),
            ("【新华社重庆十四日电】拉萨讯：正文", Some("新华社重庆十四日电"), None, "拉萨讯：正文"),
            ("据新华社电 正文", Some("据新华社电"), None, " 正文"),
            ("央视网消息：正文", Some("央视网消息"), None, "正文"),
            ("（中央社記者王小明台北6日電）正文", Some("中央社記者王小明台北6日電"), None, "正文"),
            ("【环球时报综合报道】正文", Some("环球时报综合报道"), None, "正文"),
            ("【記者黃大明台北報導】正文", None, Some("記者黃大明台北報導"), "正文"),
            ("〔記者王小明／台北報導〕正文", None, Some("記者王小明／台北報導"), "正文"),
        ];
        for (text, dateline, byline, rest) in cases {
            assert_eq!(start_of(text), Some((dateline, byline, rest)), "{text}");
        }
    }

    #[test]
    fn rejects_sentences_that_only_begin_like_a_credit() {
        for text in [
            "本报12月6日电视版刊登了节目单",
            "新华社发表评论员文章，通电全国",
            "人民日报社论指出，电力",
            "据新华社报道，中国电影",
            "新华社记者日前来电",
            "本报发电",
            "国际货币基金组织（IMF）25日发布",
            "",
        ] {
            assert_eq!(start_of(text), None, "{text}");
        }
    }

    #[test]
    fn finds_credits_on_whole_lines_and_at_the_end_of_paragraphs() {
        assert!(whole_line("新华社墨西哥城12月6日电").is_some());
        assert!(whole_line("（据新华社北京12月6日电）").is_some());
        assert!(whole_line("新华社北京12月6日电 今天").is_none());
        let end_of = |text: &'static str| match at_end(text) {
            Some(StoryEnd::Credit(credit)) => {
                (credit.dateline.map(|range| &text[range]), credit.byline.map(|range| &text[range]))
            }
            Some(StoryEnd::Mark) => (Some("end"), None),
            None => (None, None),
        };
        assert_eq!(end_of("优势。（据新华社北京12月6日电）"), (Some("据新华社北京12月6日电"), None));
        assert_eq!(
            end_of("优势。（新华社北京12月6日电 记者王民）"),
            (Some("新华社北京12月6日电"), Some("记者王民"))
        );
        assert_eq!(end_of("优势。新华社北京12月6日电"), (Some("新华社北京12月6日电"), None));
        assert_eq!(end_of("优势。（本报记者 王民）"), (None, Some("本报记者 王民")));
        assert_eq!(end_of("优势。（完）"), (Some("end"), None));
        assert_eq!(end_of("优势。本报记者 王民"), (None, Some("本报记者 王民")));
        assert_eq!(end_of("优势。▲"), (Some("end"), None));
        assert_eq!(end_of("他说（笑）"), (None, None));
        assert_eq!(end_of("他说。"), (None, None));
    }
}
