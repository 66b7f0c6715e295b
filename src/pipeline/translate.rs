//! The English translation of a section: paragraph by paragraph, so that nothing is dropped.

use futures::future::try_join_all;

use super::{
    Job, Located, Pipeline, PipelineError, Task, chunk,
    complete::{Completion, Usage},
    job::Term,
    prompt::Request,
};
use crate::{
    document::Section,
    fidelity::{self, Finding},
};

/// The most source tokens of one model call.
const CHUNK_TOKENS: usize = 192;
/// English takes at most this many tokens for one of Chinese, before [`SPARE_TOKENS`].
const TOKENS_PER_SOURCE_TOKEN: usize = 3;
/// Room on top of it, for short texts.
const SPARE_TOKENS: usize = 48;

/// The translation of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    /// The English of the section's heading or of the article's headline above it; empty without one.
    pub heading: String,
    /// One for every paragraph, in order.
    pub paragraphs: Vec<ParagraphTranslation>,
}

/// The translation of a paragraph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParagraphTranslation {
    /// The English, on one line.
    pub text: String,
    /// False when a part of it ended at the token limit.
    pub whole: bool,
}

/// A translation with what was found in it and what it cost.
type Checked<T> = (T, Vec<Located>, Usage);

impl Pipeline {
    /// Translates the paragraphs of a section, and its heading (or the headline above it) if there is one.
    pub(super) async fn translate(
        &self,
        job: &Job,
        heading: Option<&str>,
        section: &Section,
    ) -> Result<Checked<Translation>, PipelineError> {
        let paragraphs = section.paragraphs.iter().enumerate().map(|(index, paragraph)| async move {
            let chunks = chunk::by_sentences(&paragraph.text, CHUNK_TOKENS, &self.tokenizer)?;
            self.translate_text(job, Some(index), &paragraph.text, &chunks).await
        });
        let heading = async {
            match heading {
                Some(text) => self.translate_text(job, None, text, &[text]).await,
                None => {
                    Ok((ParagraphTranslation { text: String::new(), whole: true }, vec![], Usage::default()))
                }
            }
        };
        let (heading, paragraphs) = futures::try_join!(heading, try_join_all(paragraphs))?;
        let (heading, mut findings, mut usage) = heading;
        let mut translation = Translation { heading: heading.text, paragraphs: Vec::new() };
        for (paragraph, found, used) in paragraphs {
            translation.paragraphs.push(paragraph);
            findings.extend(found);
            usage = usage.plus(used);
        }
        Ok((translation, findings, usage))
    }

    /// Translates the chunks of one text, a paragraph or (without an index) a heading, at the same time
    /// and joins them on one line.
    async fn translate_text(
        &self,
        job: &Job,
        paragraph: Option<usize>,
        source: &str,
        chunks: &[&str],
    ) -> Result<Checked<ParagraphTranslation>, PipelineError> {
        let (_, terms) = job.settle_terms(source);
        let completions = try_join_all(chunks.iter().map(|chunk| async move {
            let (settled, _) = job.settle_terms(chunk);
            let tokens = self.tokenizer.count(&settled)?;
            let most = TOKENS_PER_SOURCE_TOKEN * tokens + SPARE_TOKENS;
            let request = match paragraph {
                Some(_) => Request::Translate(&settled),
                None => Request::TranslateHeading(&settled),
            };
            self.complete(job, request, most).await
        }))
        .await?;
        let text = join_line(&completions);
        let whole = completions.iter().all(|c| c.whole);
        let usage = completions.iter().fold(Usage::default(), |sum, c| sum.plus(c.usage));
        let findings = check(source, &text, whole, &terms)
            .into_iter()
            .map(|finding| Located { task: Task::Translation, paragraph, finding })
            .collect();
        Ok((ParagraphTranslation { text, whole }, findings, usage))
    }
}

/// Joins the chunks of a paragraph; line breaks that the model wrote become spaces.
fn join_line(completions: &[Completion]) -> String {
    let words = completions.iter().flat_map(|c| c.text.split_whitespace());
    words.collect::<Vec<_>>().join(" ")
}

/// What is wrong with a translation.
fn check(source: &str, text: &str, whole: bool, terms: &[&Term]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !whole {
        findings.push(Finding::Truncated);
    }
    if text.is_empty() && source.chars().any(char::is_alphanumeric) {
        findings.push(Finding::Empty);
    }
    if let Some(run) = fidelity::first_han_run(text) {
        findings.push(Finding::HanInTranslation(run.to_owned()));
    }
    if let Some(phrase) = fidelity::repeated_phrase(text) {
        findings.push(Finding::Loop(phrase));
    }
    let lower = text.to_lowercase();
    for term in terms.iter().filter(|term| !lower.contains(&term.target.to_lowercase())) {
        findings.push(Finding::TermMissing { source: term.source.clone(), target: term.target.clone() });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_translation_is_found() {
        let term = Term { source: "蓝箭航天".to_owned(), target: "LandSpace".to_owned() };
        assert_eq!(check("蓝箭航天。", "LANDSPACE.", true, &[&term]), []);
        assert_eq!(check("……", "", true, &[]), []);
        assert_eq!(check("火箭。", "", true, &[]), [Finding::Empty]);
        let found = check("蓝箭航天。", "Blue 准入 a b c a b c a b c a b c", false, &[&term]);
        assert!(
            matches!(
                &found[..],
                [
                    Finding::Truncated,
                    Finding::HanInTranslation(_),
                    Finding::Loop(_),
                    Finding::TermMissing { .. }
                ]
            ),
            "{found:?}"
        );
    }
}
