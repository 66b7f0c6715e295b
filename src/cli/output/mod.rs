//! How results are written: for people as text, Markdown or HTML, or as JSON.

pub(super) mod digest_json;
pub(super) mod digest_text;
pub(super) mod html;
pub(super) mod markdown;
pub(super) mod structure;

use std::io::{self, Write};

use super::{args::DigestFormat, batch::Outcome};
use crate::pb;

/// The result of one input, to be written whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rendered<'a> {
    /// What the input is called.
    pub(super) name: &'a str,
    /// The id that a JSONL record has.
    pub(super) id: Option<&'a serde_json::Value>,
    /// Whether others follow, so that it must say whose it is.
    pub(super) several: bool,
    /// Where the index lies, seen from the result.
    pub(super) index: Option<&'a str>,
}

impl Rendered<'_> {
    /// Everything about the input in one piece of text; text for a terminal holds colours.
    pub(super) fn whole(&self, format: DigestFormat, digest: &pb::DigestResponse) -> anyhow::Result<String> {
        let mut out = Vec::new();
        match format {
            DigestFormat::Text => self.text(&mut out, digest)?,
            DigestFormat::Json => writeln!(out, "{}", serde_json::to_string_pretty(&self.json(digest))?)?,
            DigestFormat::Jsonl => {
                for (article, section) in sections(digest) {
                    writeln!(out, "{}", digest_json::section(self.name, article, section))?;
                }
            }
            DigestFormat::Markdown => out.extend(markdown::page(self.name, digest).into_bytes()),
            DigestFormat::Html => out.extend(html::page(self, digest)?.into_bytes()),
        }
        Ok(String::from_utf8(out)?)
    }

    /// Everything about the input as one value.
    pub(super) fn json(&self, digest: &pb::DigestResponse) -> serde_json::Value {
        let document = digest.document.clone().unwrap_or_default();
        digest_json::whole(self.name, self.id, &document, &digest.sections, digest.statistics.as_ref())
    }

    /// The result of one task, a line a section.
    pub(super) fn lines(&self, out: &mut dyn Write, digest: &pb::DigestResponse) -> io::Result<()> {
        digest.sections.iter().try_for_each(|section| digest_text::line(out, section))
    }

    fn text(&self, out: &mut dyn Write, digest: &pb::DigestResponse) -> io::Result<()> {
        if self.several {
            writeln!(out, "═══ {}\n", self.name)?;
        }
        let count = digest.document.as_ref().map_or(0, |document| document.articles.len());
        for (article, section) in sections(digest) {
            if section.section_index == 0 {
                let index = usize::try_from(section.article_index).unwrap_or_default();
                digest_text::article(out, index, count, article)?;
            }
            digest_text::section(out, article, section)?;
        }
        Ok(())
    }
}

/// Every section with the article that it is of, in page order.
pub(super) fn sections(
    digest: &pb::DigestResponse,
) -> impl Iterator<Item = (&pb::Article, &pb::SectionDigest)> {
    let articles = digest.document.as_ref().map_or(&[][..], |document| &document.articles);
    digest.sections.iter().filter_map(|section| {
        let article = usize::try_from(section.article_index).ok().and_then(|index| articles.get(index))?;
        Some((article, section))
    })
}

/// What there is to count in a result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) articles: u64,
    pub(super) sections: u64,
    pub(super) failed_sections: u64,
    pub(super) findings: u64,
    /// Of the paragraphs of the source, white space not counted.
    pub(super) characters: u64,
    /// Read by the model.
    pub(super) prompt_tokens: u64,
    /// Written by the model.
    pub(super) completion_tokens: u64,
}

impl Counts {
    /// Of what became of an input; of a failure nothing.
    pub(super) fn of(outcome: &Outcome) -> Self {
        let Outcome::Digest(digest) = outcome else { return Self::default() };
        let articles = digest.document.as_ref().map_or(&[][..], |document| &document.articles);
        let paragraphs = articles.iter().flat_map(|a| &a.sections).flat_map(|s| &s.paragraphs);
        let statistics = digest.statistics.unwrap_or_default();
        let count = |amount: i64| u64::try_from(amount).unwrap_or_default();
        Self {
            articles: articles.len() as u64,
            sections: digest.sections.len() as u64,
            failed_sections: digest.sections.iter().filter(|s| s.error.is_some()).count() as u64,
            findings: digest.sections.iter().flat_map(|s| &s.verdict).map(|v| v.findings.len() as u64).sum(),
            characters: paragraphs
                .map(|p| p.text.chars().filter(|c| !c.is_whitespace()).count() as u64)
                .sum(),
            prompt_tokens: count(statistics.prompt_tokens - statistics.cached_tokens),
            completion_tokens: count(statistics.completion_tokens),
        }
    }
}

/// Where a finding is, in words.
pub(super) fn place(finding: &pb::Finding) -> String {
    match (finding.task(), finding.paragraph_index) {
        (pb::Task::Summary, _) => "summary".to_owned(),
        (_, Some(paragraph)) => format!("translation, paragraph {}", paragraph + 1),
        (_, None) => "translation of the heading".to_owned(),
    }
}

/// The text of an optional element.
pub(super) fn text(element: Option<&pb::Text>) -> Option<&str> {
    element.map(|element| element.text.as_str())
}

/// The heading under which a section stands: its own, or for the first section the article's headline.
pub(super) fn heading(article: &pb::Article, section: usize) -> Option<&str> {
    let own = article.sections.get(section).and_then(|s| text(s.heading.as_ref()));
    own.or_else(|| text(article.headline.as_ref()).filter(|_| section == 0))
}
