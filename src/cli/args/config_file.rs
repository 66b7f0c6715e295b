//! The configuration file of `yizhai serve`.
//!
//! Every setting is defined once, as a flag of `yizhai serve`. A key of the file that neither a flag nor the environment
//! sets is passed to clap as that flag, so all three sources are checked by the same parsers.

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

use super::Args;

/// The subcommand with a configuration file.
const SERVE: &str = "serve";
/// Printed instead of a secret.
const HIDDEN: &str = "(hidden)";
/// Arguments of `serve` that are not settings.
const NOT_SETTINGS: [&str; 4] = ["config", "print_config", "help", "version"];

/// Parses the arguments together with the configuration file that they name.
///
/// Like clap, exits the process on `--help`, `--print-config` and invalid arguments.
///
/// # Errors
/// Returns an error if the file cannot be read, or has an unknown key or an invalid value.
pub(in crate::cli) fn parse_args(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<Args> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut command = Args::command();
    let mut matches = command.clone().get_matches_from(&arguments);
    if let Some(serve) = matches.subcommand_matches(SERVE)
        && let Some(file) = serve.get_one::<PathBuf>("config").cloned()
    {
        let settings = read_file(&command, &file)?;
        let is_unset = |id: &str| matches!(serve.value_source(id), None | Some(ValueSource::DefaultValue));
        let flags =
            settings.into_iter().filter(|setting| is_unset(&setting.arg_id)).map(|setting| setting.flag);
        matches = command
            .try_get_matches_from_mut(arguments.into_iter().chain(flags))
            .map_err(|error| anyhow::anyhow!("{}", without_usage(&error)))
            .with_context(|| format!("with the settings in {}", file.display()))?;
    }
    if let Some(serve) = matches.subcommand_matches(SERVE)
        && serve.get_flag("print_config")
    {
        let mut command = command;
        command.build();
        let definition = command.find_subcommand(SERVE).expect("the subcommand was just matched");
        anstream::print!("{}", effective_settings(definition, serve));
        std::process::exit(0);
    }
    Ok(Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()))
}

/// A key of the file as the flag with the same meaning.
struct FileSetting {
    arg_id: String,
    /// The flag with its value, `--name=value`.
    flag: OsString,
}

fn read_file(command: &Command, path: &Path) -> anyhow::Result<Vec<FileSetting>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
    let table: Table = toml::from_str(&text)
        .map_err(|error| anyhow::anyhow!("{}", error.to_string().trim_end()))
        .with_context(|| format!("{} is not valid TOML", path.display()))?;
    file_settings(command, &table).with_context(|| format!("in {}", path.display()))
}

fn file_settings(command: &Command, file: &Table) -> anyhow::Result<Vec<FileSetting>> {
    let serve = command.find_subcommand(SERVE).expect("the subcommand is defined in this crate");
    let definitions = args_by_table(serve);
    let mut settings = Vec::new();
    for (table_name, table) in file {
        let Some(args) = definitions.get(table_name) else {
            let known = definitions.keys().map(|name| format!("[{name}]"));
            bail!("unknown table [{table_name}]; the tables are {}", comma_separated(known));
        };
        let Value::Table(table) = table else {
            bail!("`{table_name}` must be a table: write [{table_name}]")
        };
        for (key, value) in table {
            let Some(arg) = args.iter().find(|arg| key_of(arg) == *key) else {
                let known = comma_separated(args.iter().map(|arg| key_of(arg)));
                bail!("unknown setting `{key}` in [{table_name}]; its settings are {known}");
            };
            let flag = key.replace('_', "-");
            for value in
                flag_values(value, is_repeatable(arg)).with_context(|| format!("{table_name}.{key}"))?
            {
                let flag = format!("--{flag}={value}").into();
                settings.push(FileSetting { arg_id: arg.get_id().to_string(), flag });
            }
        }
    }
    Ok(settings)
}

/// Groups the settings by their table in the file, which is their help heading in lower case.
fn args_by_table(serve: &Command) -> BTreeMap<String, Vec<&Arg>> {
    let mut tables: BTreeMap<String, Vec<&Arg>> = BTreeMap::new();
    for arg in serve.get_arguments().filter(|arg| !NOT_SETTINGS.contains(&arg.get_id().as_str())) {
        // The global options have no heading and are not settings.
        if let Some(heading) = arg.get_help_heading() {
            tables.entry(heading.to_lowercase()).or_default().push(arg);
        }
    }
    tables
}

/// Returns the key of a setting in the file.
fn key_of(arg: &Arg) -> String {
    arg.get_long().unwrap_or(arg.get_id().as_str()).replace('-', "_")
}

/// Returns `true` if the setting takes a list in the file.
fn is_repeatable(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// Converts a TOML value to the values of the flag, of which there are several for a list.
fn flag_values(value: &Value, is_repeatable: bool) -> anyhow::Result<Vec<String>> {
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Ok(vec![value.to_string()]),
        Value::Array(values) if is_repeatable => {
            let values = values.iter().map(|value| flag_values(value, false));
            Ok(values.collect::<anyhow::Result<Vec<_>>>()?.concat())
        }
        Value::Array(_) | Value::Datetime(_) | Value::Table(_) => {
            bail!("must be a string, a number or a boolean")
        }
    }
}

/// Renders the effective settings as TOML.
fn effective_settings(serve: &Command, matches: &ArgMatches) -> String {
    let mut text = String::new();
    for (table, args) in args_by_table(serve) {
        text += &format!("[{table}]\n");
        for arg in args {
            let key = key_of(arg);
            let values: Vec<Value> = matches
                .get_raw(arg.get_id().as_str())
                .map(|values| values.map(|value| toml_value(&value.to_string_lossy())).collect())
                .unwrap_or_default();
            text += &match values.as_slice() {
                [] => format!("# {key} is not set\n"),
                _ if arg.is_hide_env_values_set() => format!("{key} = \"{HIDDEN}\"\n"),
                [value] if !is_repeatable(arg) => format!("{key} = {value}\n"),
                _ => format!("{key} = {}\n", Value::Array(values)),
            };
        }
        text.push('\n');
    }
    text
}

/// Parses an integer or a boolean; anything else stays a string.
fn toml_value(text: &str) -> Value {
    let parsed = text.parse::<i64>().map(Value::from).or_else(|_| text.parse::<bool>().map(Value::from));
    parsed.unwrap_or_else(|_| Value::from(text))
}

fn comma_separated(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// Returns the message of a clap error without the usage hints that follow it.
fn without_usage(error: &clap::Error) -> String {
    let text = error.to_string();
    let text =
        text.split("\n\nUsage").next().unwrap_or_default().split("\n\nFor more").next().unwrap_or_default();
    text.trim_start_matches("error: ").trim().to_owned()
}
