//! From `--model` to a running pipeline: looked up, fetched when it is missing, loaded.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::progress;
use crate::{
    catalog::{Catalog, Store},
    config::{ModelConfig, ModelRef},
    model::GgufFile,
    pb,
    pipeline::{ModelInfo, Pipeline, Prompts},
};

/// A model on this machine.
#[derive(Debug, Clone)]
pub(super) struct Located {
    pub(super) id: String,
    pub(super) path: PathBuf,
    /// Known from the catalog; computed when the model is a file of the user's.
    weights_sha256: Option<String>,
}

/// Names the model without touching the network: its id, for messages and for ListModels.
pub(super) fn id(config: &ModelConfig) -> anyhow::Result<String> {
    Ok(match &config.model {
        Some(ModelRef::Path(path)) => file_id(path),
        Some(ModelRef::Id(id)) => Catalog::builtin()?.get(id)?.id.clone(),
        None => Catalog::builtin()?.default().id.clone(),
    })
}

/// Finds the model, fetching it first when it is one of the catalog and not here yet. Blocks.
pub(super) fn locate(config: &ModelConfig, quiet: bool) -> anyhow::Result<Located> {
    let catalog = Catalog::builtin()?;
    let manifest = match &config.model {
        Some(ModelRef::Path(path)) => {
            // Opened here for its error only: a wrong path is told before anything else is done.
            GgufFile::open(path)?;
            return Ok(Located { id: file_id(path), path: path.clone(), weights_sha256: None });
        }
        Some(ModelRef::Id(id)) => catalog.get(id)?,
        None => catalog.default(),
    };
    let store = Store::from_env()?;
    let pulled = store.pull(manifest, &mut progress::Download::new(&manifest.id, quiet))?;
    let weights_sha256 = store.sha256(manifest).map(|hash| hash.to_string());
    Ok(Located { id: manifest.id.clone(), path: pulled.path, weights_sha256 })
}

/// Loads a model. Blocks for seconds.
pub(super) fn load(located: Located, config: &ModelConfig) -> anyhow::Result<Pipeline> {
    let Located { id, path, weights_sha256 } = located;
    let weights_sha256 = match weights_sha256 {
        Some(hash) => hash,
        None => crate::catalog::hash_file(&path, &mut |_| {})
            .with_context(|| format!("cannot read {}", path.display()))?
            .to_string(),
    };
    let started = std::time::Instant::now();
    // Read first: a file with a mistake is told before seconds are spent on the weights.
    let prompts = config.prompts.as_deref().map(prompts).transpose()?;
    let mut pipeline =
        Pipeline::load(&path, ModelInfo { id, weights_sha256 }, &config.options, config.engine)?;
    if let Some(prompts) = prompts {
        pipeline = pipeline.with_prompts(prompts);
    }
    tracing::info!(
        model = pipeline.model().id,
        max_sequences = config.engine.max_sequences,
        kv_tokens = config.engine.kv_tokens,
        load_time_ms = started.elapsed().as_millis() as u64,
        "the model is loaded"
    );
    Ok(pipeline)
}

fn prompts(path: &Path) -> anyhow::Result<Prompts> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Prompts::parse(&text).with_context(|| path.display().to_string())
}

/// What a server tells of the models that this build knows.
pub(super) fn known_models() -> Vec<pb::Model> {
    let (Ok(catalog), store) = (Catalog::builtin(), Store::from_env().ok()) else { return Vec::new() };
    let is_installed = |manifest| store.as_ref().is_some_and(|store| store.installed(manifest).is_some());
    catalog
        .iter()
        .map(|manifest| pb::Model {
            id: manifest.id.clone(),
            architecture: manifest.architecture.as_str().to_owned(),
            licence: manifest.licence.clone(),
            size_bytes: manifest.size_bytes.and_then(|size| size.try_into().ok()).unwrap_or_default(),
            sha256: manifest.sha256.map(|hash| hash.to_string()).unwrap_or_default(),
            verified: manifest.verified,
            installed: is_installed(manifest),
            running: false,
        })
        .collect()
}

/// A file's id is its name without the ending.
fn file_id(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
