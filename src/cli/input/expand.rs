//! From what was named on the command line to files: directories are walked, globs are matched, and every file gets
//! its place below what all inputs have in common.

use std::{
    collections::HashSet,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, bail};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use ignore::WalkBuilder;

use super::{InputArgs, ending, is_stdin};
use crate::cli::args::InputFormat;

/// The endings of what is taken from a directory when nothing else is asked for.
const ENDINGS: [&str; 8] = ["txt", "html", "htm", "xhtml", "md", "markdown", "jsonl", "ndjson"];

/// A file, and where its result belongs below an output directory.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) place: PathBuf,
}

/// All files.
#[derive(Debug)]
pub(super) struct All {
    pub(super) files: Vec<Found>,
    /// Files in directories that were left out for their endings.
    pub(super) left_out: usize,
    /// Whether it is one file that was named as itself.
    pub(super) single: bool,
}

/// The files of a command, in the order in which they were named, those of a directory sorted; each once.
pub(super) fn all(args: &InputArgs, except: Option<&Path>) -> anyhow::Result<All> {
    let filter = Filter::new(args)?;
    // The folders that results are placed relative to: of a file its own, of a directory itself.
    let (mut files, mut bases, mut left_out) = (Vec::new(), Vec::new(), 0);
    for argument in &args.files {
        if is_stdin(argument) {
            files.push(argument.clone());
        } else if argument.is_dir() {
            let before = files.len();
            left_out += walk(argument, except, &mut files, |_, below| filter.takes(below))?;
            if files.len() == before {
                bail!(
                    "{} holds no pages ({left_out} files have other endings; see --include)",
                    argument.display()
                );
            }
            bases.push(absolute(argument)?);
        } else if is_glob(argument) && !argument.exists() {
            let (base, glob) = (base_of(argument), glob(&argument.to_string_lossy(), true)?);
            let before = files.len();
            let matcher = GlobSetBuilder::new().add(glob).build()?;
            walk(&base, except, &mut files, |path, below| {
                matcher.is_match(path.strip_prefix(".").unwrap_or(path)) && filter.allows(below)
            })
            .with_context(|| format!("no file matches {}", argument.display()))?;
            if files.len() == before {
                bail!("no file matches {}", argument.display());
            }
            bases.push(absolute(&base)?);
        } else {
            bases.push(absolute(argument)?.parent().unwrap_or(Path::new("/")).to_owned());
            files.push(argument.clone());
        }
    }
    let single = args.files.len() == 1 && files.len() == 1 && files[0] == args.files[0];
    let root = common(&bases);
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for path in files {
        let place = match is_stdin(&path) {
            true => PathBuf::from("stdin"),
            false => {
                let full = absolute(&path)?;
                full.strip_prefix(&root).unwrap_or(&full).to_owned()
            }
        };
        if seen.insert(place.clone()) {
            found.push(Found { path, place });
        }
    }
    Ok(All { files: found, left_out, single })
}

/// Which files of a directory are taken.
struct Filter {
    include: Option<GlobSet>,
    exclude: GlobSet,
    /// With a format that was named every ending will do.
    any_ending: bool,
}

impl Filter {
    fn new(args: &InputArgs) -> anyhow::Result<Self> {
        let set = |globs: &[String]| -> anyhow::Result<GlobSet> {
            let mut set = GlobSetBuilder::new();
            for text in globs {
                // `*.txt` means the name wherever the file lies; a slash makes it a path.
                let anywhere = if text.contains('/') { text.clone() } else { format!("**/{text}") };
                set.add(glob(&anywhere, true)?);
            }
            Ok(set.build()?)
        };
        Ok(Self {
            include: (!args.include.is_empty()).then(|| set(&args.include)).transpose()?,
            exclude: set(&args.exclude)?,
            any_ending: args.input_format != InputFormat::Auto,
        })
    }

    fn allows(&self, path: &Path) -> bool {
        !self.exclude.is_match(path)
    }

    fn takes(&self, path: &Path) -> bool {
        let wanted = match &self.include {
            Some(include) => include.is_match(path),
            None => self.any_ending || ENDINGS.contains(&ending(path).as_str()),
        };
        wanted && self.allows(path)
    }
}

/// Adds the files below `base` that are wanted, sorted by name; tells how many were not. Hidden files are no inputs.
/// `wanted` is given the path and what of it is below `base`.
fn walk(
    base: &Path,
    except: Option<&Path>,
    files: &mut Vec<PathBuf>,
    wanted: impl Fn(&Path, &Path) -> bool,
) -> anyhow::Result<usize> {
    let except = except.map(absolute).transpose()?;
    let mut walk = WalkBuilder::new(base);
    walk.standard_filters(false).hidden(true).follow_links(true).sort_by_file_name(Ord::cmp);
    walk.filter_entry(move |entry| {
        let is_output =
            except.as_ref().is_some_and(|except| absolute(entry.path()).is_ok_and(|p| p == *except));
        !is_output
    });
    let mut left_out = 0;
    for entry in walk.build() {
        let entry = entry.with_context(|| format!("cannot read {}", base.display()))?;
        if !entry.file_type().is_some_and(|kind| kind.is_file()) {
            continue;
        }
        let below = entry.path().strip_prefix(base).unwrap_or(entry.path());
        match wanted(entry.path(), below) {
            true => files.push(entry.into_path()),
            false => left_out += 1,
        }
    }
    Ok(left_out)
}

fn glob(text: &str, literal_separator: bool) -> anyhow::Result<globset::Glob> {
    let text = text.strip_prefix("./").unwrap_or(text);
    let built = GlobBuilder::new(text).literal_separator(literal_separator).build();
    built.with_context(|| format!("`{text}` is no pattern"))
}

fn is_glob(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '[', '{'])
}

/// The part of a pattern in front of its first wildcard.
fn base_of(pattern: &Path) -> PathBuf {
    let fixed: PathBuf = pattern.components().take_while(|part| !is_glob(Path::new(part))).collect();
    if fixed.as_os_str().is_empty() { PathBuf::from(".") } else { fixed }
}

/// The path from the root, without `.` and `..`, whether it exists or not.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    let full = std::path::absolute(path).with_context(|| path.display().to_string())?;
    let mut plain = PathBuf::new();
    for part in full.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    Ok(plain)
}

/// The deepest folder that all lie in.
fn common(folders: &[PathBuf]) -> PathBuf {
    let Some((first, rest)) = folders.split_first() else { return PathBuf::new() };
    let mut shared = first.clone();
    while !rest.iter().all(|folder| folder.starts_with(&shared)) {
        if !shared.pop() {
            break;
        }
    }
    shared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_relative_to_what_the_inputs_share() {
        let folders = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(common(&folders(&["/a/b/c"])), Path::new("/a/b/c"));
        assert_eq!(common(&folders(&["/a/b/c", "/a/b", "/a/bc"])), Path::new("/a"));
        assert_eq!(common(&[]), Path::new(""));
        assert_eq!(absolute(Path::new("/a/./b/../c")).unwrap(), Path::new("/a/c"));
    }

    #[test]
    fn a_pattern_is_walked_from_where_it_begins_to_vary() {
        for (pattern, base) in [("pages/*.txt", "pages"), ("*.txt", "."), ("/a/b/**/c?.md", "/a/b")] {
            assert_eq!(base_of(Path::new(pattern)), Path::new(base));
        }
    }
}
