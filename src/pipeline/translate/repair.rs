//! The flow of one chunk: a first attempt, then repairs while the checks find something, then the choice of a draft.
//!
//! Called by `translate` for headings and for the chunks of paragraphs. It decides what to do about a draft and leaves
//! the model calls to `request`.

use futures::future::{BoxFuture, FutureExt as _, try_join_all};

use super::{
    super::{Job, Pipeline, PipelineError, chunk},
    draft::TranslationDraft,
    offset,
    request::{ChunkRequest, SampledDrafts, TextKind},
};
use crate::engine::Sampling;

/// The drafts sampled when the checks found something in all earlier ones.
const WHEN_WRONG: SampledDrafts = SampledDrafts { count: 3, temperature: 0.5, top_p: 0.95 };
/// The drafts sampled when the model was unsure of a sentence.
const WHEN_UNSURE: SampledDrafts = SampledDrafts { count: 4, temperature: 0.6, top_p: 0.9 };

/// Limits on the work spent on one chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct RepairPolicy {
    /// Maximum attempts, the first included.
    pub(super) max_attempts: usize,
    /// A clean draft below this confidence is sampled again once.
    pub(super) min_confidence: f64,
}

impl RepairPolicy {
    /// Repairs as often as the job allows, and accepts every clean draft.
    pub(super) fn of(job: &Job) -> Self {
        Self { max_attempts: job.max_attempts, min_confidence: f64::NEG_INFINITY }
    }

    /// Decides what to do about the best draft so far, before the attempt of this number (the first repair is number 2).
    fn next_step(self, best: &TranslationDraft, source: &str, attempt: usize) -> NextStep {
        let is_clean = best.verdict.is_clean();
        match () {
            () if attempt > self.max_attempts => NextStep::Accept,
            () if is_clean && best.confidence >= self.min_confidence => NextStep::Accept,
            () if is_clean => NextStep::ChooseMostFaithful,
            () if !chunk::is_one_sentence(source) => NextStep::TranslateSentences,
            () if attempt == 2 && self.max_attempts > 2 => NextStep::RetryWithHint,
            () => NextStep::SampleWithHint,
        }
    }
}

/// The decision about a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextStep {
    /// Keep the best draft.
    Accept,
    /// Sample more drafts of a clean but unsure one, and keep the most faithful of all.
    ChooseMostFaithful,
    /// Translate every sentence by itself: a small model drops less of a short text.
    TranslateSentences,
    /// Decode greedily once more, with more pretranslated and a hint at what is missing.
    RetryWithHint,
    /// Sample drafts with the same hint.
    SampleWithHint,
}

/// A boxed future, because a chunk is repaired by translating its sentences as chunks.
type DraftFuture<'a> = BoxFuture<'a, Result<TranslationDraft, PipelineError>>;

impl Pipeline {
    /// Translates one chunk, repairs it as far as the policy allows, and returns the best draft.
    ///
    /// An encoder-decoder is called once: it takes no hints and gives the same beams every time.
    pub(super) fn translate_chunk<'a>(
        &'a self,
        mut request: ChunkRequest<'a>,
        mut policy: RepairPolicy,
    ) -> DraftFuture<'a> {
        async move {
            if !request.source.chars().any(char::is_alphanumeric) {
                return Ok(TranslationDraft::default());
            }
            if self.translation.tokenizer.takes_sources() {
                policy.max_attempts = 1;
            }
            let mut best = self.attempt(&request, request.job.sampling).await?;
            for attempt in 2.. {
                let step = policy.next_step(&best, request.source, attempt);
                let drafts = match step {
                    NextStep::Accept => break,
                    NextStep::ChooseMostFaithful => self.sample(&request, WHEN_UNSURE, attempt).await,
                    NextStep::TranslateSentences => self.translate_sentences(&request, policy).await,
                    NextStep::RetryWithHint => {
                        request.prepare_repair(&best.verdict);
                        self.attempt(&request, Sampling::Greedy).await.map(|draft| vec![draft])
                    }
                    NextStep::SampleWithHint => {
                        request.prepare_repair(&best.verdict);
                        self.sample(&request, WHEN_WRONG, attempt).await
                    }
                };
                let drafts = match drafts {
                    // A draft with findings is better than none.
                    Err(PipelineError::Deadline) => break,
                    drafts => drafts?,
                };
                if step == NextStep::ChooseMostFaithful {
                    return self.most_faithful(&request, best, drafts, attempt).await;
                }
                best = drafts.into_iter().fold(best, TranslationDraft::better);
                best.attempts = best.attempts.max(attempt);
                if step == NextStep::TranslateSentences {
                    // The sentences were repaired one by one.
                    break;
                }
            }
            Ok(best)
        }
        .boxed()
    }

    /// Translates every sentence of a chunk by itself, with the attempts that are left, and joins the drafts to one.
    async fn translate_sentences(
        &self,
        request: &ChunkRequest<'_>,
        policy: RepairPolicy,
    ) -> Result<Vec<TranslationDraft>, PipelineError> {
        let ChunkRequest { job, source, queue_order, .. } = *request;
        let policy = RepairPolicy { max_attempts: policy.max_attempts - 1, ..policy };
        let sentences: Vec<&str> = chunk::sentences(source).collect();
        let drafts = sentences.iter().map(|sentence| {
            self.translate_chunk(self.chunk_request(job, TextKind::Body, sentence, queue_order), policy)
        });
        let mut joined = TranslationDraft::default();
        for (sentence, draft) in sentences.iter().zip(try_join_all(drafts).await?) {
            joined.append(draft, offset(source, sentence));
        }
        Ok(vec![joined])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fidelity::{Finding, FindingKind};

    fn draft(is_clean: bool, confidence: f64) -> TranslationDraft {
        let mut draft = TranslationDraft { confidence, ..TranslationDraft::default() };
        if !is_clean {
            let kind = FindingKind::NumberNotInSource { found: "7".to_owned() };
            draft.verdict.findings.push(Finding { kind, source_span: None, output_span: None });
        }
        draft
    }

    #[test]
    fn decides_by_findings_then_confidence_then_attempts() {
        let policy = RepairPolicy { max_attempts: 3, min_confidence: -0.3 };
        let (one, two) = ("一句。", "一句。两句。");
        for (best, source, attempt, expected) in [
            (draft(true, -0.1), one, 2, NextStep::Accept),
            (draft(true, -0.5), one, 2, NextStep::ChooseMostFaithful),
            (draft(true, -0.5), one, 4, NextStep::Accept),
            (draft(false, -0.1), two, 2, NextStep::TranslateSentences),
            (draft(false, -0.1), one, 2, NextStep::RetryWithHint),
            (draft(false, -0.1), one, 3, NextStep::SampleWithHint),
            (draft(false, -0.1), one, 4, NextStep::Accept),
        ] {
            assert_eq!(policy.next_step(&best, source, attempt), expected, "{best:?}, attempt {attempt}");
        }
        let two_attempts = RepairPolicy { max_attempts: 2, ..policy };
        assert_eq!(two_attempts.next_step(&draft(false, -0.1), one, 2), NextStep::SampleWithHint);
    }
}
