//! Recognizes the captions of pictures: 图为…, …（新华社记者 甲摄）, ▲…, 上图：….
//!
//! `blocks` asks about whole lines. A caption may appear anywhere, even between the two halves of a paragraph.

use super::chars::{prefix_len, suffix_start, unbracketed};
use super::{byline, credit};

/// The maximum length of a caption, in characters. A longer text that mentions a photograph is a paragraph.
const MAX_CAPTION: usize = 260;

/// Returns `true` if the line is a caption.
pub(crate) fn is_caption(text: &str) -> bool {
    if text.len() > MAX_CAPTION * 4 || text.chars().count() > MAX_CAPTION {
        return false;
    }
    opens_like_a_caption(text) || credits_a_photographer(text)
}

/// Returns `true` if the line only names the photographer: 新华社记者 王民 摄, 李强摄（人民视觉）.
pub(crate) fn is_photographer(text: &str) -> bool {
    if text.len() > 120 || text.contains(['，', '。', '；', '：', ':', '“']) {
        return false;
    }
    let text = unbracketed(text).unwrap_or(text);
    // The picture agency may follow in brackets.
    let name = match text.strip_suffix(['）', ')']).and_then(|rest| rest.rfind(['（', '('])) {
        Some(open) => text[..open].trim_end(),
        None => text,
    };
    let Some(name) =
        ["摄影", "攝影", "摄", "攝", "供图", "供圖"].iter().find_map(|word| name.strip_suffix(word))
    else {
        return false;
    };
    let name = name.trim();
    byline::are_only_names(name) || byline::is_byline(name) && !name.contains(' ') || {
        ["记者", "記者", "通讯员", "新华社发", "影像中国"].iter().any(|word| name.contains(word))
            && name.chars().count() <= 24
    }
}

/// Returns `true` if a paragraph above the name of a photographer describes the picture: it mentions a picture, or opens
/// with a date.
pub(crate) fn describes_picture(text: &str) -> bool {
    let count = text.chars().count();
    let window = &text[..prefix_len(text, 16)];
    let dated = window.starts_with(|c: char| c.is_ascii_digit())
        && window.contains(['月', '日'])
        && window.contains('，');
    (8..=160).contains(&count)
        && text.ends_with(['。', '）'])
        && (dated || ["图为", "航拍", "拍摄", "镜头", "俯瞰"].iter().any(|word| text.contains(word)))
        && credit::at_start(text).is_none()
}

fn opens_like_a_caption(text: &str) -> bool {
    #[rustfmt::skip]
    const WORDS: &[&str] = &[
        "图为", "圖為", "图①", "图②", "图③", "图④", "图⑤", "图一", "图二", "上图", "下图", "左图", "右图",
        "大图", "小图", "题图", "題圖", "压题照片", "压题图片", "图片说明", "圖片說明", "图说", "资料图",
        "資料圖", "本版图片", "本版照片", "本版题图", "以上图片", "配图", "插图", "照片：", "图片：", "摄影：",
        "漫画：", "漫画 ", "图1", "图2", "图3", "图4", "▲", "△", "▼", "↑", "↓", "◀", "▶", "←", "→", "图/",
    ];
    let first = text.chars().next().unwrap_or(' ');
    if !matches!(first, '图' | '圖' | '上' | '下' | '左' | '右' | '大' | '小' | '题' | '題' | '压' | '资' | '資' | '本' | '以' | '配' | '插'
        | '照' | '摄' | '漫' | '▲'..='◀' | '←'..='↓')
    {
        return false;
    }
    let Some(word) = WORDS.iter().find(|word| text.starts_with(**word)) else {
        return false;
    };
    // Words that may also open a sentence (图一时之快, 上图书馆) must be followed by a mark.
    let rest = &text[word.len()..];
    let followed_by_mark = |rest: &str| {
        rest.starts_with([
            '：', ':', '为', ' ', '，', '、', '是', '）', '①', '②', '.', '．', '左', '右', '／',
        ])
    };
    match *word {
        "图一" | "图二" | "上图" | "下图" | "左图" | "右图" | "大图" | "小图" | "配图" | "插图" | "图1"
        | "图2" | "图3" | "图4" => followed_by_mark(rest),
        _ => true,
    }
}

/// Returns `true` if a text credits a photographer: …（新华社记者 甲 摄）, …（无人机照片，12月27日摄）。…, … 新华社发, … 甲供图.
fn credits_a_photographer(text: &str) -> bool {
    #[rustfmt::skip]
    const PHOTO: &[&str] = &[
        "摄", "攝", "摄影", "攝影", "供图", "供圖", "提供", "制图", "製圖", "绘", "作图", "资料照片",
        "资料图片", "图片", "照片", "新华社发", "影像中国", "人民视觉", "视觉中国", "中新社发", "资料图",
        "摄影报道", "图片报道", "手机摄", "本报资料照片", "合成图片", "／摄", "/摄", "效果图", "摄）",
    ];
    let credited = ['）', ')'].into_iter().any(|close| {
        text.match_indices(close).any(|(end, _)| {
            let before = &text[..end];
            let window = &before[suffix_start(before, 62)..];
            window.rfind(['（', '(']).is_some_and(|open| {
                let inside = window[open..].trim_start_matches(['（', '(']).trim();
                let is_whole_text = open == 0 && end < 190 && window.len() == end && end + 3 >= text.len();
                // 提供 and 绘 only credit a photographer at the very end.
                let is_vague = ["提供", "绘", "图片", "照片"].iter().any(|word| inside.ends_with(word));
                let is_credit = PHOTO.iter().any(|word| inside.ends_with(word)) && !is_whole_text;
                let is_description =
                    ["无人机照片", "资料照片", "拼版照片"].iter().any(|word| inside.starts_with(word));
                (is_credit || is_description) && (!is_vague || end + 6 >= text.len())
            })
        })
    });
    if credited {
        return true;
    }
    // Without brackets, after a space or the last full stop: 新华社记者 甲摄, 本报记者 乙摄影报道, 丙摄（新华社发）.
    let tail = &text[suffix_start(text, 26)..];
    let tail = tail
        .rfind(['。', '！', '？', '”'])
        .map_or(tail, |at| tail[at..].trim_start_matches(['。', '！', '？', '”']));
    let tail = tail.trim();
    let name = ["摄影报道", "攝影報導", "摄影", "攝影", "摄", "攝", "供图", "供圖", "/图", "／图"]
        .iter()
        .find_map(|word| tail.strip_suffix(word));
    name.is_some_and(|name| {
        let head = &name[..prefix_len(name, 12)];
        let is_short = name.chars().count() <= 22 && !name.contains(['，', '的']);
        is_short
            && (["记者", "新华社", "本报", "中新社", "通讯员"].iter().any(|word| head.contains(word))
                || text.contains('。')
                || byline::are_names(name))
    }) || matches!(tail, "新华社发" | "新华社照片" | "本报资料照片")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_captions() {
        for line in [
            "图为工人在检修设备。",
            "▲孩子们在图书馆里看书。",
            "孩子们在图书馆里看书。（新华社记者 王民摄）",
            "晨雾中的大桥（无人机照片，2024年12月27日摄）。大桥将于明年通车。",
            "孩子们在图书馆里看书。 本报记者 王民摄",
            "上图：孩子们在看书。",
            "秋收时节的稻田。王民 摄",
            "市图书馆的新馆。（资料图片）",
            "工作人员在检查。李强摄（影像中国）",
        ] {
            assert!(is_caption(line), "{line}");
        }
    }

    #[test]
    fn rejects_body_text_and_headlines() {
        for line in [
            "上图书馆去看书的人多了。",
            "图一时之快，后患无穷。",
            "摄影展在京开幕",
            "他爱好摄影",
            "全市新建三座图书馆（室）。",
            "有关部门（单位）应当及时提供",
            "这些照片由他提供。",
            "新华社北京12月6日电（记者 吉宁）今天",
        ] {
            assert!(!is_caption(line), "{line}");
        }
    }
}
