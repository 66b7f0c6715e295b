//! The arguments, and the help that explains what follows from them.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};

use super::glossary::GlossaryRef;
use super::serve_args::ServeArgs;
use crate::{
    config::{ModelChoice, ModelConfig},
    engine::EngineConfig,
    model::{CpuFeatures, DeviceChoice, KvType, ModelOptions},
    pb,
    server::{MAX_ATTEMPTS, SUMMARY_CHARS},
    telemetry::LogFormat,
};

/// Chinese newspaper text in; for every section of every article a Chinese summary and an English
/// translation out, by an open model on this machine.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXIT_CODES)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,

    /// What is logged on stderr, such as `info` or `yizhai=debug` [default: info for serve, else warn]
    #[arg(long, global = true, env = "YIZHAI_LOG", value_name = "FILTER")]
    log: Option<String>,

    /// How log lines are written
    #[arg(long, global = true, env = "YIZHAI_LOG_FORMAT", value_enum, default_value_t)]
    pub(super) log_format: LogFormat,
}

const EXIT_CODES: &str = "Exit codes: 0 everything was done; 1 nothing could be done (the input, the model or the \
server is named on stderr); 2 wrong arguments; 3 some inputs or sections failed and the others were written; \
4 with --strict: all was done and the checks found something; 130 stopped by a second signal.";

impl Args {
    pub(super) fn log_filter(&self) -> String {
        let default = match self.command {
            Command::Serve(_) => "info",
            _ => "warn",
        };
        self.log.clone().unwrap_or_else(|| default.to_owned())
    }

    /// Where traces are sent.
    pub(super) fn collector(&self) -> Option<&str> {
        match &self.command {
            Command::Serve(args) => args.observability.otlp_endpoint.as_deref(),
            _ => None,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Summarise and translate pages or articles
    Digest(DigestArgs),
    /// Run the gRPC service
    #[command(after_help = super::serve_args::AFTER_HELP)]
    Serve(Box<ServeArgs>),
    /// Show the articles, sections and paragraphs of pages, without running a model
    Segment(SegmentArgs),
    /// List, fetch and check the models that this program knows
    Models(ModelsArgs),
    /// Measure how fast this machine runs a model; prints JSON lines
    Bench(BenchArgs),
    /// Print the manual page of the program or of one of its commands
    Man(ManArgs),
    /// Print the completions for a shell
    Completions(CompletionsArgs),
}

/// How inputs are read; shared by the commands that take them.
#[derive(Debug, Default, clap::Args)]
pub(super) struct InputArgs {
    /// The inputs: files, directories (all that lies in them), patterns such as 'pages/**/*.txt', and `-` for
    /// stdin
    #[arg(value_name = "INPUT", required = true)]
    pub(super) files: Vec<PathBuf>,

    /// From directories take the files that match this pattern, instead of those that end in txt, html, htm,
    /// xhtml, md, markdown, jsonl or ndjson; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub(super) include: Vec<String>,

    /// From directories and patterns leave out what matches this pattern; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub(super) exclude: Vec<String>,

    /// How the inputs are laid out
    #[arg(long, value_enum, default_value_t)]
    pub(super) input_format: InputFormat,
}

/// How an input is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum InputFormat {
    /// By the file's ending and its text: jsonl, html, markdown, or text
    #[default]
    Auto,
    /// A page as it comes out of extraction: articles follow each other without marks
    Text,
    /// Every line is a section of its own; with `--format text` and one task exactly one output line for
    /// every input line
    Lines,
    /// One JSON object a line: {"text": "..."} or an article {"headline", "sections": [{"heading",
    /// "paragraphs": []}]}, each with an optional "id"
    Jsonl,
    /// A web page; navigation is left out
    Html,
    /// Markdown
    Markdown,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum OutputFormat {
    /// For people
    #[default]
    Text,
    /// One JSON value: an object for one input, an array for several
    Json,
    /// One JSON object a line: a section each, as soon as it is done; with `--input-format jsonl` an input
    /// line each
    Jsonl,
}

/// How digests are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum DigestFormat {
    /// For people
    #[default]
    Text,
    /// One JSON value: an object for one input, an array for several
    Json,
    /// One JSON object a line: a section each, as soon as it is done; with `--input-format jsonl` an input
    /// line each
    Jsonl,
    /// Markdown: source and translation paragraph by paragraph
    Markdown,
    /// A page that needs nothing else: source and translation side by side, numbers linked; several inputs
    /// need `--output DIR`, which then has an index
    Html,
}

impl DigestFormat {
    /// The ending of a file's name.
    pub(super) fn ending(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Markdown => "md",
            Self::Html => "html",
        }
    }
}

/// In which order results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Order {
    /// As the inputs were given
    #[default]
    Given,
    /// As they are done
    Done,
}

/// A task, as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Task {
    /// A Chinese summary
    Summary,
    /// An English translation
    Translation,
}

impl From<Task> for crate::task::Task {
    fn from(task: Task) -> Self {
        match task {
            Task::Summary => Self::Summary,
            Task::Translation => Self::Translation,
        }
    }
}

/// The model that runs in this process.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ModelArgs {
    /// The model: an id (see `yizhai models list`), or the path of a GGUF file or of the directory of an
    /// encoder-decoder. An id is fetched when it is not on this machine yet: about 1.1 GB for the default. With
    /// `summary=` or `translation=` before it the model of that task; given for both, two models are loaded
    #[arg(long, env = "YIZHAI_MODEL", value_delimiter = ',', value_name = "[TASK=]ID|PATH")]
    pub(super) model: Vec<ModelChoice>,

    /// Where it runs: cpu, cuda (the first GPU), cuda:N, or auto: the first GPU if this build and machine have one
    #[arg(long, env = "YIZHAI_DEVICE", default_value_t)]
    pub(super) device: DeviceChoice,

    /// The instructions that the CPU's kernels may use: auto (the best that it has), portable, avx2, avx512 or amx
    #[arg(long, env = "YIZHAI_CPU_FEATURES", default_value = "auto", value_name = "SET")]
    pub(super) cpu_features: CpuFeatures,

    /// Threads that compute; 0 means one for each CPU
    #[arg(long, env = "YIZHAI_THREADS", default_value_t = 0, value_name = "N")]
    pub(super) threads: usize,

    /// The most sequences that are decoded together: more is faster over all and takes more memory
    #[arg(long, env = "YIZHAI_MAX_SEQUENCES", default_value_t = EngineConfig::default().max_sequences,
          value_parser = at_least_one, value_name = "N")]
    pub(super) max_sequences: usize,

    /// The most tokens that the KV cache holds, over all sequences: bounds the memory beside the weights [on the CPU
    /// 16384; on a GPU as many as its free memory holds, but for 1 GiB, and the sequences can fill]
    #[arg(long, env = "YIZHAI_KV_TOKENS", value_parser = at_least_one, value_name = "TOKENS")]
    pub(super) kv_tokens: Option<usize>,

    /// How the KV cache keeps its values: f16, or int8, which takes half the memory and rounds more
    #[arg(long, env = "YIZHAI_KV_TYPE", default_value_t = KvType::F16, value_name = "TYPE")]
    pub(super) kv_type: KvType,

    /// Prompts of your own: a TOML file of the form of the built-in one (src/pipeline/prompts.toml)
    #[arg(long, env = "YIZHAI_PROMPTS", value_name = "FILE")]
    pub(super) prompts: Option<PathBuf>,
}

impl From<ModelArgs> for ModelConfig {
    fn from(args: ModelArgs) -> Self {
        let engine = EngineConfig {
            max_sequences: args.max_sequences,
            kv_tokens: args.kv_tokens,
            ..EngineConfig::default()
        };
        let options = ModelOptions {
            device: args.device,
            cpu_features: args.cpu_features,
            threads: args.threads,
            kv_type: args.kv_type,
            max_positions: engine.max_model_len,
            ..ModelOptions::default()
        };
        Self { models: args.model, options, engine, prompts: args.prompts }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct DigestArgs {
    #[command(flatten)]
    pub(super) input: InputArgs,

    /// A running server, such as http://127.0.0.1:50051; without it one is started in this process. Given several
    /// times, the inputs are shared out among the servers, and what one does not answer goes to the others
    #[arg(long = "server", env = "YIZHAI_SERVER", value_delimiter = ',', value_name = "URL")]
    pub(super) servers: Vec<String>,

    /// The most inputs that are sent to one server at a time
    #[arg(long, default_value_t = 12, value_parser = at_least_one, value_name = "N")]
    pub(super) in_flight: usize,

    #[command(flatten)]
    pub(super) model: ModelArgs,

    /// Which results to make
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["summary", "translation"])]
    pub(super) tasks: Vec<Task>,

    /// The longest summary, in characters. A summary is cut at the end of a sentence, never within one
    #[arg(long, default_value_t = crate::pipeline::DEFAULT_SUMMARY_CHARS as i32, value_name = "CHARS",
          value_parser = clap::value_parser!(i32).range(*SUMMARY_CHARS.start() as i64..=*SUMMARY_CHARS.end() as i64))]
    pub(super) summary_chars: i32,

    /// A term and the English that it must become; may be given several times
    #[arg(long = "term", value_name = "ZH=EN", value_parser = parse_term)]
    pub(super) terms: Vec<pb::Term>,

    /// Terms from a file (`Chinese<TAB>English` a line), or the name of a glossary that the server holds; `none`
    /// leaves out the terms that come with the program. May be given several times; later terms win
    #[arg(long = "glossary", value_name = "FILE|NAME")]
    pub(super) glossaries: Vec<GlossaryRef>,

    /// How often the model is asked for one piece of text at most: again, in better ways, while the checks object.
    /// 1 is fastest and repairs nothing
    #[arg(long, env = "YIZHAI_MAX_ATTEMPTS", default_value_t = crate::pipeline::DEFAULT_MAX_ATTEMPTS as i32,
          value_name = "N",
          value_parser = clap::value_parser!(i32).range(*MAX_ATTEMPTS.start() as i64..=*MAX_ATTEMPTS.end() as i64))]
    pub(super) max_attempts: i32,

    /// Exit with 4 when the checks found something that remains
    #[arg(long)]
    pub(super) strict: bool,

    /// Draw tokens at random with this temperature (0 to 2) instead of taking the most likely ones
    #[arg(long, value_name = "T")]
    pub(super) temperature: Option<f64>,

    /// The seed of the draw: the same seed gives the same text
    #[arg(long, default_value_t = 0, requires = "temperature", value_name = "N")]
    pub(super) seed: i64,

    /// Give up on an input after this many seconds; what was done of it until then is written
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) timeout: Option<Duration>,

    /// How results are written
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: DigestFormat,

    /// Write to this file instead of stdout; or, when it is a directory, ends in a slash or has no ending, a file for
    /// every input into this directory. What is done is remembered there: the same command goes on where it was
    /// stopped, and does anew only what has changed
    #[arg(short, long, value_name = "FILE|DIR")]
    pub(super) output: Option<PathBuf>,

    /// With --output DIR: try what failed before once more, and nothing else
    #[arg(long, requires = "output")]
    pub(super) retry_failed: bool,

    /// In which order results are written to stdout or to a file
    #[arg(long, value_enum, default_value_t)]
    pub(super) order: Order,

    /// Say nothing on stderr but errors
    #[arg(short, long)]
    pub(super) quiet: bool,

    /// Tell progress on stderr as JSON lines
    #[arg(long, conflicts_with = "quiet")]
    pub(super) json_progress: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct SegmentArgs {
    #[command(flatten)]
    pub(super) input: InputArgs,

    /// A running server; without it one is started in this process (no model is loaded)
    #[arg(long, env = "YIZHAI_SERVER", value_name = "URL")]
    pub(super) server: Option<String>,

    /// How the structure is written
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: OutputFormat,
}

#[derive(Debug, clap::Args)]
pub(super) struct BenchArgs {
    /// Digest these pages instead, both tasks, and tell the time, the tokens and the memory of each
    #[arg(long = "page", value_name = "FILE", conflicts_with_all = ["batch", "prompt", "generate", "repeat"])]
    pub(super) pages: Vec<PathBuf>,

    #[command(flatten)]
    pub(super) model: ModelArgs,

    /// Numbers of sequences that are run together, each measured by itself
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 16, 32], value_parser = at_least_one, value_name = "N")]
    pub(super) batch: Vec<usize>,

    /// Tokens of each prompt
    #[arg(long, default_value_t = 128, value_parser = at_least_one, value_name = "TOKENS")]
    pub(super) prompt: usize,

    /// Tokens written after each prompt
    #[arg(long, default_value_t = 48, value_parser = at_least_one, value_name = "TOKENS")]
    pub(super) generate: usize,

    /// How often everything is measured; medians are told
    #[arg(long, default_value_t = 1, value_parser = at_least_one, value_name = "N")]
    pub(super) repeat: usize,
}

#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// The command whose page is wanted; without it the program's
    #[arg(value_name = "COMMAND")]
    pub(super) command: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell
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
    /// List the models that this program knows
    List {
        /// How the list is written
        #[arg(long, value_enum, default_value_t)]
        format: OutputFormat,
    },
    /// Fetch a model, going on where an earlier try broke off, and check it
    Pull {
        /// Its id
        id: String,
    },
    /// Read a fetched model whole and compare its SHA-256
    Verify {
        /// Its id
        id: String,
    },
    /// Print where a fetched model is
    Path {
        /// Its id
        id: String,
    },
}

pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "must be a whole number of at least 1".to_owned())
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|s| *s > 0.0)
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
        .ok_or_else(|| "must be a number of seconds above 0".to_owned())
}

fn parse_term(text: &str) -> Result<pb::Term, String> {
    let (source, target) = text.split_once('=').ok_or("must be written as ZH=EN")?;
    Ok(pb::Term { source: source.to_owned(), target: target.to_owned() })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        super::Args::command().debug_assert();
    }
}
