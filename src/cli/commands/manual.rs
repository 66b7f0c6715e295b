//! `yizhai man` and `yizhai completions`: documents generated from the arguments.

use std::io::Write as _;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::cli::{
    CommandOutcome,
    args::{Args, CompletionsArgs, ManArgs},
};

pub(in crate::cli) fn man(args: &ManArgs) -> anyhow::Result<CommandOutcome> {
    let mut program = Args::command();
    // Gives subcommands the names of their pages, such as yizhai-digest.
    program.build();
    let command = match &args.command {
        None => program,
        Some(name) => {
            let found = program.find_subcommand(name);
            found.with_context(|| format!("unknown command `{name}`; see `yizhai --help`"))?.clone()
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    print(&page)
}

pub(in crate::cli) fn completions(args: &CompletionsArgs) -> anyhow::Result<CommandOutcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "yizhai", &mut script);
    print(&script)
}

fn print(bytes: &[u8]) -> anyhow::Result<CommandOutcome> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(CommandOutcome::Complete)
}
