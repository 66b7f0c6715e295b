//! The directory of an encoder-decoder model, as `save_pretrained` of transformers writes it: settings as JSON, weights as
//! safetensors, and by choice `yizhai.toml`, which says what the model can be asked for.
//!
//! Owns the memory map of the weights and the bounds on what is read. Nothing in it is believed: every error names the file
//! and the field or tensor. Called by the families of this module and by whoever needs the tokenizer's files.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor, safetensors::MmapedSafetensors};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::model::ModelError;

/// The largest file of settings.
const MAX_SETTINGS_BYTES: u64 = 4 << 20;
/// The largest file of a vocabulary.
const MAX_VOCABULARY_BYTES: u64 = 64 << 20;
/// The largest size that the settings may state.
const MAX_SIZE: u64 = 1 << 24;
const CONFIG: &str = "config.json";
const GENERATION: &str = "generation_config.json";
const ABOUT: &str = "yizhai.toml";

/// An open model directory.
pub struct ModelDirectory {
    path: PathBuf,
    config: Map<String, Value>,
    /// How the model writes; takes the place of what `config.json` says of it.
    generation: Map<String, Value>,
    about: About,
    weights: MmapedSafetensors,
}

/// What `yizhai.toml` says: what the files of a model do not.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// What the model can be asked for: `summary`, `translation`.
    pub tasks: Vec<TaskName>,
    /// What stands before every source, such as `<2en> `.
    #[serde(default)]
    pub prefix: String,
    /// Whether terms and quantities are written in English into the source before the model sees it, as the decoder models
    /// have it; one that was trained on plain Chinese may not know what to do with them.
    #[serde(default)]
    pub settle: bool,
}

/// What a model can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskName {
    /// A Chinese summary.
    Summary,
    /// An English translation.
    Translation,
}

impl ModelDirectory {
    /// Opens a directory: reads its settings and maps its weights.
    ///
    /// # Errors
    /// When a file is missing, is too large or cannot be read, or the weights' header contradicts itself.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let unusable = |detail: String| ModelError::Directory { path: path.to_owned(), detail };
        let config: Map<String, Value> = json(path, CONFIG)?;
        let generation = if path.join(GENERATION).exists() { json(path, GENERATION)? } else { Map::new() };
        let about = match (path.join(ABOUT).exists(), config.get("model_type").and_then(Value::as_str)) {
            (true, _) => {
                let text = String::from_utf8(read(path, ABOUT, MAX_SETTINGS_BYTES)?)
                    .map_err(|_| unusable(format!("{ABOUT} is no UTF-8")))?;
                toml::from_str(&text).map_err(|error| unusable(format!("{ABOUT}: {}", error.message())))?
            }
            // What they are for is known: they translate.
            (false, Some("marian")) => {
                About { tasks: vec![TaskName::Translation], prefix: String::new(), settle: false }
            }
            (false, _) => {
                let detail = "it needs a file yizhai.toml that says what the model is for, such as \
                              `tasks = [\"summary\"]`";
                return Err(unusable(detail.to_owned()));
            }
        };
        let weights = map_weights(path)?;
        Ok(Self { path: path.to_owned(), config, generation, about, weights })
    }

    /// The path that it was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `yizhai.toml` says.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The files that decide what the model writes, those that there are: their hashes tell models apart.
    pub fn files(path: &Path) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> =
            weight_files(path).into_iter().filter_map(Result::ok).map(|name| path.join(name)).collect();
        let others = [CONFIG, GENERATION, ABOUT, "vocab.json", "source.spm", "target.spm", "spiece.model"];
        files.extend(others.map(|name| path.join(name)).into_iter().filter(|path| path.exists()));
        files
    }

    /// A file of the vocabulary.
    ///
    /// # Errors
    /// When it is missing, too large or cannot be read.
    pub fn vocabulary_file(&self, name: &str) -> Result<Vec<u8>, ModelError> {
        read(&self.path, name, MAX_VOCABULARY_BYTES)
    }

    /// Whether a file of this name is there.
    pub fn has_file(&self, name: &str) -> bool {
        self.path.join(name).exists()
    }

    /// The family, as transformers names it.
    ///
    /// # Errors
    /// When the settings do not say.
    pub fn model_type(&self) -> Result<&str, ModelError> {
        self.text("model_type")
    }

    /// An error about this directory.
    pub fn unusable(&self, detail: impl Into<String>) -> ModelError {
        ModelError::Directory { path: self.path.clone(), detail: detail.into() }
    }

    /// A setting of `config.json`, of the type that is asked for; `None` when it is missing or null.
    pub(super) fn config<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ModelError> {
        self.setting(CONFIG, &self.config, key)
    }

    /// A setting of how the model writes: out of `generation_config.json`, else out of `config.json`.
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

    /// A text of `config.json`.
    pub(super) fn text(&self, key: &str) -> Result<&str, ModelError> {
        let text = self.config.get(key).and_then(Value::as_str);
        text.ok_or_else(|| self.unusable(format!("{CONFIG}: `{key}` is missing or no text")))
    }

    /// A size of `config.json`: at least 1.
    pub(super) fn size(&self, key: &str) -> Result<usize, ModelError> {
        let size: Option<u64> = self.config(key)?;
        let size = size.ok_or_else(|| self.unusable(format!("{CONFIG}: `{key}` is missing")))?;
        match usize::try_from(size) {
            Ok(fits) if (1..=MAX_SIZE).contains(&size) => Ok(fits),
            _ => Err(self.unusable(format!("{CONFIG}: `{key}` is {size}, not 1 to {MAX_SIZE}"))),
        }
    }

    /// Whether there is a tensor of this name.
    pub(super) fn has_tensor(&self, name: &str) -> bool {
        self.weights.get(name).is_ok()
    }

    /// A tensor as f32 on a device; its shape must be `shape`.
    pub(super) fn tensor(&self, name: &str, shape: &[usize], device: &Device) -> Result<Tensor, ModelError> {
        let view = self.weights.get(name).map_err(|_| self.unusable(format!("tensor {name} is missing")))?;
        if view.shape() != shape {
            let found = view.shape();
            return Err(self.unusable(format!("tensor {name} has the shape {found:?}, expected {shape:?}")));
        }
        let kind = view.dtype();
        if !matches!(DType::try_from(kind), Ok(DType::F32 | DType::F16 | DType::BF16)) {
            return Err(self.unusable(format!("tensor {name} is {kind:?}; known: F32, F16, BF16")));
        }
        Ok(self.weights.load(name, device)?.to_dtype(DType::F32)?)
    }
}

fn map_weights(path: &Path) -> Result<MmapedSafetensors, ModelError> {
    let unusable = |detail: String| ModelError::Directory { path: path.to_owned(), detail };
    let names: Vec<String> = weight_files(path).into_iter().collect::<Result<_, _>>()?;
    if names.is_empty() {
        return Err(unusable(
            "it holds no model.safetensors; `save_pretrained` of transformers writes one".to_owned(),
        ));
    }
    let paths: Vec<PathBuf> = names.iter().map(|name| path.join(name)).collect();
    #[allow(unsafe_code)]
    // SAFETY: the maps are read-only and private; model files are replaced by renaming, never written in place.
    let mapped = unsafe { MmapedSafetensors::multi(&paths) };
    mapped.map_err(|error| {
        let text = error.to_string();
        unusable(format!("{}: {}", names.join(", "), text.lines().next().unwrap_or_default()))
    })
}

/// The names of the files with the weights: one, or those that an index names.
fn weight_files(path: &Path) -> Vec<Result<String, ModelError>> {
    const WHOLE: &str = "model.safetensors";
    const INDEX: &str = "model.safetensors.index.json";
    #[derive(Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    if path.join(WHOLE).exists() {
        return vec![Ok(WHOLE.to_owned())];
    }
    if !path.join(INDEX).exists() {
        return Vec::new();
    }
    let index = match json::<Index>(path, INDEX) {
        Ok(index) => index,
        Err(error) => return vec![Err(error)],
    };
    let names: std::collections::BTreeSet<String> = index.weight_map.into_values().collect();
    let checked = |name: String| match name.contains(['/', '\\']) {
        true => Err(ModelError::Directory {
            path: path.to_owned(),
            detail: format!("{INDEX}: `{name}` is no plain file name"),
        }),
        false => Ok(name),
    };
    names.into_iter().map(checked).collect()
}

fn json<T: DeserializeOwned>(path: &Path, name: &str) -> Result<T, ModelError> {
    let bytes = read(path, name, MAX_SETTINGS_BYTES)?;
    serde_json::from_slice(&bytes).map_err(|error| ModelError::Directory {
        path: path.to_owned(),
        detail: format!("{name} is no such JSON: {error}"),
    })
}

fn read(path: &Path, name: &str, most: u64) -> Result<Vec<u8>, ModelError> {
    let path = path.join(name);
    let open = |source| ModelError::Open { path: path.clone(), source };
    let mut bytes = Vec::new();
    File::open(&path).map_err(open)?.take(most + 1).read_to_end(&mut bytes).map_err(open)?;
    if bytes.len() as u64 > most {
        let detail = format!("{name} has more than {most} bytes");
        return Err(ModelError::Directory { path: path.parent().unwrap_or(&path).to_owned(), detail });
    }
    Ok(bytes)
}
