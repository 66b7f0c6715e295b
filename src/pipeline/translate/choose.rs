//! The choice among drafts that the checks cannot rank.
//!
//! Called by `repair` when the model was unsure of a clean draft and more were sampled.

use futures::future::try_join_all;

use super::{
    super::{Pipeline, PipelineError, complete::Usage, prompt::PromptRequest},
    draft::TranslationDraft,
    request::ChunkRequest,
};

impl Pipeline {
    /// Returns the draft with the best verdict. Among equals it returns the one with the highest sum of two likelihoods:
    /// of the draft as a translation of the source, and of the source as the translation back from the draft. What a
    /// draft left out cannot be recovered on the way back, so omissions score low.
    ///
    /// The result carries the usage of all drafts.
    pub(super) async fn most_faithful(
        &self,
        request: &ChunkRequest<'_>,
        first: TranslationDraft,
        others: Vec<TranslationDraft>,
        attempt: usize,
    ) -> Result<TranslationDraft, PipelineError> {
        let mut candidates = vec![first];
        candidates.extend(others);
        let mut usage = candidates.iter().fold(Usage::default(), |sum, draft| sum.plus(draft.usage));
        let attempts = candidates.iter().fold(attempt, |most, draft| most.max(draft.attempts));

        let best_score = candidates.iter().map(|draft| draft.verdict.score()).max();
        let mut equals: Vec<TranslationDraft> = Vec::new();
        for draft in candidates {
            let is_new = equals.iter().all(|other| other.text != draft.text);
            if Some(draft.verdict.score()) == best_score && is_new {
                equals.push(draft);
            }
        }

        let mut likelihoods: Vec<f64> = equals.iter().map(|draft| draft.confidence).collect();
        if equals.len() > 1 {
            let source = request.pretranslated.text.as_str();
            let back = |text| {
                let prompt = PromptRequest::TranslateBack { text };
                self.likelihood(request.job, prompt, source, request.queue_order)
            };
            let backs = try_join_all(equals.iter().map(|draft| back(&draft.text))).await?;
            for (sum, (likelihood, cost)) in likelihoods.iter_mut().zip(backs) {
                *sum += likelihood;
                usage = usage.plus(cost);
            }
        }
        let best = equals.into_iter().zip(likelihoods).max_by(|(_, a), (_, b)| a.total_cmp(b));
        Ok(TranslationDraft { usage, attempts, ..best.map(|(draft, _)| draft).unwrap_or_default() })
    }
}
