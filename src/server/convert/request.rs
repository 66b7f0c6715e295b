//! Validates requests and converts them to jobs. No other module validates requests.

use std::{ops::RangeInclusive, sync::Arc, time::Instant};

use crate::{
    document::{self, Article, Document, InputFormat, Section, Text},
    engine::{Priority, Sampling},
    glossary::{Glossary, Term},
    lexicon::Lexicon,
    pb,
    pipeline::{DEFAULT_MAX_ATTEMPTS, DEFAULT_SUMMARY_CHARS, Job, Pipeline},
    server::{Glossaries, RequestLimits, status::Refusal},
    task::{Task, Tasks},
};

/// The range of summary limits, in characters.
pub const SUMMARY_CHARS: RangeInclusive<usize> = 10..=2_000;
/// The range of attempts.
pub const MAX_ATTEMPTS: RangeInclusive<usize> = 1..=8;
/// The name of the empty glossary.
pub const NO_GLOSSARY: &str = "none";
/// The name of the lexicon without entries.
const NO_LEXICON: &str = "none";
/// Maximum length of a request or item id, in bytes.
const MAX_ID_BYTES: usize = 128;

/// Returns the caller's id of a request, or the server's id of the call if there is none.
pub(in crate::server) fn request_id(given: &str, call: &str) -> Result<String, Refusal> {
    if given.is_empty() {
        return Ok(call.to_owned());
    }
    check_id("request_id", given)?;
    Ok(given.to_owned())
}

/// Refuses an id that is not safe to log.
pub(in crate::server) fn check_id(field: &str, id: &str) -> Result<(), Refusal> {
    if id.is_empty() || id.len() > MAX_ID_BYTES || !id.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        return Err(Refusal::field(field, format!("must be 1 to {MAX_ID_BYTES} printable ASCII characters")));
    }
    Ok(())
}

/// Parses an input. Must not run on a runtime thread if the input is large.
pub(in crate::server) fn document(
    input: Option<pb::Input>,
    limits: &RequestLimits,
) -> Result<Document, Refusal> {
    use pb::input::Source;
    let input = input.ok_or_else(|| Refusal::field("input", "is required"))?;
    let format = format(input.page_format)?;
    let bounds = document::Limits { max_bytes: limits.max_page_bytes };
    let mut document = match input.source {
        None => {
            return Err(Refusal::field("input.source", "must be set: page_text, page_bytes or article"));
        }
        Some(Source::PageText(text)) => document::parse_text(&text, format, &bounds)?,
        Some(Source::PageBytes(bytes)) => document::parse(&bytes, format, &bounds)?,
        Some(Source::Article(article)) => structured(article, limits)?,
    };
    document.note_articles_without_text();
    if document.articles.is_empty() {
        return Err(Refusal::field(
            "input",
            "contains no text apart from titles, so there is nothing to digest",
        ));
    }
    let sections: usize = document.articles.iter().map(|article| article.sections.len()).sum();
    if sections > limits.max_sections {
        let reason = format!("contains {sections} sections; the limit is {}; split it", limits.max_sections);
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
        Err(_) => Err(Refusal::field("input.page_format", format!("{value} is not a PageFormat"))),
    }
}

/// Converts an article whose structure the caller knows.
fn structured(article: pb::Article, limits: &RequestLimits) -> Result<Document, Refusal> {
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
        return Err(Refusal::field("input.article.sections", "contain no paragraph with text"));
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
    Ok(Document { encoding: "", articles: vec![article], notes: Vec::new(), regions: Vec::new() })
}

/// Returns the pipeline for a request: restricted to the model that it names, or with the model configured for each task.
pub(in crate::server) fn select_pipeline(
    pipeline: &Pipeline,
    options: Option<&pb::DigestOptions>,
) -> Result<Pipeline, Refusal> {
    match options.map_or("", |options| &options.model) {
        "" => Ok(pipeline.clone()),
        id => pipeline.restricted_to(id).ok_or_else(|| {
            let running: Vec<_> = pipeline.models().into_iter().map(|model| model.id.as_str()).collect();
            Refusal::UnknownModel { requested: id.to_owned(), running: running.join("`, `") }
        }),
    }
}

/// Refuses tasks that the pipeline's models do not support.
pub(in crate::server) fn check_tasks(tasks: Tasks, pipeline: &Pipeline) -> Result<(), Refusal> {
    match pipeline.unsupported_task(tasks) {
        None => Ok(()),
        Some((task, model)) => {
            let verb = match task {
                Task::Summary => "summarize",
                Task::Translation => "translate",
            };
            let reason = format!("the model `{}` cannot {verb}", model.id);
            Err(Refusal::field("options.tasks", reason))
        }
    }
}

/// Validates the options of a request and returns the job for its document.
pub(in crate::server) fn job(
    document: Document,
    options: Option<pb::DigestOptions>,
    glossaries: &Glossaries,
    limits: &RequestLimits,
    priority: Priority,
    deadline: Option<Instant>,
) -> Result<Job, Refusal> {
    let options = options.unwrap_or_default();
    let named = match options.glossary.as_str() {
        "" => Glossary::builtin(),
        NO_GLOSSARY => Arc::new(Glossary::empty()),
        name => glossaries.get(name).cloned().ok_or(Refusal::UnknownGlossary(options.glossary))?,
    };
    let lexicon = match options.lexicon.as_str() {
        "" => Lexicon::builtin(),
        NO_LEXICON => Lexicon::empty(),
        name => {
            let reason = format!("must be empty for the built-in lexicon or `{NO_LEXICON}`, not `{name}`");
            return Err(Refusal::field("options.lexicon", reason));
        }
    };
    let own = terms(options.terms, limits)?;
    let job = Job {
        tasks: tasks(&options.tasks)?,
        summary_max_chars: summary_chars(options.summary_max_chars)?,
        glossary: if own.is_empty() { named } else { Arc::new(named.with(own)) },
        lexicon,
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
        Refusal::field("options.max_attempts", format!("must be between {low} and {high}, not {value}"))
    })
}

fn tasks(values: &[i32]) -> Result<Tasks, Refusal> {
    if values.is_empty() {
        return Ok(Tasks::default());
    }
    let mut tasks = Tasks::NONE;
    for &value in values {
        match pb::Task::try_from(value) {
            Ok(pb::Task::Unspecified) => tasks = Tasks::default(),
            Ok(pb::Task::Summary) => tasks.insert(Task::Summary),
            Ok(pb::Task::Translation) => tasks.insert(Task::Translation),
            Err(_) => return Err(Refusal::field("options.tasks", format!("{value} is not a Task"))),
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
        Refusal::field("options.summary_max_chars", format!("must be between {low} and {high}, not {value}"))
    })
}

fn sampling(given: Option<pb::Sampling>) -> Result<Sampling, Refusal> {
    let Some(given) = given.filter(|s| s.temperature != 0.0) else {
        return Ok(Sampling::Greedy);
    };
    let refuse =
        |field: &str, reason: String| Err(Refusal::field(&format!("options.sampling.{field}"), reason));
    if !(given.temperature > 0.0 && given.temperature <= 2.0) {
        return refuse("temperature", format!("must be between 0 and 2, not {}", given.temperature));
    }
    if !(given.top_p >= 0.0 && given.top_p <= 1.0) {
        return refuse("top_p", format!("must be between 0 and 1, not {}", given.top_p));
    }
    let Ok(top_k) = usize::try_from(given.top_k) else {
        return refuse("top_k", "must not be negative".to_owned());
    };
    Ok(Sampling::Random {
        temperature: given.temperature,
        top_p: if given.top_p == 0.0 { 1.0 } else { given.top_p },
        top_k: (top_k > 0).then_some(top_k),
        seed: given.seed.cast_unsigned(),
    })
}

fn terms(given: Vec<pb::Term>, limits: &RequestLimits) -> Result<Vec<Term>, Refusal> {
    if given.len() > limits.max_terms {
        let reason = format!("contains {} terms; the limit is {}", given.len(), limits.max_terms);
        return Err(Refusal::field("options.terms", reason));
    }
    let term = |(index, term): (usize, pb::Term)| {
        let term = Term::new(&term.source, &term.target);
        if term.source.is_empty() || term.target.is_empty() {
            return Err(Refusal::field(
                &format!("options.terms[{index}]"),
                "must have a source and a target",
            ));
        }
        Ok(term)
    };
    given.into_iter().enumerate().map(term).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    /// Returns an encoded request that uses every field.
    fn full_request() -> Vec<u8> {
        let text = |text: &str| Some(pb::Text { text: text.to_owned(), spans: Vec::new() });
        let article = pb::Article {
            headline: text("标题"),
            sections: vec![pb::Section {
                heading: text("小标题"),
                paragraphs: vec![text("正文。").unwrap_or_default()],
            }],
            ..Default::default()
        };
        let options = pb::DigestOptions {
            tasks: vec![pb::Task::Summary.into(), pb::Task::Translation.into()],
            summary_max_chars: 80,
            terms: vec![pb::Term { source: "蓝箭".to_owned(), target: "LandSpace".to_owned() }],
            glossary: NO_GLOSSARY.to_owned(),
            max_attempts: 2,
            sampling: Some(pb::Sampling { temperature: 0.5, top_p: 0.9, top_k: 20, seed: 1 }),
            ..Default::default()
        };
        let input = pb::Input { source: Some(pb::input::Source::Article(article)), page_format: 1 };
        let request_id = "call-7".to_owned();
        pb::DigestRequest { input: Some(input), options: Some(options), request_id }.encode_to_vec()
    }

    /// Decodes and validates a request. Returns `None` if the bytes are not a message.
    fn parse_request(bytes: &[u8]) -> Option<Result<Job, Refusal>> {
        let pb::DigestRequest { input, options, request_id: id } = pb::DigestRequest::decode(bytes).ok()?;
        let limits = RequestLimits::default();
        let parsed = request_id(&id, "call").and_then(|_| document(input, &limits));
        let glossaries = Glossaries::new();
        Some(
            parsed.and_then(|document| {
                job(document, options, &glossaries, &limits, Priority::Interactive, None)
            }),
        )
    }

    #[test]
    fn rejects_a_page_without_text_under_its_titles() {
        let source = Some(pb::input::Source::PageText("广告\n".to_owned()));
        let refusal =
            document(Some(pb::Input { source, page_format: 1 }), &RequestLimits::default()).unwrap_err();
        assert!(refusal.to_string().contains("input: contains no text apart from titles"), "{refusal}");
    }

    #[test]
    fn reports_a_title_without_text_next_to_an_article() {
        let page = "省图书馆新馆开放\n　　本报讯 省图书馆新馆今天开放，首日迎来读者3万人次。\n\n广告\n";
        let source = Some(pb::input::Source::PageText(page.to_owned()));
        let document =
            document(Some(pb::Input { source, page_format: 1 }), &RequestLimits::default()).unwrap();
        assert_eq!(document.articles.len(), 1);
        let notes: Vec<_> = document.notes.iter().map(|note| (note.role, note.text.text.as_str())).collect();
        assert_eq!(notes, [(document::ElementRole::Headline, "广告")]);
    }

    #[test]
    fn accepts_a_request_that_uses_every_field() {
        let job = parse_request(&full_request()).unwrap().unwrap();
        assert_eq!((job.summary_max_chars, job.max_attempts), (80, 2));
    }

    proptest! {
        #[test]
        fn mutated_requests_never_give_a_job_outside_the_limits(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..6),
        ) {
            let mut bytes = full_request();
            for (at, byte, mutation) in changes {
                let at = at.index(bytes.len());
                match mutation {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ => drop(bytes.remove(at)),
                }
            }
            if let Some(Ok(job)) = parse_request(&bytes) {
                prop_assert!(SUMMARY_CHARS.contains(&job.summary_max_chars));
                prop_assert!(MAX_ATTEMPTS.contains(&job.max_attempts));
                prop_assert!(!job.document.articles.is_empty());
                prop_assert!(job.document.articles.iter().all(|article| !article.sections.is_empty()));
                if let Sampling::Random { temperature, top_p, .. } = job.sampling {
                    prop_assert!(temperature > 0.0 && temperature <= 2.0 && top_p > 0.0 && top_p <= 1.0);
                }
            }
        }
    }
}
