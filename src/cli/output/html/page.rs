//! The page of one input: from a digest to what its template shows.

use std::{collections::BTreeMap, ops::Range};

use askama::Template;

use super::{
    SCRIPT, STYLE,
    marks::{self, Kind, Run},
    source_language,
};
use crate::{
    cli::output::{Rendered, text},
    pb,
};

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    style: &'static str,
    script: &'static str,
    name: &'a str,
    /// The language of the source.
    lang: &'static str,
    encoding: &'a str,
    index: Option<&'a str>,
    articles: Vec<Article<'a>>,
    /// Text of the page that belongs to no article.
    others: Vec<&'a str>,
    findings: usize,
    failed: usize,
    provenance: Option<&'a pb::Provenance>,
    has_translation: bool,
}

struct Article<'a> {
    id: String,
    headline: Option<&'a str>,
    english: &'a str,
    kicker: Option<&'a str>,
    subtitle: Option<&'a str>,
    credits: Vec<&'a str>,
    continued: bool,
    sections: Vec<Section<'a>>,
    captions: Vec<&'a str>,
    others: Vec<&'a str>,
}

struct Section<'a> {
    id: String,
    heading: Option<&'a str>,
    /// Of its own heading; that of the headline stands with the article.
    english: &'a str,
    error: Option<&'a str>,
    summary: Option<Summary<'a>>,
    pairs: Vec<Pair<'a>>,
    /// Findings on the heading.
    findings: Vec<&'a str>,
}

struct Summary<'a> {
    sentences: Vec<SummarySentence<'a>>,
    findings: Vec<&'a str>,
}

struct SummarySentence<'a> {
    text: &'a str,
    /// The ids of the sentences that it rests on.
    sources: Vec<String>,
}

struct Pair<'a> {
    source: Vec<Run>,
    /// Absent when there is no translation of it.
    english: Option<Vec<Run>>,
    truncated: bool,
    findings: Vec<&'a str>,
}

/// The whole page.
pub(in crate::cli::output) fn page(
    rendered: &Rendered<'_>,
    digest: &pb::DigestResponse,
    terms: &[pb::Term],
) -> anyhow::Result<String> {
    let empty = pb::Document::default();
    let document = digest.document.as_ref().unwrap_or(&empty);
    let articles = document.articles.iter().enumerate().map(|(index, article)| {
        let sections = digest.sections.iter().filter(|s| usize::try_from(s.article_index) == Ok(index));
        Article::new(index, article, sections, terms)
    });
    let page = Page {
        style: STYLE,
        script: SCRIPT,
        name: rendered.name,
        lang: source_language(&document.encoding),
        encoding: &document.encoding,
        index: rendered.index,
        articles: articles.collect(),
        others: document.others.iter().filter_map(|other| text(other.text.as_ref())).collect(),
        findings: digest.sections.iter().flat_map(|s| &s.verdict).map(|v| v.findings.len()).sum(),
        failed: digest.sections.iter().filter(|s| s.error.is_some()).count(),
        provenance: digest.sections.iter().find_map(|s| s.provenance.as_ref()),
        has_translation: digest.sections.iter().any(|s| s.translation.is_some()),
    };
    Ok(page.render()?)
}

impl<'a> Article<'a> {
    fn new(
        index: usize,
        article: &'a pb::Article,
        sections: impl Iterator<Item = &'a pb::SectionDigest>,
        terms: &[pb::Term],
    ) -> Self {
        let digests: BTreeMap<i32, &pb::SectionDigest> = sections.map(|s| (s.section_index, s)).collect();
        // The headline's English stands with the section that stands directly under it.
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
                .filter_map(|digest| Section::new(index, article, digest, terms))
                .collect(),
            captions: article.captions.iter().map(|caption| caption.text.as_str()).collect(),
            others: article.others.iter().filter_map(|other| text(other.text.as_ref())).collect(),
        }
    }

    /// What it is called in the table of contents.
    fn title(&self) -> &str {
        self.headline.unwrap_or("(no headline)")
    }
}

impl<'a> Section<'a> {
    fn new(
        article_index: usize,
        article: &'a pb::Article,
        digest: &'a pb::SectionDigest,
        terms: &[pb::Term],
    ) -> Option<Self> {
        let source = article.sections.get(usize::try_from(digest.section_index).ok()?)?;
        let id = format!("a{article_index}s{}", digest.section_index);
        let cited = Cited::new(&id, source, digest.summary.as_ref());
        let translation = digest.translation.as_ref();
        let findings = |wanted: &dyn Fn(&pb::Finding) -> bool| -> Vec<&'a str> {
            let all = digest.verdict.iter().flat_map(|verdict| &verdict.findings);
            all.filter(|finding| wanted(finding)).map(|finding| finding.detail.as_str()).collect()
        };
        let is_summary = |finding: &pb::Finding| finding.task() == pb::Task::Summary;
        let pairs = source.paragraphs.iter().enumerate().map(|(index, paragraph)| {
            let is_here =
                |number: Option<i32>| number.is_some_and(|number| usize::try_from(number) == Ok(index));
            let english =
                translation.and_then(|t| t.paragraphs.iter().find(|p| is_here(Some(p.paragraph_index))));
            let findings = findings(&|f| !is_summary(f) && is_here(f.paragraph_index));
            let named: Vec<&str> = findings.iter().filter_map(|detail| named(detail)).collect();
            let sentences = cited.of(index);
            let english_text = english.map_or("", |english| &english.text);
            let id = format!("{id}p{index}");
            let (source, translated) =
                marks::pair(&id, &paragraph.text, english_text, terms, &sentences, &named);
            Pair {
                source,
                english: english.map(|_| translated),
                truncated: english.is_some_and(|e| e.finish_reason() == pb::FinishReason::Length),
                findings,
            }
        });
        let pairs = pairs.collect();
        Some(Self {
            heading: text(source.heading.as_ref()),
            english: translation.filter(|_| source.heading.is_some()).map_or("", |t| &t.heading),
            error: digest.error.as_ref().map(|error| error.message.as_str()),
            summary: digest.summary.as_ref().map(|summary| Summary {
                sentences: summary
                    .sentences
                    .iter()
                    .map(|sentence| SummarySentence {
                        text: &sentence.text,
                        sources: sentence.sources.iter().filter_map(|source| cited.id(source)).collect(),
                    })
                    .collect(),
                findings: findings(&is_summary),
            }),
            pairs,
            findings: findings(&|f| !is_summary(f) && f.paragraph_index.is_none()),
            id,
        })
    }
}

/// The source sentences that a summary rests on: where they are, and their ids.
struct Cited {
    section: String,
    /// By paragraph and sentence.
    ranges: BTreeMap<(usize, usize), Range<usize>>,
}

impl Cited {
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

    fn id(&self, sentence: &pb::SourceSentence) -> Option<String> {
        let key =
            (usize::try_from(sentence.paragraph_index).ok()?, usize::try_from(sentence.sentence_index).ok()?);
        self.ranges.contains_key(&key).then(|| self.name(key))
    }

    fn name(&self, (paragraph, sentence): (usize, usize)) -> String {
        format!("{}p{paragraph}t{sentence}", self.section)
    }

    /// Those of a paragraph, in order and none over another.
    fn of(&self, paragraph: usize) -> Vec<(Range<usize>, String)> {
        let mut found: Vec<_> = self
            .ranges
            .range((paragraph, 0)..(paragraph + 1, 0))
            .map(|(key, range)| (range.clone(), self.name(*key)))
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

/// What a finding names between backticks.
fn named(detail: &str) -> Option<&str> {
    let (_, rest) = detail.split_once('`')?;
    rest.split_once('`').map(|(piece, _)| piece)
}
