//! The arguments of `yizhai eval`.

use std::{convert::Infallible, path::PathBuf, str::FromStr};

use super::{OutputFormat, model::RuntimeArgs, positive};
use crate::{
    config::{ModelChoice, ModelConfig, ModelRef},
    server::MAX_ATTEMPTS,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  Compare two models on pairs of your own:
    yizhai eval pairs.tsv --model qwen2.5-1.5b-instruct-q4_k_m --model ./my-model.gguf

  Use the first 100 pairs, and write a report that shows where the models differ most:
    yizhai eval pairs.tsv --model A --model B --limit 100 --html report.html";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct EvalArgs {
    /// TSV file with one pair per line: `source<TAB>reference`
    ///
    /// An optional third column lists the names in the source with the English forms to accept, as JSON:
    /// `[[\"东德\", [\"East Germany\", \"GDR\"]]]`.
    #[arg(value_name = "PAIRS.tsv")]
    pub(in crate::cli) pairs: PathBuf,

    /// Model to evaluate: an id (see `yizhai models list`) or a path; may be repeated
    ///
    /// The first one is the baseline that the others are compared with.
    #[arg(long = "model", required = true, value_name = "ID|PATH")]
    pub(in crate::cli) candidates: Vec<Candidate>,

    #[command(flatten)]
    pub(in crate::cli) runtime: RuntimeArgs,

    /// Maximum attempts at each sentence, as for `yizhai digest`
    #[arg(long, default_value_t = crate::pipeline::DEFAULT_MAX_ATTEMPTS as i32, value_name = "N",
          value_parser = clap::value_parser!(i32).range(*MAX_ATTEMPTS.start() as i64..=*MAX_ATTEMPTS.end() as i64))]
    pub(in crate::cli) max_attempts: i32,

    /// Evaluate only this many pairs from the beginning of the file
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(in crate::cli) limit: Option<usize>,

    /// Write a report to this file that sorts the sentences by where the models differ most
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) html: Option<PathBuf>,

    /// Output format of the comparison
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: OutputFormat,

    /// Print only errors to stderr
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
}

/// A system to evaluate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Candidate {
    model: ModelRef,
}

impl FromStr for Candidate {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self { model: text.parse()? })
    }
}

impl Candidate {
    /// Returns the configuration of a server that runs the candidate.
    pub(in crate::cli) fn config(&self, runtime: RuntimeArgs) -> ModelConfig {
        runtime.config(vec![ModelChoice { task: None, model: self.model.clone() }])
    }
}
