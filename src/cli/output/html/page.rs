//! The HTML page of one input: turns a digest into what the template shows.
//!
//! Called by `output` for every input.

use std::{collections::BTreeMap, ops::Range};

use askama::Template;

use super::{
    SCRIPT, STYLE,
    marks::{Fragment, FragmentKind, MarkedParagraph, TextRun, summary_fragments},
    source_language,
};
use crate::{
    cli::output::{ResultLabels, element_text as text},
    pb,
};

#[derive(Template)]
#[template(path = "page.html")]
struct PageTemplate<'a> {
    style: &'static str,
    script: &'static str,
    name: &'a str,
    /// The language tag of the source.
    lang: &'static str,
    encoding: &'a str,
    /// The link to the index, if there is one.
    index: Option<&'a str>,
    articles: Vec<ArticleView<'a>>,
    /// Text of the page that belongs to no article.
    others: Vec<&'a str>,
    findings: usize,
    failed: usize,
    provenance: Option<&'a pb::Provenance>,
    has_translation: bool,
}

struct ArticleView<'a> {
    id: String,
    headline: Option<&'a str>,
    english: &'a str,
    kicker: Option<&'a str>,
    subtitle: Option<&'a str>,
    credits: Vec<&'a str>,
    continued: bool,
    sections: Vec<SectionView<'a>>,
    captions: Vec<&'a str>,
    others: Vec<&'a str>,
}

struct SectionView<'a> {
    id: String,
    heading: Option<&'a str>,
    /// The English of the section's own heading; the English of the headline belongs to the article.
    english: &'a str,
    error: Option<&'a str>,
    summary: Option<SummaryView<'a>>,
    paragraphs: Vec<ParagraphView<'a>>,
    /// The messages of the findings in the heading.
    findings: Vec<&'a str>,
}

struct SummaryView<'a> {
    sentences: Vec<SentenceView>,
    findings: Vec<&'a str>,
}

struct SentenceView {
    fragments: Vec<Fragment>,
    /// The ids of the source sentences that it rests on.
    sources: Vec<String>,
}

struct ParagraphView<'a> {
    source: Vec<TextRun>,
    /// `None` if the paragraph was not translated.
    english: Option<Vec<TextRun>>,
    truncated: bool,
    findings: Vec<&'a str>,
}

/// Renders the page of one input.
pub(in crate::cli::output) fn page(
    labels: &ResultLabels<'_>,
    digest: &pb::DigestResponse,
) -> anyhow::Result<String> {
    let empty = pb::Document::default();
    let document = digest.document.as_ref().unwrap_or(&empty);
    let articles = document.articles.iter().enumerate().map(|(index, article)| {
        let sections = digest.sections.iter().filter(|s| usize::try_from(s.article_index) == Ok(index));
        ArticleView::new(index, article, sections)
    });
    let page = PageTemplate {
        style: STYLE,
        script: SCRIPT,
        name: labels.name,
        lang: source_language(&document.encoding),
        encoding: &document.encoding,
        index: labels.index,
        articles: articles.collect(),
        others: document.others.iter().filter_map(|other| text(other.text.as_ref())).collect(),
        findings: digest.sections.iter().flat_map(|s| &s.verdict).map(|v| v.findings.len()).sum(),
        failed: digest.sections.iter().filter(|s| s.error.is_some()).count(),
        provenance: digest.sections.iter().find_map(|s| s.provenance.as_ref()),
        has_translation: digest.sections.iter().any(|s| s.translation.is_some()),
    };
    Ok(page.render()?)
}

impl<'a> ArticleView<'a> {
    fn new(
        index: usize,
        article: &'a pb::Article,
        sections: impl Iterator<Item = &'a pb::SectionDigest>,
    ) -> Self {
        let digests: BTreeMap<i32, &pb::SectionDigest> = sections.map(|s| (s.section_index, s)).collect();
        // The first section without a heading of its own carries the English of the headline.
        let first = digests.get(&0).filter(|_| article.sections.first().is_some_and(|s| s.heading.is_none()));
        let english = first.and_then(|first| first.translation.as_ref());
        Self {
            id: format!("a{index}"),
            headline: text(article.headline.as_ref()),
            english: english.map_or("", |translation| &translation.heading),
            kicker: text(article.kicker.as_ref()),
            subtitle: text(article.subtitle.as_ref()),
            credits: [&article.dateline, &article.byline]
                .into_iter()
                .filter_map(|e| text(e.as_ref()))
                .collect(),
            continued: article.continued,
            sections: digests
                .values()
                .filter_map(|digest| SectionView::new(index, article, digest))
                .collect(),
            captions: article.captions.iter().map(|caption| caption.text.as_str()).collect(),
            others: article.others.iter().filter_map(|other| text(other.text.as_ref())).collect(),
        }
    }

    /// Returns its title in the table of contents.
    fn title(&self) -> &str {
        self.headline.unwrap_or("(no headline)")
    }
}

impl<'a> SectionView<'a> {
    fn new(article_index: usize, article: &'a pb::Article, digest: &'a pb::SectionDigest) -> Option<Self> {
        let source = article.sections.get(usize::try_from(digest.section_index).ok()?)?;
        let id = format!("a{article_index}s{}", digest.section_index);
        let cited = CitedSentences::new(&id, source, digest.summary.as_ref());
        let translation = digest.translation.as_ref();
        let paragraphs = source.paragraphs.iter().enumerate().map(|(index, paragraph)| {
            let is_here = |number: i32| usize::try_from(number) == Ok(index);
            let english = translation.and_then(|t| t.paragraphs.iter().find(|p| is_here(p.paragraph_index)));
            let findings = findings(digest, pb::Task::Translation, |i| i.is_some_and(is_here));
            let (source, translated) = MarkedParagraph {
                id: &format!("{id}p{index}"),
                source: &paragraph.text,
                english: english.map_or("", |english| &english.text),
                alignments: english.map_or(&[], |english| &english.alignments),
                findings: &findings,
                sentences: &cited.in_paragraph(index),
            }
            .runs();
            ParagraphView {
                source,
                english: english.map(|_| translated),
                truncated: english.is_some_and(|e| e.finish_reason() == pb::FinishReason::Length),
                findings: messages(&findings),
            }
        });
        let paragraphs = paragraphs.collect();
        Some(Self {
            heading: text(source.heading.as_ref()),
            english: translation.filter(|_| source.heading.is_some()).map_or("", |t| &t.heading),
            error: digest.error.as_ref().map(|error| error.message.as_str()),
            summary: digest.summary.as_ref().map(|summary| {
                let findings = findings(digest, pb::Task::Summary, |_| true);
                SummaryView::new(summary, &findings, &cited)
            }),
            paragraphs,
            findings: messages(&findings(digest, pb::Task::Translation, |index| index.is_none())),
            id,
        })
    }
}

impl<'a> SummaryView<'a> {
    fn new(summary: &pb::Summary, findings: &[&'a pb::Finding], cited: &CitedSentences) -> Self {
        let texts = summary.sentences.iter().map(|sentence| sentence.text.as_str());
        let fragments = summary_fragments(&summary.text, texts, findings);
        let sentences = summary.sentences.iter().zip(fragments).map(|(sentence, fragments)| SentenceView {
            fragments,
            sources: sentence.sources.iter().filter_map(|source| cited.id(source)).collect(),
        });
        Self { sentences: sentences.collect(), findings: messages(findings) }
    }
}

/// Returns the findings of a section in the results of `task`, by the index of their paragraph.
fn findings(
    digest: &pb::SectionDigest,
    task: pb::Task,
    is_selected: impl Fn(Option<i32>) -> bool,
) -> Vec<&pb::Finding> {
    let all = digest.verdict.iter().flat_map(|verdict| &verdict.findings);
    all.filter(|finding| finding.task() == task && is_selected(finding.paragraph_index)).collect()
}

fn messages<'a>(findings: &[&'a pb::Finding]) -> Vec<&'a str> {
    findings.iter().map(|finding| finding.message.as_str()).collect()
}

/// The source sentences that a summary rests on.
struct CitedSentences {
    /// The id of the section, which begins the ids of its sentences.
    section: String,
    /// Their ranges in the text of their paragraph, by paragraph and sentence index.
    ranges: BTreeMap<(usize, usize), Range<usize>>,
}

impl CitedSentences {
    fn new(section: &str, source: &pb::Section, summary: Option<&pb::Summary>) -> Self {
        let mut ranges = BTreeMap::new();
        for cited in summary.iter().flat_map(|s| &s.sentences).flat_map(|s| &s.sources) {
            let (Ok(paragraph), Ok(sentence)) =
                (usize::try_from(cited.paragraph_index), usize::try_from(cited.sentence_index))
            else {
                continue;
            };
            let found = source.paragraphs.get(paragraph).and_then(|p| p.text.find(&cited.text));
            if let Some(start) = found.filter(|_| !cited.text.is_empty()) {
                ranges.insert((paragraph, sentence), start..start + cited.text.len());
            }
        }
        Self { section: section.to_owned(), ranges }
    }

    /// Returns the id of a source sentence, if it was found in the source.
    fn id(&self, sentence: &pb::SourceSentence) -> Option<String> {
        let key =
            (usize::try_from(sentence.paragraph_index).ok()?, usize::try_from(sentence.sentence_index).ok()?);
        self.ranges.contains_key(&key).then(|| self.id_of(key))
    }

    fn id_of(&self, (paragraph, sentence): (usize, usize)) -> String {
        format!("{}p{paragraph}t{sentence}", self.section)
    }

    /// Returns the ranges and ids of the cited sentences of a paragraph, in order and without overlaps.
    fn in_paragraph(&self, paragraph: usize) -> Vec<(Range<usize>, String)> {
        let mut found: Vec<_> = self
            .ranges
            .range((paragraph, 0)..(paragraph + 1, 0))
            .map(|(key, range)| (range.clone(), self.id_of(*key)))
            .collect();
        found.sort_by_key(|(range, _)| range.start);
        let mut end = 0;
        found.retain(|(range, _)| {
            let is_free = range.start >= end;
            end = end.max(range.end);
            is_free
        });
        found
    }
}
