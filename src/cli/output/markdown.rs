//! Digests as Markdown, with each paragraph of the source followed by its translation as a quotation.

use std::io::{self, Write};

use super::{element_text, finding_location};
use crate::pb;

/// Writes the name of the input as the title.
pub(super) fn title(out: &mut dyn Write, name: &str) -> io::Result<()> {
    writeln!(out, "# {}", escaped(name))
}

/// Writes the headline and the other elements above the first section of an article.
pub(super) fn article(out: &mut dyn Write, article: &pb::Article) -> io::Result<()> {
    let headline = element_text(article.headline.as_ref()).unwrap_or("(no headline)");
    writeln!(out, "\n## {}\n", escaped(headline))?;
    let elements = [&article.kicker, &article.subtitle, &article.dateline, &article.byline];
    let elements = elements.into_iter().filter_map(|e| element_text(e.as_ref()));
    let line: Vec<String> = elements.map(escaped).collect();
    if !line.is_empty() {
        writeln!(out, "*{}*\n", line.join(" · "))?;
    }
    Ok(())
}

/// Writes a section: its heading, summary, paragraphs with their translations, and findings.
pub(super) fn section(
    out: &mut dyn Write,
    article: &pb::Article,
    digest: &pb::SectionDigest,
) -> io::Result<()> {
    let source = usize::try_from(digest.section_index).ok().and_then(|index| article.sections.get(index));
    if let Some(heading) = source.and_then(|section| element_text(section.heading.as_ref())) {
        writeln!(out, "### {}\n", escaped(heading))?;
    }
    if let Some(error) = &digest.error {
        writeln!(out, "> ⚠ This section failed: {}\n", escaped(&error.message))?;
    }
    if let Some(summary) = &digest.summary {
        writeln!(out, "**摘要** {}\n", escaped(&summary.text))?;
    }
    let translation = digest.translation.as_ref();
    if let Some(heading) = translation.map(|t| t.heading.as_str()).filter(|heading| !heading.is_empty()) {
        writeln!(out, "**{}**\n", escaped(heading))?;
    }
    for (index, paragraph) in source.iter().flat_map(|section| &section.paragraphs).enumerate() {
        writeln!(out, "{}\n", escaped(&paragraph.text))?;
        let english = translation
            .and_then(|t| t.paragraphs.iter().find(|p| usize::try_from(p.paragraph_index) == Ok(index)));
        if let Some(english) = english {
            let quoted: Vec<String> =
                english.text.lines().map(|line| format!("> {}", escaped(line))).collect();
            writeln!(out, "{}\n", quoted.join("\n"))?;
        }
    }
    for finding in digest.verdict.iter().flat_map(|verdict| &verdict.findings) {
        writeln!(out, "- ⚠ {}: {}", finding_location(finding), escaped(&finding.message))?;
    }
    if digest.verdict.as_ref().is_some_and(|verdict| !verdict.findings.is_empty()) {
        writeln!(out)?;
    }
    Ok(())
}

/// Escapes characters that Markdown would interpret.
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
    fn a_markdown_parser_restores_the_escaped_text() {
        use pulldown_cmark::{Event, Parser};
        for text in ["# 题", "1. 一", "*a* _b_ `c` <d> [e](f) & g", "- 点", "\\", "2025年3.5%"] {
            let escaped = escaped(text);
            let parsed: String = Parser::new(&escaped)
                .filter_map(|event| match event {
                    Event::Text(text) => Some(text.into_string()),
                    Event::Start(tag) => Some(format!("{tag:?}").replace("Paragraph", "")),
                    Event::End(_) => None,
                    other => Some(format!("{other:?}")),
                })
                .collect();
            assert_eq!(parsed, text);
        }
    }
}
