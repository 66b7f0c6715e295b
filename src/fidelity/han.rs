//! Chinese characters where there should be none.

/// Whether a character is a Han character (CJK unified ideographs and their extension A).
fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

/// Whether the text holds a Han character.
pub(super) fn contains_han(text: &str) -> bool {
    text.chars().any(is_han)
}

/// The first unbroken run of Han characters.
pub(super) fn first_han_run(text: &str) -> Option<&str> {
    let start = text.find(is_han)?;
    let rest = &text[start..];
    Some(&rest[..rest.find(|c| !is_han(c)).unwrap_or(rest.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_left_in_chinese() {
        assert_eq!(first_han_run("access barriers (准入) and 揭榜"), Some("准入"));
        assert_eq!(first_han_run("the “Belt and Road”，2025"), None);
        assert!(contains_han("㐀"));
    }
}
