//! The Chinese summary of a section: whole sentences within a limit of characters.
//!
//! The model writes a draft, and the sentences of the source that say the same are the summary: it reads as the
//! newspaper wrote it, and nothing in it can be wrong. Where they do not fit the limit, the draft itself is, as far as
//! the checks let it; where nothing of it can be kept, the beginning of the source.

use futures::future::try_join_all;

use super::{
    Job, Pipeline, PipelineError, SectionFinding, SourceSentence, chunk,
    complete::{Completion, Usage},
    dateline::frame,
    prompt::Request,
};
use crate::{
    document::Section,
    engine::QueueOrder,
    fidelity::{self, Finding, FindingKind, Verdict},
    task::Task,
};

/// The most source tokens of one summary prompt; a longer section is summarised in parts first.
const PART_TOKENS: usize = 3_000;
/// The share of the limit that the model is asked for at the first, second and every further attempt.
const SHARES: [f64; 3] = [0.9, 0.6, 0.4];
/// Chinese takes at most this many tokens for a character, before [`SPARE_TOKENS`].
const TOKENS_PER_CHAR: usize = 2;
/// Room on top of it.
const SPARE_TOKENS: usize = 16;
/// What ends a sentence.
const FULL_STOPS: [char; 3] = ['。', '！', '？'];
/// What may close behind a full stop and belongs to it.
const CLOSING: [char; 5] = ['”', '’', '）', '」', '』'];

/// The summary of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Whole sentences, never longer than the limit.
    pub text: String,
    /// The same, sentence by sentence.
    pub sentences: Vec<SummarySentence>,
    /// False when the model was stopped at the limit; the whole sentences before it were kept.
    pub whole: bool,
    /// Whether the model wrote it, or it was taken out of the source.
    pub generated: bool,
    /// How many times the model was asked.
    pub attempts: usize,
}

/// A sentence of a summary and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummarySentence {
    /// The sentence.
    pub text: String,
    /// The source sentences that it rests on.
    pub sources: Vec<SourceSentence>,
}

/// What the model wrote at one attempt, as far as it can be kept.
struct Draft {
    /// Whole sentences within the limit.
    text: String,
    whole: bool,
    verdict: Verdict,
}

impl Pipeline {
    /// Summarises a section. Where the draft itself is needed, asks again while it does not fit or holds what the source
    /// does not, and leaves out the sentences that still do.
    pub(super) async fn summarize(
        &self,
        job: &Job,
        section: &Section,
    ) -> Result<(Summary, Vec<SectionFinding>, Usage), PipelineError> {
        let limit = job.summary_max_chars;
        let source = section.paragraphs.iter().map(|p| frame(&p.text).body).collect::<Vec<_>>().join("\n");
        let order = self.summary.engine.next_order();
        let (text, mut usage) = self.condense(job, &source, order).await?;
        let mut best: Option<Draft> = None;
        let mut attempts = 0;
        // A model that takes sources has no hints and is told no length: it gives the same answer every time.
        let most = if self.summary.tokenizer.takes_sources() { 1 } else { job.max_attempts };
        while attempts < most {
            let share = SHARES[attempts.min(SHARES.len() - 1)];
            // What does not fit is asked for shorter; what is wrong is asked for again at the same length.
            let share = if best.is_some() { SHARES[0] } else { share };
            let hint = best.as_ref().map(|draft| invented(&draft.verdict)).unwrap_or_default();
            let chars = (limit as f64 * share) as usize;
            let completion = self.ask(job, &text, &hint, chars, limit, order).await?;
            attempts += 1;
            usage = usage.plus(completion.usage);
            if let Some(text) = sources_own(&source, &completion.text, limit) {
                let verdict = fidelity::check_summary(&source, &text, true);
                best = Some(Draft { text, whole: true, verdict });
                break;
            }
            let kept = whole_sentences(&completion.text, limit);
            if kept.is_empty() {
                continue;
            }
            let verdict = fidelity::check_summary(&source, &kept, true);
            let draft = Draft { text: kept, whole: completion.whole, verdict };
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
            None => (extracted(&source, limit), false),
        };
        let in_section = |finding| SectionFinding { task: Task::Summary, paragraph: None, finding };
        let findings = draft.verdict.findings.iter().cloned().map(in_section).collect();
        let summary = self.assemble(draft.text, draft.whole, generated, attempts, section);
        Ok((summary, findings, usage))
    }

    /// Shortens a text that is too long for one prompt: its parts are summarised, as often as needed.
    async fn condense(
        &self,
        job: &Job,
        source: &str,
        order: QueueOrder,
    ) -> Result<(String, Usage), PipelineError> {
        let room = PART_TOKENS.min(self.summary.engine.max_prompt());
        let mut text = source.to_owned();
        let mut usage = Usage::default();
        while self.summary.tokenizer.count(&text)? > room {
            let parts = chunk::by_sentences(&text, room, &self.summary.tokenizer)?;
            // Every part gives a third of a room together with the others, so that the text shrinks.
            let chars = (room / 3 / parts.len()).max(40);
            let asked = parts.iter().map(|part| self.ask(job, part, "", chars, 2 * chars, order));
            let completions = try_join_all(asked).await?;
            usage = completions.iter().fold(usage, |sum, c| sum.plus(c.usage));
            let shorter = completions.iter().map(|c| c.text.as_str()).collect::<Vec<_>>().join("\n");
            if shorter.len() >= text.len() {
                break;
            }
            text = shorter;
        }
        Ok((text, usage))
    }

    async fn ask(
        &self,
        job: &Job,
        text: &str,
        hint: &str,
        chars: usize,
        limit: usize,
        order: QueueOrder,
    ) -> Result<Completion, PipelineError> {
        let request = Request::Summarize { text, hint, chars, limit };
        self.complete(job, request, job.sampling, TOKENS_PER_CHAR * limit + SPARE_TOKENS, order).await
    }

    /// Splits a summary into sentences and finds what each rests on.
    fn assemble(
        &self,
        text: String,
        whole: bool,
        generated: bool,
        attempts: usize,
        section: &Section,
    ) -> Summary {
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
        let sentences = chunk::sentences(&text)
            .map(|sentence| SummarySentence {
                text: sentence.trim().to_owned(),
                sources: fidelity::supporting_sentences(sentence, &texts)
                    .into_iter()
                    .map(|index| sources[index].clone())
                    .collect(),
            })
            .collect();
        Summary { text, sentences, whole, generated, attempts }
    }
}

impl Draft {
    /// Without the sentences that hold numbers or names that the source does not.
    fn without_inventions(self, source: &str) -> Self {
        let places: Vec<usize> =
            self.verdict.findings.iter().filter_map(|f| Some(f.output_span.as_ref()?.start)).collect();
        let is_invention = |finding: &Finding| {
            matches!(
                finding.kind,
                FindingKind::NumberNotInSource { .. } | FindingKind::NameNotInSource { .. }
            )
        };
        if !self.verdict.findings.iter().any(is_invention) {
            return self;
        }
        let mut start = 0;
        let mut text = String::new();
        for sentence in chunk::sentences(&self.text) {
            let range = start..start + sentence.len();
            start = range.end;
            if !places.iter().any(|place| range.contains(place)) {
                text.push_str(sentence);
            }
        }
        let verdict = fidelity::check_summary(source, &text, true);
        Self { text: text.trim().to_owned(), verdict, ..self }
    }
}

/// The sentences of the source that say what a draft says, if they fit.
fn sources_own(source: &str, draft: &str, limit: usize) -> Option<String> {
    let sentences: Vec<&str> = source.lines().flat_map(chunk::sentences).map(str::trim).collect();
    let whole: Vec<&str> = sentences.into_iter().filter(|sentence| is_whole(sentence)).collect();
    let chosen = fidelity::sentences_like(draft, &whole, limit)?;
    Some(chosen.into_iter().map(|index| whole[index]).collect())
}

/// Whether a sentence can stand alone: it ends with a full stop, behind which quotation marks and brackets may close,
/// and every quotation in it begins and ends there.
fn is_whole(sentence: &str) -> bool {
    let count = |mark| sentence.matches(mark).count();
    sentence.trim_end_matches(CLOSING).ends_with(FULL_STOPS) && count('“') == count('”')
}

/// What a draft holds and the source does not.
fn invented(verdict: &Verdict) -> String {
    let words = verdict.findings.iter().filter_map(|finding| match &finding.kind {
        FindingKind::NumberNotInSource { found } | FindingKind::NameNotInSource { found } => {
            Some(found.as_str())
        }
        _ => None,
    });
    words.collect::<Vec<_>>().join("、")
}

/// Sentences of the source, for want of better ones.
fn extracted(source: &str, limit: usize) -> Draft {
    let text = extract(source, limit);
    let kind = match text.is_empty() && source.chars().any(char::is_alphanumeric) {
        true => FindingKind::SummaryLimitTooSmall { limit },
        false => FindingKind::SummaryExtracted,
    };
    let finding = Finding { kind, source_span: None, output_span: None };
    let verdict = Verdict { findings: vec![finding], ..Verdict::default() };
    Draft { text, whole: true, verdict }
}

/// Number of characters, white space not counted.
pub(super) fn chars(text: &str) -> usize {
    text.chars().filter(|c| !c.is_whitespace()).count()
}

/// The whole sentences at the beginning of a model's summary that fit `limit` characters together. What
/// follows the last full stop is dropped: it is the sentence at which the model was stopped.
fn whole_sentences(text: &str, limit: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some(stop) = line.rfind(FULL_STOPS) else { return String::new() };
    // The quotation marks and brackets that close behind a full stop belong to it.
    let end = line[stop..]
        .char_indices()
        .find(|(_, c)| !FULL_STOPS.contains(c) && !CLOSING.contains(c))
        .map_or(line.len(), |(at, _)| stop + at);
    leading_sentences(&line[..end], limit)
}

/// The sentences at the beginning of a text that fit `limit` characters together.
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

/// The first sentence of a text that fits `limit` characters, and those after it that fit as well.
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
    fn a_summary_is_cut_at_the_end_of_a_sentence_only() {
        let text = "火箭发射入轨。一级回收验证了关键技术。后续";
        assert_eq!(whole_sentences(text, 100), "火箭发射入轨。一级回收验证了关键技术。");
        assert_eq!(whole_sentences(text, 12), "火箭发射入轨。");
        assert_eq!(whole_sentences(text, 5), "");
        assert_eq!(whole_sentences("没有句号", 100), "");
        assert_eq!(whole_sentences("他说：“成功了。”反而以“解决问题”", 100), "他说：“成功了。”");
    }

    #[test]
    fn the_sources_own_sentences_stand_in_for_a_draft() {
        let source = "火箭今日发射入轨，任务成功。\n他说：“一级回收。二级入轨。”他们都很高兴。";
        assert_eq!(sources_own(source, "火箭发射入轨。", 50).unwrap(), "火箭今日发射入轨，任务成功。");
        assert_eq!(sources_own(source, "卫星升空。", 50), None);
        for (sentence, whole) in [
            ("他说：“一级回收。", false),
            ("二级入轨。”", false),
            ("他说：“好。”", true),
            ("一、目标", false),
        ] {
            assert_eq!(is_whole(sentence), whole, "{sentence}");
        }
    }

    #[test]
    fn an_extract_takes_whole_sentences_from_the_beginning() {
        assert_eq!(leading_sentences("第一句。第二句。\n第三句。", 8), "第一句。第二句。");
        assert_eq!(leading_sentences("这一句太长了。", 3), "");
        assert_eq!(extract("这第一句太长了，放不下。短句。又一短句。", 8), "短句。又一短句。");
        assert_eq!(extract("这一句太长了。", 3), "");
    }
}
