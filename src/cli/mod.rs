//! The command line: one file a subcommand. It always speaks gRPC, to a server elsewhere or to one that
//! it starts in its own process.
//!
//! stdout carries results and nothing else; progress and logs go to stderr.

mod args;
mod batch;
mod bench;
mod digest;
mod embedded;
mod input;
mod manual;
mod model;
mod models;
mod output;
mod progress;
mod segment;
mod serve;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

/// How a command ended, as the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Everything was done.
    Done,
    /// Some inputs or sections failed; the others were done.
    Partial,
}

/// Nothing could be done.
const FAILED: u8 = 1;
/// Some inputs or sections failed.
const PARTIAL: u8 = 3;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Partial) => ExitCode::from(PARTIAL),
        // A reader that has seen enough, such as `head`, is no failure of ours.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("yizhai: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(args: Args) -> anyhow::Result<Outcome> {
    crate::telemetry::init(&args.log_filter(), args.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        match args.command {
            Command::Digest(args) => digest::run(args).await,
            Command::Serve(args) => serve::run(args).await,
            Command::Segment(args) => segment::run(args).await,
            Command::Models(args) => models::run(args).await,
            Command::Bench(args) => bench::run(args).await,
            Command::Man(args) => manual::man(&args),
            Command::Completions(args) => manual::completions(&args),
        }
    });
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
