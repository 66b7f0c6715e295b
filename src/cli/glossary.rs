//! `--glossary`: files of terms, and the names of those that a server holds.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use anyhow::Context as _;

use crate::{glossary::Glossary, pb, server::Glossaries};

/// A glossary, as the command line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GlossaryRef {
    /// One that the server holds.
    Name(String),
    /// A file.
    Path(PathBuf),
}

impl FromStr for GlossaryRef {
    type Err = Infallible;

    /// What ends in `.tsv` or holds a path separator is a file, everything else a name.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let is_path = text.ends_with(".tsv") || text.contains(std::path::MAIN_SEPARATOR);
        Ok(if is_path { Self::Path(text.into()) } else { Self::Name(text.to_owned()) })
    }
}

/// What a request says of its glossaries: the name of the server's, and the terms of files, the later ones winning.
pub(super) fn of_request(given: &[GlossaryRef]) -> anyhow::Result<(String, Vec<pb::Term>)> {
    let mut name = String::new();
    let mut terms = Vec::new();
    for glossary in given {
        match glossary {
            GlossaryRef::Name(given) if name.is_empty() => name.clone_from(given),
            GlossaryRef::Name(given) => {
                anyhow::bail!(
                    "--glossary names two that the server holds, {name} and {given}; one is the most"
                )
            }
            GlossaryRef::Path(path) => {
                terms.extend(read(path)?.terms().iter().map(|term| {
                    pb::Term {
                        source: term.source.clone(),
                        target: std::iter::once(&term.target)
                            .chain(&term.accepted)
                            .cloned()
                            .collect::<Vec<_>>()
                            .join("|"),
                    }
                }))
            }
        }
    }
    Ok((name, terms))
}

/// The glossaries of a server, each under its file's name without the ending, on top of the terms of the build.
pub(super) fn of_server(paths: &[PathBuf]) -> anyhow::Result<Glossaries> {
    let mut glossaries = Glossaries::new();
    for path in paths {
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let terms = read(path)?.terms().to_vec();
        let replaced = glossaries.insert(name.clone(), Arc::new(Glossary::builtin().with(terms)));
        anyhow::ensure!(replaced.is_none(), "two glossaries have the name {name}; rename one of the files");
    }
    Ok(glossaries)
}

fn read(path: &Path) -> anyhow::Result<Glossary> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Glossary::parse(&path.display().to_string(), &text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_from_names_by_their_looks() {
        for path in ["terms.tsv", "./terms", "a/b"] {
            assert_eq!(path.parse(), Ok(GlossaryRef::Path(path.into())));
        }
        assert_eq!("sports".parse(), Ok(GlossaryRef::Name("sports".to_owned())));
    }

    #[test]
    fn files_become_terms_of_the_request_or_named_glossaries_of_the_server() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("space.tsv");
        std::fs::write(&path, "蓝箭航天\tLandSpace|Land Space\n").unwrap();
        let given = [GlossaryRef::Name("sports".to_owned()), GlossaryRef::Path(path.clone())];
        let (name, terms) = of_request(&given).unwrap();
        assert_eq!((name.as_str(), terms[0].target.as_str()), ("sports", "LandSpace|Land Space"));
        let glossaries = of_server(std::slice::from_ref(&path)).unwrap();
        let space = &glossaries["space"];
        assert!(space.get("蓝箭航天").is_some() && space.terms().len() >= Glossary::builtin().terms().len());
        assert!(of_server(&[path.clone(), path]).unwrap_err().to_string().contains("space"));
        std::fs::write(directory.path().join("bad.tsv"), "甲 A\n").unwrap();
        let error = of_server(&[directory.path().join("bad.tsv")]).unwrap_err().to_string();
        assert!(error.contains("bad.tsv, line 1"), "{error}");
    }
}
