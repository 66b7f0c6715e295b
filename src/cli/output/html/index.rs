//! The index of an output directory: totals, throughput, and every input with its headlines and summaries.

use std::path::{Component, Path};

use askama::Template;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::{SCRIPT, STYLE, source_language};
use crate::{
    cli::{
        batch::Throughput,
        output::{
            DigestCounts, element_text, sections,
            units::{duration, grouped},
        },
    },
    pb,
};

/// Characters that links need not percent-encode.
const IN_LINKS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The entry of an input in the index.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::cli) struct IndexEntry {
    name: String,
    /// The link to the page.
    href: String,
    lang: String,
    articles: Vec<IndexArticle>,
    sections: u64,
    failed_sections: u64,
    findings: u64,
    characters: u64,
    /// The error, if there is no page.
    error: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct IndexArticle {
    headline: Option<String>,
    english: String,
    /// The summaries of the sections, concatenated.
    summary: String,
}

impl IndexEntry {
    /// Describes an input by its digest, or by the error message of its failure.
    pub(in crate::cli) fn new(name: &str, path: &Path, result: Result<&pb::DigestResponse, &str>) -> Self {
        let counts = result.map(DigestCounts::new).unwrap_or_default();
        let (articles, lang, error) = match result {
            Ok(digest) => {
                let encoding = digest.document.as_ref().map_or("", |document| &document.encoding);
                (articles(digest), source_language(encoding), None)
            }
            Err(message) => (Vec::new(), "zh-Hans", Some(message.to_owned())),
        };
        Self {
            name: name.to_owned(),
            href: href(path),
            lang: lang.to_owned(),
            articles,
            sections: counts.sections,
            failed_sections: counts.failed_sections,
            findings: counts.findings,
            characters: counts.characters,
            error,
        }
    }

    /// Returns `true` if the input has findings or failures.
    fn needs_attention(&self) -> bool {
        self.findings > 0 || self.failed_sections > 0 || self.error.is_some()
    }
}

fn articles(digest: &pb::DigestResponse) -> Vec<IndexArticle> {
    let mut articles: Vec<IndexArticle> = Vec::new();
    let mut current = None;
    for (article, section) in sections(digest) {
        let translation = section.translation.as_ref().map_or("", |translation| &translation.heading);
        let summary = section.summary.as_ref().map_or("", |summary| &summary.text);
        match articles.last_mut() {
            Some(last) if current == Some(section.article_index) => last.summary.push_str(summary),
            _ => {
                current = Some(section.article_index);
                articles.push(IndexArticle {
                    headline: element_text(article.headline.as_ref()).map(str::to_owned),
                    english: translation.to_owned(),
                    summary: summary.to_owned(),
                });
            }
        }
    }
    articles
}

/// Converts a relative path to a link.
fn href(path: &Path) -> String {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(utf8_percent_encode(&name.to_string_lossy(), IN_LINKS).to_string()),
        _ => None,
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Totals over all inputs of a directory.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::cli) struct IndexTotals {
    inputs: u64,
    failed: u64,
    articles: u64,
    sections: u64,
    failed_sections: u64,
    findings: u64,
    characters: u64,
}

impl IndexTotals {
    pub(in crate::cli) fn add(&mut self, listed: &IndexEntry) {
        self.inputs += 1;
        self.failed += u64::from(listed.error.is_some());
        self.articles += listed.articles.len() as u64;
        self.sections += listed.sections;
        self.failed_sections += listed.failed_sections;
        self.findings += listed.findings;
        self.characters += listed.characters;
    }
}

/// Returns the file name of a page of the index, counted from 0.
pub(in crate::cli) fn index_file_name(page: usize) -> String {
    if page == 0 { "index.html".to_owned() } else { format!("index-{}.html", page + 1) }
}

#[derive(Template)]
#[template(path = "index.html")]
struct IndexTemplate<'a> {
    style: &'static str,
    script: &'static str,
    tiles: Vec<(&'static str, String)>,
    plot: Option<ThroughputPlot>,
    items: &'a [IndexEntry],
    /// The pages of the index: number, file name, and `true` for the current page.
    pages: Vec<(usize, String, bool)>,
}

/// Renders one page of the index.
pub(in crate::cli) fn index_page(
    totals: &IndexTotals,
    run: Option<&Throughput>,
    items: &[IndexEntry],
    page: usize,
    pages: usize,
) -> anyhow::Result<String> {
    let index = IndexTemplate {
        style: STYLE,
        script: SCRIPT,
        tiles: vec![
            ("Pages", grouped(totals.inputs - totals.failed)),
            ("Articles", grouped(totals.articles)),
            ("Sections", grouped(totals.sections)),
            ("Characters", grouped(totals.characters)),
            ("Findings", grouped(totals.findings)),
            ("Failed", failed(totals)),
        ],
        plot: run.filter(|run| !run.characters_by_interval.is_empty()).map(ThroughputPlot::new),
        items,
        pages: (0..pages).map(|number| (number + 1, index_file_name(number), number == page)).collect(),
    };
    Ok(index.render()?)
}

fn failed(totals: &IndexTotals) -> String {
    match totals.failed_sections {
        0 => grouped(totals.failed),
        sections => format!("{} + {} sections", grouped(totals.failed), grouped(sections)),
    }
}

/// The throughput of a run as a bar chart.
struct ThroughputPlot {
    bars: Vec<PlotBar>,
    /// The labels of the vertical axis, in characters per minute.
    top: String,
    middle: String,
    /// The labels of the time axis.
    end: String,
    half: String,
    caption: String,
}

/// One bar, in units of the drawing.
struct PlotBar {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    title: String,
}

impl ThroughputPlot {
    /// The size of the plot area, without the labels.
    const WIDTH: f64 = 640.0;
    const HEIGHT: f64 = 140.0;

    fn new(run: &Throughput) -> Self {
        // The last interval is shorter than the others, so its rate is computed from its actual length.
        let length_ms = |interval: usize| {
            let rest = run.elapsed_ms.saturating_sub(interval as u64 * run.interval_ms);
            rest.clamp(run.interval_ms / 4 + 1, run.interval_ms)
        };
        let rates: Vec<f64> = run
            .characters_by_interval
            .iter()
            .enumerate()
            .map(|(interval, characters)| *characters as f64 * 60_000.0 / length_ms(interval) as f64)
            .collect();
        let top = rounded_up(rates.iter().copied().fold(1.0, f64::max));
        let width = Self::WIDTH / rates.len() as f64;
        let bars = rates.iter().enumerate().map(|(interval, rate)| PlotBar {
            x: interval as f64 * width,
            y: Self::HEIGHT * (1.0 - rate / top),
            width: (width - 1.0).max(width * 0.7),
            height: Self::HEIGHT * rate / top,
            title: format!(
                "from {}: {} characters per minute",
                duration((interval as u64 * run.interval_ms) as f64 / 1000.0),
                grouped(rate.round() as u64)
            ),
        });
        let seconds = run.elapsed_ms as f64 / 1000.0;
        let axis = run.characters_by_interval.len() as f64 * run.interval_ms as f64 / 1000.0;
        Self {
            bars: bars.collect(),
            top: grouped(top as u64),
            middle: grouped((top / 2.0) as u64),
            end: duration(axis),
            half: duration(axis / 2.0),
            caption: format!(
                "The last run with work to do: {} pages and {} characters in {}; {:.1} tokens generated per second, {} pages per hour.",
                grouped(run.items),
                grouped(run.characters),
                duration(seconds),
                run.rate(run.completion_tokens),
                grouped((run.rate(run.items) * 3600.0).round() as u64),
            ),
        }
    }
}

/// Rounds up to 1, 2 or 5 times a power of ten.
fn rounded_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|top| *top >= value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_links_and_rounds_axes() {
        assert_eq!(href(Path::new("a b/第1版#?.txt.html")), "a%20b/%E7%AC%AC1%E7%89%88%23%3F.txt.html");
        assert_eq!([0, 1].map(index_file_name), ["index.html", "index-2.html"]);
        assert_eq!([7.0, 20.0, 312.0].map(rounded_up), [10.0, 20.0, 500.0]);
    }
}
