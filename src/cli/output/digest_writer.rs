//! The writer of one digest, in any format.

use std::io::{self, Write};

use serde_json::ser::{CompactFormatter, PrettyFormatter};

use super::{html, json, json::DigestJson, markdown, text};
use crate::{cli::args::DigestFormat, pb};

/// The layout of a digest: an output format and its variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum DigestLayout {
    Text,
    /// The text of a single task, with each section on a line of its own.
    TextLines,
    Json,
    /// A JSON object on one line.
    JsonLine,
    /// JSON objects, with each section on a line of its own.
    JsonLines,
    Markdown,
    Html,
}

impl From<DigestFormat> for DigestLayout {
    fn from(format: DigestFormat) -> Self {
        match format {
            DigestFormat::Text => Self::Text,
            DigestFormat::Json => Self::Json,
            DigestFormat::Jsonl => Self::JsonLines,
            DigestFormat::Markdown => Self::Markdown,
            DigestFormat::Html => Self::Html,
        }
    }
}

/// The labels of one result.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct ResultLabels<'a> {
    /// The name of the input.
    pub(in crate::cli) name: &'a str,
    /// The id of a JSONL record.
    pub(in crate::cli) id: Option<&'a serde_json::Value>,
    /// Write the name above a text, because several results follow each other.
    pub(in crate::cli) is_named: bool,
    /// The link to the index of the directory.
    pub(in crate::cli) index: Option<&'a str>,
}

/// Writes one digest: its structure first, then its sections in page order, and its statistics last.
pub(in crate::cli) struct DigestWriter<'a> {
    labels: ResultLabels<'a>,
    document: &'a pb::Document,
    state: FormatState<'a>,
}

enum FormatState<'a> {
    Text,
    TextLines,
    Json {
        json: DigestJson<'a, PrettyFormatter<'static>>,
        /// The object is an element of an array.
        is_nested: bool,
    },
    JsonLine(DigestJson<'a, CompactFormatter>),
    JsonLines,
    Markdown,
    /// A page of HTML is written as a whole, when all sections are there.
    Html {
        sections: Vec<pb::SectionDigest>,
    },
}

impl<'a> DigestWriter<'a> {
    /// Writes the beginning, up to the first section.
    pub(in crate::cli) fn begin(
        out: &mut dyn Write,
        layout: DigestLayout,
        labels: ResultLabels<'a>,
        document: &'a pb::Document,
    ) -> io::Result<Self> {
        Self::begin_within(out, layout, None, labels, document)
    }

    /// Like [`Self::begin`], for an element of a JSON array that is written with `array`.
    pub(super) fn begin_within(
        out: &mut dyn Write,
        layout: DigestLayout,
        array: Option<PrettyFormatter<'static>>,
        labels: ResultLabels<'a>,
        document: &'a pb::Document,
    ) -> io::Result<Self> {
        let state = match layout {
            DigestLayout::Text => {
                if labels.is_named {
                    writeln!(out, "═══ {}\n", labels.name)?;
                }
                FormatState::Text
            }
            DigestLayout::TextLines => FormatState::TextLines,
            DigestLayout::Json => {
                let is_nested = array.is_some();
                let formatter = array.unwrap_or_default();
                FormatState::Json { json: DigestJson::begin(out, formatter, &labels, document)?, is_nested }
            }
            DigestLayout::JsonLine => {
                FormatState::JsonLine(DigestJson::begin(out, CompactFormatter, &labels, document)?)
            }
            DigestLayout::JsonLines => FormatState::JsonLines,
            DigestLayout::Markdown => {
                markdown::title(out, labels.name)?;
                FormatState::Markdown
            }
            DigestLayout::Html => FormatState::Html { sections: Vec::new() },
        };
        Ok(Self { labels, document, state })
    }

    /// Writes one section. Sections must come in page order.
    pub(in crate::cli) fn section(
        &mut self,
        out: &mut dyn Write,
        digest: &pb::SectionDigest,
    ) -> io::Result<()> {
        let index = usize::try_from(digest.article_index).unwrap_or_default();
        let Some(article) = self.document.articles.get(index) else { return Ok(()) };
        let is_first = digest.section_index == 0;
        match &mut self.state {
            FormatState::Text => {
                if is_first {
                    text::article(out, index, self.document.articles.len(), article)?;
                }
                text::section(out, article, digest)
            }
            FormatState::TextLines => text::line(out, digest),
            FormatState::Json { json, .. } => json.section(out, article, digest),
            FormatState::JsonLine(json) => json.section(out, article, digest),
            FormatState::JsonLines => {
                writeln!(out, "{}", json::section_line(self.labels.name, article, digest))
            }
            FormatState::Markdown => {
                if is_first {
                    markdown::article(out, article)?;
                }
                markdown::section(out, article, digest)
            }
            FormatState::Html { sections } => {
                sections.push(digest.clone());
                Ok(())
            }
        }
    }

    /// Writes the end. `error` is the reason why sections are missing.
    pub(in crate::cli) fn finish(
        self,
        out: &mut dyn Write,
        statistics: Option<&pb::DigestStatistics>,
        error: Option<&str>,
    ) -> anyhow::Result<()> {
        match self.state {
            FormatState::Text | FormatState::TextLines | FormatState::JsonLines | FormatState::Markdown => {}
            FormatState::Json { json, is_nested } => {
                json.finish(out, statistics, error)?;
                if !is_nested {
                    writeln!(out)?;
                }
            }
            FormatState::JsonLine(json) => {
                json.finish(out, statistics, error)?;
                writeln!(out)?;
            }
            FormatState::Html { sections } => {
                let digest = pb::DigestResponse {
                    document: Some(self.document.clone()),
                    sections,
                    statistics: statistics.copied(),
                    ..Default::default()
                };
                out.write_all(html::page(&self.labels, &digest)?.as_bytes())?;
            }
        }
        Ok(())
    }

    /// Writes a complete digest.
    pub(in crate::cli) fn write_all(
        mut self,
        out: &mut dyn Write,
        digest: &pb::DigestResponse,
    ) -> anyhow::Result<()> {
        for section in &digest.sections {
            self.section(out, section)?;
        }
        self.finish(out, digest.statistics.as_ref(), None)
    }
}
