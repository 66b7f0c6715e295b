//! Digests as human-readable text, colored for terminals.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::{element_text, finding_location, section_heading};
use crate::pb;

const HEADLINE: Style = Style::new().bold();
const LABEL: Style = AnsiColor::Cyan.on_default();
const WARNING: Style = AnsiColor::Yellow.on_default();

/// Writes the headline and the other elements above the first section of an article.
pub(super) fn article(
    out: &mut dyn Write,
    index: usize,
    count: usize,
    article: &pb::Article,
) -> io::Result<()> {
    let headline = element_text(article.headline.as_ref()).unwrap_or("(no headline)");
    writeln!(out, "{HEADLINE}━━━ {}/{count}  {headline}{HEADLINE:#}", index + 1)?;
    let elements = [&article.kicker, &article.subtitle, &article.dateline, &article.byline];
    let line: Vec<&str> = elements.into_iter().filter_map(|e| element_text(e.as_ref())).collect();
    if !line.is_empty() {
        writeln!(out, "{}", line.join("  ·  "))?;
    }
    writeln!(out)
}

/// Writes the heading, the summary, the translation and the findings of a section.
pub(super) fn section(
    out: &mut dyn Write,
    article: &pb::Article,
    digest: &pb::SectionDigest,
) -> io::Result<()> {
    let index = usize::try_from(digest.section_index).unwrap_or_default();
    let heading = article.sections.get(index).and_then(|s| element_text(s.heading.as_ref()));
    if let Some(heading) = heading {
        writeln!(out, "{HEADLINE}── {heading}{HEADLINE:#}\n")?;
    }
    if let Some(error) = &digest.error {
        let name = section_heading(article, index).unwrap_or("this section");
        writeln!(out, "{WARNING}! {name} failed: {}{WARNING:#}\n", error.message)?;
        return Ok(());
    }
    if let Some(summary) = &digest.summary {
        writeln!(out, "{LABEL}摘要{LABEL:#}  {}\n", summary.text)?;
    }
    if let Some(translation) = &digest.translation {
        writeln!(out, "{LABEL}English{LABEL:#}  {HEADLINE}{}{HEADLINE:#}\n", translation.heading)?;
        for paragraph in &translation.paragraphs {
            writeln!(out, "{}\n", paragraph.text)?;
        }
    }
    for finding in digest.verdict.iter().flat_map(|v| &v.findings) {
        writeln!(out, "{WARNING}! {}: {}{WARNING:#}", finding_location(finding), finding.message)?;
    }
    if digest.verdict.as_ref().is_some_and(|v| !v.findings.is_empty()) {
        writeln!(out)?;
    }
    Ok(())
}

/// Writes the result of the only task on one line.
pub(super) fn line(out: &mut dyn Write, digest: &pb::SectionDigest) -> io::Result<()> {
    let summary = digest.summary.iter().map(|s| s.text.as_str());
    let translation = digest.translation.iter().flat_map(|t| t.paragraphs.iter().map(|p| p.text.as_str()));
    let words: Vec<&str> = summary.chain(translation).flat_map(str::split_whitespace).collect();
    writeln!(out, "{}", words.join(" "))
}
