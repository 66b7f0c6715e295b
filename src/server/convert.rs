//! Between the API's messages and the domain's types, and the only place where requests are validated.

use std::{ops::RangeInclusive, sync::Arc, time::Instant};

use super::{
    Glossaries,
    admission::Limits,
    status::{Refusal, pipeline_status, to_rpc_status},
};
use crate::{
    document::{self, Article, Document, InputFormat, Labelled, Role, Section, Span, Text},
    engine::{Priority, Sampling},
    fidelity::{Finding, NumberCounts, TermCounts},
    glossary::{Glossary, Term},
    pb,
    pipeline::{
        DEFAULT_MAX_ATTEMPTS, DEFAULT_SUMMARY_CHARS, Job, Located, Makers, Pipeline, SectionDigest,
        SectionOutcome, Task, Tasks,
    },
};

/// The summary limits that are accepted, in characters.
pub const SUMMARY_CHARS: RangeInclusive<usize> = 10..=2_000;
/// How many attempts may be asked for.
pub const MAX_ATTEMPTS: RangeInclusive<usize> = 1..=8;
/// The name that asks for no terms at all.
pub const NO_GLOSSARY: &str = "none";
/// The longest request or item id, in bytes.
const MAX_ID_BYTES: usize = 128;

/// The caller's id of a request, or the one that the server gave the call.
pub(super) fn request_id(given: &str, call: &str) -> Result<String, Refusal> {
    if given.is_empty() {
        return Ok(call.to_owned());
    }
    check_id("request_id", given)?;
    Ok(given.to_owned())
}

/// What a result of this pipeline is made with, as far as it does not hang on the request.
pub(super) fn running_message(pipeline: &Pipeline) -> pb::Provenance {
    provenance(&pipeline.makers(Tasks::default()), pipeline.prompt_version().to_owned(), String::new())
}

fn provenance(makers: &Makers, prompt_version: String, glossary_sha256: String) -> pb::Provenance {
    let summary = makers.summary_model.as_deref();
    pb::Provenance {
        model: makers.model.id.clone(),
        weights_sha256: makers.model.weights_sha256.clone(),
        prompt_version,
        glossary_sha256,
        from_cache: false,
        summary_model: summary.map(|model| model.id.clone()).unwrap_or_default(),
        summary_weights_sha256: summary.map(|model| model.weights_sha256.clone()).unwrap_or_default(),
    }
}

/// The pipeline that a request asks for: with each task's own model, or with the one that it names.
pub(super) fn chosen(pipeline: &Pipeline, options: Option<&pb::DigestOptions>) -> Result<Pipeline, Refusal> {
    match options.map_or("", |options| &options.model) {
        "" => Ok(pipeline.clone()),
        id => pipeline.only(id).ok_or_else(|| {
            let running: Vec<_> = pipeline.models().into_iter().map(|model| model.id.as_str()).collect();
            Refusal::UnknownModel { asked: id.to_owned(), running: running.join("`, `") }
        }),
    }
}

/// Refuses tasks that the pipeline's models cannot be asked for.
fn check_tasks(tasks: Tasks, pipeline: &Pipeline) -> Result<Tasks, Refusal> {
    match pipeline.cannot(tasks) {
        None => Ok(tasks),
        Some((task, model)) => {
            let results = match task {
                Task::Summary => "summaries",
                Task::Translation => "translations",
            };
            Err(Refusal::field("options.tasks", format!("the model `{}` cannot make {results}", model.id)))
        }
    }
}

/// Refuses an id that cannot stand in a log line.
pub(super) fn check_id(field: &str, id: &str) -> Result<(), Refusal> {
    if id.is_empty() || id.len() > MAX_ID_BYTES || !id.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        return Err(Refusal::field(field, format!("must be 1 to {MAX_ID_BYTES} printable ASCII characters")));
    }
    Ok(())
}

/// Parses the input into its structure. Takes time on a large page: not for a runtime thread.
pub(super) fn document(input: Option<pb::Input>, limits: &Limits) -> Result<Document, Refusal> {
    use pb::input::Source;
    let input = input.ok_or_else(|| Refusal::field("input", "is required"))?;
    let format = format(input.page_format)?;
    let bounds = document::Limits { max_bytes: limits.max_page_bytes };
    let mut document = match input.source {
        None => {
            return Err(Refusal::field("input.source", "one of page_text, page_bytes, article is required"));
        }
        Some(Source::PageText(text)) => document::parse_text(&text, format, &bounds)?,
        Some(Source::PageBytes(bytes)) => document::parse(&bytes, format, &bounds)?,
        Some(Source::Article(article)) => structured(article, limits)?,
    };
    // Columns and headlines without any text have nothing to digest.
    document.articles.retain(|article| !article.sections.is_empty());
    let sections: usize = document.articles.iter().map(|article| article.sections.len()).sum();
    if sections > limits.max_sections {
        let reason = format!("holds {sections} sections; the limit is {}: split it", limits.max_sections);
        return Err(Refusal::field("input", reason));
    }
    Ok(document)
}

fn format(value: i32) -> Result<InputFormat, Refusal> {
    match pb::PageFormat::try_from(value) {
        Ok(pb::PageFormat::Unspecified) => Ok(InputFormat::Auto),
        Ok(pb::PageFormat::Text) => Ok(InputFormat::Text),
        Ok(pb::PageFormat::Lines) => Ok(InputFormat::Lines),
        Ok(pb::PageFormat::Html) => Ok(InputFormat::Html),
        Ok(pb::PageFormat::Markdown) => Ok(InputFormat::Markdown),
        Err(_) => Err(Refusal::field("input.page_format", format!("{value} is no PageFormat"))),
    }
}

/// An article that comes in parts.
fn structured(article: pb::Article, limits: &Limits) -> Result<Document, Refusal> {
    let bytes = prost::Message::encoded_len(&article);
    if bytes > limits.max_page_bytes {
        let limit_bytes = limits.max_page_bytes;
        return Err(document::DocumentError::TooLarge { limit_bytes, bytes }.into());
    }
    let element =
        |text: Option<pb::Text>| text.filter(|t| !t.text.trim().is_empty()).map(|t| Text::unplaced(t.text));
    let sections: Vec<Section> = article
        .sections
        .into_iter()
        .map(|section| Section {
            heading: element(section.heading),
            paragraphs: section.paragraphs.into_iter().map(|p| Text::unplaced(p.text)).collect(),
        })
        .collect();
    if !sections.iter().flat_map(|s| &s.paragraphs).any(|p| !p.text.trim().is_empty()) {
        return Err(Refusal::field("input.article.sections", "hold no paragraph with text"));
    }
    let article = Article {
        headline: element(article.headline),
        subtitle: element(article.subtitle),
        kicker: element(article.kicker),
        dateline: element(article.dateline),
        byline: element(article.byline),
        continued: article.continued,
        captions: article.captions.into_iter().map(|c| Text::unplaced(c.text)).collect(),
        sections,
        ..Article::default()
    };
    Ok(Document { encoding: "", articles: vec![article], notes: Vec::new(), tiles: Vec::new() })
}

/// The job for a parsed document.
pub(super) fn job(
    document: Document,
    options: Option<pb::DigestOptions>,
    pipeline: &Pipeline,
    glossaries: &Glossaries,
    limits: &Limits,
    priority: Priority,
    deadline: Option<Instant>,
) -> Result<Job, Refusal> {
    let options = options.unwrap_or_default();
    let named = match options.glossary.as_str() {
        "" => Glossary::builtin(),
        NO_GLOSSARY => Arc::new(Glossary::empty()),
        name => glossaries.get(name).cloned().ok_or(Refusal::UnknownGlossary(options.glossary))?,
    };
    let own = terms(options.terms, limits)?;
    let job = Job {
        tasks: check_tasks(tasks(&options.tasks)?, pipeline)?,
        summary_max_chars: summary_chars(options.summary_max_chars)?,
        glossary: if own.is_empty() { named } else { Arc::new(named.with(own)) },
        max_attempts: max_attempts(options.max_attempts)?,
        sampling: sampling(options.sampling)?,
        priority,
        deadline,
        ..Job::new(document)
    };
    Ok(job)
}

fn max_attempts(value: i32) -> Result<usize, Refusal> {
    if value == 0 {
        return Ok(DEFAULT_MAX_ATTEMPTS);
    }
    usize::try_from(value).ok().filter(|attempts| MAX_ATTEMPTS.contains(attempts)).ok_or_else(|| {
        let (low, high) = (MAX_ATTEMPTS.start(), MAX_ATTEMPTS.end());
        Refusal::field("options.max_attempts", format!("{value} is not between {low} and {high}"))
    })
}

fn tasks(values: &[i32]) -> Result<Tasks, Refusal> {
    if values.is_empty() {
        return Ok(Tasks::default());
    }
    let mut tasks = Tasks { summary: false, translation: false };
    for &value in values {
        match pb::Task::try_from(value) {
            Ok(pb::Task::Unspecified) => tasks = Tasks::default(),
            Ok(pb::Task::Summary) => tasks.summary = true,
            Ok(pb::Task::Translation) => tasks.translation = true,
            Err(_) => return Err(Refusal::field("options.tasks", format!("{value} is no Task"))),
        }
    }
    Ok(tasks)
}

fn summary_chars(value: i32) -> Result<usize, Refusal> {
    if value == 0 {
        return Ok(DEFAULT_SUMMARY_CHARS);
    }
    usize::try_from(value).ok().filter(|chars| SUMMARY_CHARS.contains(chars)).ok_or_else(|| {
        let (low, high) = (SUMMARY_CHARS.start(), SUMMARY_CHARS.end());
        Refusal::field("options.summary_max_chars", format!("{value} is not between {low} and {high}"))
    })
}

fn sampling(given: Option<pb::Sampling>) -> Result<Sampling, Refusal> {
    let Some(given) = given.filter(|s| s.temperature != 0.0) else {
        return Ok(Sampling::Greedy);
    };
    let refuse =
        |field: &str, reason: String| Err(Refusal::field(&format!("options.sampling.{field}"), reason));
    if !(given.temperature > 0.0 && given.temperature <= 2.0) {
        return refuse("temperature", format!("{} is not between 0 and 2", given.temperature));
    }
    if !(given.top_p >= 0.0 && given.top_p <= 1.0) {
        return refuse("top_p", format!("{} is not between 0 and 1", given.top_p));
    }
    let Ok(top_k) = usize::try_from(given.top_k) else {
        return refuse("top_k", format!("{} is negative", given.top_k));
    };
    Ok(Sampling::Random {
        temperature: given.temperature,
        top_p: if given.top_p == 0.0 { 1.0 } else { given.top_p },
        top_k: (top_k > 0).then_some(top_k),
        seed: given.seed.cast_unsigned(),
    })
}

fn terms(given: Vec<pb::Term>, limits: &Limits) -> Result<Vec<Term>, Refusal> {
    if given.len() > limits.max_terms {
        let reason = format!("{} are too many; the limit is {}", given.len(), limits.max_terms);
        return Err(Refusal::field("options.terms", reason));
    }
    let term = |(index, term): (usize, pb::Term)| {
        let term = Term::new(&term.source, &term.target);
        if term.source.is_empty() || term.target.is_empty() {
            return Err(Refusal::field(&format!("options.terms[{index}]"), "needs a source and a target"));
        }
        Ok(term)
    };
    given.into_iter().enumerate().map(term).collect()
}

/// The structure as a message.
pub(super) fn document_message(document: &Document) -> pb::Document {
    pb::Document {
        encoding: document.encoding.to_owned(),
        articles: document.articles.iter().map(article_message).collect(),
        others: document.notes.iter().map(labelled_message).collect(),
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
        others: article.notes.iter().map(labelled_message).collect(),
    }
}

fn labelled_message(note: &Labelled) -> pb::LabelledText {
    pb::LabelledText { label: role_label(note.role).to_owned(), text: Some(text_message(&note.text)) }
}

fn role_label(role: Role) -> &'static str {
    match role {
        Role::Headline => "headline",
        Role::Subtitle => "subtitle",
        Role::Kicker => "kicker",
        Role::Dateline => "dateline",
        Role::Byline => "byline",
        Role::Heading => "heading",
        Role::Paragraph => "paragraph",
        Role::Caption => "caption",
        Role::Continuation => "continuation",
        Role::Editor => "editor",
        Role::Furniture => "furniture",
        Role::Markup => "markup",
        Role::Ignored => "ignored",
    }
}

fn text_message(text: &Text) -> pb::Text {
    pb::Text { text: text.text.clone(), spans: text.spans.iter().copied().map(span_message).collect() }
}

fn span_message(span: Span) -> pb::Span {
    pb::Span { start_byte: signed(span.start), end_byte: signed(span.end) }
}

/// A section's message and nothing but its place in the page.
pub(super) fn place(message: &mut pb::SectionDigest, document: &Document, article: usize, section: usize) {
    message.article_index = index(article);
    message.section_index = index(section);
    message.spans = document.articles[article].sections[section].spans().map(span_message).collect();
}

/// What became of a section, as a message.
pub(super) fn outcome_message(
    outcome: SectionOutcome,
    document: &Document,
    request_id: &str,
) -> pb::SectionDigest {
    let mut message = pb::SectionDigest::default();
    place(&mut message, document, outcome.article, outcome.section);
    match outcome.result {
        Ok(digest) => fill(&mut message, digest),
        Err(error) => message.error = Some(to_rpc_status(&pipeline_status(&error, request_id))),
    }
    message
}

fn fill(message: &mut pb::SectionDigest, digest: SectionDigest) {
    let reason = |whole: bool| match whole {
        true => pb::FinishReason::Stop.into(),
        false => pb::FinishReason::Length.into(),
    };
    let asked = digest.translation.as_ref();
    let attempts = [asked.map(|t| t.attempts), digest.summary.as_ref().map(|s| s.attempts)];
    let verdict = pb::Verdict {
        passed: digest.findings.is_empty(),
        findings: digest.findings.iter().map(finding_message).collect(),
        numbers: asked.map(|t| numbers_message(t.numbers)),
        terms: asked.map(|t| terms_message(t.terms)),
        attempts: index(attempts.into_iter().flatten().max().unwrap_or_default()),
    };
    message.summary = digest.summary.map(|summary| pb::Summary {
        finish_reason: if summary.generated {
            reason(summary.whole)
        } else {
            pb::FinishReason::Unspecified.into()
        },
        text: summary.text,
        language_code: "zh".to_owned(),
        sentences: summary
            .sentences
            .into_iter()
            .map(|sentence| pb::SummarySentence {
                text: sentence.text,
                sources: sentence
                    .sources
                    .into_iter()
                    .map(|source| pb::SourceSentence {
                        paragraph_index: index(source.paragraph),
                        sentence_index: index(source.sentence),
                        text: source.text,
                    })
                    .collect(),
            })
            .collect(),
        attempts: index(summary.attempts),
    });
    message.translation = digest.translation.map(|translation| pb::Translation {
        language_code: "en".to_owned(),
        heading: translation.heading,
        paragraphs: translation
            .paragraphs
            .into_iter()
            .enumerate()
            .map(|(paragraph, translated)| pb::TranslatedParagraph {
                paragraph_index: index(paragraph),
                text: translated.text,
                finish_reason: reason(translated.whole),
                attempts: index(translated.attempts),
            })
            .collect(),
    });
    message.verdict = Some(verdict);
    message.provenance = Some(provenance(&digest.makers, digest.prompt_version, digest.glossary_sha256));
    message.timings = Some(pb::Timings {
        queue_time_ms: millis(digest.timings.queue_time_ms),
        compute_time_ms: millis(digest.timings.compute_time_ms),
        prompt_tokens: signed(digest.timings.prompt_tokens),
        cached_tokens: signed(digest.timings.cached_tokens),
        completion_tokens: signed(digest.timings.completion_tokens),
    });
}

/// What a check found, by the API's names.
pub(super) fn finding_kind(finding: &Finding) -> pb::FindingKind {
    match finding {
        Finding::Truncated => pb::FindingKind::Truncated,
        Finding::Empty => pb::FindingKind::Empty,
        Finding::HanInTranslation(_) => pb::FindingKind::HanInTranslation,
        Finding::Loop(_) => pb::FindingKind::Loop,
        Finding::SummaryExtracted => pb::FindingKind::SummaryExtracted,
        Finding::SummaryLimitTooSmall(_) => pb::FindingKind::SummaryLimitTooSmall,
        Finding::TermMissing { .. } => pb::FindingKind::TermMissing,
        Finding::NumberNotInSource(_) => pb::FindingKind::NumberNotInSource,
        Finding::NumberMissing(_) => pb::FindingKind::NumberMissing,
        Finding::NameNotInSource(_) => pb::FindingKind::NameNotInSource,
        Finding::Chatter(_) => pb::FindingKind::Chatter,
        Finding::CopiedInput => pb::FindingKind::CopiedInput,
        Finding::TooShort => pb::FindingKind::TooShort,
        Finding::TooLong => pb::FindingKind::TooLong,
        Finding::ListItemsMissing { .. } => pb::FindingKind::ListItemsMissing,
    }
}

fn finding_message(located: &Located) -> pb::Finding {
    let kind = finding_kind(&located.found.finding);
    let task = match located.task {
        Task::Summary => pb::Task::Summary,
        Task::Translation => pb::Task::Translation,
    };
    pb::Finding {
        kind: kind.into(),
        task: task.into(),
        paragraph_index: located.paragraph.map(index),
        detail: located.found.finding.to_string(),
        source_span: located.found.source.clone().map(range_message),
        output_span: located.found.output.clone().map(range_message),
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

/// Adds a section to the sums.
pub(super) fn add(sums: &mut pb::DigestStatistics, section: &pb::SectionDigest) {
    let timings = section.timings.unwrap_or_default();
    sums.sections += 1;
    sums.failed_sections += i32::from(section.error.is_some());
    sums.sections_with_findings += i32::from(section.verdict.as_ref().is_some_and(|verdict| !verdict.passed));
    sums.prompt_tokens += timings.prompt_tokens;
    sums.cached_tokens += timings.cached_tokens;
    sums.completion_tokens += timings.completion_tokens;
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
