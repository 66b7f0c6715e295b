//! The few facts about single characters that all the recognisers share.

/// A Chinese character (with the extensions, and 〇).
pub(crate) fn is_han(character: char) -> bool {
    matches!(character, '\u{4E00}'..='\u{9FFF}' | '\u{3400}'..='\u{4DBF}' | '\u{F900}'..='\u{FAFF}'
        | '\u{20000}'..='\u{3FFFF}' | '〇')
}

/// A digit, Arabic or Chinese, as dates and page numbers have them.
pub(crate) fn is_digit(character: char) -> bool {
    matches!(
        character,
        '0'..='9'
            | '〇'
            | '零'
            | '○'
            | '一'
            | '二'
            | '三'
            | '四'
            | '五'
            | '六'
            | '七'
            | '八'
            | '九'
            | '十'
            | '百'
            | '廿'
            | '卅'
            | '元'
    )
}

/// The bracket or quotation mark that closes `open`.
pub(crate) fn closer(open: char) -> Option<char> {
    Some(match open {
        '（' => '）',
        '(' => ')',
        '“' => '”',
        '‘' => '’',
        '「' => '」',
        '『' => '』',
        '《' => '》',
        '〈' => '〉',
        '【' => '】',
        '〔' => '〕',
        '［' => '］',
        '[' => ']',
        '〖' => '〗',
        _ => return None,
    })
}

/// Whether `character` closes a bracket or a quotation.
pub(crate) fn is_closer(character: char) -> bool {
    matches!(character, '）' | ')' | '”' | '’' | '」' | '』' | '》' | '〉' | '】' | '〕' | '］' | ']' | '〗')
}

/// Whether `character` ends a sentence.
pub(crate) fn is_stop(character: char) -> bool {
    matches!(character, '。' | '！' | '？' | '!' | '?' | '…' | '｡')
}

/// `text` without white space and without the signs that lists and bylines open with.
pub(crate) fn strip_bullets(text: &str) -> &str {
    text.trim_start_matches(|c: char| c.is_whitespace() || "●○■□◆◇▲△▼▽★☆◎※·•◉▪►▶".contains(c))
}

/// If `text` is one bracket from its first to its last character: what is inside.
pub(crate) fn unbracketed(text: &str) -> Option<&str> {
    let open = text.chars().next().filter(|c| "（([【〔［".contains(*c))?;
    let inside = text[open.len_utf8()..].strip_suffix(closer(open)?)?;
    (!inside.contains(open)).then_some(inside.trim())
}

/// The byte offset after the first `count` characters of `text`, or its end.
pub(crate) fn prefix_len(text: &str, count: usize) -> usize {
    let mut characters = text.chars();
    match count.checked_sub(1).map(|last| characters.nth(last)) {
        Some(_) => text.len() - characters.as_str().len(),
        None => 0,
    }
}

/// The byte offset of the last `count` characters of `text`, or its start.
pub(crate) fn suffix_start(text: &str, count: usize) -> usize {
    text.char_indices().rev().nth(count.saturating_sub(1)).map_or(0, |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_that_span_the_whole_text_come_off() {
        assert_eq!(unbracketed("（上接第一版）"), Some("上接第一版"));
        assert_eq!(unbracketed("【新华社电】正文"), None);
        assert_eq!(unbracketed("（甲）和（乙）"), None);
        assert_eq!(unbracketed(""), None);
    }

    #[test]
    fn prefixes_and_suffixes_are_cut_between_characters() {
        assert_eq!(prefix_len("中文a", 2), 6);
        assert_eq!(prefix_len("中", 5), 3);
        assert_eq!(suffix_start("中文a", 2), 3);
        assert_eq!(suffix_start("中", 5), 0);
    }
}
