//! Finds Chinese characters in a text.

/// Returns `true` for a Han character: CJK unified ideographs, extension A and compatibility ideographs.
pub(super) fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

/// Returns `true` if the text contains a Han character.
pub(super) fn contains_han(text: &str) -> bool {
    text.chars().any(is_han)
}

/// Returns the first run of Han characters.
pub(super) fn first_han_run(text: &str) -> Option<&str> {
    let start = text.find(is_han)?;
    let rest = &text[start..];
    Some(&rest[..rest.find(|c| !is_han(c)).unwrap_or(rest.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_run_of_han_characters() {
        assert_eq!(first_han_run("access barriers (准入) and 揭榜"), Some("准入"));
        assert_eq!(first_han_run("the “Belt and Road”，2025"), None);
        assert!(contains_han("㐀"));
    }
}
