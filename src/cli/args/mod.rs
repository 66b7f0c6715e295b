//! The command-line arguments and their help.
//!
//! This file holds what several commands share; `digest` and `serve` have their own files. `config_file` reads the
//! settings of `yizhai serve` from a file.

pub(super) mod config_file;
mod digest;
mod eval;
mod model;
mod serve;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum, builder::PossibleValue};

pub(super) use digest::{DigestArgs, DigestFormat, Order};
pub(super) use eval::EvalArgs;
pub(super) use model::ModelArgs;
pub(super) use serve::ServeArgs;

use crate::{document::InputFormat, telemetry::LogFormat};

/// Summarize and translate Chinese newspaper text with a local model
///
/// yizhai (译摘) reads Chinese newspaper pages and writes a Chinese summary and an English translation of every section
/// of every article. The model runs on this machine.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXIT_CODES)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,

    /// Log filter, such as `info` or `yizhai=debug` [default: info for serve, warn otherwise]
    #[arg(long, global = true, env = "YIZHAI_LOG", value_name = "FILTER")]
    log: Option<String>,

    /// Format of the log on stderr
    #[arg(long, global = true, env = "YIZHAI_LOG_FORMAT", value_enum, default_value_t)]
    pub(super) log_format: LogFormat,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    Success
  1    Nothing could be processed; stderr names the input, model or server
  2    Invalid arguments or configuration file
  3    Some inputs or sections failed; the others were written
  4    With --strict: everything was written, but the checks reported findings
  130  Stopped by a second SIGINT or SIGTERM";

impl Args {
    /// Returns the log filter: the given one, or the default of the command.
    pub(super) fn log_filter(&self) -> String {
        let default = match self.command {
            Command::Serve(_) => "info",
            _ => "warn",
        };
        self.log.clone().unwrap_or_else(|| default.to_owned())
    }

    /// Returns the collector to send traces to, if any.
    pub(super) fn otlp_endpoint(&self) -> Option<&str> {
        match &self.command {
            Command::Serve(args) => args.observability.otlp_endpoint.as_deref(),
            _ => None,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Summarize and translate pages or articles
    ///
    /// Writes a Chinese summary and an English translation of every section of every article. Without --server, the model
    /// runs in this process.
    #[command(after_long_help = digest::EXAMPLES)]
    Digest(Box<DigestArgs>),
    /// Run the gRPC service
    ///
    /// Serves the API of proto/yizhai/v1/digest.proto, with health checking and reflection.
    #[command(after_help = serve::AFTER_HELP)]
    Serve(Box<ServeArgs>),
    /// Show the articles, sections and paragraphs of pages
    ///
    /// No model is needed.
    Segment(SegmentArgs),
    /// List, download and verify models
    Models(ModelsArgs),
    /// Measure how fast a model runs on this machine
    ///
    /// Prints one JSON object per measurement.
    Bench(BenchArgs),
    /// Compare the translations of several models
    ///
    /// Translates the sources of a file of pairs with each model in turn, every line as an input of its own. Prints BLEU and
    /// chrF (equal to those of sacreBLEU), the share of numbers, terms and names that are kept, findings, speed and memory
    /// side by side. The significance of a difference from the first model is that of a paired bootstrap test.
    #[command(after_long_help = eval::EXAMPLES)]
    Eval(Box<EvalArgs>),
    /// Print a manual page in roff
    Man(ManArgs),
    /// Print a shell completion script
    Completions(CompletionsArgs),
}

/// The inputs of a command and their format.
#[derive(Debug, Default, clap::Args)]
pub(super) struct InputArgs {
    /// Files, directories (searched recursively), glob patterns such as 'pages/**/*.txt', or `-` for stdin
    #[arg(value_name = "INPUT", required = true)]
    pub(super) files: Vec<PathBuf>,

    /// In directories, read only files that match this glob; may be repeated
    ///
    /// Without it, files with these extensions are read: txt, html, htm, xhtml, md, markdown, jsonl and ndjson.
    #[arg(long, value_name = "GLOB")]
    pub(super) include: Vec<String>,

    /// In directories and glob patterns, skip files that match this glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(super) exclude: Vec<String>,

    /// Format of the inputs
    #[arg(long, value_enum, default_value_t)]
    pub(super) input_format: InputFormat,
}

impl ValueEnum for InputFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Auto, Self::Text, Self::Lines, Self::JsonLines, Self::Html, Self::Markdown]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            Self::Auto => ("auto", "Detect from the file extension and the content"),
            Self::Text => (
                "text",
                "Plain text of a page, as extracted from a PDF: articles follow each other without markup",
            ),
            Self::Lines => (
                "lines",
                "Every line is a section; with `--format text` and a single task, one output line per input line",
            ),
            Self::JsonLines => (
                "jsonl",
                "One JSON object per line: {\"text\": \"...\"}, or an article {\"headline\", \"sections\": [{\"heading\", \
                 \"paragraphs\": []}]}; both may have an \"id\"",
            ),
            Self::Html => ("html", "A web page; navigation is skipped"),
            Self::Markdown => ("markdown", "Markdown"),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

/// The output format of commands other than `digest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum OutputFormat {
    /// Human-readable text
    #[default]
    Text,
    /// One JSON value: an object for a single input, an array for several
    Json,
    /// One JSON object per line
    Jsonl,
}

#[derive(Debug, clap::Args)]
pub(super) struct SegmentArgs {
    #[command(flatten)]
    pub(super) input: InputArgs,

    /// Server to use; without it, the command starts its own
    #[arg(long, env = "YIZHAI_SERVER", value_name = "URL")]
    pub(super) server: Option<String>,

    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: OutputFormat,
}

#[derive(Debug, clap::Args)]
pub(super) struct BenchArgs {
    /// Digest this page instead and report time, tokens and memory; may be repeated
    #[arg(long = "page", value_name = "FILE", conflicts_with_all = ["batch", "prompt", "generate", "repeat"])]
    pub(super) pages: Vec<PathBuf>,

    #[command(flatten)]
    pub(super) model: ModelArgs,

    /// Batch sizes to measure, comma-separated
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 16, 32], value_parser = positive, value_name = "N")]
    pub(super) batch: Vec<usize>,

    /// Length of each prompt
    #[arg(long, default_value_t = 128, value_parser = positive, value_name = "TOKENS")]
    pub(super) prompt: usize,

    /// Tokens to generate after each prompt
    #[arg(long, default_value_t = 48, value_parser = positive, value_name = "TOKENS")]
    pub(super) generate: usize,

    /// Number of runs per batch size; the median is reported
    #[arg(long, default_value_t = 1, value_parser = positive, value_name = "N")]
    pub(super) repeat: usize,
}

#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// Subcommand to describe [default: the program itself]
    #[arg(value_name = "COMMAND")]
    pub(super) command: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// Shell to print the script for
    #[arg(value_enum, value_name = "SHELL")]
    pub(super) shell: clap_complete::Shell,
}

#[derive(Debug, clap::Args)]
pub(super) struct ModelsArgs {
    #[command(subcommand)]
    pub(super) command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum ModelsCommand {
    /// List the models in the catalog
    List {
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        format: OutputFormat,
    },
    /// Download a model and verify it
    ///
    /// Resumes an interrupted download.
    Pull {
        /// Id of the model
        id: String,
    },
    /// Check the SHA-256 of a downloaded model
    Verify {
        /// Id of the model
        id: String,
    },
    /// Print the path of a downloaded model
    Path {
        /// Id of the model
        id: String,
    },
}

/// Parses a positive integer.
fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "must be an integer of at least 1".to_owned())
}

/// Parses a positive number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|s| *s > 0.0)
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
        .ok_or_else(|| "must be a number of seconds greater than 0".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        super::Args::command().debug_assert();
    }
}
