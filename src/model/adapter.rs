//! Adapters: low-rank updates (LoRA) of a decoder's weights, in llama.cpp's GGUF form.
//!
//! An adapter file has a pair of tensors for each matrix that it updates: `NAME.lora_a`, `(rank, input)`, and
//! `NAME.lora_b`, `(out, rank)`; the updated matrix is `W + alpha / rank · B · A`. This module reads and checks the
//! file; [`super::Model::add_adapter`] packs its tensors for the backend.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{GgufFile, ModelError};

/// Maximum rank of an update, far above that of any real adapter.
const MAX_RANK: usize = 1024;
const SUFFIX_A: &str = ".lora_a";
const SUFFIX_B: &str = ".lora_b";

/// Identifies an adapter among those of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AdapterId(u32);

impl AdapterId {
    /// Creates the id of the adapter with this index.
    pub(crate) fn new(index: usize) -> Self {
        Self(index as u32)
    }

    /// Returns the index of the adapter in [`super::Model::adapters`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A description of an adapter, from the metadata of its file.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterInfo {
    /// The path of the file.
    pub path: PathBuf,
    /// The name, if the file contains one.
    pub name: Option<String>,
    /// The architecture of the base model.
    pub architecture: String,
    /// The largest rank of its updates.
    pub rank: usize,
    /// Number of matrices that it updates.
    pub matrices: usize,
}

/// An open adapter file.
pub struct AdapterFile {
    file: GgufFile,
    info: AdapterInfo,
    /// `None` scales every update by 1.
    alpha: Option<f32>,
    /// The rank of the update of each matrix, by the name of the matrix.
    ranks: BTreeMap<String, usize>,
}

/// The update of one matrix in an adapter file.
pub(super) struct LowRankTensors<'a> {
    pub(super) file: &'a GgufFile,
    /// The name of the tensor `(rank, input)`.
    pub(super) a: String,
    /// The name of the tensor `(out, rank)`.
    pub(super) b: String,
    pub(super) rank: usize,
    /// Factor of the update.
    pub(super) scale: f32,
}

impl AdapterFile {
    /// Opens an adapter file and checks everything that does not depend on the base model.
    ///
    /// # Errors
    /// If the file cannot be read, is not an adapter of the type LoRA, or has a tensor without its counterpart or of an
    /// invalid shape; the error names the key or tensor.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let file = GgufFile::open(path)?;
        let unusable = |detail: String| ModelError::Adapter { path: path.to_owned(), detail };
        for (key, expected) in [("general.type", "adapter"), ("adapter.type", "lora")] {
            if !file.has(key) {
                return Err(unusable(format!("metadata {key} is missing; expected `{expected}`")));
            }
            let found = file.string(key)?;
            if found != expected {
                return Err(unusable(format!("metadata {key} is `{found}`; expected `{expected}`")));
            }
        }
        const INVOCATION: &str = "adapter.alora.invocation_tokens";
        if file.has(INVOCATION) {
            return Err(unusable(format!("metadata {INVOCATION}: activated adapters are not supported")));
        }
        const ALPHA: &str = "adapter.lora.alpha";
        let alpha = file.has(ALPHA).then(|| file.f32(ALPHA)).transpose()?;
        let ranks = ranks(&file).map_err(unusable)?;
        let info = AdapterInfo {
            path: path.to_owned(),
            name: file.string("general.name").ok().map(str::to_owned),
            architecture: file.architecture()?.to_owned(),
            rank: ranks.values().copied().max().unwrap_or_default(),
            matrices: ranks.len(),
        };
        Ok(Self { file, info, alpha, ranks })
    }

    /// Returns the description of the adapter.
    pub fn info(&self) -> &AdapterInfo {
        &self.info
    }

    /// Checks that the adapter fits a model of this architecture with these matrices, `(name, (out, input))`.
    pub(super) fn check<'a>(
        &self,
        architecture: &str,
        matrices: impl Iterator<Item = (&'a str, (usize, usize))>,
    ) -> Result<(), ModelError> {
        if self.info.architecture != architecture {
            let base = &self.info.architecture;
            return Err(self.unusable(format!(
                "metadata general.architecture is `{base}`, but the model's architecture is `{architecture}`"
            )));
        }
        let matrices: BTreeMap<&str, (usize, usize)> = matrices.collect();
        for (name, &rank) in &self.ranks {
            let Some(&(out, input)) = matrices.get(name.as_str()) else {
                return Err(self.unusable(format!(
                    "tensor {name}{SUFFIX_A}: the model has no matrix {name} that an adapter can update"
                )));
            };
            for (suffix, expected) in [(SUFFIX_A, [rank, input]), (SUFFIX_B, [out, rank])] {
                let tensor = format!("{name}{suffix}");
                let found = self.file.tensor_shape(&tensor);
                if found != Some(&expected[..]) {
                    let found = found.unwrap_or_default();
                    return Err(self.unusable(format!(
                        "tensor {tensor} has the shape {found:?}; the model needs {expected:?}"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Returns the update of the matrix with this name, if the adapter has one.
    pub(super) fn update(&self, name: &str) -> Option<LowRankTensors<'_>> {
        let rank = *self.ranks.get(name)?;
        Some(LowRankTensors {
            file: &self.file,
            a: format!("{name}{SUFFIX_A}"),
            b: format!("{name}{SUFFIX_B}"),
            rank,
            scale: self.alpha.map_or(1.0, |alpha| alpha / rank as f32),
        })
    }

    fn unusable(&self, detail: String) -> ModelError {
        ModelError::Adapter { path: self.info.path.clone(), detail }
    }
}

/// Returns the rank of the update of each matrix.
fn ranks(file: &GgufFile) -> Result<BTreeMap<String, usize>, String> {
    let mut ranks = BTreeMap::new();
    // Sorted, so that the error for a file is always the same.
    let mut names: Vec<&str> = file.tensor_names().collect();
    names.sort_unstable();
    for name in names {
        let (matrix, counterpart) = match (name.strip_suffix(SUFFIX_A), name.strip_suffix(SUFFIX_B)) {
            (Some(matrix), _) => (matrix, format!("{matrix}{SUFFIX_B}")),
            (_, Some(matrix)) => (matrix, format!("{matrix}{SUFFIX_A}")),
            _ => return Err(format!("tensor {name} ends with neither {SUFFIX_A} nor {SUFFIX_B}")),
        };
        if !file.has_tensor(&counterpart) {
            return Err(format!("tensor {counterpart} is missing, the counterpart of {name}"));
        }
        match *file.tensor_shape(name).unwrap_or_default() {
            [rank, _] if name.ends_with(SUFFIX_A) && rank <= MAX_RANK => {
                ranks.insert(matrix.to_owned(), rank);
            }
            [_, rank] if name.ends_with(SUFFIX_B) && rank <= MAX_RANK => {}
            ref shape => {
                return Err(format!(
                    "tensor {name} has the shape {shape:?}; expected a matrix of at most rank {MAX_RANK}"
                ));
            }
        }
    }
    if ranks.is_empty() {
        return Err("it has no tensors".to_owned());
    }
    Ok(ranks)
}
