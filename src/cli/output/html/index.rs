//! The index of an output directory: what was done, how fast, and every input with its headlines and summaries.

use std::path::{Component, Path};

use askama::Template;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::{SCRIPT, STYLE, source_language};
use crate::{
    cli::{
        batch::{
            Outcome,
            progress::{duration, grouped},
            throughput::Throughput,
        },
        output::{Counts, sections, text},
    },
    pb,
};

/// What may stand in a link as it is.
const IN_LINKS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// An input, as the index lists it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::cli) struct Listed {
    name: String,
    /// Where its page is.
    href: String,
    lang: String,
    articles: Vec<ListedArticle>,
    sections: u64,
    failed_sections: u64,
    findings: u64,
    characters: u64,
    /// Why there is no page.
    error: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ListedArticle {
    headline: Option<String>,
    english: String,
    /// The summaries of its sections, one after the other.
    summary: String,
}

impl Listed {
    pub(in crate::cli) fn new(name: &str, path: &Path, outcome: &Outcome) -> Self {
        let counts = Counts::of(outcome);
        let (articles, lang, error) = match outcome {
            Outcome::Digest(digest) => {
                let encoding = digest.document.as_ref().map_or("", |document| &document.encoding);
                (articles(digest), source_language(encoding), None)
            }
            Outcome::Failed(failure) => (Vec::new(), "zh-Hans", Some(failure.message.clone())),
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

    /// Whether somebody should look at it.
    fn needs_a_look(&self) -> bool {
        self.findings > 0 || self.failed_sections > 0 || self.error.is_some()
    }
}

fn articles(digest: &pb::DigestResponse) -> Vec<ListedArticle> {
    let mut articles: Vec<ListedArticle> = Vec::new();
    let mut current = None;
    for (article, section) in sections(digest) {
        let translation = section.translation.as_ref().map_or("", |translation| &translation.heading);
        let summary = section.summary.as_ref().map_or("", |summary| &summary.text);
        match articles.last_mut() {
            Some(last) if current == Some(section.article_index) => last.summary.push_str(summary),
            _ => {
                current = Some(section.article_index);
                articles.push(ListedArticle {
                    headline: text(article.headline.as_ref()).map(str::to_owned),
                    english: translation.to_owned(),
                    summary: summary.to_owned(),
                });
            }
        }
    }
    articles
}

/// A relative path as a link.
fn href(path: &Path) -> String {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(utf8_percent_encode(&name.to_string_lossy(), IN_LINKS).to_string()),
        _ => None,
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Sums over all inputs of a directory.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::cli) struct Sums {
    inputs: u64,
    failed: u64,
    articles: u64,
    sections: u64,
    failed_sections: u64,
    findings: u64,
    characters: u64,
}

impl Sums {
    pub(in crate::cli) fn add(&mut self, listed: &Listed) {
        self.inputs += 1;
        self.failed += u64::from(listed.error.is_some());
        self.articles += listed.articles.len() as u64;
        self.sections += listed.sections;
        self.failed_sections += listed.failed_sections;
        self.findings += listed.findings;
        self.characters += listed.characters;
    }
}

/// The file of a page of the index, from 0.
pub(in crate::cli) fn index_name(page: usize) -> String {
    if page == 0 { "index.html".to_owned() } else { format!("index-{}.html", page + 1) }
}

#[derive(Template)]
#[template(path = "index.html")]
struct Index<'a> {
    style: &'static str,
    script: &'static str,
    tiles: Vec<(&'static str, String)>,
    plot: Option<Plot>,
    items: &'a [Listed],
    /// All pages of the index: number, file, whether it is this one.
    pages: Vec<(usize, String, bool)>,
}

/// One page of the index.
pub(in crate::cli) fn index(
    sums: &Sums,
    run: Option<&Throughput>,
    items: &[Listed],
    page: usize,
    pages: usize,
) -> anyhow::Result<String> {
    let index = Index {
        style: STYLE,
        script: SCRIPT,
        tiles: vec![
            ("Pages", grouped(sums.inputs - sums.failed)),
            ("Articles", grouped(sums.articles)),
            ("Sections", grouped(sums.sections)),
            ("Characters", grouped(sums.characters)),
            ("Findings", grouped(sums.findings)),
            ("Failed", failed(sums)),
        ],
        plot: run.filter(|run| !run.steps.is_empty()).map(Plot::new),
        items,
        pages: (0..pages).map(|number| (number + 1, index_name(number), number == page)).collect(),
    };
    Ok(index.render()?)
}

fn failed(sums: &Sums) -> String {
    match sums.failed_sections {
        0 => grouped(sums.failed),
        sections => format!("{} + {} sections", grouped(sums.failed), grouped(sections)),
    }
}

/// The throughput of a run as columns.
struct Plot {
    columns: Vec<Column>,
    /// The rate at the top, in characters a minute, as text.
    top: String,
    middle: String,
    end: String,
    half: String,
    /// The run in words.
    caption: String,
}

/// In the units of the drawing.
struct Column {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    title: String,
}

impl Plot {
    /// Of the columns alone, without the labels.
    const WIDTH: f64 = 640.0;
    const HEIGHT: f64 = 140.0;

    fn new(run: &Throughput) -> Self {
        // A last step that is not over would look slow: it counts for the time that it had.
        let length_ms = |step: usize| {
            let rest = run.elapsed_ms.saturating_sub(step as u64 * run.step_ms);
            rest.clamp(run.step_ms / 4 + 1, run.step_ms)
        };
        let rates: Vec<f64> = run
            .steps
            .iter()
            .enumerate()
            .map(|(step, characters)| *characters as f64 * 60_000.0 / length_ms(step) as f64)
            .collect();
        let top = rounded_up(rates.iter().copied().fold(1.0, f64::max));
        let width = Self::WIDTH / rates.len() as f64;
        let columns = rates.iter().enumerate().map(|(step, rate)| Column {
            x: step as f64 * width,
            y: Self::HEIGHT * (1.0 - rate / top),
            width: (width - 1.0).max(width * 0.7),
            height: Self::HEIGHT * rate / top,
            title: format!(
                "from {}: {} characters a minute",
                duration((step as u64 * run.step_ms) as f64 / 1000.0),
                grouped(rate.round() as u64)
            ),
        });
        let seconds = run.elapsed_ms as f64 / 1000.0;
        let axis = run.steps.len() as f64 * run.step_ms as f64 / 1000.0;
        Self {
            columns: columns.collect(),
            top: grouped(top as u64),
            middle: grouped((top / 2.0) as u64),
            end: duration(axis),
            half: duration(axis / 2.0),
            caption: format!(
                "The last run that had work to do: {} pages and {} characters in {}; {:.1} tokens a second written, {} pages an hour.",
                grouped(run.items),
                grouped(run.characters),
                duration(seconds),
                run.rate(run.completion_tokens),
                grouped((run.rate(run.items) * 3600.0).round() as u64),
            ),
        }
    }
}

/// The next of 1, 2 and 5 times a power of ten.
fn rounded_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|top| *top >= value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_files_of_any_name() {
        assert_eq!(href(Path::new("a b/第1版#?.txt.html")), "a%20b/%E7%AC%AC1%E7%89%88%23%3F.txt.html");
        assert_eq!([0, 1].map(index_name), ["index.html", "index-2.html"]);
        assert_eq!([7.0, 20.0, 312.0].map(rounded_up), [10.0, 20.0, 500.0]);
    }
}
