//! Detects the format of an input from its first characters, for [`InputFormat::Auto`].

use crate::document::InputFormat;

/// The number of bytes that are examined.
const SAMPLE_BYTES: usize = 1 << 14;

/// Returns the format of `text`: plain text unless it looks like another format.
pub(crate) fn format_of(text: &str) -> InputFormat {
    let sample = &text[..text.floor_char_boundary(SAMPLE_BYTES)];
    let head = sample.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{FEFF}');
    if head.starts_with('{') && is_json_line(text) {
        InputFormat::JsonLines
    } else if head.starts_with('<') && is_html(head) {
        InputFormat::Html
    } else if sample.lines().any(is_markdown_heading) {
        InputFormat::Markdown
    } else {
        InputFormat::Text
    }
}

fn is_json_line(text: &str) -> bool {
    let line =
        text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{FEFF}').lines().next().unwrap_or("");
    line.trim_end().ends_with('}') && serde_json::from_str::<serde::de::IgnoredAny>(line).is_ok()
}

fn is_html(head: &str) -> bool {
    let head = head.to_ascii_lowercase();
    ["<!doctype html", "<html", "<head", "<body", "<article", "<div", "<p>", "<p ", "<h1", "<h2"]
        .iter()
        .any(|tag| head.contains(tag))
}

/// Returns `true` for a line like `# 题目`.
fn is_markdown_heading(line: &str) -> bool {
    let rest = line.trim_start_matches('#');
    (1..=6).contains(&(line.len() - rest.len())) && rest.starts_with(' ') && !rest.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_each_format() {
        for (text, format) in [
            ("\u{FEFF} <!DOCTYPE html><p>正文", InputFormat::Html),
            ("{\"text\":\"正文\"}\n{", InputFormat::JsonLines),
            ("# 题目\n\n正文。", InputFormat::Markdown),
            ("题目\n正文。", InputFormat::Text),
            ("#话题#今天开学", InputFormat::Text),
            ("{不是", InputFormat::Text),
            ("<<论语>>今天出版", InputFormat::Text),
            ("", InputFormat::Text),
        ] {
            assert_eq!(format_of(text), format, "{text}");
        }
    }
}
