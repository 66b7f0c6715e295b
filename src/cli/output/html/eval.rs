//! The report of `yizhai eval`: the figures of all models, and the sentences sorted by where the models differ most.

use askama::Template;

use super::{
    SCRIPT, STYLE,
    marks::{FragmentKind, MarkedParagraph, TextRun},
};
use crate::{
    cli::output::evaluation::{CandidateResult, Comparison, SentenceResult, figure_rows},
    evaluation::EvaluationPair,
    pb,
};

#[derive(Template)]
#[template(path = "eval.html")]
struct EvaluationTemplate<'a> {
    style: &'static str,
    script: &'static str,
    file: &'a str,
    /// The models, and then a row for each figure.
    models: Vec<String>,
    figures: Vec<Vec<String>>,
    sentences: Vec<SentenceView<'a>>,
}

struct SentenceView<'a> {
    /// The number of the pair in the file, from 1.
    number: usize,
    pair: &'a EvaluationPair,
    difference: String,
    outputs: Vec<OutputView<'a>>,
}

struct OutputView<'a> {
    model: &'a str,
    chrf: String,
    english: Vec<TextRun>,
    findings: Vec<&'a str>,
    error: Option<&'a str>,
}

/// Renders the report.
pub(in crate::cli) fn evaluation_page(comparison: &Comparison) -> anyhow::Result<String> {
    let mut rows = figure_rows(&comparison.candidates).into_iter();
    let models = rows.next().unwrap_or_default();
    let sentences = comparison.by_difference().into_iter().map(|index| SentenceView {
        number: index + 1,
        pair: &comparison.pairs[index],
        difference: format!("{:.1}", comparison.difference(index)),
        outputs: comparison
            .candidates
            .iter()
            .map(|candidate| OutputView::new(candidate, &candidate.sentences[index]))
            .collect(),
    });
    let page = EvaluationTemplate {
        style: STYLE,
        script: SCRIPT,
        file: &comparison.file,
        models: models.into_iter().skip(1).collect(),
        figures: rows.collect(),
        sentences: sentences.collect(),
    };
    Ok(page.render()?)
}

impl SentenceView<'_> {
    /// Returns `true` if a translation failed or has findings.
    fn needs_attention(&self) -> bool {
        self.outputs.iter().any(|output| output.error.is_some() || !output.findings.is_empty())
    }
}

impl<'a> OutputView<'a> {
    fn new(candidate: &'a CandidateResult, sentence: &'a SentenceResult) -> Self {
        let findings: Vec<&pb::Finding> = sentence.findings.iter().collect();
        let paragraph = MarkedParagraph {
            id: "",
            source: "",
            english: &sentence.text,
            alignments: &[],
            findings: &findings,
            sentences: &[],
        };
        let (_, english) = paragraph.runs();
        Self {
            model: &candidate.id,
            chrf: format!("{:.1}", sentence.chrf),
            english,
            findings: sentence.findings.iter().map(|finding| finding.message.as_str()).collect(),
            error: sentence.error.as_deref(),
        }
    }
}
