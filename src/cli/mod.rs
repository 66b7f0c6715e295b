//! The command line: one file a subcommand. It always speaks gRPC, to a server elsewhere or to one that
//! it starts in its own process.
//!
//! stdout carries results and nothing else; progress and logs go to stderr.

mod args;
mod batch;
mod bench;
mod digest;
mod embedded;
mod glossary;
mod input;
mod manual;
mod model;
mod models;
mod output;
mod progress;
mod segment;
mod serve;
mod serve_args;
mod settings;

use std::process::ExitCode;

use args::{Args, Command};

/// How a command ended, as the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Everything was done.
    Done,
    /// Some inputs or sections failed; the others were done.
    Partial,
    /// Everything was done and the checks found something, which was asked to be a failure.
    Findings,
}

/// Nothing could be done.
const FAILED: u8 = 1;
/// The arguments or the configuration file are wrong.
const WRONG_ARGUMENTS: u8 = 2;
/// Some inputs or sections failed.
const PARTIAL: u8 = 3;
/// `--strict`, and the checks found something.
const FINDINGS: u8 = 4;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let args = match settings::parse(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => {
            anstream::eprintln!("yizhai: {error:#}");
            return ExitCode::from(WRONG_ARGUMENTS);
        }
    };
    match run(args) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Partial) => ExitCode::from(PARTIAL),
        Ok(Outcome::Findings) => ExitCode::from(FINDINGS),
        // A reader that has seen enough, such as `head`, is no failure of ours.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("yizhai: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(args: Args) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let telemetry = {
        let _within = runtime.enter();
        crate::telemetry::init(&args.log_filter(), args.log_format, args.collector())?
    };
    let outcome = runtime.block_on(async {
        match args.command {
            Command::Digest(args) => digest::run(args).await,
            Command::Serve(args) => serve::run(*args).await,
            Command::Segment(args) => segment::run(args).await,
            Command::Models(args) => models::run(args).await,
            Command::Bench(args) => bench::run(args).await,
            Command::Man(args) => manual::man(&args),
            Command::Completions(args) => manual::completions(&args),
        }
    });
    drop(telemetry);
    // Threads that still compute for nobody are not waited for.
    runtime.shutdown_background();
    outcome
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
