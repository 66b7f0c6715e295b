//! Digests for people.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::{heading, place, text};
use crate::pb;

const HEADLINE: Style = Style::new().bold();
const LABEL: Style = AnsiColor::Cyan.on_default();
const WARNING: Style = AnsiColor::Yellow.on_default();

/// Above the first section of an article.
pub(crate) fn article(
    out: &mut dyn Write,
    index: usize,
    count: usize,
    article: &pb::Article,
) -> io::Result<()> {
    let headline = text(article.headline.as_ref()).unwrap_or("(no headline)");
    writeln!(out, "{HEADLINE}━━━ {}/{count}  {headline}{HEADLINE:#}", index + 1)?;
    let elements = [&article.kicker, &article.subtitle, &article.dateline, &article.byline];
    let line: Vec<&str> = elements.into_iter().filter_map(|e| text(e.as_ref())).collect();
    if !line.is_empty() {
        writeln!(out, "{}", line.join("  ·  "))?;
    }
    writeln!(out)
}

/// One section: its heading, its summary, its translation, and what the checks found.
pub(crate) fn section(
    out: &mut dyn Write,
    article: &pb::Article,
    digest: &pb::SectionDigest,
) -> io::Result<()> {
    let index = usize::try_from(digest.section_index).unwrap_or_default();
    let own = article.sections.get(index).and_then(|s| text(s.heading.as_ref()));
    if let Some(own) = own {
        writeln!(out, "{HEADLINE}── {own}{HEADLINE:#}\n")?;
    }
    if let Some(error) = &digest.error {
        let name = heading(article, index).unwrap_or("this section");
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
        writeln!(out, "{WARNING}! {}: {}{WARNING:#}", place(finding), finding.message)?;
    }
    if digest.verdict.as_ref().is_some_and(|v| !v.findings.is_empty()) {
        writeln!(out)?;
    }
    Ok(())
}

/// The result of one task on one line, for inputs whose every line is a section.
pub(crate) fn line(out: &mut dyn Write, digest: &pb::SectionDigest) -> io::Result<()> {
    let summary = digest.summary.iter().map(|s| s.text.as_str());
    let translation = digest.translation.iter().flat_map(|t| t.paragraphs.iter().map(|p| p.text.as_str()));
    let parts: Vec<&str> = summary.chain(translation).flat_map(str::split_whitespace).collect();
    writeln!(out, "{}", parts.join(" "))
}
