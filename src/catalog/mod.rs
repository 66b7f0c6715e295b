//! The models this program knows, and how their files come onto this machine.
//!
//! Owns the list of manifests (`models/*.toml`, compiled in) and, in [`ModelStore`], the cache of verified files. Called by
//! `cli` (the `models` subcommand, `--model`) and by whoever starts the engine. It blocks: an async caller wraps it in
//! a blocking task. It never opens a model, knows nothing of the rest of the crate, and never prints.
//!
//! ```text
//! id ─Catalog─▶ Manifest ─Store::pull─▶ local file? ─▶ hub ─▶ wheels ─▶ FILE.partial ─size, sha256─▶ FILE
//! ```
//!
//! `manifest` a model's description and its rules · `store` the cache directory · `fetch` a pull's order of events ·
//! `partial` the growing file · `source/` how each kind of source gives bytes · `verify` hashes · `settings` what
//! comes from the environment · `error` what can go wrong.

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

/// Every file of `models/`; a test fails when one is missing here.
const BUILTIN: [(&str, &str); 7] = [
    builtin!("qwen2.5-coder-1.5b-instruct-q4_k_m.toml"),
    builtin!("qwen2.5-coder-0.5b-instruct-q4_k_m.toml"),
    builtin!("qwen2.5-1.5b-instruct-q4_k_m.toml"),
    builtin!("qwen3-1.7b-q8_0.toml"),
    builtin!("qwen3-4b-q4_k_m.toml"),
    builtin!("smollm2-135m-instruct-q4_1.toml"),
    builtin!("gemma-3-270m-q4_k_m.toml"),
];

/// How many ids an unknown one is answered with.
const NEAREST: usize = 3;

/// The known models, in a fixed order, with one default among them.
#[derive(Debug, Clone)]
pub struct Catalog {
    manifests: Vec<Manifest>,
    default: usize,
}

impl Catalog {
    /// The manifests of `models/`.
    ///
    /// # Errors
    /// [`CatalogError::Manifest`] when one of them is wrong, which a test rules out.
    pub fn builtin() -> Result<Self, CatalogError> {
        Self::parse(&BUILTIN)
    }

    /// A catalog of the given manifests, each a file name (for errors) and its text.
    ///
    /// # Errors
    /// [`CatalogError::Manifest`] when one does not parse, an id comes twice, or not exactly one is the default.
    pub fn parse(files: &[(&str, &str)]) -> Result<Self, CatalogError> {
        let mut manifests: Vec<Manifest> = Vec::with_capacity(files.len());
        let mut default = None;
        for &(file, text) in files {
            let invalid = |reason: String| CatalogError::Manifest { file: file.to_owned(), reason };
            let manifest = Manifest::parse(file, text)?;
            if file != format!("{}.toml", manifest.id) {
                return Err(invalid(format!("must be named {}.toml, after its id", manifest.id)));
            }
            if manifests.iter().any(|other| other.id == manifest.id) {
                return Err(invalid(format!("the id `{}` comes twice", manifest.id)));
            }
            if manifest.default && default.replace(manifests.len()).is_some() {
                return Err(invalid("a second `default = true`".to_owned()));
            }
            manifests.push(manifest);
        }
        let default = default.ok_or_else(|| CatalogError::Manifest {
            file: "*.toml".to_owned(),
            reason: "no manifest has `default = true`".to_owned(),
        })?;
        Ok(Self { manifests, default })
    }

    /// The model with this id; upper and lower case are the same.
    ///
    /// # Errors
    /// [`CatalogError::UnknownModel`] with the most similar ids.
    pub fn get(&self, id: &str) -> Result<&Manifest, CatalogError> {
        let wanted = id.to_lowercase();
        self.iter()
            .find(|manifest| manifest.id == wanted)
            .ok_or_else(|| CatalogError::UnknownModel { id: id.to_owned(), nearest: self.nearest(&wanted) })
    }

    /// The model that is used when none is named.
    pub fn default(&self) -> &Manifest {
        &self.manifests[self.default]
    }

    /// All models, the order that of the list above.
    pub fn iter(&self) -> impl Iterator<Item = &Manifest> {
        self.manifests.iter()
    }

    fn nearest(&self, wanted: &str) -> Vec<String> {
        let mut ids: Vec<_> = self.iter().map(|manifest| manifest.id.as_str()).collect();
        ids.sort_by_key(|id| edit_distance(wanted, id));
        ids.into_iter().take(NEAREST).map(str::to_owned).collect()
    }
}

/// Levenshtein distance in characters, in one row of the usual table.
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
