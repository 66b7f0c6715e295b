//! `--glossary`: reads glossary files for requests and for the server.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use anyhow::Context as _;

use crate::{glossary::Glossary, pb, server::Glossaries};

/// A value of `--glossary`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum GlossaryRef {
    /// The name of a glossary on the server.
    Name(String),
    /// The path of a file.
    Path(PathBuf),
}

impl FromStr for GlossaryRef {
    type Err = Infallible;

    /// Parses a path if the text ends in `.tsv` or contains a path separator, and a name otherwise.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let is_path = text.ends_with(".tsv") || text.contains(std::path::MAIN_SEPARATOR);
        Ok(if is_path { Self::Path(text.into()) } else { Self::Name(text.to_owned()) })
    }
}

/// Returns the `glossary` field of a request and the terms from files; later terms take precedence.
///
/// # Errors
/// Returns an error if a file cannot be read, or more than one glossary of the server is named.
pub(in crate::cli) fn for_request(glossaries: &[GlossaryRef]) -> anyhow::Result<(String, Vec<pb::Term>)> {
    let mut server_glossary = String::new();
    let mut terms = Vec::new();
    for glossary in glossaries {
        match glossary {
            GlossaryRef::Name(name) if server_glossary.is_empty() => server_glossary.clone_from(name),
            GlossaryRef::Name(name) => anyhow::bail!(
                "--glossary names two glossaries of the server, {server_glossary} and {name}; only one is allowed"
            ),
            GlossaryRef::Path(path) => {
                let file = read(path)?;
                terms.extend(file.terms().iter().map(|term| {
                    let renderings = std::iter::once(&term.target).chain(&term.accepted);
                    let target = renderings.cloned().collect::<Vec<_>>().join("|");
                    pb::Term { source: term.source.clone(), target }
                }));
            }
        }
    }
    Ok((server_glossary, terms))
}

/// Returns the glossaries that requests to a server can name, each added to the built-in terms.
///
/// A glossary is named after its file, without the extension.
///
/// # Errors
/// Returns an error if a file cannot be read, or two have the same name.
pub(in crate::cli) fn for_server(paths: &[PathBuf]) -> anyhow::Result<Glossaries> {
    let mut glossaries = Glossaries::new();
    for path in paths {
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let terms = read(path)?.terms().to_vec();
        let replaced = glossaries.insert(name.clone(), Arc::new(Glossary::builtin().with(terms)));
        anyhow::ensure!(replaced.is_none(), "two glossary files are named {name}; rename one of them");
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
    fn parses_paths_and_names() {
        for path in ["terms.tsv", "./terms", "a/b"] {
            assert_eq!(path.parse(), Ok(GlossaryRef::Path(path.into())));
        }
        assert_eq!("sports".parse(), Ok(GlossaryRef::Name("sports".to_owned())));
    }

    #[test]
    fn reads_files_as_request_terms_and_as_server_glossaries() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("space.tsv");
        std::fs::write(&path, "蓝箭航天\tLandSpace|Land Space\n").unwrap();
        let glossaries = [GlossaryRef::Name("sports".to_owned()), GlossaryRef::Path(path.clone())];
        let (name, terms) = for_request(&glossaries).unwrap();
        assert_eq!((name.as_str(), terms[0].target.as_str()), ("sports", "LandSpace|Land Space"));
        let glossaries = for_server(std::slice::from_ref(&path)).unwrap();
        let space = &glossaries["space"];
        assert!(space.get("蓝箭航天").is_some() && space.terms().len() >= Glossary::builtin().terms().len());
        assert!(for_server(&[path.clone(), path]).unwrap_err().to_string().contains("space"));
        std::fs::write(directory.path().join("bad.tsv"), "甲 A\n").unwrap();
        let error = for_server(&[directory.path().join("bad.tsv")]).unwrap_err().to_string();
        assert!(error.contains("bad.tsv, line 1"), "{error}");
    }
}
