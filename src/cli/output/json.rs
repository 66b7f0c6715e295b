//! Digests as JSON.

use std::io::{self, Write};

use serde_json::{Map, Value, json, ser::Formatter};

use super::{digest_writer::ResultLabels, element_text, json_stream::JsonStream};
use crate::pb;

/// Writes a digest as one JSON object, section by section.
///
/// A complete object ends with `statistics`. If the digest ends early, the object is still closed, and has an `error`.
#[derive(Debug)]
pub(super) struct DigestJson<'a, F> {
    json: JsonStream<F>,
    document: &'a pb::Document,
    /// Number of articles whose object has been opened.
    opened_articles: usize,
}

impl<'a, F: Formatter + Clone> DigestJson<'a, F> {
    pub(super) fn begin(
        out: &mut dyn Write,
        formatter: F,
        labels: &ResultLabels<'_>,
        document: &'a pb::Document,
    ) -> io::Result<Self> {
        let mut json = JsonStream::new(formatter);
        json.begin_object(out)?;
        json.key(out, "input")?;
        json.value(out, &labels.name)?;
        if let Some(id) = labels.id {
            json.key(out, "id")?;
            json.value(out, id)?;
        }
        json.key(out, "encoding")?;
        json.value(out, &document.encoding)?;
        json.key(out, "articles")?;
        json.begin_array(out)?;
        Ok(Self { json, document, opened_articles: 0 })
    }

    pub(super) fn section(
        &mut self,
        out: &mut dyn Write,
        article: &pb::Article,
        digest: &pb::SectionDigest,
    ) -> io::Result<()> {
        let index = usize::try_from(digest.article_index).unwrap_or_default();
        self.open_articles(out, index + 1)?;
        self.json.value(out, &Value::Object(section_fields(article, digest)))
    }

    pub(super) fn finish(
        mut self,
        out: &mut dyn Write,
        statistics: Option<&pb::DigestStatistics>,
        error: Option<&str>,
    ) -> io::Result<()> {
        self.open_articles(out, self.document.articles.len())?;
        self.close_article(out)?;
        self.json.end(out)?;
        self.json.key(out, "statistics")?;
        self.json.value(out, &statistics.map(statistics_value))?;
        if let Some(error) = error {
            self.json.key(out, "error")?;
            self.json.value(out, &error)?;
        }
        self.json.end(out)
    }

    /// Opens articles until `count` have been opened, and closes those before.
    fn open_articles(&mut self, out: &mut dyn Write, count: usize) -> io::Result<()> {
        while self.opened_articles < count
            && let Some(article) = self.document.articles.get(self.opened_articles)
        {
            self.close_article(out)?;
            self.json.begin_object(out)?;
            self.json.fields(out, &article_fields(article))?;
            self.json.key(out, "sections")?;
            self.json.begin_array(out)?;
            self.opened_articles += 1;
        }
        Ok(())
    }

    fn close_article(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.opened_articles > 0 {
            self.json.end(out)?;
            self.json.end(out)?;
        }
        Ok(())
    }
}

/// Returns a section as the object of its own line.
pub(super) fn section_line(name: &str, article: &pb::Article, digest: &pb::SectionDigest) -> Value {
    let mut fields = section_fields(article, digest);
    fields.insert("input".to_owned(), name.into());
    fields.insert("article_index".to_owned(), digest.article_index.into());
    fields.insert("section_index".to_owned(), digest.section_index.into());
    fields.insert("headline".to_owned(), element_text(article.headline.as_ref()).into());
    fields.into()
}

/// Returns the object for an input that failed.
pub(super) fn failure(labels: &ResultLabels<'_>, error: &str) -> Value {
    let mut value = json!({ "input": labels.name, "error": error });
    if let Some(id) = labels.id {
        value["id"] = id.clone();
    }
    value
}

/// Returns the fields of an article, except its sections.
fn article_fields(article: &pb::Article) -> Map<String, Value> {
    object(json!({
        "headline": element_text(article.headline.as_ref()),
        "subtitle": element_text(article.subtitle.as_ref()),
        "kicker": element_text(article.kicker.as_ref()),
        "dateline": element_text(article.dateline.as_ref()),
        "byline": element_text(article.byline.as_ref()),
        "continued": article.continued,
        "captions": article.captions.iter().map(|c| &c.text).collect::<Vec<_>>(),
    }))
}

fn section_fields(article: &pb::Article, digest: &pb::SectionDigest) -> Map<String, Value> {
    let source = usize::try_from(digest.section_index).ok().and_then(|index| article.sections.get(index));
    object(json!({
        "heading": source.and_then(|s| element_text(s.heading.as_ref())),
        "source": source.map(|s| s.paragraphs.iter().map(|p| &p.text).collect::<Vec<_>>()),
        "spans": digest.spans.iter().map(span_value).collect::<Vec<_>>(),
        "summary": digest.summary.as_ref().map(|summary| json!({
            "text": summary.text,
            "sentences": summary.sentences.iter().map(|sentence| json!({
                "text": sentence.text,
                "sources": sentence.sources.iter().map(|s| json!({
                    "paragraph": s.paragraph_index,
                    "sentence": s.sentence_index,
                    "text": s.text,
                })).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "finish_reason": finish_reason(summary.finish_reason()),
            "attempts": summary.attempts,
        })),
        "translation": digest.translation.as_ref().map(|translation| json!({
            "heading": translation.heading,
            "paragraphs": translation.paragraphs.iter().map(|p| json!({
                "text": p.text,
                "finish_reason": finish_reason(p.finish_reason()),
                "attempts": p.attempts,
                "alignments": p.alignments.iter().map(alignment_value).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        })),
        "verdict": digest.verdict.as_ref().map(|verdict| json!({
            "passed": verdict.passed,
            "findings": verdict.findings.iter().map(finding_value).collect::<Vec<_>>(),
            "numbers": verdict.numbers.as_ref().map(tally_value),
            "terms": verdict.terms.as_ref().map(tally_value),
            "names": verdict.names.as_ref().map(tally_value),
            "attempts": verdict.attempts,
        })),
        "provenance": digest.provenance.as_ref().map(|p| json!({
            "model": p.model,
            "weights_sha256": p.weights_sha256,
            "prompt_version": p.prompt_version,
            "glossary_sha256": p.glossary_sha256,
            "lexicon_sha256": p.lexicon_sha256,
        })),
        "timings": digest.timings.as_ref().map(|t| json!({
            "queue_time_ms": t.queue_time_ms,
            "compute_time_ms": t.compute_time_ms,
            "prompt_tokens": t.prompt_tokens,
            "cached_tokens": t.cached_tokens,
            "completion_tokens": t.completion_tokens,
        })),
        "error": digest.error.as_ref().map(|e| json!({ "code": e.code, "message": e.message })),
    }))
}

fn statistics_value(statistics: &pb::DigestStatistics) -> Value {
    json!({
        "sections": statistics.sections,
        "failed_sections": statistics.failed_sections,
        "sections_with_findings": statistics.sections_with_findings,
        "total_time_ms": statistics.total_time_ms,
        "prompt_tokens": statistics.prompt_tokens,
        "cached_tokens": statistics.cached_tokens,
        "completion_tokens": statistics.completion_tokens,
    })
}

fn finding_value(finding: &pb::Finding) -> Value {
    json!({
        "kind": enum_name(finding.kind().as_str_name(), "FINDING_KIND_"),
        "task": enum_name(finding.task().as_str_name(), "TASK_"),
        "paragraph_index": finding.paragraph_index,
        "expected": non_empty(&finding.expected),
        "expected_english": non_empty(&finding.expected_english),
        "found": non_empty(&finding.found),
        "source_span": finding.source_span.as_ref().map(span_value),
        "output_span": finding.output_span.as_ref().map(span_value),
        "message": finding.message,
    })
}

fn alignment_value(alignment: &pb::Alignment) -> Value {
    json!({
        "kind": enum_name(alignment.kind().as_str_name(), "ALIGNMENT_KIND_"),
        "source_span": alignment.source_span.as_ref().map(span_value),
        "output_span": alignment.output_span.as_ref().map(span_value),
    })
}

fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn span_value(span: &pb::Span) -> Value {
    json!({ "start": span.start_byte, "end": span.end_byte })
}

fn tally_value(tally: &pb::Tally) -> Value {
    json!({
        "expected": tally.expected,
        "kept": tally.kept,
        "missing": tally.missing,
        "unexpected": tally.unexpected,
    })
}

fn finish_reason(reason: pb::FinishReason) -> Option<String> {
    (reason != pb::FinishReason::Unspecified).then(|| enum_name(reason.as_str_name(), "FINISH_REASON_"))
}

/// Converts the name of a protobuf enum value: `FINDING_KIND_LOOP` to `loop`.
fn enum_name(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
