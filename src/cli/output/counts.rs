//! Counts over one digest, for progress, the journal and the index.

use crate::pb;

/// Counts over one digest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::cli) struct DigestCounts {
    pub(in crate::cli) sections: u64,
    pub(in crate::cli) failed_sections: u64,
    pub(in crate::cli) sections_with_findings: u64,
    pub(in crate::cli) findings: u64,
    /// Characters in the paragraphs of the source, without white space.
    pub(in crate::cli) characters: u64,
    /// Prompt tokens that the model read; excludes tokens from the prefix cache.
    pub(in crate::cli) prompt_tokens: u64,
    pub(in crate::cli) completion_tokens: u64,
}

impl DigestCounts {
    pub(in crate::cli) fn new(digest: &pb::DigestResponse) -> Self {
        let articles = digest.document.as_ref().map_or(&[][..], |document| &document.articles);
        let paragraphs = articles.iter().flat_map(|a| &a.sections).flat_map(|s| &s.paragraphs);
        let statistics = digest.statistics.unwrap_or_default();
        let count = |amount: i64| u64::try_from(amount).unwrap_or_default();
        let verdicts = || digest.sections.iter().flat_map(|section| &section.verdict);
        Self {
            sections: digest.sections.len() as u64,
            failed_sections: digest.sections.iter().filter(|s| s.error.is_some()).count() as u64,
            sections_with_findings: verdicts().filter(|verdict| !verdict.passed).count() as u64,
            findings: verdicts().map(|verdict| verdict.findings.len() as u64).sum(),
            characters: paragraphs
                .map(|p| p.text.chars().filter(|c| !c.is_whitespace()).count() as u64)
                .sum(),
            prompt_tokens: count(statistics.prompt_tokens - statistics.cached_tokens),
            completion_tokens: count(statistics.completion_tokens),
        }
    }
}
