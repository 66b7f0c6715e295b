//! One rendering per name throughout an article.

use std::sync::{Mutex, PoisonError};

use super::{
    super::{Job, pretranslate::Pretranslated},
    draft::TranslationDraft,
};
use crate::fidelity::{self, Renderings};

/// The renderings of an article's names so far. The chunk that is finished first decides.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct ArticleNames(Mutex<Renderings>);

impl ArticleNames {
    /// Replaces the names in a draft by their earlier renderings, unless the checks find the result worse.
    pub(super) fn unify(&self, job: &Job, source: &str, draft: TranslationDraft) -> TranslationDraft {
        let unified = self.0.lock().unwrap_or_else(PoisonError::into_inner).unify(source, &draft.text);
        let Some(text) = unified else { return draft };
        let terms = Pretranslated::unchanged(source, job);
        let verdict = fidelity::check_translation(source, &terms.required(), &text, draft.complete);
        match verdict.score() < draft.verdict.score() {
            true => draft,
            false => TranslationDraft { text, verdict, ..draft },
        }
    }
}
