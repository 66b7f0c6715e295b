//! The Chinese summary of a section: complete sentences within a limit of characters.
//!
//! Called by `digest`. The model writes a draft; if sentences of the source say the same and fit the limit, those become
//! the summary, because nothing in them can be wrong. Otherwise the draft itself is the summary, without the sentences
//! that the checks object to; if nothing of it is left, the beginning of the source is.

use futures::future::try_join_all;

use super::{
    Job, Pipeline, PipelineError, SectionFinding, SourceSentence, chunk,
    complete::{Completion, Usage},
    dateline::frame,
    prompt::PromptRequest,
};
use crate::{
    document::Section,
    engine::QueueOrder,
    fidelity::{self, Finding, FindingKind, Verdict},
    task::Task,
};

/// Maximum source tokens per prompt. The parts of a longer section are summarized first.
const PART_TOKENS: usize = 3_000;
/// The length to ask for at each attempt, as a share of the limit. Later attempts use the last one.
const LENGTH_SHARES: [f64; 3] = [0.9, 0.6, 0.4];
/// Maximum tokens per Chinese character, before [`SPARE_TOKENS`].
const TOKENS_PER_CHAR: usize = 2;
/// Additional tokens, for short limits.
const SPARE_TOKENS: usize = 16;
/// Punctuation at the end of a sentence.
const FULL_STOPS: [char; 3] = ['。', '！', '？'];
/// Closing punctuation that belongs to the full stop before it.
const CLOSING: [char; 5] = ['”', '’', '）', '」', '』'];

/// The summary of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Complete sentences within the limit.
    pub text: String,
    /// The same text, sentence by sentence.
    pub sentences: Vec<SummarySentence>,
    /// False if the model was cut off at the limit; the complete sentences before it were kept.
    pub complete: bool,
    /// True if the text is based on a draft of the model, false if it is the beginning of the source.
    pub generated: bool,
    /// The number of attempts.
    pub attempts: usize,
}

/// A sentence of a summary and its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummarySentence {
    /// The sentence.
    pub text: String,
    /// The source sentences that support it.
    pub sources: Vec<SourceSentence>,
}

/// The usable part of one completion.
struct SummaryDraft {
    /// Complete sentences within the limit.
    text: String,
    complete: bool,
    verdict: Verdict,
}

impl Pipeline {
    /// Summarizes a section.
    ///
    /// Accepts the first draft that the source itself can express or that has no findings; otherwise the best draft,
    /// without invented sentences.
    pub(super) async fn summarize(
        &self,
        job: &Job,
        section: &Section,
    ) -> Result<(Summary, Vec<SectionFinding>, Usage), PipelineError> {
        let limit = job.summary_max_chars;
        let source = section.paragraphs.iter().map(|p| frame(&p.text).body).collect::<Vec<_>>().join("\n");
        let queue_order = self.summary.engine.next_order();
        let (text, mut usage) = self.condense(job, &source, queue_order).await?;
        let mut best: Option<SummaryDraft> = None;
        let mut attempts = 0;
        // An encoder-decoder takes neither hints nor a length: every attempt would give the same result.
        let max_attempts = if self.summary.tokenizer.takes_sources() { 1 } else { job.max_attempts };
        while attempts < max_attempts {
            // A draft that did not fit is followed by a shorter one; a draft with findings by one of the same length.
            let share = match best {
                Some(_) => LENGTH_SHARES[0],
                None => LENGTH_SHARES[attempts.min(LENGTH_SHARES.len() - 1)],
            };
            let chars = (limit as f64 * share) as usize;
            let hint = best.as_ref().map(|draft| invented_words(&draft.verdict)).unwrap_or_default();
            let completion = self.prompt_summary(job, &text, &hint, chars, limit, queue_order).await?;
            attempts += 1;
            usage = usage.plus(completion.usage);
            if let Some(text) = equivalent_source_sentences(&source, &completion.text, limit) {
                let verdict = fidelity::check_summary(&source, &text, true);
                best = Some(SummaryDraft { text, complete: true, verdict });
                break;
            }
            let kept = complete_sentences(&completion.text, limit);
            if kept.is_empty() {
                continue;
            }
            let verdict = fidelity::check_summary(&source, &kept, true);
            let draft = SummaryDraft { text: kept, complete: completion.complete, verdict };
            if best.as_ref().is_none_or(|best| draft.verdict.score() > best.verdict.score()) {
                best = Some(draft);
            }
            if best.as_ref().is_some_and(|best| best.verdict.is_clean()) {
                break;
            }
        }
        let best = best.map(|draft| draft.without_inventions(&source)).filter(|draft| !draft.text.is_empty());
        let (draft, generated) = match best {
            Some(draft) => (draft, true),
            None => (extract_draft(&source, limit), false),
        };
        let in_section = |finding| SectionFinding { task: Task::Summary, paragraph: None, finding };
        let findings = draft.verdict.findings.iter().cloned().map(in_section).collect();
        let SummaryDraft { text, complete, .. } = draft;
        let sentences = with_sources(&text, section);
        Ok((Summary { text, sentences, complete, generated, attempts }, findings, usage))
    }

    /// Shortens a text until it fits one prompt, by summarizing its parts.
    async fn condense(
        &self,
        job: &Job,
        source: &str,
        queue_order: QueueOrder,
    ) -> Result<(String, Usage), PipelineError> {
        let max_tokens = PART_TOKENS.min(self.summary.engine.max_prompt());
        let mut text = source.to_owned();
        let mut usage = Usage::default();
        while self.summary.tokenizer.count(&text)? > max_tokens {
            let parts = chunk::by_sentences(&text, max_tokens, &self.summary.tokenizer)?;
            // All summaries together take about a third of a prompt, so every round shortens the text.
            let chars = (max_tokens / 3 / parts.len()).max(40);
            let summaries =
                parts.iter().map(|part| self.prompt_summary(job, part, "", chars, 2 * chars, queue_order));
            let completions = try_join_all(summaries).await?;
            usage = completions.iter().fold(usage, |sum, c| sum.plus(c.usage));
            let shorter = completions.iter().map(|c| c.text.as_str()).collect::<Vec<_>>().join("\n");
            if shorter.len() >= text.len() {
                break;
            }
            text = shorter;
        }
        Ok((text, usage))
    }

    async fn prompt_summary(
        &self,
        job: &Job,
        text: &str,
        hint: &str,
        chars: usize,
        limit: usize,
        queue_order: QueueOrder,
    ) -> Result<Completion, PipelineError> {
        let request = PromptRequest::Summarize { text, hint, chars, limit };
        self.complete(job, request, job.sampling, TOKENS_PER_CHAR * limit + SPARE_TOKENS, queue_order).await
    }
}

/// Splits a summary into sentences and finds the source sentences that support each of them.
fn with_sources(summary: &str, section: &Section) -> Vec<SummarySentence> {
    let sources: Vec<SourceSentence> = section
        .paragraphs
        .iter()
        .enumerate()
        .flat_map(|(paragraph, text)| {
            chunk::sentences(&text.text).enumerate().map(move |(sentence, text)| SourceSentence {
                paragraph,
                sentence,
                text: text.trim().to_owned(),
            })
        })
        .collect();
    let texts: Vec<&str> = sources.iter().map(|s| s.text.as_str()).collect();
    chunk::sentences(summary)
        .map(|sentence| SummarySentence {
            text: sentence.trim().to_owned(),
            sources: fidelity::supporting_sentences(sentence, &texts)
                .into_iter()
                .map(|index| sources[index].clone())
                .collect(),
        })
        .collect()
}

impl SummaryDraft {
    /// Drops the sentences with findings if the draft contains a number or name that the source does not.
    fn without_inventions(self, source: &str) -> Self {
        let starts: Vec<usize> =
            self.verdict.findings.iter().filter_map(|f| Some(f.output_span.as_ref()?.start)).collect();
        if invented_words(&self.verdict).is_empty() {
            return self;
        }
        let mut start = 0;
        let mut text = String::new();
        for sentence in chunk::sentences(&self.text) {
            let range = start..start + sentence.len();
            start = range.end;
            if !starts.iter().any(|start| range.contains(start)) {
                text.push_str(sentence);
            }
        }
        let verdict = fidelity::check_summary(source, &text, true);
        Self { text: text.trim().to_owned(), verdict, ..self }
    }
}

/// Returns the sentences of the source that say what a draft says, if they fit the limit.
fn equivalent_source_sentences(source: &str, draft: &str, limit: usize) -> Option<String> {
    let sentences = source.lines().flat_map(chunk::sentences).map(str::trim);
    let candidates: Vec<&str> = sentences.filter(|sentence| is_self_contained(sentence)).collect();
    let chosen = fidelity::sentences_like(draft, &candidates, limit)?;
    Some(chosen.into_iter().map(|index| candidates[index]).collect())
}

/// Returns `true` if a sentence can be quoted by itself: it ends with a full stop, possibly followed by closing
/// punctuation, and every quotation that it opens it also closes.
fn is_self_contained(sentence: &str) -> bool {
    let count = |mark| sentence.matches(mark).count();
    sentence.trim_end_matches(CLOSING).ends_with(FULL_STOPS) && count('“') == count('”')
}

/// Lists the numbers and names of a draft that do not appear in the source.
fn invented_words(verdict: &Verdict) -> String {
    let words = verdict.findings.iter().filter_map(|finding| match &finding.kind {
        FindingKind::NumberNotInSource { found } | FindingKind::NameNotInSource { found } => {
            Some(found.as_str())
        }
        _ => None,
    });
    words.collect::<Vec<_>>().join("、")
}

/// Makes a draft from the beginning of the source, with a finding that says so.
fn extract_draft(source: &str, limit: usize) -> SummaryDraft {
    let text = extract(source, limit);
    let kind = match text.is_empty() && source.chars().any(char::is_alphanumeric) {
        true => FindingKind::SummaryLimitTooSmall { limit },
        false => FindingKind::SummaryExtracted,
    };
    let finding = Finding { kind, source_span: None, output_span: None };
    let verdict = Verdict { findings: vec![finding], ..Verdict::default() };
    SummaryDraft { text, complete: true, verdict }
}

/// Counts the characters of a text without whitespace.
pub(super) fn chars(text: &str) -> usize {
    text.chars().filter(|c| !c.is_whitespace()).count()
}

/// Returns the sentences at the beginning of a completion that together fit `limit` characters. The text behind the last
/// full stop is dropped: it is the sentence at which the model was cut off.
fn complete_sentences(text: &str, limit: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some(stop) = line.rfind(FULL_STOPS) else { return String::new() };
    // Closing punctuation belongs to the full stop before it.
    let end = line[stop..]
        .char_indices()
        .find(|(_, c)| !FULL_STOPS.contains(c) && !CLOSING.contains(c))
        .map_or(line.len(), |(at, _)| stop + at);
    leading_sentences(&line[..end], limit)
}

/// Returns the sentences at the beginning of a text that together fit `limit` characters.
fn leading_sentences(text: &str, limit: usize) -> String {
    let mut kept = String::new();
    for sentence in chunk::sentences(text) {
        if chars(&kept) + chars(sentence) > limit {
            break;
        }
        kept.push_str(sentence);
    }
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the first sentence that fits `limit` characters, and those after it as long as they fit too.
fn extract(text: &str, limit: usize) -> String {
    let fitting = chunk::sentences(text)
        .scan(0, |end, sentence| {
            let start = *end;
            *end += sentence.len();
            Some((start, sentence))
        })
        .find(|(_, sentence)| sentence.chars().any(char::is_alphanumeric) && chars(sentence) <= limit);
    fitting.map_or(String::new(), |(start, _)| leading_sentences(&text[start..], limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_summaries_only_at_the_end_of_a_sentence() {
        let text = "火箭发射入轨。一级回收验证了关键技术。后续";
        assert_eq!(complete_sentences(text, 100), "火箭发射入轨。一级回收验证了关键技术。");
        assert_eq!(complete_sentences(text, 12), "火箭发射入轨。");
        assert_eq!(complete_sentences(text, 5), "");
        assert_eq!(complete_sentences("没有句号", 100), "");
        assert_eq!(complete_sentences("他说：“成功了。”反而以“解决问题”", 100), "他说：“成功了。”");
    }

    #[test]
    fn replaces_a_draft_by_equivalent_source_sentences() {
        let source = "火箭今日发射入轨，任务成功。\n他说：“一级回收。二级入轨。”他们都很高兴。";
        assert_eq!(
            equivalent_source_sentences(source, "火箭发射入轨。", 50).unwrap(),
            "火箭今日发射入轨，任务成功。"
        );
        assert_eq!(equivalent_source_sentences(source, "卫星升空。", 50), None);
        for (sentence, expected) in [
            ("他说：“一级回收。", false),
            ("二级入轨。”", false),
            ("他说：“好。”", true),
            ("一、目标", false),
        ] {
            assert_eq!(is_self_contained(sentence), expected, "{sentence}");
        }
    }

    #[test]
    fn extracts_complete_sentences_from_the_beginning() {
        assert_eq!(leading_sentences("第一句。第二句。\n第三句。", 8), "第一句。第二句。");
        assert_eq!(leading_sentences("这一句太长了。", 3), "");
        assert_eq!(extract("这第一句太长了，放不下。短句。又一短句。", 8), "短句。又一短句。");
        assert_eq!(extract("这一句太长了。", 3), "");
    }
}
