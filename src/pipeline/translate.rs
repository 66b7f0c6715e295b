//! The English translation of a section: paragraph by paragraph, so that nothing is dropped, and every piece again in
//! better ways while the checks object or the model was unsure.
//!
//! ```text
//! paragraph ─frame─▶ lead │ body │ tail
//!                          └─chunk─▶ piece ─settle─▶ prompt ─▶ answer ─check─▶ good
//!                                      ▲                          ├ bad: sentence by sentence, each with more settled and a
//!                                      │                          │   hint, then drawn several times
//!                                      │                          ├ unsure: drawn several times
//!                                      └──────────────────────────┘ and the most faithful is kept
//! ```

use std::sync::{Mutex, PoisonError};

use futures::future::{BoxFuture, FutureExt as _, try_join_all};

use super::{
    Job, Pipeline, PipelineError, SectionFinding, chunk,
    complete::{Completion, Usage},
    dateline::{Framed, frame},
    prompt::Request,
    settle::{Settled, as_it_stands, settle},
};
use crate::{
    document::{Document, Section},
    engine::{QueueOrder, Sampling},
    fidelity::{
        self, Alignment, AlignmentKind, FindingKind, NumberCounts, Renderings, TermCounts, Verdict,
        numerals::{self, QuantityRewrite},
    },
    task::Task,
};

/// The most source tokens of one model call.
const CHUNK_TOKENS: usize = 192;
/// English takes at most this many tokens for one of Chinese, before [`SPARE_TOKENS`].
const TOKENS_PER_SOURCE_TOKEN: usize = 3;
/// Room on top of it, for short texts.
const SPARE_TOKENS: usize = 48;
/// What is drawn when the checks object to an answer.
const WHEN_WRONG: Draws = Draws { count: 3, temperature: 0.5, top_p: 0.95 };
/// And when the model was unsure of a sentence.
const WHEN_UNSURE: Draws = Draws { count: 4, temperature: 0.6, top_p: 0.9 };
/// Below this mean log-probability of its tokens, the model was unsure of what it wrote.
const UNSURE: f64 = -0.3;
/// From this many attempts on, sentences that the model was unsure of are drawn too, however many there are: about half of
/// them, which on a page of news takes long.
const ATTEMPTS_FOR_UNSURE: usize = 4;
/// A text of at most so many sentences is worth that in any case.
const SHORT_SENTENCES: usize = 3;

/// The translation of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    /// The English of the section's heading or of the article's headline above it; empty without one.
    pub heading: String,
    /// One for every paragraph, in order.
    pub paragraphs: Vec<ParagraphTranslation>,
    /// The numbers of heading and paragraphs.
    pub numbers: NumberCounts,
    /// The terms in them.
    pub terms: TermCounts,
    /// The most times that the model was asked for one piece.
    pub attempts: usize,
}

/// The translation of a paragraph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParagraphTranslation {
    /// The English, on one line.
    pub text: String,
    /// The numbers and terms of the paragraph with their counterparts in the English.
    pub alignments: Vec<Alignment>,
    /// False when a part of it ended at the token limit.
    pub whole: bool,
    /// The most times that the model was asked for a piece of it; 0 when there was nothing to ask.
    pub attempts: usize,
}

/// What kind of text a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Heading,
    Body,
}

/// Answers that are drawn instead of taken greedily.
#[derive(Debug, Clone, Copy)]
struct Draws {
    count: u64,
    temperature: f64,
    top_p: f64,
}

/// How a piece is asked for.
#[derive(Debug, Clone, Copy)]
struct Asking {
    /// How often at most.
    attempts: usize,
    /// Below which confidence it is asked for again though the checks object to nothing.
    unsure: f64,
    /// Its place in the order of work, repairs included.
    order: QueueOrder,
}

/// What the model is asked about a piece.
struct Question<'a> {
    kind: Kind,
    source: &'a str,
    /// As the model sees it.
    settled: Settled<'a>,
    /// What an earlier answer lacked.
    hint: String,
    order: QueueOrder,
}

/// A translation of one piece, checked.
#[derive(Debug, Clone)]
struct Piece {
    text: String,
    whole: bool,
    verdict: Verdict,
    /// How likely the model found it, as the mean of its tokens' log-probabilities.
    confidence: f64,
    attempts: usize,
    usage: Usage,
}

/// A future that asks for pieces of pieces.
type Asked<'a> = BoxFuture<'a, Result<Piece, PipelineError>>;

impl Pipeline {
    /// Translates the paragraphs of a section, and its heading (or the headline above it) if there is one.
    pub(super) async fn translate(
        &self,
        job: &Job,
        heading: Option<&str>,
        section: &Section,
        names: &Names,
    ) -> Result<(Translation, Vec<SectionFinding>, Usage), PipelineError> {
        let heading = async {
            match heading {
                Some(text) => {
                    let piece = self.piece(job, Kind::Heading, text, self.asking(job)).await?;
                    Ok(names.alike(job, text, piece))
                }
                None => Ok(Piece::default()),
            }
        };
        let paragraphs =
            section.paragraphs.iter().map(|paragraph| self.paragraph(job, &paragraph.text, names));
        let (heading, paragraphs) = futures::try_join!(heading, try_join_all(paragraphs))?;
        let mut translation = Translation {
            heading: heading.text.clone(),
            paragraphs: Vec::new(),
            numbers: NumberCounts::default(),
            terms: TermCounts::default(),
            attempts: 0,
        };
        let (mut findings, mut usage) = (Vec::new(), Usage::default());
        let places = (0..paragraphs.len()).map(Some);
        for (paragraph, piece) in
            std::iter::once(None).chain(places).zip(std::iter::once(heading).chain(paragraphs))
        {
            translation.numbers = translation.numbers.plus(piece.verdict.numbers);
            translation.terms = translation.terms.plus(piece.verdict.terms);
            translation.attempts = translation.attempts.max(piece.attempts);
            usage = usage.plus(piece.usage);
            let in_section = |finding| SectionFinding { task: Task::Translation, paragraph, finding };
            findings.extend(piece.verdict.findings.into_iter().map(in_section));
            let alignments = piece.verdict.alignments;
            if paragraph.is_some() {
                let Piece { text, whole, attempts, .. } = piece;
                translation.paragraphs.push(ParagraphTranslation { text, alignments, whole, attempts });
            }
        }
        Ok((translation, findings, usage))
    }

    /// Translates a paragraph: what frames it by rule, its chunks at the same time by the model, all on one line.
    async fn paragraph(&self, job: &Job, text: &str, names: &Names) -> Result<Piece, PipelineError> {
        let Framed { lead, body, tail } = frame(text);
        let tokenizer = &self.translation.tokenizer;
        let chunks = match tokenizer.takes_sources() {
            true => chunk::one_by_one(body, CHUNK_TOKENS, tokenizer)?,
            false => chunk::by_sentences(body, CHUNK_TOKENS, tokenizer)?,
        };
        let may_look_twice = !tokenizer.takes_sources()
            && (job.max_attempts >= ATTEMPTS_FOR_UNSURE || is_short(&job.document));
        let pieces = chunks.iter().map(|chunk| {
            // Several sentences are long to draw, and their mean hides the one that is unsure.
            let look_twice = may_look_twice && is_one_sentence(chunk);
            let unsure = if look_twice { UNSURE } else { f64::NEG_INFINITY };
            let asked = self.piece(job, Kind::Body, chunk, Asking { unsure, ..self.asking(job) });
            async move { Ok::<_, PipelineError>(names.alike(job, chunk, asked.await?)) }
        });
        let pieces = try_join_all(pieces).await?;
        let mut translated = Piece::default();
        for (chunk, piece) in chunks.iter().zip(pieces) {
            translated.append(piece, offset(body, chunk));
        }
        if is_quotation(body.trim()) {
            translated = translated.in_quotes();
        }
        let body_start = offset(text, body);
        let body_end = body_start + body.len();
        let mut joined = Piece::by_rule(&text[..body_start], lead);
        joined.append(translated, body_start);
        joined.append(Piece::by_rule(&text[body_end..], tail), body_end);
        Ok(joined)
    }

    /// As often as the job allows while the checks object, and its work begins now.
    fn asking(&self, job: &Job) -> Asking {
        let (attempts, order) = (job.max_attempts, self.translation.engine.next_order());
        Asking { attempts, unsure: f64::NEG_INFINITY, order }
    }

    /// Translates one piece. A model that takes sources is asked once: it has no hints and gives the same answers every
    /// time, and of those that its beams found the best is taken. Any other one is asked again, at most `attempts` times
    /// in all, while the checks object or once when the model's confidence is below `unsure`, and the best is kept.
    fn piece<'a>(&'a self, job: &'a Job, kind: Kind, source: &'a str, asking: Asking) -> Asked<'a> {
        let Asking { attempts, unsure, order } = asking;
        async move {
            if !source.chars().any(char::is_alphanumeric) {
                return Ok(Piece::default());
            }
            let settled = match self.translation.settles {
                true => settle(source, &job.glossary, QuantityRewrite::default()),
                false => as_it_stands(source, &job.glossary),
            };
            let attempts = if self.translation.tokenizer.takes_sources() { 1 } else { attempts };
            let mut question = Question { kind, source, settled, hint: String::new(), order };
            let mut best = self.answer(job, &question, job.sampling).await?;
            let is_one_sentence = is_one_sentence(source);
            for attempt in 2..=attempts {
                let objected = !best.verdict.is_clean();
                if !objected && best.confidence >= unsure {
                    break;
                }
                let others = if !objected {
                    self.draw(job, &question, WHEN_UNSURE, attempt).await
                } else if !is_one_sentence {
                    // Each of them has the attempts that are left.
                    let each = Asking { attempts: attempts - 1, ..asking };
                    self.by_sentence(job, source, each).await.map(|sentences| vec![sentences])
                } else {
                    question.settled = settle(source, &job.glossary, QuantityRewrite::ALL);
                    question.hint = hint(&best.verdict);
                    if attempt == 2 && attempts > 2 {
                        self.answer(job, &question, Sampling::Greedy).await.map(|answer| vec![answer])
                    } else {
                        self.draw(job, &question, WHEN_WRONG, attempt).await
                    }
                };
                let others = match others {
                    // What there is is better than nothing, and says what is wrong with it.
                    Err(PipelineError::Deadline) => break,
                    others => others?,
                };
                if !objected {
                    return self.most_faithful(job, &question, best, others, attempt).await;
                }
                best = others.into_iter().fold(best, Piece::better);
                best.attempts = best.attempts.max(attempt);
                if !is_one_sentence {
                    break;
                }
            }
            Ok(best)
        }
        .boxed()
    }

    /// The candidate with the best verdict, and of several such the one that is likely as a translation of the source
    /// and from which the source is likely as the way back: what was left out cannot come back. What all of them cost
    /// is kept.
    async fn most_faithful(
        &self,
        job: &Job,
        question: &Question<'_>,
        first: Piece,
        others: Vec<Piece>,
        attempt: usize,
    ) -> Result<Piece, PipelineError> {
        let mut candidates = vec![first];
        candidates.extend(others);
        let mut usage = candidates.iter().fold(Usage::default(), |sum, piece| sum.plus(piece.usage));
        let attempts = candidates.iter().fold(attempt, |most, piece| most.max(piece.attempts));
        let best = candidates.iter().map(|piece| piece.verdict.score()).max();
        let mut equals: Vec<Piece> = Vec::new();
        for piece in candidates {
            if Some(piece.verdict.score()) == best && equals.iter().all(|other| other.text != piece.text) {
                equals.push(piece);
            }
        }
        let mut likelihoods: Vec<f64> = equals.iter().map(|piece| piece.confidence).collect();
        if equals.len() > 1 {
            let source = question.settled.text.as_str();
            let back = |text| self.likelihood(job, Request::TranslateBack { text }, source, question.order);
            let backs = try_join_all(equals.iter().map(|piece| back(&piece.text))).await?;
            for (sum, (likelihood, cost)) in likelihoods.iter_mut().zip(backs) {
                *sum += likelihood;
                usage = usage.plus(cost);
            }
        }
        let most = equals.into_iter().zip(likelihoods).max_by(|(_, a), (_, b)| a.total_cmp(b));
        Ok(Piece { usage, attempts, ..most.map(|(piece, _)| piece).unwrap_or_default() })
    }

    /// Translates every sentence of a piece by itself: a small model drops less of a short text.
    async fn by_sentence(&self, job: &Job, source: &str, each: Asking) -> Result<Piece, PipelineError> {
        let sentences: Vec<&str> = chunk::sentences(source).collect();
        let pieces = sentences.iter().map(|sentence| self.piece(job, Kind::Body, sentence, each));
        let mut joined = Piece::default();
        for (sentence, piece) in sentences.iter().zip(try_join_all(pieces).await?) {
            joined.append(piece, offset(source, sentence));
        }
        Ok(joined)
    }

    /// Draws several answers, which are decoded together.
    async fn draw(
        &self,
        job: &Job,
        question: &Question<'_>,
        Draws { count, temperature, top_p }: Draws,
        attempt: usize,
    ) -> Result<Vec<Piece>, PipelineError> {
        let first = attempt as u64 * count;
        let drawn = (first..first + count).map(|seed| {
            self.answer(job, question, Sampling::Random { temperature, top_p, top_k: None, seed })
        });
        try_join_all(drawn).await
    }

    /// Asks the model once and checks what it answers.
    async fn answer(
        &self,
        job: &Job,
        Question { kind, source, settled, hint, order }: &Question<'_>,
        sampling: Sampling,
    ) -> Result<Piece, PipelineError> {
        let text = settled.text.as_str();
        let most = TOKENS_PER_SOURCE_TOKEN * self.translation.tokenizer.count(text)? + SPARE_TOKENS;
        let request = match kind {
            Kind::Heading => Request::TranslateHeading { text, hint },
            Kind::Body => Request::Translate { text, hint },
        };
        let completion = self.complete(job, request, sampling, most, *order).await?;
        let checked = |completion: Completion| {
            // Line breaks that the model wrote become spaces.
            let text = completion.text.split_whitespace().collect::<Vec<_>>().join(" ");
            let verdict = fidelity::check_translation(source, &settled.required(), &text, completion.whole);
            let Completion { whole, confidence, usage, others, .. } = completion;
            (Piece { text, whole, verdict, confidence, attempts: 1, usage }, others)
        };
        let (first, others) = checked(completion);
        // Asked to repair nothing, it takes what the model found likeliest.
        let others = others.into_iter().filter(|_| job.max_attempts > 1 && !first.verdict.is_clean());
        let others: Vec<Piece> = others.map(|other| checked(other).0).collect();
        Ok(others.into_iter().fold(first, Piece::better))
    }
}

/// How the names of an article have been rendered so far, in whichever of its pieces was done first.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<Renderings>);

impl Names {
    /// Renders the names of a piece as those before, if the checks find it no worse.
    fn alike(&self, job: &Job, source: &str, piece: Piece) -> Piece {
        let settled = self.0.lock().unwrap_or_else(PoisonError::into_inner).unify(source, &piece.text);
        let Some(text) = settled else { return piece };
        let required = as_it_stands(source, &job.glossary);
        let verdict = fidelity::check_translation(source, &required.required(), &text, piece.whole);
        match verdict.score() < piece.verdict.score() {
            true => piece,
            false => Piece { text, verdict, ..piece },
        }
    }
}

impl Default for Piece {
    /// What a source without words becomes.
    fn default() -> Self {
        Self::of_text(String::new())
    }
}

impl Piece {
    /// What no model was asked for.
    fn of_text(text: String) -> Self {
        Self {
            text,
            whole: true,
            verdict: Verdict::default(),
            confidence: 0.0,
            attempts: 0,
            usage: Usage::default(),
        }
    }

    /// A part of a paragraph that is translated by rule, with its numbers aligned.
    fn by_rule(source: &str, text: String) -> Self {
        let pairs = numerals::compare(source, &text).pairs;
        let mut piece = Self::of_text(text);
        piece.verdict.alignments.extend(pairs.into_iter().map(|(own, other)| Alignment {
            kind: AlignmentKind::Number,
            source_span: own.span,
            output_span: other.span,
        }));
        piece
    }

    /// The one with the better verdict, the first where they are equal; what both cost is kept.
    fn better(self, other: Self) -> Self {
        let usage = self.usage.plus(other.usage);
        let attempts = self.attempts.max(other.attempts);
        let better = if other.verdict.score() > self.verdict.score() { other } else { self };
        Self { usage, attempts, ..better }
    }

    /// As a quotation, where the model left out the marks of one at either end.
    fn in_quotes(mut self) -> Self {
        const MARKS: [char; 3] = ['“', '”', '"'];
        let opened = self.text.strip_prefix(MARKS).unwrap_or(&self.text);
        let quoted = opened.strip_suffix(MARKS).unwrap_or(opened);
        let is_whole = self.text.starts_with(MARKS) && self.text.ends_with(MARKS);
        if is_whole || quoted.is_empty() || quoted.contains(MARKS) {
            return self;
        }
        let by = '“'.len_utf8() - offset(&self.text, quoted);
        let text = format!("“{quoted}”");
        let verdict = std::mem::take(&mut self.verdict);
        self.verdict.append(verdict, 0, by);
        Self { text, ..self }
    }

    /// Appends the translation of what stands at `source_start` of the source.
    fn append(&mut self, next: Self, source_start: usize) {
        if !self.text.is_empty() && !next.text.is_empty() {
            self.text.push(' ');
        }
        let (len, next_len) = (self.text.len() as f64, next.text.len() as f64);
        self.confidence = (self.confidence * len + next.confidence * next_len) / (len + next_len).max(1.0);
        self.verdict.append(next.verdict, source_start, self.text.len());
        self.text.push_str(&next.text);
        self.whole &= next.whole;
        self.attempts = self.attempts.max(next.attempts);
        self.usage = self.usage.plus(next.usage);
    }
}

/// Whether a document has few sentences in all.
fn is_short(document: &Document) -> bool {
    let sections = document.articles.iter().flat_map(|article| &article.sections);
    let sentences = sections.flat_map(|s| &s.paragraphs).flat_map(|p| chunk::sentences(&p.text));
    sentences.take(SHORT_SENTENCES + 1).count() <= SHORT_SENTENCES
}

fn is_one_sentence(text: &str) -> bool {
    chunk::sentences(text).nth(1).is_none()
}

/// Whether a text is one quotation from its first character to its last.
fn is_quotation(text: &str) -> bool {
    let quoted = text.strip_prefix('“').and_then(|rest| rest.strip_suffix('”'));
    quoted.is_some_and(|quoted| !quoted.contains(['“', '”']))
}

/// Where a part stands in the text that it is a part of, in bytes.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr() as usize - text.as_ptr() as usize
}

/// What an answer lacks, in the words that it must hold.
fn hint(verdict: &Verdict) -> String {
    let mut wanted: Vec<String> = Vec::new();
    for finding in &verdict.findings {
        let word = match &finding.kind {
            FindingKind::TermMissing { target, .. } => target.clone(),
            FindingKind::NumberMissing { expected, .. } => {
                numerals::rewrite_quantities(expected, QuantityRewrite::ALL)
            }
            _ => continue,
        };
        if !wanted.contains(&word) {
            wanted.push(word);
        }
    }
    wanted.join("、")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fidelity::Finding;

    fn in_quotes(text: &str) -> (String, Option<String>) {
        let mut piece = Piece::of_text(text.to_owned());
        let output_span = text.find("1930").map(|at| at..at + 4);
        let kind = FindingKind::NumberNotInSource { found: "1930".to_owned() };
        piece.verdict.findings.push(Finding { kind, source_span: None, output_span });
        let Piece { text, verdict, .. } = piece.in_quotes();
        let place = verdict.findings[0].output_span.clone();
        let found = place.map(|place| text[place].to_owned());
        (text, found)
    }

    #[test]
    fn a_quotation_keeps_its_marks_and_findings_their_places() {
        let found = Some("1930".to_owned());
        for text in ["It was in 1930.", "“It was in 1930.", "\"It was in 1930.", "It was in 1930.”"] {
            assert_eq!(in_quotes(text), ("“It was in 1930.”".to_owned(), found.clone()), "{text}");
        }
        for text in [
            "“It was in 1930.”",
            "\"It was in 1930.\"",
            "The “war” was in 1930.",
            "““It was in 1930.",
            "\"“It was in 1930.",
        ] {
            assert_eq!(in_quotes(text), (text.to_owned(), found.clone()));
        }
        assert_eq!(in_quotes("").0, "");
    }

    #[test]
    fn a_quotation_goes_from_end_to_end() {
        assert!(is_quotation("“我不在乎。”"));
        for text in ["“我不在乎，”他说，“真的。”", "他说：“我不在乎。”", "“我不在乎。", "”", ""]
        {
            assert!(!is_quotation(text), "{text}");
        }
    }
}
