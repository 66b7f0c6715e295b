//! The command line: parses the arguments, runs one command, and turns its outcome into an exit code.
//!
//! ```text
//! args ─▶ commands ─▶ setup (model, glossaries, server connection) ─▶ input ─▶ batch ─▶ output
//! ```
//!
//! Commands always speak gRPC, either to a remote server or to one that they start in their own process. Only results
//! go to stdout; progress and logs go to stderr.

mod args;
mod batch;
mod commands;
mod input;
mod memory;
mod output;
mod progress;
mod setup;

use std::process::ExitCode;

use args::{Args, Command, config_file};

/// The outcome of a command that did not fail as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CommandOutcome {
    /// Everything succeeded.
    Complete,
    /// Some inputs or sections failed; the others succeeded.
    Partial,
    /// Everything succeeded, but the checks reported findings and `--strict` is set.
    Findings,
}

/// Exit code if the command failed as a whole.
const FAILED: u8 = 1;
/// Exit code for invalid arguments or an invalid configuration file.
const INVALID_ARGUMENTS: u8 = 2;
/// Exit code for [`CommandOutcome::Partial`].
const PARTIAL: u8 = 3;
/// Exit code for [`CommandOutcome::Findings`].
const FINDINGS: u8 = 4;

/// Runs the command given by the process arguments.
pub fn main() -> ExitCode {
    let args = match config_file::parse_args(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => {
            anstream::eprintln!("yizhai: {error:#}");
            return ExitCode::from(INVALID_ARGUMENTS);
        }
    };
    match run(args) {
        Ok(CommandOutcome::Complete) => ExitCode::SUCCESS,
        Ok(CommandOutcome::Partial) => ExitCode::from(PARTIAL),
        Ok(CommandOutcome::Findings) => ExitCode::from(FINDINGS),
        // The reader of stdout, such as `head`, closed it early: not an error.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("yizhai: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(args: Args) -> anyhow::Result<CommandOutcome> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let telemetry = {
        let _entered = runtime.enter();
        crate::telemetry::init(&args.log_filter(), args.log_format, args.otlp_endpoint())?
    };
    let outcome = runtime.block_on(async {
        match args.command {
            Command::Digest(args) => commands::digest::run(*args).await,
            Command::Serve(args) => commands::serve::run(*args).await,
            Command::Segment(args) => commands::segment::run(args).await,
            Command::Models(args) => commands::models::run(args).await,
            Command::Bench(args) => commands::bench::run(args).await,
            Command::Eval(args) => commands::eval::run(*args).await,
            Command::Man(args) => commands::manual::man(&args),
            Command::Completions(args) => commands::manual::completions(&args),
        }
    });
    drop(telemetry);
    // Does not wait for engine threads that are still computing abandoned results.
    runtime.shutdown_background();
    outcome
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
