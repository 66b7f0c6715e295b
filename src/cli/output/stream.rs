//! Results one after another, on stdout or in one file.

use std::io::Write;

use serde_json::ser::PrettyFormatter;

use super::{
    digest_writer::{DigestLayout, DigestWriter, ResultLabels},
    json,
    json_stream::JsonStream,
};
use crate::pb;

/// The shape of the JSON on a stream of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum StreamShape {
    /// One result.
    Single,
    /// An array of results.
    Array,
}

/// Writes results one after another.
pub(in crate::cli) struct ResultStream {
    out: Box<dyn Write + Send>,
    layout: DigestLayout,
    /// The array of results, for JSON.
    array: Option<JsonStream<PrettyFormatter<'static>>>,
}

impl ResultStream {
    /// Begins a stream. With JSON, `shape` must be [`StreamShape::Array`] unless there is exactly one result.
    pub(in crate::cli) fn begin(
        mut out: Box<dyn Write + Send>,
        layout: DigestLayout,
        shape: StreamShape,
    ) -> anyhow::Result<Self> {
        let mut array = None;
        if (layout, shape) == (DigestLayout::Json, StreamShape::Array) {
            array.insert(JsonStream::new(PrettyFormatter::new())).begin_array(&mut out)?;
        }
        Ok(Self { out, layout, array })
    }

    /// Begins a result. The sections and the end must be written before the next one begins.
    pub(in crate::cli) fn begin_result<'a>(
        &'a mut self,
        labels: ResultLabels<'a>,
        document: &'a pb::Document,
    ) -> anyhow::Result<StreamedResult<'a>> {
        let Self { out, layout, array } = self;
        if let Some(array) = array {
            array.begin_value(out)?;
        }
        let formatter = array.as_ref().map(JsonStream::formatter);
        let digest = DigestWriter::begin_within(out, *layout, formatter, labels, document)?;
        out.flush()?;
        Ok(StreamedResult { digest, out, array })
    }

    /// Writes a complete result.
    pub(in crate::cli) fn result(
        &mut self,
        labels: ResultLabels<'_>,
        digest: &pb::DigestResponse,
    ) -> anyhow::Result<()> {
        let empty = pb::Document::default();
        let document = digest.document.as_ref().unwrap_or(&empty);
        let mut result = self.begin_result(labels, document)?;
        for section in &digest.sections {
            result.digest.section(result.out, section)?;
        }
        result.finish(digest.statistics.as_ref(), None)
    }

    /// Writes an input that failed. Only JSON shows it; otherwise, stderr does.
    pub(in crate::cli) fn failure(&mut self, labels: ResultLabels<'_>, error: &str) -> anyhow::Result<()> {
        let Self { out, layout, array } = self;
        match (layout, array) {
            (DigestLayout::Json, Some(array)) => array.value(out, &json::failure(&labels, error))?,
            (DigestLayout::Json, None) => {
                writeln!(out, "{}", serde_json::to_string_pretty(&json::failure(&labels, error))?)?;
            }
            (DigestLayout::JsonLine | DigestLayout::JsonLines, _) => {
                writeln!(out, "{}", json::failure(&labels, error))?;
            }
            (
                DigestLayout::Text | DigestLayout::TextLines | DigestLayout::Markdown | DigestLayout::Html,
                _,
            ) => {}
        }
        Ok(out.flush()?)
    }

    /// Ends the stream.
    pub(in crate::cli) fn finish(mut self) -> anyhow::Result<()> {
        if let Some(array) = &mut self.array {
            array.end(&mut self.out)?;
            writeln!(self.out)?;
        }
        Ok(self.out.flush()?)
    }
}

/// A result that is written while it arrives.
pub(in crate::cli) struct StreamedResult<'a> {
    digest: DigestWriter<'a>,
    out: &'a mut Box<dyn Write + Send>,
    array: &'a mut Option<JsonStream<PrettyFormatter<'static>>>,
}

impl StreamedResult<'_> {
    /// Writes one section. Sections must come in page order.
    pub(in crate::cli) fn section(&mut self, section: &pb::SectionDigest) -> anyhow::Result<()> {
        self.digest.section(self.out, section)?;
        Ok(self.out.flush()?)
    }

    /// Writes the end. `error` is the reason why sections are missing.
    pub(in crate::cli) fn finish(
        self,
        statistics: Option<&pb::DigestStatistics>,
        error: Option<&str>,
    ) -> anyhow::Result<()> {
        self.digest.finish(self.out, statistics, error)?;
        if let Some(array) = self.array {
            array.end_value(self.out)?;
        }
        Ok(self.out.flush()?)
    }
}
