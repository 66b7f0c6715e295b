//! `yizhai man` and `yizhai completions`: the manual page and the shells' completions, made out of the arguments.

use std::io::Write as _;

use anyhow::Context as _;
use clap::CommandFactory as _;

use super::{
    Outcome,
    args::{Args, CompletionsArgs, ManArgs},
};

pub(super) fn man(args: &ManArgs) -> anyhow::Result<Outcome> {
    let mut program = Args::command();
    program.build();
    let command = match &args.command {
        None => program,
        Some(name) => {
            let found = program.find_subcommand(name);
            let found =
                found.with_context(|| format!("there is no command `{name}`; see `yizhai --help`"))?;
            // Built, it is called as man finds it: yizhai-digest.
            found.clone()
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    write(&page)
}

pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "yizhai", &mut script);
    write(&script)
}

fn write(bytes: &[u8]) -> anyhow::Result<Outcome> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(Outcome::Done)
}
