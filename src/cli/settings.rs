//! Where settings come from: a file, the environment, flags; the later wins.
//!
//! The flags of `yizhai serve` are the one definition of every setting: its name, its type, its bounds and its help.
//! What a file says, and neither the environment nor a flag, is read as if it were a flag, so that all three are checked
//! by the same parsers and no key can be known to one of them alone.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::{
    Arg, ArgAction, ArgMatches, Command, CommandFactory as _, FromArgMatches as _, parser::ValueSource,
};
use toml::{Table, Value};

use super::args::Args;

/// The subcommand that takes a file.
const SERVE: &str = "serve";
/// What stands in the place of a secret.
const HIDDEN: &str = "(hidden)";
/// Arguments that are no settings.
const NO_SETTINGS: [&str; 4] = ["config", "print_config", "help", "version"];

/// Parses the arguments, over the file that they name. Ends the process on `--help` and wrong arguments, as clap does.
///
/// # Errors
/// When the file cannot be read, or holds a key that does not exist.
pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<Args> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut command = Args::command();
    let mut matches = command.clone().get_matches_from(&arguments);
    if let Some(serve) = matches.subcommand_matches(SERVE)
        && let Some(file) = serve.get_one::<PathBuf>("config").cloned()
    {
        let settings = read(&command, &file)?;
        let is_open = |id: &str| matches!(serve.value_source(id), None | Some(ValueSource::DefaultValue));
        let flags = settings.into_iter().filter(|setting| is_open(&setting.id)).map(|setting| setting.flag);
        matches = command
            .try_get_matches_from_mut(arguments.into_iter().chain(flags))
            .map_err(|error| anyhow::anyhow!("{}", one_line(&error)))
            .with_context(|| format!("with the settings of {}", file.display()))?;
    }
    if let Some(serve) = matches.subcommand_matches(SERVE)
        && serve.get_flag("print_config")
    {
        let mut command = command;
        command.build();
        let known = command.find_subcommand(SERVE).expect("it was just matched");
        anstream::print!("{}", in_force(known, serve));
        std::process::exit(0);
    }
    Ok(Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()))
}

/// What a file says of an argument.
struct Setting {
    /// The argument's id.
    id: String,
    /// The flag that says the same.
    flag: OsString,
}

/// The settings of a file.
fn read(command: &Command, path: &Path) -> anyhow::Result<Vec<Setting>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the settings in {}", path.display()))?;
    let table: Table = toml::from_str(&text)
        .map_err(|error| anyhow::anyhow!("{}", error.to_string().trim_end()))
        .with_context(|| format!("{} is no TOML", path.display()))?;
    settings(command, &table).with_context(|| format!("in {}", path.display()))
}

/// The keys of the file, each of which is a setting.
fn settings(command: &Command, file: &Table) -> anyhow::Result<Vec<Setting>> {
    let serve = command.find_subcommand(SERVE).expect("it is defined in this crate");
    let known = tables(serve);
    let mut settings = Vec::new();
    for (name, table) in file {
        let Some(keys) = known.get(name) else {
            bail!(
                "there is no table [{name}]; there are {}",
                list(known.keys().map(|name| format!("[{name}]")))
            );
        };
        let Value::Table(table) = table else { bail!("`{name}` must be a table: write [{name}]") };
        for (key, value) in table {
            let Some(arg) = keys.iter().find(|arg| name_of(arg) == *key) else {
                let keys = list(keys.iter().map(|arg| name_of(arg)));
                bail!("there is no setting `{key}` in [{name}]; there are {keys}");
            };
            let flag = key.replace('_', "-");
            for value in texts(value, is_list(arg)).with_context(|| format!("{name}.{key}"))? {
                let flag = format!("--{flag}={value}").into();
                settings.push(Setting { id: arg.get_id().to_string(), flag });
            }
        }
    }
    Ok(settings)
}

/// The settings by the tables that they stand in.
fn tables(serve: &Command) -> BTreeMap<String, Vec<&Arg>> {
    let mut tables: BTreeMap<String, Vec<&Arg>> = BTreeMap::new();
    for arg in serve.get_arguments().filter(|arg| !NO_SETTINGS.contains(&arg.get_id().as_str())) {
        let table = arg.get_help_heading().unwrap_or("log").to_lowercase();
        tables.entry(table).or_default().push(arg);
    }
    tables.retain(|table, _| table != "log");
    tables
}

/// The name of a setting in a file.
fn name_of(arg: &Arg) -> String {
    arg.get_long().unwrap_or(arg.get_id().as_str()).replace('-', "_")
}

/// Whether a setting may be given several times.
fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// A value as it would stand on a command line; several, when it is a list.
fn texts(value: &Value, may_be_list: bool) -> anyhow::Result<Vec<String>> {
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Ok(vec![value.to_string()]),
        Value::Array(values) if may_be_list => {
            Ok(values.iter().map(|value| texts(value, false)).collect::<anyhow::Result<Vec<_>>>()?.concat())
        }
        Value::Array(_) | Value::Datetime(_) | Value::Table(_) => {
            bail!("must be a text, a number, true or false")
        }
    }
}

/// The settings in force as TOML.
fn in_force(serve: &Command, matches: &ArgMatches) -> String {
    let mut text = String::new();
    for (table, args) in tables(serve) {
        text += &format!("[{table}]\n");
        for arg in args {
            let name = name_of(arg);
            let values: Vec<Value> = matches
                .get_raw(arg.get_id().as_str())
                .map(|values| values.map(|value| toml_value(&value.to_string_lossy())).collect())
                .unwrap_or_default();
            text += &match values.as_slice() {
                [] => format!("# {name} is not set\n"),
                _ if arg.is_hide_env_values_set() => format!("{name} = \"{HIDDEN}\"\n"),
                [value] if !is_list(arg) => format!("{name} = {value}\n"),
                _ => format!("{name} = {}\n", Value::Array(values)),
            };
        }
        text.push('\n');
    }
    text
}

/// A number or a truth value as such, everything else as text.
fn toml_value(text: &str) -> Value {
    let plain = text.parse::<i64>().map(Value::from).or_else(|_| text.parse::<bool>().map(Value::from));
    plain.unwrap_or_else(|_| Value::from(text))
}

fn list(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// What clap says, without its hints on usage.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text =
        text.split("\n\nUsage").next().unwrap_or_default().split("\n\nFor more").next().unwrap_or_default();
    text.trim_start_matches("error: ").trim().to_owned()
}
