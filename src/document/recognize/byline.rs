//! Recognizes bylines: 新华社记者 王植樾 吴昊, （记者吉宁、宋晨）, 记者段心强报道：, （作者为…）.
//!
//! `blocks` asks about whole lines, `credit` about the beginning and end of paragraphs. Names are distinguished from other
//! words by their length and their surname, since 记者调查 and 记者从水利部了解到 are not bylines.

use super::chars::{closer, is_han, prefix_len, strip_bullets, unbracketed};

/// The roles that precede the names of authors.
#[rustfmt::skip]
const ROLES: &[&str] = &[
    "记者", "記者", "通讯员", "通訊員", "评论员", "評論員", "实习生", "實習生", "特约撰稿人", "撰稿人", "撰稿",
    "作者", "编译", "編譯", "整理", "撰文", "采写", "採寫", "文并图", "图并文", "文/图", "图/文", "文／图",
    "文|", "文/", "文／", "编者", "口述", "采访", "主持人", "报道员", "特派员",
];

/// Words that may follow a role and are not names.
#[rustfmt::skip]
const NOT_NAMES: &[&str] = &[
    "调查", "观察", "手记", "走笔", "来信", "了解", "获悉", "见闻", "述评", "评述", "点评", "札记", "连线",
    "专访", "探访", "问", "报道", "节", "从", "在", "就", "看到", "发现", "采访", "眼中", "视点", "视线",
    "近日", "日前", "今天", "昨日", "昨天", "注意", "日记", "按", "之家", "团", "站", "协会", "会", "招待会", "见面会",
    "证", "们", "亲历", "体验", "跟随", "走进", "随", "对", "表示", "说", "，", "。", "？",
];

/// Bylines without a name.
#[rustfmt::skip]
const NAMELESS_BYLINES: &[&str] = &[
    "评论员", "本报评论员", "新华社评论员", "人民日报评论员", "本刊评论员", "特约评论员", "本报特约评论员",
    "本报编辑部", "本刊编辑部", "本报记者", "新华社记者", "本报通讯员", "本社記者", "本報記者", "本報評論員",
];

/// The common single-character surnames, simplified and traditional.
const SURNAMES: &str = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎\
余潘杜戴夏钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文庞樊兰殷施陶洪翟安颜倪\
严牛温芦季俞章鲁葛伍韦申尤毕聂丛焦向柳邢路岳齐沿梅莫庄辛管祝左涂谷祁时舒耿牟卜詹关苗凌费纪靳盛童欧甄项曲成游阳裴席卫查屈鲍位覃霍\
翁隋植甘景薄单包司柏宁柯阮桂闵解强柴华车冉房边辜吉饶刁瞿戚丘古米池滕晋苑邬臧畅宫来嵺苟全褚廉简娄盖符奚木穆党燕郎邸冀谈姬屠连郜晏\
栾郁商蒙计喻揭窦迟宇敖糜鄢冷卓花仇艾蓝都巩稽井练仲乐虞卞封竺冼原官衣楚佟栗匡宗应台巫鞠僧桑荆谌银扬明沙薄伏岑习胥保和蔺郦水云贡\
張劉陳楊趙黃吳孫馬羅鄭謝韓馮蕭鄧許呂蘇盧蔣賈葉閻鍾範陸鄒譚龍萬錢湯賴龔龐蘭顏嚴溫蘆魯韋畢聶叢齊莊塗時關費紀項歐陽衛單寧閔強車邊饒鄔宮婁蓋\
黨連欒窦遲鞏練樂應";

/// Returns `true` if `text` can be a personal name: of two or three characters, of four with a two-character surname, or a
/// foreign name with a dot.
pub(crate) fn is_name(text: &str) -> bool {
    let count = text.chars().count();
    let is_chinese = text.chars().all(|c| is_han(c) || c == '·');
    let has_surname = text.chars().next().is_some_and(|c| SURNAMES.contains(c));
    let compound_surnames = [
        "欧阳", "司马", "上官", "诸葛", "司徒", "东方", "皇甫", "尉迟", "公孙", "慕容", "令狐", "歐陽",
        "諸葛",
    ];
    is_chinese
        && match count {
            2 | 3 => has_surname,
            4 => compound_surnames.iter().any(|name| text.starts_with(name)),
            5..=15 => text.contains('·'),
            _ => false,
        }
}

/// Returns `true` if `text` consists of one to six names.
pub(crate) fn are_names(text: &str) -> bool {
    let mut words = 0;
    words_of(text).all(|word| {
        words += 1;
        words <= 6 && is_name(word)
    }) && words > 0
}

/// Returns `true` if `text`, a whole line, consists of the names of one to four people: 王民, 王 民, 王民 李强.
pub(crate) fn are_only_names(text: &str) -> bool {
    const MAX_CHARS: usize = 18;
    if text.len() > 4 * MAX_CHARS || text.chars().nth(MAX_CHARS).is_some() {
        return false;
    }
    let text = strip_bullets(text);
    let text = unbracketed(text).unwrap_or(text);
    let is_spaced_out = words_of(text).all(|word| word.chars().count() == 1);
    if is_spaced_out {
        let joined: String = words_of(text).collect();
        return is_name(&joined);
    }
    are_names(text) && words_of(text).count() <= 4
}

/// Returns `true` if `text`, a line under a text, gives the home and the name of its author: 湖南某县 王民, 读者 周明.
pub(crate) fn is_signature(text: &str) -> bool {
    if text.len() > 72 {
        return false;
    }
    let text = unbracketed(text).unwrap_or(text);
    let Some((place, name)) = text.rsplit_once(' ') else {
        return false;
    };
    let place = place.trim();
    is_name(name)
        && place.chars().count() <= 14
        && place.chars().all(|c| is_han(c) || c == ' ')
        && (["读者", "作者", "讀者", "网友", "家长", "教师", "学生", "市民"].contains(&place)
            || place.ends_with([
                '省', '市', '县', '区', '镇', '乡', '村', '州', '旗', '縣', '區', '鎮', '鄉', '局', '校',
                '院',
            ]))
}

fn words_of(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| matches!(c, '、' | ',' | '，' | '/' | '／' | '|') || c.is_whitespace())
        .filter(|word| !word.is_empty())
}

/// Returns the start and end of the first role in `text`, if it begins within the first `within` characters.
fn role(text: &str, within: usize) -> Option<(usize, usize)> {
    let first = |c: char| {
        matches!(
            c,
            '记' | '記'
                | '通'
                | '评'
                | '評'
                | '实'
                | '實'
                | '特'
                | '撰'
                | '作'
                | '编'
                | '編'
                | '整'
                | '采'
                | '採'
                | '文'
                | '图'
                | '口'
                | '主'
                | '报'
        )
    };
    text.char_indices().take(within).filter(|(_, c)| first(*c)).find_map(|(at, _)| {
        let roles = ROLES.iter().filter(|role| text[at..].starts_with(**role));
        roles.map(|role| role.len()).max().map(|length| (at, at + length))
    })
}

/// Returns `true` if all of `text` is a byline: an optional medium, a role, and names.
pub(crate) fn is_byline(text: &str) -> bool {
    if text.len() > 360 {
        return false;
    }
    let text = strip_bullets(text);
    let (text, is_bracketed) = unbracketed(text).map_or((text, false), |inside| (inside, true));
    if text.chars().count() > 80 || text.contains(['。', '！', '？', '；', '“', '「']) && !is_bracketed
    {
        return false;
    }
    if NAMELESS_BYLINES.contains(&text) {
        return true;
    }
    let Some((start, end)) = role(text, 14) else {
        return false;
    };
    let medium = &text[..start];
    if !is_bracketed && medium.contains(['，', '：', '、', '的', '是', '有', '（']) {
        return false;
    }
    if is_bracketed && text[start..].starts_with("作者") {
        return true;
    }
    let names = text[end..].trim_start_matches(|c: char| c.is_whitespace() || "：:".contains(c));
    // Drop the position of the author: 作者：王民（某大学教授）.
    let names = names
        .rfind(['（', '('])
        .filter(|open| *open > 0 && names.ends_with(['）', ')']))
        .map_or(names, |open| names[..open].trim_end());
    !names.is_empty() && !NOT_NAMES.iter().any(|word| names.starts_with(word)) && are_plausible_names(names)
}

/// Returns `true` if `names` consists of names, with further roles, media and places between them.
fn are_plausible_names(names: &str) -> bool {
    const VERBS: &[&str] =
        &["参与采写", "综合报道", "摄影报道", "报道", "報導", "報道", "采写", "整理", "编译"];
    let text = names;
    let names = VERBS.iter().find_map(|verb| names.strip_suffix(verb)).unwrap_or(names).trim();
    let is_separated = names.contains(char::is_whitespace) || names.contains(['、', '／', '/']);
    let mut name_count = 0;
    let all_fit = words_of(names).all(|word| {
        let count = word.chars().count();
        let is_role = ROLES.iter().any(|role| word.contains(role));
        name_count += usize::from(is_name(word));
        is_role || is_name(word) || (count <= 6 && word.chars().all(|c| is_han(c) || c == '·'))
    });
    // Name and place without a separator: 記者黃大明台北報導.
    if text.len() > names.len() && names.chars().count() <= 8 && names.chars().all(is_han) {
        return names.chars().next().is_some_and(|first| SURNAMES.contains(first));
    }
    // 阿依古丽 has no surname of the list, but is accepted as the only word after 记者.
    all_fit
        && (name_count > 0
            || is_separated
            || (2..=4).contains(&names.chars().count()) && names.chars().all(is_han))
}

/// Finds the byline at the start of the text after a dateline: （记者 吉宁 宋晨）, 记者段心强报道：. Returns its range without
/// brackets or verb, and the position at which the paragraph continues.
pub(crate) fn at_start(text: &str) -> Option<(std::ops::Range<usize>, usize)> {
    let at = text.len() - text.trim_start().len();
    let rest = &text[at..];
    let open = rest.chars().next()?;
    if let Some(close) = closer(open).filter(|_| "（([【〔".contains(open)) {
        let window = &rest[..prefix_len(rest, 90)];
        let end = window.find(close)?;
        let inside = &window[open.len_utf8()..end];
        role(inside, 24)?;
        let lead = inside.len() - inside.trim_start().len();
        let start = at + open.len_utf8() + lead;
        return Some((start..start + inside.trim().len(), at + end + close.len_utf8()));
    }
    let (_, end) = role(rest, 8).filter(|(start, _)| rest[..*start].chars().all(is_han))?;
    let window = &rest[..prefix_len(rest, 48)];
    let stop = ["报道", "報導", "報道", "：", ":"].iter().filter_map(|word| window.find(word)).min();
    let (names_end, rest_start) = match stop.filter(|stop| *stop > end) {
        Some(stop) => {
            let after = window[stop..].trim_start_matches(['报', '報', '道', '導']);
            let after = after.trim_start_matches(['：', ':']);
            (stop, window.len() - after.len())
        }
        // Without a verb, the byline ends at the first word that is not a name: 记者 张三 李四 12月3日，….
        None => {
            let words = words_of(&window[end..]).take_while(|word| is_name(word));
            let last = words.last()?;
            let after = last.as_ptr() as usize + last.len() - window.as_ptr() as usize;
            (after, after)
        }
    };
    let names = window[end..names_end].trim();
    let is_plausible = !names.is_empty()
        && !NOT_NAMES.iter().any(|word| names.starts_with(word))
        && words_of(names).all(|word| word.chars().count() <= 8 && !word.contains(['。', '，']));
    is_plausible.then(|| (at..at + window[..names_end].trim_end().len(), at + rest_start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_bylines() {
        for line in [
            "新华社记者 王植樾 吴昊",
            "本报记者 张三",
            "（记者李四、王五）",
            "本报驻日本记者 赵六",
            "□ 本报记者 钱七 通讯员 孙八",
            "（作者为某大学教授）",
            "作者：周九",
            "記者王小明／台北報導",
            "本报评论员 郑十一",
            "（本报记者 吴伟参与采写）",
            "记者阿依古丽",
            "作者：王民（某大学文学院教授）",
            "本报评论员",
        ] {
            assert!(is_byline(line), "{line}");
        }
    }

    #[test]
    fn rejects_lines_that_only_mention_reporters() {
        for line in [
            "记者调查",
            "记者从水利部了解到新情况",
            "记者节座谈会在北京举行",
            "记者手记",
            "中国记者协会举办新闻茶座",
            "记者在现场看到",
            "总理会见中外记者",
            "作者的新书出版了。",
        ] {
            assert!(!is_byline(line), "{line}");
        }
    }

    #[test]
    fn finds_the_byline_after_a_dateline() {
        let start = |text: &'static str| at_start(text).map(|(range, end)| (&text[range], &text[end..]));
        assert_eq!(start("（记者 吉宁 宋晨）12月3日"), Some(("记者 吉宁 宋晨", "12月3日")));
        assert_eq!(start(" 记者段心强报道：本市"), Some(("记者段心强", "本市")));
        assert_eq!(start(" 记者 王民 李强 12月3日，"), Some(("记者 王民 李强", " 12月3日，")));
        assert_eq!(start("（国际货币基金组织）发布"), None);
        assert_eq!(start("记者从有关部门获悉，今年"), None);
        assert_eq!(start("据新华社"), None);
    }
}
