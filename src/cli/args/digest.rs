//! The arguments of `yizhai digest`.

use std::{path::PathBuf, time::Duration};

use clap::{ValueEnum, builder::PossibleValue};

use super::{InputArgs, ModelArgs, positive, seconds};
use crate::{
    cli::setup::glossary::GlossaryRef,
    pb,
    server::{MAX_ATTEMPTS, SUMMARY_CHARS},
    task::Task,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  Digest a page and print it as text:
    yizhai digest page.txt

  Translate a list of headlines, one output line per input line:
    yizhai digest --input-format lines --tasks translation headlines.txt

  Digest a directory of pages into an HTML report; run it again to resume:
    yizhai digest pages/ --format html --output report/

  Use two servers, and fix the English of a term:
    yizhai digest pages/ -o out/ --server http://a:50051,http://b:50051 --term 蓝箭航天=LandSpace";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct DigestArgs {
    #[command(flatten)]
    pub(in crate::cli) input: InputArgs,

    /// Server to use, such as http://127.0.0.1:50051; may be repeated
    ///
    /// Without it, the command runs the model in its own process. Several servers share the inputs; inputs that a
    /// server does not answer are sent to the others.
    #[arg(long = "server", env = "YIZHAI_SERVER", value_delimiter = ',', value_name = "URL")]
    pub(in crate::cli) servers: Vec<String>,

    /// Maximum inputs in flight per server
    #[arg(long, default_value_t = 12, value_parser = positive, value_name = "N")]
    pub(in crate::cli) in_flight: usize,

    #[command(flatten)]
    pub(in crate::cli) model: ModelArgs,

    /// Tasks to run, comma-separated
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["summary", "translation"])]
    pub(in crate::cli) tasks: Vec<Task>,

    /// Maximum length of a summary in characters
    ///
    /// A summary always consists of complete sentences.
    #[arg(long, default_value_t = crate::pipeline::DEFAULT_SUMMARY_CHARS as i32, value_name = "CHARS",
          value_parser = clap::value_parser!(i32).range(*SUMMARY_CHARS.start() as i64..=*SUMMARY_CHARS.end() as i64))]
    pub(in crate::cli) summary_chars: i32,

    /// Require this English translation of a Chinese term; may be repeated
    #[arg(long = "term", value_name = "ZH=EN", value_parser = parse_term)]
    pub(in crate::cli) terms: Vec<pb::Term>,

    /// Glossary: a TSV file, or the name of a glossary on the server; may be repeated
    ///
    /// Each line of the file is `Chinese<TAB>English`. Later terms override earlier ones. The name `none` disables the
    /// built-in terms.
    #[arg(long = "glossary", value_name = "FILE|NAME")]
    pub(in crate::cli) glossaries: Vec<GlossaryRef>,

    /// Lexicon of names: `builtin`, or `none` to translate names without it
    ///
    /// The English of names that the lexicon knows is written into the text before the model translates it, and required
    /// of the translation. Terms of a glossary take precedence.
    #[arg(long, env = "YIZHAI_LEXICON", default_value = "builtin", value_name = "NAME",
          value_parser = ["builtin", "none"])]
    pub(in crate::cli) lexicon: String,

    /// Maximum attempts at each chunk of text
    ///
    /// A chunk is repaired in further attempts while the checks report findings. 1 is the fastest and repairs nothing.
    #[arg(long, env = "YIZHAI_MAX_ATTEMPTS", default_value_t = crate::pipeline::DEFAULT_MAX_ATTEMPTS as i32,
          value_name = "N",
          value_parser = clap::value_parser!(i32).range(*MAX_ATTEMPTS.start() as i64..=*MAX_ATTEMPTS.end() as i64))]
    pub(in crate::cli) max_attempts: i32,

    /// Exit with code 4 if the checks still report findings
    #[arg(long)]
    pub(in crate::cli) strict: bool,

    /// Sample with this temperature (0 to 2) instead of choosing the most likely tokens
    #[arg(long, value_name = "T")]
    pub(in crate::cli) temperature: Option<f64>,

    /// Seed for sampling; the same seed reproduces the same text
    #[arg(long, default_value_t = 0, requires = "temperature", value_name = "N")]
    pub(in crate::cli) seed: i64,

    /// Time limit per input; sections finished within it are written
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(in crate::cli) timeout: Option<Duration>,

    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) format: DigestFormat,

    /// Write to this file, or write one file per input into this directory, instead of stdout
    ///
    /// A path is a directory if it exists as one, ends in a slash, or has no extension. A directory also keeps the
    /// results in a store: run the same command again to resume an interrupted run, or to process only what has
    /// changed since.
    #[arg(short, long, value_name = "FILE|DIR")]
    pub(in crate::cli) output: Option<PathBuf>,

    /// With --output DIR: retry inputs that failed in an earlier run, and process nothing else
    #[arg(long, requires = "output")]
    pub(in crate::cli) retry_failed: bool,

    /// Order of results on stdout or in a file
    #[arg(long, value_enum, default_value_t)]
    pub(in crate::cli) order: Order,

    /// Print only errors to stderr
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,

    /// Report progress on stderr as JSON, one object per line
    #[arg(long, conflicts_with = "quiet")]
    pub(in crate::cli) json_progress: bool,
}

/// The output format of digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(in crate::cli) enum DigestFormat {
    /// Human-readable text
    #[default]
    Text,
    /// One JSON value: an object for a single input, an array for several
    Json,
    /// One JSON object per section, on a line of its own; for JSONL inputs, one object per input line
    Jsonl,
    /// Markdown, with each paragraph followed by its translation
    Markdown,
    /// Self-contained HTML page with source and translation side by side; several inputs require
    /// `--output DIR`, which also gets an index
    Html,
}

impl DigestFormat {
    /// Returns the file extension of the format.
    pub(in crate::cli) fn extension(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Markdown => "md",
            Self::Html => "html",
        }
    }
}

/// The order in which results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(in crate::cli) enum Order {
    /// In the order of the inputs
    #[default]
    Given,
    /// In the order of completion
    Done,
}

impl ValueEnum for Task {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Self::Summary => "A Chinese summary",
            Self::Translation => "An English translation",
        };
        Some(PossibleValue::new(self.as_str()).help(help))
    }
}

fn parse_term(text: &str) -> Result<pb::Term, String> {
    let (source, target) = text.split_once('=').ok_or("must have the form ZH=EN")?;
    Ok(pb::Term { source: source.to_owned(), target: target.to_owned() })
}
