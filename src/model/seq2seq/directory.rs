//! The directory of an encoder-decoder model, as written by `save_pretrained` of transformers: settings as JSON,
//! weights as safetensors, and an optional `yizhai.toml` with the model's tasks.
//!
//! Owns the memory map of the weights and limits the size of what it reads. The files are not trusted: every error
//! names the file and the field or tensor. Called by the families of this module, and by `pipeline` for the vocabulary
//! files.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor, safetensors::MmapedSafetensors};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{model::ModelError, task::Task};

/// Maximum size of a settings file.
const MAX_SETTINGS_BYTES: u64 = 4 << 20;
/// Maximum size of a vocabulary file.
const MAX_VOCABULARY_BYTES: u64 = 64 << 20;
/// Maximum value of a size in the settings.
const MAX_SIZE: u64 = 1 << 24;
const CONFIG: &str = "config.json";
const GENERATION: &str = "generation_config.json";
const SETTINGS: &str = "yizhai.toml";

/// An open model directory.
pub struct ModelDirectory {
    path: PathBuf,
    config: Map<String, Value>,
    /// Generation settings; they take precedence over those of `config.json`.
    generation: Map<String, Value>,
    settings: Seq2SeqSettings,
    weights: MmapedSafetensors,
}

/// The contents of `yizhai.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seq2SeqSettings {
    /// The model's tasks: `summary`, `translation`.
    pub tasks: Vec<Task>,
    /// A prefix for every source, such as `<2en> `.
    #[serde(default)]
    pub prefix: String,
    /// `true` if the model accepts sources in which terms and quantities are already translated to English. A model
    /// that was trained on plain Chinese may not handle them.
    #[serde(default)]
    pub accepts_pretranslated: bool,
}

impl ModelDirectory {
    /// Reads the settings of a directory and maps its weights into memory.
    ///
    /// # Errors
    /// If a file is missing, too large or unreadable, or the header of the weights is inconsistent.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let unusable = |detail: String| ModelError::Directory { path: path.to_owned(), detail };
        let config: Map<String, Value> = json(path, CONFIG)?;
        let generation = if path.join(GENERATION).exists() { json(path, GENERATION)? } else { Map::new() };
        let settings = match (path.join(SETTINGS).exists(), config.get("model_type").and_then(Value::as_str))
        {
            (true, _) => {
                let text = String::from_utf8(read(path, SETTINGS, MAX_SETTINGS_BYTES)?)
                    .map_err(|_| unusable(format!("{SETTINGS} is not valid UTF-8")))?;
                toml::from_str(&text).map_err(|error| unusable(format!("{SETTINGS}: {}", error.message())))?
            }
            // Marian models translate.
            (false, Some("marian")) => Seq2SeqSettings {
                tasks: vec![Task::Translation],
                prefix: String::new(),
                accepts_pretranslated: false,
            },
            (false, _) => {
                let detail = "the file yizhai.toml is missing; it must list the model's tasks, such as \
                              `tasks = [\"summary\"]`";
                return Err(unusable(detail.to_owned()));
            }
        };
        let weights = map_weights(path)?;
        Ok(Self { path: path.to_owned(), config, generation, settings, weights })
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the contents of `yizhai.toml`.
    pub fn settings(&self) -> &Seq2SeqSettings {
        &self.settings
    }

    /// Returns the existing files that determine the model's output; their hashes identify the model.
    pub fn files(path: &Path) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> =
            weight_files(path).into_iter().filter_map(Result::ok).map(|name| path.join(name)).collect();
        let others = [CONFIG, GENERATION, SETTINGS, "vocab.json", "source.spm", "target.spm", "spiece.model"];
        files.extend(others.map(|name| path.join(name)).into_iter().filter(|path| path.exists()));
        files
    }

    /// Reads a vocabulary file.
    ///
    /// # Errors
    /// If it is missing, too large or unreadable.
    pub fn vocabulary_file(&self, name: &str) -> Result<Vec<u8>, ModelError> {
        read(&self.path, name, MAX_VOCABULARY_BYTES)
    }

    /// Returns `true` if the directory contains a file of this name.
    pub fn has_file(&self, name: &str) -> bool {
        self.path.join(name).exists()
    }

    /// Returns the family, as transformers names it.
    ///
    /// # Errors
    /// If the settings do not contain it.
    pub fn model_type(&self) -> Result<&str, ModelError> {
        self.string("model_type")
    }

    /// Creates an error about this directory.
    pub fn unusable(&self, detail: impl Into<String>) -> ModelError {
        ModelError::Directory { path: self.path.clone(), detail: detail.into() }
    }

    /// Returns a setting of `config.json`; `None` if it is missing or null.
    pub(super) fn config<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ModelError> {
        self.setting(CONFIG, &self.config, key)
    }

    /// Returns a generation setting from `generation_config.json`, or else from `config.json`.
    pub(super) fn generation<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ModelError> {
        match self.setting(GENERATION, &self.generation, key)? {
            Some(value) => Ok(Some(value)),
            None => self.config(key),
        }
    }

    fn setting<T: DeserializeOwned>(
        &self,
        file: &str,
        settings: &Map<String, Value>,
        key: &str,
    ) -> Result<Option<T>, ModelError> {
        match settings.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value.clone())
                .map(Some)
                .map_err(|error| self.unusable(format!("{file}: `{key}`: {error}"))),
        }
    }

    /// Returns a string of `config.json`.
    pub(super) fn string(&self, key: &str) -> Result<&str, ModelError> {
        let text = self.config.get(key).and_then(Value::as_str);
        text.ok_or_else(|| self.unusable(format!("{CONFIG}: `{key}` is missing or not a string")))
    }

    /// Returns a size of `config.json`, at least 1.
    pub(super) fn size(&self, key: &str) -> Result<usize, ModelError> {
        let size: Option<u64> = self.config(key)?;
        let size = size.ok_or_else(|| self.unusable(format!("{CONFIG}: `{key}` is missing")))?;
        match usize::try_from(size) {
            Ok(fits) if (1..=MAX_SIZE).contains(&size) => Ok(fits),
            _ => Err(self.unusable(format!("{CONFIG}: `{key}` is {size}; expected 1 to {MAX_SIZE}"))),
        }
    }

    /// Returns `true` if the weights contain a tensor of this name.
    pub(super) fn has_tensor(&self, name: &str) -> bool {
        self.weights.get(name).is_ok()
    }

    /// Loads a tensor as f32 to a device; its shape must be `shape`.
    pub(super) fn tensor(&self, name: &str, shape: &[usize], device: &Device) -> Result<Tensor, ModelError> {
        let view = self.weights.get(name).map_err(|_| self.unusable(format!("tensor {name} is missing")))?;
        if view.shape() != shape {
            let found = view.shape();
            return Err(self.unusable(format!("tensor {name} has the shape {found:?}; expected {shape:?}")));
        }
        let dtype = view.dtype();
        if !matches!(DType::try_from(dtype), Ok(DType::F32 | DType::F16 | DType::BF16)) {
            return Err(
                self.unusable(format!("tensor {name} has the type {dtype:?}; supported: F32, F16, BF16"))
            );
        }
        Ok(self.weights.load(name, device)?.to_dtype(DType::F32)?)
    }
}

fn map_weights(path: &Path) -> Result<MmapedSafetensors, ModelError> {
    let unusable = |detail: String| ModelError::Directory { path: path.to_owned(), detail };
    let names: Vec<String> = weight_files(path).into_iter().collect::<Result<_, _>>()?;
    if names.is_empty() {
        return Err(unusable(
            "there is no model.safetensors; `save_pretrained` of transformers writes one".to_owned(),
        ));
    }
    let paths: Vec<PathBuf> = names.iter().map(|name| path.join(name)).collect();
    #[allow(unsafe_code)]
    // SAFETY: the maps are read-only and private. Model files are replaced by renaming, never written in place.
    let mapped = unsafe { MmapedSafetensors::multi(&paths) };
    mapped.map_err(|error| {
        let text = error.to_string();
        unusable(format!("{}: {}", names.join(", "), text.lines().next().unwrap_or_default()))
    })
}

/// Returns the names of the weight files: a single one, or those listed in an index.
fn weight_files(path: &Path) -> Vec<Result<String, ModelError>> {
    const SINGLE: &str = "model.safetensors";
    const INDEX: &str = "model.safetensors.index.json";
    #[derive(Deserialize)]
    struct ShardIndex {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    if path.join(SINGLE).exists() {
        return vec![Ok(SINGLE.to_owned())];
    }
    if !path.join(INDEX).exists() {
        return Vec::new();
    }
    let index = match json::<ShardIndex>(path, INDEX) {
        Ok(index) => index,
        Err(error) => return vec![Err(error)],
    };
    let names: std::collections::BTreeSet<String> = index.weight_map.into_values().collect();
    let checked = |name: String| match name.contains(['/', '\\']) {
        true => Err(ModelError::Directory {
            path: path.to_owned(),
            detail: format!("{INDEX}: `{name}` is not a plain file name"),
        }),
        false => Ok(name),
    };
    names.into_iter().map(checked).collect()
}

fn json<T: DeserializeOwned>(path: &Path, name: &str) -> Result<T, ModelError> {
    let bytes = read(path, name, MAX_SETTINGS_BYTES)?;
    serde_json::from_slice(&bytes).map_err(|error| ModelError::Directory {
        path: path.to_owned(),
        detail: format!("{name} is malformed: {error}"),
    })
}

fn read(path: &Path, name: &str, limit: u64) -> Result<Vec<u8>, ModelError> {
    let path = path.join(name);
    let open = |source| ModelError::Open { path: path.clone(), source };
    let mut bytes = Vec::new();
    File::open(&path).map_err(open)?.take(limit + 1).read_to_end(&mut bytes).map_err(open)?;
    if bytes.len() as u64 > limit {
        let detail = format!("{name} is larger than {limit} bytes");
        return Err(ModelError::Directory { path: path.parent().unwrap_or(&path).to_owned(), detail });
    }
    Ok(bytes)
}
