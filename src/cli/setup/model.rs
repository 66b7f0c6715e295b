//! `--model`: finds a model, downloads it if necessary, and loads it into a pipeline.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use super::task_message;
use crate::{
    catalog::{self, Catalog, ModelStore},
    cli::progress::DownloadProgress,
    config::{ModelConfig, ModelRef},
    model::{GgufFile, ModelOptions, seq2seq::ModelDirectory},
    pb,
    pipeline::{ModelInfo, Pipeline, Prompts},
    task::{Task, Tasks},
};

/// A model whose files are on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct LocatedModel {
    pub(in crate::cli) id: String,
    pub(in crate::cli) path: PathBuf,
    /// The hash from the catalog; `None` for a file of the user, which is hashed when it is loaded.
    weights_sha256: Option<String>,
    /// The tasks that the model supports.
    tasks: Tasks,
}

/// The model of each task; both may be the same.
#[derive(Debug, Clone)]
pub(in crate::cli) struct LocatedModels {
    summary: LocatedModel,
    translation: LocatedModel,
}

/// Returns the ids of the models for display, without downloading anything.
pub(in crate::cli) fn display_id(config: &ModelConfig) -> anyhow::Result<String> {
    let id = |task| {
        Ok::<_, anyhow::Error>(match config.model(task) {
            Some(ModelRef::Path(path)) => file_id(path),
            Some(ModelRef::Id(id)) => Catalog::builtin()?.get(id)?.id.clone(),
            None => Catalog::builtin()?.default().id.clone(),
        })
    };
    let (summary, translation) = (id(Task::Summary)?, id(Task::Translation)?);
    Ok(match summary == translation {
        true => translation,
        false => format!("summary={summary} translation={translation}"),
    })
}

/// Finds a model, and downloads it if it is in the catalog but not on this machine. `None` means the default model.
///
/// Blocks the thread.
pub(in crate::cli) fn locate(model: Option<&ModelRef>, quiet: bool) -> anyhow::Result<LocatedModel> {
    let catalog = Catalog::builtin()?;
    let manifest = match model {
        Some(ModelRef::Path(path)) => {
            // Opened only to report an invalid file early.
            let tasks = match path.is_dir() {
                true => declared_tasks(&ModelDirectory::open(path)?),
                false => GgufFile::open(path).map(|_| Tasks::default())?,
            };
            let (id, path) = (file_id(path), path.clone());
            return Ok(LocatedModel { id, path, weights_sha256: None, tasks });
        }
        Some(ModelRef::Id(id)) => catalog.get(id)?,
        None => catalog.default(),
    };
    let store = ModelStore::from_env()?;
    let pulled = store.pull(manifest, &mut DownloadProgress::new(&manifest.id, quiet))?;
    let weights_sha256 = store.sha256(manifest).map(|hash| hash.to_string());
    let tasks = manifest.tasks.iter().copied().collect();
    Ok(LocatedModel { id: manifest.id.clone(), path: pulled.path, weights_sha256, tasks })
}

/// Finds the models of both tasks, as [`locate`] does.
///
/// # Errors
/// Returns an error if [`locate`] does, or if a model does not support the task that it was chosen for.
pub(in crate::cli) fn locate_all(config: &ModelConfig, quiet: bool) -> anyhow::Result<LocatedModels> {
    let translation = locate(config.model(Task::Translation), quiet)?;
    let is_shared = config.model(Task::Summary) == config.model(Task::Translation);
    let summary = if is_shared { translation.clone() } else { locate(config.model(Task::Summary), quiet)? };
    match (is_shared, summary.tasks.summary, translation.tasks.translation) {
        (true, false, false) => bail!("{} is a base model and supports no task", summary.id),
        (false, false, _) => bail!("{} does not support summaries", summary.id),
        (false, _, false) => bail!("{} does not support translation", translation.id),
        _ => Ok(LocatedModels { summary, translation }),
    }
}

/// Loads the models. Blocks the thread for several seconds.
pub(in crate::cli) fn load(located: LocatedModels, config: &ModelConfig) -> anyhow::Result<Pipeline> {
    // Read before the weights are loaded, so that an error is reported at once.
    let prompts = config.prompts.as_deref().map(read_prompts).transpose()?;
    let LocatedModels { summary, translation } = located;
    let is_shared = summary == translation;
    let mut weights = weights_bytes(&translation.path);
    let mut pipeline = load_one(translation, config)?;
    if !is_shared {
        weights += weights_bytes(&summary.path);
        pipeline = pipeline.with_summary_model(load_one(summary, config)?);
    }
    let kv: u64 = pipeline.engines().iter().map(|engine| engine.metrics().kv_bytes.get() as u64).sum();
    tracing::info!(
        weights_mebibytes = weights >> 20,
        kv_mebibytes = kv >> 20,
        total_mebibytes = (weights + kv) >> 20,
        "loaded all models"
    );
    Ok(match prompts {
        Some(prompts) => pipeline.with_prompts(prompts),
        None => pipeline,
    })
}

fn load_one(located: LocatedModel, config: &ModelConfig) -> anyhow::Result<Pipeline> {
    let LocatedModel { id, path, weights_sha256, tasks } = located;
    let weights_sha256 = match weights_sha256 {
        Some(hash) => hash,
        None => sha256(&path)?,
    };
    let started = std::time::Instant::now();
    let model = ModelInfo { id: id.clone(), weights_sha256, tasks };
    let pipeline = Pipeline::load(&path, model, &config.options, config.engine)?;
    tracing::info!(
        model = id,
        weights_mebibytes = weights_bytes(&path) >> 20,
        max_sequences = config.engine.max_sequences,
        load_time_ms = started.elapsed().as_millis() as u64,
        "loaded the model"
    );
    Ok(pipeline)
}

/// Returns the tasks of a model directory.
fn declared_tasks(directory: &ModelDirectory) -> Tasks {
    directory.settings().tasks.iter().copied().collect()
}

/// Returns the files of a model: the file itself, or the files in its directory.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() { ModelDirectory::files(path) } else { vec![path.to_owned()] }
}

/// Returns the size of the files of a model, which is a close estimate of the size of its weights.
fn weights_bytes(path: &Path) -> u64 {
    files(path).iter().filter_map(|file| std::fs::metadata(file).ok()).map(|file| file.len()).sum()
}

/// Returns the SHA-256 of a model: of its file, or for a directory of a list of the hashes and names of its files.
fn sha256(path: &Path) -> anyhow::Result<String> {
    let hash = |file: &Path| {
        catalog::hash_file(file, &mut |_| {}).with_context(|| format!("cannot read {}", file.display()))
    };
    if !path.is_dir() {
        return Ok(hash(path)?.to_string());
    }
    let mut all = Sha256::new();
    for file in files(path) {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        all.update(format!("{}  {name}\n", hash(&file)?));
    }
    Ok(all.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn read_prompts(path: &Path) -> anyhow::Result<Prompts> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Prompts::parse(&text).with_context(|| path.display().to_string())
}

/// Returns a function that lists the models of the catalog for ListModels.
pub(in crate::cli) fn catalog_models(options: ModelOptions) -> Box<dyn Fn() -> Vec<pb::Model> + Send + Sync> {
    let device = options.device_name();
    Box::new(move || {
        let (Ok(catalog), store) = (Catalog::builtin(), ModelStore::from_env().ok()) else {
            return Vec::new();
        };
        let is_installed = |manifest| store.as_ref().is_some_and(|store| store.installed(manifest).is_some());
        let models = catalog.iter().map(|manifest| pb::Model {
            id: manifest.id.clone(),
            architecture: manifest.architecture.as_str().to_owned(),
            license: manifest.license.clone(),
            size_bytes: manifest.size_bytes.and_then(|size| size.try_into().ok()).unwrap_or_default(),
            sha256: manifest.sha256.map(|hash| hash.to_string()).unwrap_or_default(),
            verified: manifest.verified,
            installed: is_installed(manifest),
            running: false,
            tasks: manifest.tasks.iter().map(|task| task_message(*task)).collect(),
            context_length: manifest.context_length.try_into().unwrap_or(i32::MAX),
            quantization: manifest.quantization(),
            device: device.clone(),
        });
        models.collect()
    })
}

/// Returns the id of a model file: its name without the extension.
fn file_id(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
