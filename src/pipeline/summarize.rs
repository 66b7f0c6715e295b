//! The Chinese summary of a section: whole sentences within a limit of characters.

use futures::future::try_join_all;

use super::{
    Job, Located, Pipeline, PipelineError, SourceSentence, Task, chunk,
    complete::{Completion, Usage},
    prompt::Request,
};
use crate::{
    document::Section,
    fidelity::{self, Finding},
};

/// The most source tokens of one summary prompt; a longer section is summarised in parts first.
const PART_TOKENS: usize = 3_000;
/// The share of the limit that the model is asked for at the first, second and third attempt.
const ATTEMPTS: [f64; 3] = [0.9, 0.6, 0.4];
/// Chinese takes at most this many tokens for a character, before [`SPARE_TOKENS`].
const TOKENS_PER_CHAR: usize = 2;
/// Room on top of it.
const SPARE_TOKENS: usize = 16;

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

impl Pipeline {
    /// Summarises a section.
    pub(super) async fn summarize(
        &self,
        job: &Job,
        section: &Section,
    ) -> Result<(Summary, Vec<Located>, Usage), PipelineError> {
        let limit = job.summary_max_chars;
        let source = section.paragraphs.iter().map(|p| p.text.as_str()).collect::<Vec<_>>().join("\n");
        let (text, mut usage) = self.condense(job, &source).await?;
        let mut findings = Vec::new();
        let mut summary = None;
        for (attempt, share) in ATTEMPTS.iter().enumerate() {
            let chars = (limit as f64 * share) as usize;
            let completion = self.ask(job, &text, chars, limit).await?;
            usage = usage.plus(completion.usage);
            let kept = whole_sentences(&completion.text, limit);
            if !kept.is_empty() {
                summary = Some((kept, completion.whole, attempt + 1));
                break;
            }
        }
        let summary = match summary {
            Some((text, whole, attempts)) => self.assemble(text, whole, true, attempts, section),
            None => {
                let lead = extract(&source, limit);
                let finding = if lead.is_empty() && source.chars().any(char::is_alphanumeric) {
                    Finding::SummaryLimitTooSmall(limit)
                } else {
                    Finding::SummaryExtracted
                };
                findings.push(finding);
                self.assemble(lead, true, false, ATTEMPTS.len(), section)
            }
        };
        if !summary.whole {
            findings.push(Finding::Truncated);
        }
        findings.extend(fidelity::repeated_phrase(&summary.text).map(Finding::Loop));
        let invented = fidelity::numbers_not_in(&summary.text, &source);
        findings.extend(invented.into_iter().map(|n| Finding::NumberNotInSource(n.to_owned())));
        let findings = findings
            .into_iter()
            .map(|finding| Located { task: Task::Summary, paragraph: None, finding })
            .collect();
        Ok((summary, findings, usage))
    }

    /// Shortens a text that is too long for one prompt: its parts are summarised, as often as needed.
    async fn condense(&self, job: &Job, source: &str) -> Result<(String, Usage), PipelineError> {
        let room = PART_TOKENS.min(self.engine.max_model_len() / 2);
        let mut text = source.to_owned();
        let mut usage = Usage::default();
        while self.tokenizer.count(&text)? > room {
            let parts = chunk::by_sentences(&text, room, &self.tokenizer)?;
            // Every part gives a third of a room together with the others, so that the text shrinks.
            let chars = (room / 3 / parts.len()).max(40);
            let completions =
                try_join_all(parts.iter().map(|part| self.ask(job, part, chars, 2 * chars))).await?;
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
        chars: usize,
        limit: usize,
    ) -> Result<Completion, PipelineError> {
        let request = Request::Summarize { text, chars, limit };
        self.complete(job, request, TOKENS_PER_CHAR * limit + SPARE_TOKENS).await
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

/// Number of characters, white space not counted.
pub(super) fn chars(text: &str) -> usize {
    text.chars().filter(|c| !c.is_whitespace()).count()
}

/// The whole sentences at the beginning of a model's summary that fit `limit` characters together. What
/// follows the last full stop is dropped: it is the sentence at which the model was stopped.
fn whole_sentences(text: &str, limit: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = line
        .rfind(['。', '！', '？', '”', '…'])
        .map_or(0, |at| at + line[at..].chars().next().map_or(0, char::len_utf8));
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
    }

    #[test]
    fn an_extract_takes_whole_sentences_from_the_beginning() {
        assert_eq!(leading_sentences("第一句。第二句。\n第三句。", 8), "第一句。第二句。");
        assert_eq!(leading_sentences("这一句太长了。", 3), "");
        assert_eq!(extract("这第一句太长了，放不下。短句。又一短句。", 8), "短句。又一短句。");
        assert_eq!(extract("这一句太长了。", 3), "");
    }
}
