//! Expands the inputs of a command to files: walks directories, matches patterns, and assigns each file the path of its
//! result, relative to the deepest directory that all inputs share.

use std::{
    collections::HashSet,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, bail};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use ignore::WalkBuilder;

use super::{InputArgs, extension, is_stdin};
use crate::document::InputFormat;

/// The extensions of the files that are taken from a directory by default.
const EXTENSIONS: [&str; 8] = ["txt", "html", "htm", "xhtml", "md", "markdown", "jsonl", "ndjson"];

/// A file and the path of its result below an output directory.
#[derive(Debug)]
pub(super) struct InputFile {
    pub(super) path: PathBuf,
    pub(super) result_path: PathBuf,
}

/// The files of a command.
#[derive(Debug)]
pub(super) struct ExpandedInputs {
    pub(super) files: Vec<InputFile>,
    /// The number of files in directories that were skipped because of their extensions.
    pub(super) left_out: usize,
    /// `true` if a single file was named by its path.
    pub(super) single: bool,
}

/// Returns the files of a command without duplicates, in the order of the arguments; those of a directory are sorted.
/// Files in the directory `except` are skipped.
pub(super) fn expand(args: &InputArgs, except: Option<&Path>) -> anyhow::Result<ExpandedInputs> {
    let filter = FileFilter::new(args)?;
    // The directories that result paths are relative to: the parent of a file, and a directory itself.
    let (mut files, mut bases, mut left_out) = (Vec::new(), Vec::new(), 0);
    for argument in &args.files {
        if is_stdin(argument) {
            files.push(argument.clone());
        } else if argument.is_dir() {
            let before = files.len();
            left_out += walk(argument, except, &mut files, |_, relative| filter.accepts(relative))?;
            if files.len() == before {
                bail!(
                    "{} contains no pages ({left_out} files have other extensions; see --include)",
                    argument.display()
                );
            }
            bases.push(absolute(argument)?);
        } else if is_glob(argument) && !argument.exists() {
            let (base, glob) = (base_of(argument), glob(&argument.to_string_lossy())?);
            let before = files.len();
            let matcher = GlobSetBuilder::new().add(glob).build()?;
            walk(&base, except, &mut files, |path, relative| {
                matcher.is_match(path.strip_prefix(".").unwrap_or(path)) && !filter.excludes(relative)
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
    let root = common_ancestor(&bases);
    let mut seen = HashSet::new();
    let mut expanded = Vec::new();
    for path in files {
        let result_path = match is_stdin(&path) {
            true => PathBuf::from("stdin"),
            false => {
                let full = absolute(&path)?;
                full.strip_prefix(&root).unwrap_or(&full).to_owned()
            }
        };
        if seen.insert(result_path.clone()) {
            expanded.push(InputFile { path, result_path });
        }
    }
    Ok(ExpandedInputs { files: expanded, left_out, single })
}

/// Selects the files of a directory.
struct FileFilter {
    include: Option<GlobSet>,
    exclude: GlobSet,
    /// `true` if the input format was specified, so that any extension is accepted.
    any_extension: bool,
}

impl FileFilter {
    fn new(args: &InputArgs) -> anyhow::Result<Self> {
        let set = |globs: &[String]| -> anyhow::Result<GlobSet> {
            let mut set = GlobSetBuilder::new();
            for text in globs {
                // Like in .gitignore, a pattern without a slash matches file names in any directory.
                let anywhere = if text.contains('/') { text.clone() } else { format!("**/{text}") };
                set.add(glob(&anywhere)?);
            }
            Ok(set.build()?)
        };
        Ok(Self {
            include: (!args.include.is_empty()).then(|| set(&args.include)).transpose()?,
            exclude: set(&args.exclude)?,
            any_extension: args.input_format != InputFormat::Auto,
        })
    }

    fn excludes(&self, path: &Path) -> bool {
        self.exclude.is_match(path)
    }

    fn accepts(&self, path: &Path) -> bool {
        let included = match &self.include {
            Some(include) => include.is_match(path),
            None => self.any_extension || EXTENSIONS.contains(&extension(path).as_str()),
        };
        included && !self.excludes(path)
    }
}

/// Appends the files below `base` that `accepts`, sorted by name, and returns the number of other files. Hidden files are
/// ignored. `accepts` receives the path and the path relative to `base`.
fn walk(
    base: &Path,
    except: Option<&Path>,
    files: &mut Vec<PathBuf>,
    accepts: impl Fn(&Path, &Path) -> bool,
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
        let relative = entry.path().strip_prefix(base).unwrap_or(entry.path());
        match accepts(entry.path(), relative) {
            true => files.push(entry.into_path()),
            false => left_out += 1,
        }
    }
    Ok(left_out)
}

fn glob(text: &str) -> anyhow::Result<globset::Glob> {
    let text = text.strip_prefix("./").unwrap_or(text);
    let built = GlobBuilder::new(text).literal_separator(true).build();
    built.with_context(|| format!("`{text}` is not a valid pattern"))
}

fn is_glob(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '[', '{'])
}

/// Returns the directories of a pattern before its first wildcard.
fn base_of(pattern: &Path) -> PathBuf {
    let fixed: PathBuf = pattern.components().take_while(|part| !is_glob(Path::new(part))).collect();
    if fixed.as_os_str().is_empty() { PathBuf::from(".") } else { fixed }
}

/// Returns the absolute path without `.` and `..`. The path need not exist.
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

/// Returns the deepest directory that contains all `directories`.
fn common_ancestor(directories: &[PathBuf]) -> PathBuf {
    let Some((first, rest)) = directories.split_first() else { return PathBuf::new() };
    let mut shared = first.clone();
    while !rest.iter().all(|directory| directory.starts_with(&shared)) {
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
    fn finds_the_common_ancestor_of_directories() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(common_ancestor(&paths(&["/a/b/c"])), Path::new("/a/b/c"));
        assert_eq!(common_ancestor(&paths(&["/a/b/c", "/a/b", "/a/bc"])), Path::new("/a"));
        assert_eq!(common_ancestor(&[]), Path::new(""));
        assert_eq!(absolute(Path::new("/a/./b/../c")).unwrap(), Path::new("/a/c"));
    }

    #[test]
    fn walks_a_pattern_from_its_first_wildcard() {
        for (pattern, base) in [("pages/*.txt", "pages"), ("*.txt", "."), ("/a/b/**/c?.md", "/a/b")] {
            assert_eq!(base_of(Path::new(pattern)), Path::new(base));
        }
    }
}
