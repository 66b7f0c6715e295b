//! One attempt at a chunk: the prompt goes to the model, the completion is checked.
//!
//! Called by `repair`. It never decides whether another attempt is needed.

use futures::future::try_join_all;

use super::{
    super::{
        Job, Pipeline, PipelineError,
        complete::Completion,
        pretranslate::{Pretranslated, pretranslate},
        prompt::PromptRequest,
    },
    draft::TranslationDraft,
};
use crate::{
    engine::{QueueOrder, Sampling},
    fidelity::{
        self, FindingKind, Verdict,
        numerals::{self, QuantityRewrite},
    },
};

/// Maximum English tokens per Chinese token, before [`SPARE_TOKENS`].
const TOKENS_PER_SOURCE_TOKEN: usize = 3;
/// Additional tokens, for short texts.
const SPARE_TOKENS: usize = 48;

/// The kind of text in a chunk; headings have a prompt of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextKind {
    Heading,
    Body,
}

/// A chunk and how the model is prompted for its translation.
pub(super) struct ChunkRequest<'a> {
    pub(super) job: &'a Job,
    kind: TextKind,
    /// The chunk as the page has it; drafts are checked against this.
    pub(super) source: &'a str,
    /// The chunk as the model sees it.
    pub(super) pretranslated: Pretranslated<'a>,
    /// The words that an earlier draft lacked; empty at the first attempt.
    hint: String,
    /// The position in the engine's queue, repairs included.
    pub(super) queue_order: QueueOrder,
}

impl ChunkRequest<'_> {
    /// Pretranslates as much as possible and hints at what the draft with this verdict lacks.
    pub(super) fn prepare_repair(&mut self, verdict: &Verdict) {
        self.pretranslated = pretranslate(self.source, self.job, QuantityRewrite::ALL);
        self.hint = hint(verdict);
    }
}

/// A number of drafts to sample, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct SampledDrafts {
    pub(super) count: u64,
    pub(super) temperature: f64,
    pub(super) top_p: f64,
}

impl Pipeline {
    /// Builds the request for the first attempt at a chunk.
    pub(super) fn chunk_request<'a>(
        &self,
        job: &'a Job,
        kind: TextKind,
        source: &'a str,
        queue_order: QueueOrder,
    ) -> ChunkRequest<'a> {
        let pretranslated = match self.translation.accepts_pretranslated {
            true => pretranslate(source, job, QuantityRewrite::default()),
            false => Pretranslated::unchanged(source, job),
        };
        ChunkRequest { job, kind, source, pretranslated, hint: String::new(), queue_order }
    }

    /// Calls the model once and checks the completion. Of several beams it returns the best one.
    pub(super) async fn attempt(
        &self,
        request: &ChunkRequest<'_>,
        sampling: Sampling,
    ) -> Result<TranslationDraft, PipelineError> {
        let ChunkRequest { job, kind, source, pretranslated, hint, queue_order } = request;
        let text = pretranslated.text.as_str();
        let max_tokens = TOKENS_PER_SOURCE_TOKEN * self.translation.tokenizer.count(text)? + SPARE_TOKENS;
        let prompt = match kind {
            TextKind::Heading => PromptRequest::TranslateHeading { text, hint },
            TextKind::Body => PromptRequest::Translate { text, hint },
        };
        let mut completion = self.complete(job, prompt, sampling, max_tokens, *queue_order).await?;
        let other_beams = std::mem::take(&mut completion.other_beams);
        let check = |completion: Completion| {
            // The model's line breaks become spaces.
            let text = completion.text.split_whitespace().collect::<Vec<_>>().join(" ");
            let Completion { complete, confidence, usage, .. } = completion;
            let verdict = fidelity::check_translation(source, &pretranslated.required(), &text, complete);
            TranslationDraft { text, complete, verdict, confidence, attempts: 1, usage }
        };
        let draft = check(completion);
        // With a single attempt, nothing is repaired: the likeliest beam is the answer.
        if job.max_attempts == 1 || draft.verdict.is_clean() {
            return Ok(draft);
        }
        Ok(other_beams.into_iter().map(check).fold(draft, TranslationDraft::better))
    }

    /// Samples several drafts, which the engine decodes in one batch.
    pub(super) async fn sample(
        &self,
        request: &ChunkRequest<'_>,
        SampledDrafts { count, temperature, top_p }: SampledDrafts,
        attempt: usize,
    ) -> Result<Vec<TranslationDraft>, PipelineError> {
        let first = attempt as u64 * count;
        let drafts = (first..first + count)
            .map(|seed| self.attempt(request, Sampling::Random { temperature, top_p, top_k: None, seed }));
        try_join_all(drafts).await
    }
}

/// Lists the English that a draft must contain but does not: missing terms and names, and missing quantities as rendered by rule.
fn hint(verdict: &Verdict) -> String {
    let mut words: Vec<String> = Vec::new();
    for finding in &verdict.findings {
        let word = match &finding.kind {
            FindingKind::TermMissing { target, .. } | FindingKind::NameMissing { target, .. } => {
                target.clone()
            }
            FindingKind::NumberMissing { expected, .. } => {
                numerals::rewrite_quantities(expected, QuantityRewrite::ALL)
            }
            _ => continue,
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join("、")
}
