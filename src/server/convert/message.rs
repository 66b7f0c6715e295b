//! Builds the API's messages from results.

use crate::{
    document::{Article, Document, ElementRole, LabeledText, Span, Text},
    fidelity::{Alignment, AlignmentKind, Finding, FindingKind, NumberCounts, TermCounts},
    pb,
    pipeline::{
        ModelsUsed, ParagraphTranslation, Pipeline, SectionDigest, SectionFinding, SectionOutcome,
        SourceSentence, Summary, SummarySentence, Translation,
    },
    server::status::{pipeline_status, to_rpc_status},
    task::{Task, Tasks},
};

/// Returns the provenance that results of this pipeline have, apart from the glossary of a request.
pub(in crate::server) fn running_message(pipeline: &Pipeline) -> pb::Provenance {
    provenance(&pipeline.models_used(Tasks::default()), pipeline.prompt_version().to_owned())
}

fn provenance(models_used: &ModelsUsed, prompt_version: String) -> pb::Provenance {
    let summary = models_used.summary_model.as_deref();
    pb::Provenance {
        model: models_used.model.id.clone(),
        weights_sha256: models_used.model.weights_sha256.clone(),
        prompt_version,
        summary_model: summary.map(|model| model.id.clone()).unwrap_or_default(),
        summary_weights_sha256: summary.map(|model| model.weights_sha256.clone()).unwrap_or_default(),
        ..pb::Provenance::default()
    }
}

/// Converts the structure of a document.
pub(in crate::server) fn document_message(document: &Document) -> pb::Document {
    pb::Document {
        encoding: document.encoding.to_owned(),
        articles: document.articles.iter().map(article_message).collect(),
        others: document.notes.iter().map(labeled_message).collect(),
    }
}

fn article_message(article: &Article) -> pb::Article {
    let element = |text: &Option<Text>| text.as_ref().map(text_message);
    pb::Article {
        headline: element(&article.headline),
        subtitle: element(&article.subtitle),
        kicker: element(&article.kicker),
        dateline: element(&article.dateline),
        byline: element(&article.byline),
        captions: article.captions.iter().map(text_message).collect(),
        continued: article.continued,
        sections: article
            .sections
            .iter()
            .map(|section| pb::Section {
                heading: section.heading.as_ref().map(text_message),
                paragraphs: section.paragraphs.iter().map(text_message).collect(),
            })
            .collect(),
        others: article.notes.iter().map(labeled_message).collect(),
    }
}

fn labeled_message(note: &LabeledText) -> pb::LabeledText {
    pb::LabeledText { label: role_label(note.role).to_owned(), text: Some(text_message(&note.text)) }
}

fn role_label(role: ElementRole) -> &'static str {
    match role {
        ElementRole::Headline => "headline",
        ElementRole::Subtitle => "subtitle",
        ElementRole::Kicker => "kicker",
        ElementRole::Dateline => "dateline",
        ElementRole::Byline => "byline",
        ElementRole::Heading => "heading",
        ElementRole::Paragraph => "paragraph",
        ElementRole::Caption => "caption",
        ElementRole::Continuation => "continuation",
        ElementRole::Editor => "editor",
        ElementRole::Furniture => "furniture",
        ElementRole::Markup => "markup",
        ElementRole::Ignored => "ignored",
    }
}

fn text_message(text: &Text) -> pb::Text {
    pb::Text { text: text.text.clone(), spans: text.spans.iter().copied().map(span_message).collect() }
}

fn span_message(span: Span) -> pb::Span {
    pb::Span { start_byte: signed(span.start), end_byte: signed(span.end) }
}

/// Sets the fields of a section's message that give its position in the page.
pub(in crate::server) fn set_position(
    message: &mut pb::SectionDigest,
    document: &Document,
    (article, section): (usize, usize),
) {
    message.article_index = index(article);
    message.section_index = index(section);
    message.spans = document.articles[article].sections[section].spans().map(span_message).collect();
}

/// Converts the outcome of a section.
pub(in crate::server) fn outcome_message(
    outcome: SectionOutcome,
    document: &Document,
    request_id: &str,
) -> pb::SectionDigest {
    let mut message = pb::SectionDigest::default();
    set_position(&mut message, document, (outcome.article, outcome.section));
    match outcome.result {
        Ok(digest) => fill(&mut message, digest),
        Err(error) => message.error = Some(to_rpc_status(&pipeline_status(&error, request_id))),
    }
    message
}

/// Sets the results of a section.
fn fill(message: &mut pb::SectionDigest, digest: SectionDigest) {
    let attempts = [
        digest.translation.as_ref().map(|translation| translation.attempts),
        digest.summary.as_ref().map(|summary| summary.attempts),
    ];
    message.verdict = Some(pb::Verdict {
        passed: digest.findings.is_empty(),
        findings: digest.findings.iter().map(finding_message).collect(),
        numbers: digest.translation.as_ref().map(|translation| numbers_message(translation.numbers)),
        terms: digest.translation.as_ref().map(|translation| terms_message(translation.terms)),
        names: digest.translation.as_ref().map(|translation| terms_message(translation.names)),
        attempts: index(attempts.into_iter().flatten().max().unwrap_or_default()),
    });
    message.summary = digest.summary.map(summary_message);
    message.translation = digest.translation.map(translation_message);
    message.provenance = Some(pb::Provenance {
        glossary_sha256: digest.glossary_sha256,
        lexicon_sha256: digest.lexicon_sha256,
        ..provenance(&digest.models_used, digest.prompt_version)
    });
    message.timings = Some(pb::Timings {
        queue_time_ms: millis(digest.timings.queue_time_ms),
        compute_time_ms: millis(digest.timings.compute_time_ms),
        prompt_tokens: signed(digest.timings.prompt_tokens),
        cached_tokens: signed(digest.timings.cached_tokens),
        completion_tokens: signed(digest.timings.completion_tokens),
    });
}

fn summary_message(summary: Summary) -> pb::Summary {
    let source = |source: SourceSentence| pb::SourceSentence {
        paragraph_index: index(source.paragraph),
        sentence_index: index(source.sentence),
        text: source.text,
    };
    let sentence = |sentence: SummarySentence| pb::SummarySentence {
        text: sentence.text,
        sources: sentence.sources.into_iter().map(source).collect(),
    };
    let reason = match summary.generated {
        true => finish_reason(summary.complete),
        false => pb::FinishReason::Unspecified,
    };
    pb::Summary {
        text: summary.text,
        language_code: "zh".to_owned(),
        sentences: summary.sentences.into_iter().map(sentence).collect(),
        finish_reason: reason.into(),
        attempts: index(summary.attempts),
    }
}

fn translation_message(translation: Translation) -> pb::Translation {
    let paragraph = |(number, paragraph): (usize, ParagraphTranslation)| pb::TranslatedParagraph {
        paragraph_index: index(number),
        text: paragraph.text,
        finish_reason: finish_reason(paragraph.complete).into(),
        attempts: index(paragraph.attempts),
        alignments: paragraph.alignments.into_iter().map(alignment_message).collect(),
    };
    pb::Translation {
        language_code: "en".to_owned(),
        heading: translation.heading,
        paragraphs: translation.paragraphs.into_iter().enumerate().map(paragraph).collect(),
    }
}

fn finish_reason(is_complete: bool) -> pb::FinishReason {
    match is_complete {
        true => pb::FinishReason::Stop,
        false => pb::FinishReason::Length,
    }
}

/// Returns the API's kind of a finding.
pub(in crate::server) fn finding_kind(kind: &FindingKind) -> pb::FindingKind {
    match kind {
        FindingKind::Truncated => pb::FindingKind::Truncated,
        FindingKind::Empty => pb::FindingKind::Empty,
        FindingKind::HanInTranslation { .. } => pb::FindingKind::HanInTranslation,
        FindingKind::Loop { .. } => pb::FindingKind::Loop,
        FindingKind::SummaryExtracted => pb::FindingKind::SummaryExtracted,
        FindingKind::SummaryLimitTooSmall { .. } => pb::FindingKind::SummaryLimitTooSmall,
        FindingKind::TermMissing { .. } => pb::FindingKind::TermMissing,
        FindingKind::NameMissing { .. } => pb::FindingKind::NameMissing,
        FindingKind::NumberNotInSource { .. } => pb::FindingKind::NumberNotInSource,
        FindingKind::NumberMissing { .. } => pb::FindingKind::NumberMissing,
        FindingKind::NameNotInSource { .. } => pb::FindingKind::NameNotInSource,
        FindingKind::Chatter { .. } => pb::FindingKind::Chatter,
        FindingKind::CopiedInput => pb::FindingKind::CopiedInput,
        FindingKind::TooShort => pb::FindingKind::TooShort,
        FindingKind::TooLong => pb::FindingKind::TooLong,
        FindingKind::ListItemsMissing { .. } => pb::FindingKind::ListItemsMissing,
    }
}

fn finding_message(in_section: &SectionFinding) -> pb::Finding {
    let task = match in_section.task {
        Task::Summary => pb::Task::Summary,
        Task::Translation => pb::Task::Translation,
    };
    let Finding { kind, source_span, output_span } = &in_section.finding;
    let mut message = pb::Finding {
        kind: finding_kind(kind).into(),
        task: task.into(),
        paragraph_index: in_section.paragraph.map(index),
        source_span: source_span.clone().map(range_message),
        output_span: output_span.clone().map(range_message),
        message: kind.to_string(),
        ..Default::default()
    };
    match kind {
        FindingKind::HanInTranslation { found }
        | FindingKind::Loop { found }
        | FindingKind::NumberNotInSource { found }
        | FindingKind::NameNotInSource { found }
        | FindingKind::Chatter { found } => message.found = found.clone(),
        FindingKind::NumberMissing { expected, english } => {
            message.expected = expected.clone();
            message.expected_english = english.clone();
        }
        FindingKind::TermMissing { source, target } | FindingKind::NameMissing { source, target } => {
            message.expected = source.clone();
            message.expected_english = target.clone();
        }
        FindingKind::SummaryLimitTooSmall { limit } => message.expected = limit.to_string(),
        FindingKind::ListItemsMissing { expected, found } => {
            message.expected = expected.to_string();
            message.found = found.to_string();
        }
        FindingKind::Truncated
        | FindingKind::Empty
        | FindingKind::SummaryExtracted
        | FindingKind::CopiedInput
        | FindingKind::TooShort
        | FindingKind::TooLong => {}
    }
    message
}

fn alignment_message(alignment: Alignment) -> pb::Alignment {
    let kind = match alignment.kind {
        AlignmentKind::Number => pb::AlignmentKind::Number,
        AlignmentKind::Term => pb::AlignmentKind::Term,
    };
    pb::Alignment {
        kind: kind.into(),
        source_span: Some(range_message(alignment.source_span)),
        output_span: Some(range_message(alignment.output_span)),
    }
}

fn range_message(range: std::ops::Range<usize>) -> pb::Span {
    pb::Span { start_byte: signed(range.start), end_byte: signed(range.end) }
}

fn numbers_message(counts: NumberCounts) -> pb::Tally {
    pb::Tally {
        expected: index(counts.expected),
        kept: index(counts.kept),
        missing: index(counts.missing),
        unexpected: index(counts.unexpected),
    }
}

fn terms_message(counts: TermCounts) -> pb::Tally {
    pb::Tally {
        expected: index(counts.expected),
        kept: index(counts.kept),
        missing: index(counts.expected - counts.kept),
        unexpected: 0,
    }
}

/// Adds a section to the totals of a digest.
pub(in crate::server) fn add_section(totals: &mut pb::DigestStatistics, section: &pb::SectionDigest) {
    let timings = section.timings.unwrap_or_default();
    totals.sections += 1;
    totals.failed_sections += i32::from(section.error.is_some());
    totals.sections_with_findings +=
        i32::from(section.verdict.as_ref().is_some_and(|verdict| !verdict.passed));
    totals.prompt_tokens += timings.prompt_tokens;
    totals.cached_tokens += timings.cached_tokens;
    totals.completion_tokens += timings.completion_tokens;
}

fn index(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn signed(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn millis(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
