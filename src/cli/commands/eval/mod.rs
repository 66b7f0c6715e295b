//! `yizhai eval`: compares the translations of several models with references and with each other.
//!
//! ```text
//! pairs, candidates ─▶ translate (one candidate after another) ─▶ output::evaluation::Comparison ─▶ text, JSON, HTML
//! ```

mod translate;

use std::{io::Write as _, path::Path};

use anyhow::{Context as _, bail};

use crate::{
    cli::{
        CommandOutcome,
        args::{EvalArgs, OutputFormat},
        memory,
        output::{
            evaluation::{CandidateResult, Comparison, write_table},
            html,
        },
        progress::SectionProgress,
        setup::model,
    },
    evaluation::{EvaluationPair, parse_pairs},
};

pub(in crate::cli) async fn run(args: EvalArgs) -> anyhow::Result<CommandOutcome> {
    let pairs = read_pairs(&args.pairs, args.limit)?;
    let configs: Vec<_> = args.candidates.iter().map(|c| c.config(args.runtime.clone())).collect();
    // An unknown model is reported before another one is downloaded or loaded.
    let ids = configs.iter().map(model::display_id).collect::<anyhow::Result<Vec<_>>>()?;
    let mut results = Vec::new();
    for (id, config) in ids.iter().zip(&configs) {
        let progress = SectionProgress::new(args.quiet);
        progress.line(&format!("evaluating {id}"));
        let has_peak = memory::reset_peak() || results.is_empty();
        let mut run = translate::translate(config, &pairs, args.max_attempts, args.quiet, progress).await?;
        // Without a reset, the peak of an earlier candidate may be higher.
        run.peak_memory_bytes = memory::peak_bytes().filter(|_| has_peak);
        results.push(CandidateResult::new(id, &pairs, run));
    }
    let comparison = Comparison::new(args.pairs.display().to_string(), pairs, results);
    if let Some(path) = &args.html {
        let page = html::evaluation_page(&comparison)?;
        std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut out = anstream::stdout();
    match args.format {
        OutputFormat::Text => write_table(&mut out, &comparison)?,
        OutputFormat::Json => writeln!(out, "{:#}", comparison.json())?,
        OutputFormat::Jsonl => writeln!(out, "{}", comparison.json())?,
    }
    outcome(&comparison)
}

fn read_pairs(path: &Path, limit: Option<usize>) -> anyhow::Result<Vec<EvaluationPair>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut pairs = parse_pairs(&path.display().to_string(), &text)?;
    pairs.truncate(limit.unwrap_or(usize::MAX));
    Ok(pairs)
}

fn outcome(comparison: &Comparison) -> anyhow::Result<CommandOutcome> {
    let failed: usize = comparison.candidates.iter().map(|candidate| candidate.failed).sum();
    match failed {
        0 => Ok(CommandOutcome::Complete),
        _ if failed == comparison.candidates.len() * comparison.pairs.len() => {
            bail!("no sentence could be translated: {}", comparison.first_error().unwrap_or_default())
        }
        _ => Ok(CommandOutcome::Partial),
    }
}
