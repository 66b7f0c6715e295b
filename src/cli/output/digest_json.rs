//! Digests as JSON.

use serde_json::{Value, json};

use super::text;
use crate::pb;

/// A whole digest: the structure with every section's results in it.
pub(crate) fn whole(
    name: &str,
    id: Option<&Value>,
    document: &pb::Document,
    sections: &[pb::SectionDigest],
    statistics: Option<&pb::DigestStatistics>,
) -> Value {
    let articles: Vec<Value> = document
        .articles
        .iter()
        .enumerate()
        .map(|(index, article)| {
            let own = sections.iter().filter(|s| usize::try_from(s.article_index) == Ok(index));
            json!({
                "headline": text(article.headline.as_ref()),
                "subtitle": text(article.subtitle.as_ref()),
                "kicker": text(article.kicker.as_ref()),
                "dateline": text(article.dateline.as_ref()),
                "byline": text(article.byline.as_ref()),
                "continued": article.continued,
                "captions": article.captions.iter().map(|c| &c.text).collect::<Vec<_>>(),
                "sections": own.map(|digest| results(article, digest)).collect::<Vec<_>>(),
            })
        })
        .collect();
    let mut value = json!({
        "input": name,
        "encoding": document.encoding,
        "articles": articles,
        "statistics": statistics.map(|s| json!({
            "sections": s.sections,
            "failed_sections": s.failed_sections,
            "sections_with_findings": s.sections_with_findings,
            "total_time_ms": s.total_time_ms,
            "prompt_tokens": s.prompt_tokens,
            "cached_tokens": s.cached_tokens,
            "completion_tokens": s.completion_tokens,
        })),
    });
    if let Some(id) = id {
        value["id"] = id.clone();
    }
    value
}

/// One section on a line of its own.
pub(crate) fn section(name: &str, article: &pb::Article, digest: &pb::SectionDigest) -> Value {
    let mut value = results(article, digest);
    value["input"] = name.into();
    value["article_index"] = digest.article_index.into();
    value["section_index"] = digest.section_index.into();
    value["headline"] = text(article.headline.as_ref()).into();
    value
}

/// An input that failed.
pub(crate) fn failure(name: &str, id: Option<&Value>, error: &str) -> Value {
    let mut value = json!({ "input": name, "error": error });
    if let Some(id) = id {
        value["id"] = id.clone();
    }
    value
}

fn results(article: &pb::Article, digest: &pb::SectionDigest) -> Value {
    let source = usize::try_from(digest.section_index).ok().and_then(|index| article.sections.get(index));
    json!({
        "heading": source.and_then(|s| text(s.heading.as_ref())),
        "source": source.map(|s| s.paragraphs.iter().map(|p| &p.text).collect::<Vec<_>>()),
        "spans": digest.spans.iter().map(span).collect::<Vec<_>>(),
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
                "alignments": p.alignments.iter().map(alignment).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        })),
        "verdict": digest.verdict.as_ref().map(|verdict| json!({
            "passed": verdict.passed,
            "findings": verdict.findings.iter().map(finding).collect::<Vec<_>>(),
            "numbers": verdict.numbers.as_ref().map(tally),
            "terms": verdict.terms.as_ref().map(tally),
            "attempts": verdict.attempts,
        })),
        "provenance": digest.provenance.as_ref().map(|p| json!({
            "model": p.model,
            "weights_sha256": p.weights_sha256,
            "prompt_version": p.prompt_version,
            "glossary_sha256": p.glossary_sha256,
        })),
        "timings": digest.timings.as_ref().map(|t| json!({
            "queue_time_ms": t.queue_time_ms,
            "compute_time_ms": t.compute_time_ms,
            "prompt_tokens": t.prompt_tokens,
            "cached_tokens": t.cached_tokens,
            "completion_tokens": t.completion_tokens,
        })),
        "error": digest.error.as_ref().map(|e| json!({ "code": e.code, "message": e.message })),
    })
}

fn finding(finding: &pb::Finding) -> Value {
    json!({
        "kind": lower(finding.kind().as_str_name(), "FINDING_KIND_"),
        "task": lower(finding.task().as_str_name(), "TASK_"),
        "paragraph_index": finding.paragraph_index,
        "expected": non_empty(&finding.expected),
        "expected_english": non_empty(&finding.expected_english),
        "found": non_empty(&finding.found),
        "source_span": finding.source_span.as_ref().map(span),
        "output_span": finding.output_span.as_ref().map(span),
        "message": finding.message,
    })
}

fn alignment(alignment: &pb::Alignment) -> Value {
    json!({
        "kind": lower(alignment.kind().as_str_name(), "ALIGNMENT_KIND_"),
        "source_span": alignment.source_span.as_ref().map(span),
        "output_span": alignment.output_span.as_ref().map(span),
    })
}

fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn span(span: &pb::Span) -> Value {
    json!({ "start": span.start_byte, "end": span.end_byte })
}

fn tally(tally: &pb::Tally) -> Value {
    json!({
        "expected": tally.expected,
        "kept": tally.kept,
        "missing": tally.missing,
        "unexpected": tally.unexpected,
    })
}

fn finish_reason(reason: pb::FinishReason) -> Option<String> {
    (reason != pb::FinishReason::Unspecified).then(|| lower(reason.as_str_name(), "FINISH_REASON_"))
}

fn lower(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}
