//! A sink that writes results one after another, on stdout or in one file.

use std::sync::Arc;

use super::{BatchProgress, FinishedItem, ItemOutcome, ResultSink, RunTotals};
use crate::cli::output::{ResultLabels, ResultStream, StreamShape};

/// Opens the stream of results.
type OpenStream = Box<dyn FnOnce(StreamShape) -> anyhow::Result<ResultStream> + Send>;

/// Writes results one after another.
pub(in crate::cli) struct StreamSink {
    stream: Option<ResultStream>,
    /// Opens `stream`, once its shape is known.
    open: Option<OpenStream>,
    /// The first result, while it is unknown whether there are more.
    first: Option<FinishedItem>,
    /// Write the name of each input above its text.
    is_named: bool,
    progress: Arc<BatchProgress>,
}

impl StreamSink {
    /// `shape` is `None` if it depends on the number of results.
    pub(in crate::cli) fn new(
        open: OpenStream,
        shape: Option<StreamShape>,
        is_named: bool,
        progress: Arc<BatchProgress>,
    ) -> anyhow::Result<Self> {
        let mut sink = Self { stream: None, open: Some(open), first: None, is_named, progress };
        if let Some(shape) = shape {
            sink.open(shape)?;
        }
        Ok(sink)
    }

    fn open(&mut self, shape: StreamShape) -> anyhow::Result<()> {
        if let Some(open) = self.open.take() {
            self.stream = Some(open(shape)?);
        }
        match self.first.take() {
            Some(first) => self.write_item(&first),
            None => Ok(()),
        }
    }

    fn write_item(&mut self, item: &FinishedItem) -> anyhow::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let FinishedItem { header, outcome, .. } = item;
        let labels =
            ResultLabels { name: &header.name, id: header.id.as_ref(), is_named: self.is_named, index: None };
        self.progress.suspend(|| match outcome {
            ItemOutcome::Digest(digest) => stream.result(labels, digest),
            ItemOutcome::Failed(failure) => stream.failure(labels, &failure.message),
        })
    }
}

impl ResultSink for StreamSink {
    fn write(&mut self, item: FinishedItem) -> anyhow::Result<()> {
        if self.stream.is_none() && self.first.is_none() {
            self.first = Some(item);
            return Ok(());
        }
        self.open(StreamShape::Array)?;
        self.write_item(&item)
    }

    fn finish(&mut self, _: &RunTotals) -> anyhow::Result<()> {
        let shape = if self.first.is_some() { StreamShape::Single } else { StreamShape::Array };
        self.open(shape)?;
        self.stream.take().map_or(Ok(()), ResultStream::finish)
    }
}
