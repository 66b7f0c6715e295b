//! Digests as Markdown: an article is a chapter, a section a part of it, source and translation one after the other.

use std::fmt::Write as _;

use super::{place, sections, text};
use crate::pb;

/// One input.
pub(super) fn page(name: &str, digest: &pb::DigestResponse) -> String {
    let mut out = format!("# {}\n", escaped(name));
    for (article, section) in sections(digest) {
        if section.section_index == 0 {
            head(&mut out, article);
        }
        body(&mut out, article, section);
    }
    out
}

fn head(out: &mut String, article: &pb::Article) {
    let headline = text(article.headline.as_ref()).unwrap_or("(no headline)");
    line(out, format_args!("\n## {}\n", escaped(headline)));
    let elements = [&article.kicker, &article.subtitle, &article.dateline, &article.byline];
    let parts: Vec<String> = elements.into_iter().filter_map(|e| text(e.as_ref())).map(escaped).collect();
    if !parts.is_empty() {
        line(out, format_args!("*{}*\n", parts.join(" · ")));
    }
}

fn body(out: &mut String, article: &pb::Article, digest: &pb::SectionDigest) {
    let source = usize::try_from(digest.section_index).ok().and_then(|index| article.sections.get(index));
    if let Some(heading) = source.and_then(|section| text(section.heading.as_ref())) {
        line(out, format_args!("### {}\n", escaped(heading)));
    }
    if let Some(error) = &digest.error {
        line(out, format_args!("> ⚠ This section could not be done: {}\n", escaped(&error.message)));
    }
    if let Some(summary) = &digest.summary {
        line(out, format_args!("**摘要** {}\n", escaped(&summary.text)));
    }
    let translation = digest.translation.as_ref();
    if let Some(heading) = translation.map(|t| t.heading.as_str()).filter(|heading| !heading.is_empty()) {
        line(out, format_args!("**{}**\n", escaped(heading)));
    }
    for (index, paragraph) in source.iter().flat_map(|section| &section.paragraphs).enumerate() {
        line(out, format_args!("{}\n", escaped(&paragraph.text)));
        let english = translation
            .and_then(|t| t.paragraphs.iter().find(|p| usize::try_from(p.paragraph_index) == Ok(index)));
        if let Some(english) = english {
            let quoted: Vec<String> =
                english.text.lines().map(|line| format!("> {}", escaped(line))).collect();
            line(out, format_args!("{}\n", quoted.join("\n")));
        }
    }
    for finding in digest.verdict.iter().flat_map(|verdict| &verdict.findings) {
        line(out, format_args!("- ⚠ {}: {}", place(finding), escaped(&finding.message)));
    }
    if digest.verdict.as_ref().is_some_and(|verdict| !verdict.findings.is_empty()) {
        out.push('\n');
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

/// The text as it is meant, whatever Markdown would see in it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (index, char) in text.char_indices() {
        let opens_a_block = index == 0 && matches!(char, '#' | '+' | '-' | '=' | '~');
        if opens_a_block || matches!(char, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '&') {
            out.push('\\');
        }
        // `1.` at the beginning of a line would be a list.
        let is_list = char == '.' && index > 0 && text[..index].bytes().all(|byte| byte.is_ascii_digit());
        if is_list {
            out.push('\\');
        }
        out.push(char);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn markdown_reads_what_was_written() {
        use pulldown_cmark::{Event, Parser};
        for text in ["# 题", "1. 一", "*a* _b_ `c` <d> [e](f) & g", "- 点", "\\", "2025年3.5%"] {
            let escaped = escaped(text);
            let read: String = Parser::new(&escaped)
                .filter_map(|event| match event {
                    Event::Text(text) => Some(text.into_string()),
                    Event::Start(tag) => Some(format!("{tag:?}").replace("Paragraph", "")),
                    Event::End(_) => None,
                    other => Some(format!("{other:?}")),
                })
                .collect();
            assert_eq!(read, text);
        }
    }
}
