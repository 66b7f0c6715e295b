//! Character classes and string helpers that the other recognizers share.

/// Returns `true` for a Chinese character, including the CJK extensions and 〇.
pub(crate) fn is_han(character: char) -> bool {
    matches!(character, '\u{4E00}'..='\u{9FFF}' | '\u{3400}'..='\u{4DBF}' | '\u{F900}'..='\u{FAFF}'
        | '\u{20000}'..='\u{3FFFF}' | '〇')
}

/// Returns `true` for an Arabic or Chinese digit as used in dates and page numbers.
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

/// Returns the bracket or quotation mark that closes `open`.
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

/// Returns `true` if `character` closes a bracket or a quotation.
pub(crate) fn is_closer(character: char) -> bool {
    matches!(character, '）' | ')' | '”' | '’' | '」' | '』' | '》' | '〉' | '】' | '〕' | '］' | ']' | '〗')
}

/// Returns `true` if `character` ends a sentence.
pub(crate) fn is_stop(character: char) -> bool {
    matches!(character, '。' | '！' | '？' | '!' | '?' | '…' | '｡')
}

/// Removes leading white space and the symbols that introduce list items and bylines.
pub(crate) fn strip_bullets(text: &str) -> &str {
    text.trim_start_matches(|c: char| c.is_whitespace() || "●○■□◆◇▲△▼▽★☆◎※·•◉▪►▶".contains(c))
}

/// Returns the text inside the brackets if a single pair of brackets encloses all of `text`.
pub(crate) fn unbracketed(text: &str) -> Option<&str> {
    let open = text.chars().next().filter(|c| "（([【〔［".contains(*c))?;
    let inside = text[open.len_utf8()..].strip_suffix(closer(open)?)?;
    (!inside.contains(open)).then_some(inside.trim())
}

/// Returns the byte offset after the first `count` characters of `text`, or its length if it is shorter.
pub(crate) fn prefix_len(text: &str, count: usize) -> usize {
    let mut characters = text.chars();
    match count.checked_sub(1).map(|last| characters.nth(last)) {
        Some(_) => text.len() - characters.as_str().len(),
        None => 0,
    }
}

/// Returns the byte offset of the last `count` characters of `text`, or 0 if it is shorter.
pub(crate) fn suffix_start(text: &str, count: usize) -> usize {
    text.char_indices().rev().nth(count.saturating_sub(1)).map_or(0, |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_brackets_only_around_the_whole_text() {
        assert_eq!(unbracketed("（上接第一版）"), Some("上接第一版"));
        assert_eq!(unbracketed("【新华社电】正文"), None);
        assert_eq!(unbracketed("（甲）和（乙）"), None);
        assert_eq!(unbracketed(""), None);
    }

    #[test]
    fn measures_prefixes_and_suffixes_in_characters() {
        assert_eq!(prefix_len("中文a", 2), 6);
        assert_eq!(prefix_len("中", 5), 3);
        assert_eq!(suffix_start("中文a", 2), 3);
        assert_eq!(suffix_start("中", 5), 0);
    }
}
