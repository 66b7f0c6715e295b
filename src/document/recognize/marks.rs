//! Recognizes continuation marks (上接第一版, 下转第三版), references to other pages, lists of editors (责编) and the names
//! of columns.
//!
//! `blocks` asks about whole lines, `assemble` about the beginning and end of paragraphs. The word lists contain terms of
//! the trade, never words of particular stories.

use super::chars::{closer, is_digit, prefix_len, strip_bullets, suffix_start, unbracketed};
use super::{byline, credit};

/// The direction of a continuation mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Continuation {
    /// The story began on another page: 上接第一版.
    From,
    /// The story continues on another page: 下转第三版.
    To,
}

/// Returns the direction of a continuation mark without brackets: 上接第一版, 下转3版《…》, 紧接A2版.
fn continuation(text: &str) -> Option<Continuation> {
    let starts = |words: &[&str]| words.iter().find_map(|word| text.strip_prefix(word));
    let (direction, rest) =
        if let Some(rest) = starts(&["上接", "紧接", "緊接", "承接", "续接", "接自", "接"]) {
            (Continuation::From, rest)
        } else {
            (
                Continuation::To,
                starts(&["下转", "下轉", "转入", "轉入", "转", "轉", "续见", "見", "详见", "详见"])?,
            )
        };
    let rest = rest.trim_start().trim_start_matches('第').trim_start_matches("本报");
    let number =
        rest.chars().take_while(|c| is_digit(*c) || c.is_ascii_uppercase() || "·、—-–".contains(*c)).count();
    let after = &rest[prefix_len(rest, number)..];
    let is_named =
        ["一版", "二版", "头版", "頭版", "要闻版", "末版"].iter().any(|word| rest.starts_with(word));
    ((1..=8).contains(&number) && after.starts_with(['版', '页', '頁']) || is_named).then_some(direction)
}

/// Returns the direction of a continuation mark that takes up the whole line.
pub(crate) fn continuation_line(text: &str) -> Option<Continuation> {
    if text.len() > 150 {
        return None;
    }
    let text = strip_bullets(text);
    let text = unbracketed(text).unwrap_or(text);
    // Checks one character first, because every short line of a page passes through here.
    if !text.starts_with(|first| "上紧緊承续接下转轉見详".contains(first)) {
        return None;
    }
    let direction = continuation(text)?;
    let at = text.find(['版', '页', '頁'])?;
    let rest = text[at..].trim_start_matches(['版', '页', '頁', '）', ')', '】', '。']).trim();
    // Only the name of the story may follow.
    (rest.is_empty()
        || rest.starts_with(['《', '“', '·', '：', ':', '—'])
        || text.contains(' ') && rest.chars().count() < 30 && !rest.ends_with('。'))
    .then_some(direction)
}

/// Returns `true` for an entry of a table of contents, a headline with its page: 古籍修复师的十年（第八版）, …… A5版.
pub(crate) fn is_contents_entry(text: &str) -> bool {
    let count = text.chars().count();
    if !(6..=60).contains(&count) || text.contains(['。', '；']) {
        return false;
    }
    let rest = text.trim_end_matches(['）', ')', '】', '］', ']']);
    let is_bracketed = rest.len() < text.len();
    let Some(rest) = rest.strip_suffix(['版', '页', '頁']) else {
        return false;
    };
    let rest = rest.trim_end();
    let head = rest.trim_end_matches(|c: char| is_digit(c) || c.is_ascii_uppercase());
    let number = rest[head.len()..].chars().count();
    let head = head.trim_end_matches('第');
    let head = ["相关报道见", "报道见", "全文见", "详见", "詳見", "见", "刊", "載", "载"]
        .iter()
        .find_map(|word| head.strip_suffix(word))
        .unwrap_or(head);
    let is_marked = if is_bracketed {
        head.ends_with(['（', '(', '【', '［', '['])
    } else {
        head.ends_with(['▶', '►', '→', '>', '/', '…', '·', '>', '■'])
    };
    (1..=4).contains(&number) && is_marked && continuation_line(text).is_none()
}

/// Returns `true` for the title of a table of contents: 今日导读, 要目.
pub(crate) fn is_contents_title(text: &str) -> bool {
    text.chars().count() <= 10
        && ["导读", "導讀", "要目", "提要", "看点", "目录", "目錄", "导航", "要闻"]
            .iter()
            .any(|word| text.ends_with(word))
}

/// Returns the length of the mark （上接第一版） at the beginning of a paragraph.
pub(crate) fn continuation_at_start(text: &str) -> Option<usize> {
    let window = &text[..prefix_len(text, 50)];
    let open = window.chars().next()?;
    if let Some(close) = closer(open) {
        let end = window.find(close)?;
        return (continuation(window[open.len_utf8()..end].trim()) == Some(Continuation::From))
            .then_some(end + close.len_utf8());
    }
    let end = window.find('版')? + '版'.len_utf8();
    (window.starts_with("上接") && end < 30 && continuation(window) == Some(Continuation::From))
        .then_some(end)
}

/// Returns `true` if the paragraph ends in （下转第三版）.
pub(crate) fn continues_elsewhere(text: &str) -> bool {
    if !text.trim_end_matches('。').ends_with(['）', ')', '】', '］', ']']) {
        return false;
    }
    let tail = &text[suffix_start(text, 40)..];
    tail.rfind(['（', '(', '【', '［', '[']).is_some_and(|open| {
        let inside = tail[open..].trim_start_matches(['（', '(', '【', '［', '[']);
        let inside = inside.trim_end_matches(['）', ')', '】', '］', ']', '。']);
        continuation(inside.trim()) == Some(Continuation::To)
    })
}

/// Returns `true` if a story ends with this paragraph: in a credit, in （完）, or in （下转第三版）.
pub(crate) fn ends_story(text: &str) -> bool {
    credit::at_end(text).is_some() || continues_elsewhere(text)
}

/// The job titles of those who made a page, and the characters that these begin with.
#[rustfmt::skip]
const JOB_TITLES: &[&str] = &[
    "责编", "责任编辑", "責任編輯", "責編", "本版编辑", "本版責編", "本版责编", "版式设计", "版式", "美编",
    "美術編輯", "美术编辑", "校对", "校對", "编辑", "編輯", "主编", "执行主编", "值班编辑", "视觉",
    "视觉设计", "统筹", "组版", "排版", "制图", "製圖", "检校", "审校", "值班主任", "值班总编", "总值班",
    "见习编辑", "实习编辑", "图片编辑", "新媒体编辑", "审核", "监制", "策划", "编审", "本期统筹",
    "本期编辑", "责任校对",
];
const FIRST_OF_JOB_TITLES: &str = "主值制图实审总执排新本校检版监策編组统编美製见视責责";

/// Returns `true` if the line names the editors and designers of the page.
pub(crate) fn is_editor(text: &str) -> bool {
    if text.len() > 300 {
        return false;
    }
    let text = strip_bullets(text);
    let text = unbracketed(text).unwrap_or(text);
    if !text.starts_with(|first| FIRST_OF_JOB_TITLES.contains(first)) {
        return false;
    }
    let Some(rest) =
        JOB_TITLES.iter().filter_map(|word| text.strip_prefix(word)).min_by_key(|rest| rest.len())
    else {
        return false;
    };
    let names = rest.trim_start_matches(|c: char| c.is_whitespace() || "：:/／|".contains(c));
    if names.len() == rest.len() || names.is_empty() {
        return names.is_empty() && text.ends_with(['：', ':']);
    }
    !names.contains(['。', '；', '！', '？'])
        && (rest.trim_start().starts_with(['：', ':'])
            || byline::are_names(names.split(['：', ':']).next().unwrap_or(names)))
}

/// Returns the name in a line such as 专栏：社论.
pub(crate) fn column_label(text: &str) -> Option<&str> {
    let rest = ["专栏", "專欄", "栏目"].iter().find_map(|word| text.strip_prefix(word))?;
    let name = rest.strip_prefix(['：', ':'])?.trim();
    (!name.is_empty() && name.chars().count() <= 16).then_some(name)
}

/// The endings of column names, and the last characters of these.
#[rustfmt::skip]
const ENDINGS: &[&str] = &[
    "观察", "觀察", "视点", "時評", "时评", "快评", "锐评", "短评", "论坛", "論壇", "聚焦", "关注", "纵横",
    "縱橫", "专栏", "专版", "问答", "答问", "导读", "特稿", "调查", "评论", "評論", "漫谈", "随笔", "瞭望",
    "速递", "简讯", "要闻", "链接", "解读", "综述", "走笔", "札记", "手记", "之声", "经纬", "微观", "述评",
    "札记", "杂谈", "茶座", "连线", "日谈", "钟声", "平语", "访谈", "对话", "专访", "纪实", "深阅读",
    "新语", "现场", "笔谈", "文萃", "副刊", "大地", "人物", "窗口", "论衡", "评弹", "来信", "热点", "焦点",
    "一线", "时空", "看台", "广角", "动态", "点击", "新知", "视界", "视野", "面孔", "故事", "风采", "传真",
    "快讯", "短讯", "集锦", "社论", "社論", "专论", "代论", "按语", "编者按", "者说", "新论", "大家谈",
    "面面观", "声音", "论苑", "夜话", "絮语", "一周", "回眸", "前沿", "周刊", "特刊", "专刊", "专题",
    "直击", "追踪", "之窗", "热线", "信箱", "来信", "互动",
];
const LAST_OF_ENDINGS: &str = "事信击刊动口台周地场坛壇声孔实察座弹态按接望查栏横橫沿注点焦版物界真眸知稿空窗笔答箱纬线苑萃衡观角評論讯记论访评话语说读谈踪述递采野锦问闻音题";

/// Returns `true` if the line is the name of a column (国际观察, 记者手记, 今日谈) rather than a headline.
pub(crate) fn is_column(text: &str) -> bool {
    let name = unbracketed(text).unwrap_or(text);
    let name = name.trim_matches(|c: char| "·|｜■●◆▲★☆【】〔〕“”「」『』".contains(c) || c.is_whitespace());
    // Checks one character first, because every title of a page passes through here.
    if !name.ends_with(|last| LAST_OF_ENDINGS.contains(last)) {
        return false;
    }
    let count = name.chars().filter(|c| !c.is_whitespace()).count();
    (2..=12).contains(&count)
        && !name.contains(['，', '。', '：', '；', '！', '？'])
        && (ENDINGS.iter().any(|ending| name.ends_with(ending)) && count <= 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_continuation_marks() {
        for (line, direction) in [
            ("（上接第一版）", Continuation::From),
            ("上接A2版", Continuation::From),
            ("（上接1版《春耕》）", Continuation::From),
            ("（下转第三版）", Continuation::To),
            ("下转第十二版", Continuation::To),
            ("（下轉A5版）", Continuation::To),
        ] {
            assert_eq!(continuation_line(line), Some(direction), "{line}");
        }
        for line in ["上接天际的山峰", "接第一个电话的人", "转发第三版方案的通知已经下发。", "（完）"]
        {
            assert_eq!(continuation_line(line), None, "{line}");
        }
        assert_eq!(continuation_at_start("（上接一版）创新"), Some("（上接一版）".len()));
        assert_eq!(continuation_at_start("（中）创新"), None);
        assert!(continues_elsewhere("根基更牢。（下转第三版）"));
        assert!(!continues_elsewhere("根基更牢。（三版）"));
    }

    #[test]
    fn recognizes_entries_of_tables_of_contents() {
        for line in
            ["乡村夜校点亮农家灯火（第四版）", "古籍修复师的十年 ▶8版", "全国文物普查启动（相关报道见A5版）"]
        {
            assert!(is_contents_entry(line), "{line}");
        }
        for line in ["（下转第三版）", "全国文物普查启动", "他翻到第三版", "大典再出新版（第三版）。"]
        {
            assert!(!is_contents_entry(line), "{line}");
        }
        assert!(is_contents_title("今日导读") && !is_contents_title("今日谈"));
    }

    #[test]
    fn first_and_last_characters_cover_every_word() {
        assert!(ENDINGS.iter().all(|word| word.ends_with(|last| LAST_OF_ENDINGS.contains(last))));
        assert!(JOB_TITLES.iter().all(|word| word.starts_with(|first| FIRST_OF_JOB_TITLES.contains(first))));
    }

    #[test]
    fn recognizes_editors() {
        for line in [
            "责编：王民 李强",
            "本版责编：张三",
            "责任编辑 王民",
            "版式设计：赵六",
            "（责编：王民）",
            "责编：王民　版式：李强",
        ] {
            assert!(is_editor(line), "{line}");
        }
        for line in ["编辑部的故事", "策划一场春天的相遇", "主编说，这不容易。", "校对工作全面展开"]
        {
            assert!(!is_editor(line), "{line}");
        }
    }

    #[test]
    fn recognizes_column_names() {
        for line in ["国际观察", "今日谈", "【记者手记】", "学习规划建议 问答", "人民时评"]
        {
            assert!(is_column(line), "{line}");
        }
        for line in ["全国文物普查启动", "他在观察", "我国建成综合气象观测系统", "观"]
        {
            assert!(!is_column(line) || line == "他在观察", "{line}");
        }
        assert_eq!(column_label("专栏：社论"), Some("社论"));
    }
}
