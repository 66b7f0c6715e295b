//! The English translation of a section.
//!
//! Called by `digest`. Paragraphs are translated one by one, so that none can be dropped, and their chunks concurrently.
//!
//! ```text
//! paragraph ─frame─▶ lead │ body │ tail
//!                           └─chunk─▶ chunk ─request─▶ draft ─check─▶ clean and confident: accepted
//!                                        ▲                      ├ findings: repaired (`repair`)
//!                                        └──────────────────────┴ unsure: sampled again, the most faithful kept (`choose`)
//! ```
//!
//! The files: `repair` decides what is done about a draft, `request` makes one attempt, `choose` picks among clean drafts,
//! `draft` is the checked result, `names` renders names the same way throughout an article.

mod choose;
mod draft;
mod names;
mod repair;
mod request;

use futures::future::try_join_all;

use self::{draft::TranslationDraft, repair::RepairPolicy, request::TextKind};
use super::{
    Job, Pipeline, PipelineError, SectionFinding, chunk,
    complete::Usage,
    dateline::{Framed, frame},
};
use crate::{
    document::{Document, Section},
    fidelity::{Alignment, NumberCounts, TermCounts},
    task::Task,
};

pub(super) use self::names::ArticleNames;

/// Maximum source tokens per model call.
const CHUNK_TOKENS: usize = 192;
/// Drafts below this confidence (mean log-probability per token) are sampled again even if the checks find nothing.
const MIN_CONFIDENCE: f64 = -0.3;
/// Number of attempts from which on unsure sentences are sampled again on pages of any length. About half of the
/// sentences of a news page are unsure, so this is slow.
const ATTEMPTS_FOR_UNSURE: usize = 4;
/// Documents of at most this many sentences have their unsure sentences sampled again in any case.
const SHORT_SENTENCES: usize = 3;

/// The translation of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    /// The English of the section's heading or of the article's headline above it; empty if there is neither.
    pub heading: String,
    /// The paragraphs, in order.
    pub paragraphs: Vec<ParagraphTranslation>,
    /// Counts of the numbers in heading and paragraphs.
    pub numbers: NumberCounts,
    /// Counts of the terms in heading and paragraphs.
    pub terms: TermCounts,
    /// Counts of the names that the lexicon knows in heading and paragraphs.
    pub names: TermCounts,
    /// The largest number of attempts that any chunk took.
    pub attempts: usize,
}

/// The translation of a paragraph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParagraphTranslation {
    /// The English, on one line.
    pub text: String,
    /// The numbers and terms of the paragraph with their counterparts in the English.
    pub alignments: Vec<Alignment>,
    /// False if a chunk was cut off at the token limit.
    pub complete: bool,
    /// The largest number of attempts that any chunk took; 0 if the model was not called.
    pub attempts: usize,
}

impl Pipeline {
    /// Translates the paragraphs of a section, and its heading (or the headline above it) if there is one.
    pub(super) async fn translate(
        &self,
        job: &Job,
        heading: Option<&str>,
        section: &Section,
        names: &ArticleNames,
    ) -> Result<(Translation, Vec<SectionFinding>, Usage), PipelineError> {
        let heading = async {
            let Some(text) = heading else { return Ok(TranslationDraft::default()) };
            let request =
                self.chunk_request(job, TextKind::Heading, text, self.translation.engine.next_order());
            let draft = self.translate_chunk(request, RepairPolicy::of(job)).await?;
            Ok(names.unify(job, text, draft))
        };
        let paragraphs =
            section.paragraphs.iter().map(|text| self.translate_paragraph(job, &text.text, names));
        let (heading, paragraphs) = futures::try_join!(heading, try_join_all(paragraphs))?;

        let mut translation = Translation {
            heading: heading.text.clone(),
            paragraphs: Vec::new(),
            numbers: NumberCounts::default(),
            terms: TermCounts::default(),
            names: TermCounts::default(),
            attempts: 0,
        };
        let (mut findings, mut usage) = (Vec::new(), Usage::default());
        let indices = std::iter::once(None).chain((0..paragraphs.len()).map(Some));
        for (paragraph, draft) in indices.zip(std::iter::once(heading).chain(paragraphs)) {
            let TranslationDraft { text, complete, verdict, attempts, usage: cost, .. } = draft;
            translation.numbers = translation.numbers.plus(verdict.numbers);
            translation.terms = translation.terms.plus(verdict.terms);
            translation.names = translation.names.plus(verdict.names);
            translation.attempts = translation.attempts.max(attempts);
            usage = usage.plus(cost);
            let in_section = |finding| SectionFinding { task: Task::Translation, paragraph, finding };
            findings.extend(verdict.findings.into_iter().map(in_section));
            let alignments = verdict.alignments;
            if paragraph.is_some() {
                translation.paragraphs.push(ParagraphTranslation { text, alignments, complete, attempts });
            }
        }
        Ok((translation, findings, usage))
    }

    /// Translates a paragraph onto one line: the dateline and byline by rule, the chunks of the body by the model.
    async fn translate_paragraph(
        &self,
        job: &Job,
        text: &str,
        names: &ArticleNames,
    ) -> Result<TranslationDraft, PipelineError> {
        let Framed { lead, body, tail } = frame(text);
        let tokenizer = &self.translation.tokenizer;
        let chunks = match tokenizer.takes_sources() {
            true => chunk::one_by_one(body, CHUNK_TOKENS, tokenizer)?,
            false => chunk::by_sentences(body, CHUNK_TOKENS, tokenizer)?,
        };
        let drafts = chunks.iter().map(|chunk| {
            let request =
                self.chunk_request(job, TextKind::Body, chunk, self.translation.engine.next_order());
            let draft = self.translate_chunk(request, self.repair_policy(job, chunk));
            async move { Ok::<_, PipelineError>(names.unify(job, chunk, draft.await?)) }
        });
        let drafts = try_join_all(drafts).await?;

        let mut translated = TranslationDraft::default();
        for (chunk, draft) in chunks.iter().zip(drafts) {
            translated.append(draft, offset(body, chunk));
        }
        if is_quotation(body.trim()) {
            translated = translated.in_quotes();
        }
        let body_start = offset(text, body);
        let body_end = body_start + body.len();
        let mut paragraph = TranslationDraft::by_rule(&text[..body_start], lead);
        paragraph.append(translated, body_start);
        paragraph.append(TranslationDraft::by_rule(&text[body_end..], tail), body_end);
        Ok(paragraph)
    }

    /// Returns the policy for a chunk of a paragraph.
    ///
    /// Only single sentences are sampled again for low confidence: longer chunks are slow to sample, and their mean hides
    /// which sentence is unsure.
    fn repair_policy(&self, job: &Job, chunk: &str) -> RepairPolicy {
        let resamples_unsure = !self.translation.tokenizer.takes_sources()
            && (job.max_attempts >= ATTEMPTS_FOR_UNSURE || is_short(&job.document))
            && chunk::is_one_sentence(chunk);
        match resamples_unsure {
            true => RepairPolicy { min_confidence: MIN_CONFIDENCE, ..RepairPolicy::of(job) },
            false => RepairPolicy::of(job),
        }
    }
}

/// Returns `true` if a document has at most [`SHORT_SENTENCES`] sentences.
fn is_short(document: &Document) -> bool {
    let sections = document.articles.iter().flat_map(|article| &article.sections);
    let sentences = sections.flat_map(|s| &s.paragraphs).flat_map(|p| chunk::sentences(&p.text));
    sentences.take(SHORT_SENTENCES + 1).count() <= SHORT_SENTENCES
}

/// Returns `true` if a text is one quotation from its first character to its last.
fn is_quotation(text: &str) -> bool {
    let quoted = text.strip_prefix('“').and_then(|rest| rest.strip_suffix('”'));
    quoted.is_some_and(|quoted| !quoted.contains(['“', '”']))
}

/// Returns the byte offset of `part`, a slice of `text`, within `text`.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr() as usize - text.as_ptr() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quotation_spans_the_whole_text() {
        assert!(is_quotation("“我不在乎。”"));
        for text in ["“我不在乎，”他说，“真的。”", "他说：“我不在乎。”", "“我不在乎。", "”", ""]
        {
            assert!(!is_quotation(text), "{text}");
        }
    }
}
