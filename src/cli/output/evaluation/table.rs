//! The comparison as a table on a terminal: one row per figure, one column per candidate.

use std::io::{self, Write};

use super::{CandidateResult, Comparison, MetricResult};
use crate::evaluation::{NameCounts, RESAMPLES};

/// Differences with a smaller p-value are called significant.
const SIGNIFICANCE_LEVEL: f64 = 0.05;

/// Writes the table and what it is about.
pub(in crate::cli) fn write_table(out: &mut dyn Write, comparison: &Comparison) -> io::Result<()> {
    writeln!(out, "{} pairs of {}", comparison.pairs.len(), comparison.file)?;
    if comparison.candidates.len() > 1 {
        writeln!(
            out,
            "p: paired bootstrap test against the first model, {RESAMPLES} resamples; * p < {SIGNIFICANCE_LEVEL}"
        )?;
    }
    writeln!(out)?;
    let rows = figure_rows(&comparison.candidates);
    let columns = 1 + comparison.candidates.len();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("   ").trim_end())?;
    }
    Ok(())
}

/// Returns the rows of the table: the ids of the candidates, then a label and a figure per candidate.
///
/// Figures that no candidate has, such as names in a file without names, are left out.
pub(in crate::cli) fn figure_rows(candidates: &[CandidateResult]) -> Vec<Vec<String>> {
    let row = |label: &str, figure: &dyn Fn(&CandidateResult) -> Option<String>| -> Vec<String> {
        let figures = candidates.iter().map(|candidate| figure(candidate).unwrap_or_else(|| "-".to_owned()));
        std::iter::once(label.to_owned()).chain(figures).collect()
    };
    let rows = [
        row("", &|c| Some(c.id.clone())),
        row("BLEU", &|c| Some(metric(c.bleu))),
        row("chrF", &|c| Some(metric(c.chrf))),
        row("Numbers kept", &|c| share(c.numbers)),
        row("Terms kept", &|c| share(c.terms)),
        row("Names kept", &|c| share(c.names)),
        row("Proper words kept", &|c| share(c.proper_words)),
        row("Findings", &|c| Some(c.findings.to_string())),
        row("Failed", &|c| Some(c.failed.to_string())),
        row("Seconds", &|c| Some(format!("{:.1}", c.seconds))),
        row("Tokens per second", &|c| Some(format!("{:.1}", c.tokens_per_second))),
        row("Peak memory", &|c| c.peak_memory_bytes.map(|bytes| format!("{} MiB", bytes >> 20))),
    ];
    rows.into_iter().filter(|row| row[1..].iter().any(|figure| figure != "-")).collect()
}

fn metric(MetricResult { score, p }: MetricResult) -> String {
    match p {
        Some(p) => {
            let star = if p < SIGNIFICANCE_LEVEL { " *" } else { "" };
            format!("{score:.2} (p = {p:.3}{star})")
        }
        None => format!("{score:.2}"),
    }
}

fn share(NameCounts { expected, kept }: NameCounts) -> Option<String> {
    let percent = 100.0 * kept as f64 / expected.max(1) as f64;
    (expected > 0).then(|| format!("{percent:.1} % ({kept} of {expected})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_scores_and_shares() {
        assert_eq!(metric(MetricResult { score: 21.239, p: None }), "21.24");
        assert_eq!(metric(MetricResult { score: 21.0, p: Some(0.012) }), "21.00 (p = 0.012 *)");
        assert_eq!(metric(MetricResult { score: 21.0, p: Some(0.4) }), "21.00 (p = 0.400)");
        assert_eq!(share(NameCounts { expected: 3, kept: 2 }).as_deref(), Some("66.7 % (2 of 3)"));
        assert_eq!(share(NameCounts::default()), None);
    }
}
