//! From `--model` to a running pipeline: looked up, fetched when it is missing, loaded.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use super::progress;
use crate::{
    catalog::{self, Catalog, Store},
    config::{ModelConfig, ModelRef},
    model::{
        GgufFile, ModelOptions,
        seq2seq::{ModelDirectory, TaskName},
    },
    pb,
    pipeline::{ModelInfo, Pipeline, Prompts},
    task::{Task, Tasks},
};

/// A model on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Located {
    pub(super) id: String,
    pub(super) path: PathBuf,
    /// Known from the catalog; computed when the model is a file of the user's.
    weights_sha256: Option<String>,
    /// What it can be asked for.
    tasks: Tasks,
}

/// The models of the tasks on this machine; both may be one.
#[derive(Debug, Clone)]
pub(super) struct LocatedModels {
    summary: Located,
    translation: Located,
}

/// Names the models without touching the network: their ids, for messages.
pub(super) fn id(config: &ModelConfig) -> anyhow::Result<String> {
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

/// Finds a model, fetching it first when it is one of the catalog and not here yet; `None` is the default. Blocks.
pub(super) fn locate(model: Option<&ModelRef>, quiet: bool) -> anyhow::Result<Located> {
    let catalog = Catalog::builtin()?;
    let manifest = match model {
        Some(ModelRef::Path(path)) => {
            // Opened here for its errors first: a wrong path is told before anything else is done.
            let tasks = match path.is_dir() {
                true => tasks_of(&ModelDirectory::open(path)?),
                false => GgufFile::open(path).map(|_| Tasks::default())?,
            };
            let (id, path) = (file_id(path), path.clone());
            return Ok(Located { id, path, weights_sha256: None, tasks });
        }
        Some(ModelRef::Id(id)) => catalog.get(id)?,
        None => catalog.default(),
    };
    let store = Store::from_env()?;
    let pulled = store.pull(manifest, &mut progress::Download::new(&manifest.id, quiet))?;
    let weights_sha256 = store.sha256(manifest).map(|hash| hash.to_string());
    let tasks = Tasks {
        summary: manifest.tasks.contains(&catalog::Task::Summary),
        translation: manifest.tasks.contains(&catalog::Task::Translation),
    };
    Ok(Located { id: manifest.id.clone(), path: pulled.path, weights_sha256, tasks })
}

/// Finds the models of both tasks, as [`locate`] does.
///
/// # Errors
/// As well when a model was given a task, or all of them, that it cannot do.
pub(super) fn locate_all(config: &ModelConfig, quiet: bool) -> anyhow::Result<LocatedModels> {
    let translation = locate(config.model(Task::Translation), quiet)?;
    let is_one = config.model(Task::Summary) == config.model(Task::Translation);
    let summary = if is_one { translation.clone() } else { locate(config.model(Task::Summary), quiet)? };
    match (is_one, summary.tasks.summary, translation.tasks.translation) {
        (true, false, false) => bail!("{} can be given no task: it only goes on with a text", summary.id),
        (false, false, _) => bail!("{} cannot make summaries", summary.id),
        (false, _, false) => bail!("{} cannot make translations", translation.id),
        _ => Ok(LocatedModels { summary, translation }),
    }
}

/// Loads the models. Blocks for seconds.
pub(super) fn load(located: LocatedModels, config: &ModelConfig) -> anyhow::Result<Pipeline> {
    // Read first: a file with a mistake is told before seconds are spent on the weights.
    let prompts = config.prompts.as_deref().map(prompts).transpose()?;
    let LocatedModels { summary, translation } = located;
    let is_one = summary == translation;
    let mut weights = weights_bytes(&translation.path);
    let mut pipeline = load_one(translation, config)?;
    if !is_one {
        weights += weights_bytes(&summary.path);
        pipeline = pipeline.with_summaries_of(load_one(summary, config)?);
    }
    let kv: u64 = pipeline.engines().iter().map(|engine| engine.metrics().kv_bytes.get() as u64).sum();
    tracing::info!(
        weights_mebibytes = weights >> 20,
        kv_mebibytes = kv >> 20,
        total_mebibytes = (weights + kv) >> 20,
        "the memory of all models"
    );
    Ok(match prompts {
        Some(prompts) => pipeline.with_prompts(prompts),
        None => pipeline,
    })
}

fn load_one(located: Located, config: &ModelConfig) -> anyhow::Result<Pipeline> {
    let Located { id, path, weights_sha256, tasks } = located;
    let weights_sha256 = match weights_sha256 {
        Some(hash) => hash,
        None => hash(&path)?,
    };
    let started = std::time::Instant::now();
    let model = ModelInfo { id: id.clone(), weights_sha256, tasks };
    let pipeline = Pipeline::load(&path, model, &config.options, config.engine)?;
    tracing::info!(
        model = id,
        weights_mebibytes = weights_bytes(&path) >> 20,
        max_sequences = config.engine.max_sequences,
        load_time_ms = started.elapsed().as_millis() as u64,
        "the model is loaded"
    );
    Ok(pipeline)
}

/// What the file of a directory says that its model can be asked for.
fn tasks_of(directory: &ModelDirectory) -> Tasks {
    let tasks = &directory.about().tasks;
    Tasks { summary: tasks.contains(&TaskName::Summary), translation: tasks.contains(&TaskName::Translation) }
}

/// The files of a model: itself, or those of its directory.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() { ModelDirectory::files(path) } else { vec![path.to_owned()] }
}

/// The bytes of a model's files, which are little else than weights.
fn weights_bytes(path: &Path) -> u64 {
    files(path).iter().filter_map(|file| std::fs::metadata(file).ok()).map(|file| file.len()).sum()
}

/// The SHA-256 of a model: that of its file; of a directory, over the hashes and names of its files.
fn hash(path: &Path) -> anyhow::Result<String> {
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

fn prompts(path: &Path) -> anyhow::Result<Prompts> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Prompts::parse(&text).with_context(|| path.display().to_string())
}

/// Tells what a server with these options tells of the models that this build knows.
pub(super) fn known_models(options: ModelOptions) -> Box<dyn Fn() -> Vec<pb::Model> + Send + Sync> {
    let device = options.device_name();
    Box::new(move || {
        let (Ok(catalog), store) = (Catalog::builtin(), Store::from_env().ok()) else { return Vec::new() };
        let is_installed = |manifest| store.as_ref().is_some_and(|store| store.installed(manifest).is_some());
        let models = catalog.iter().map(|manifest| pb::Model {
            id: manifest.id.clone(),
            architecture: manifest.architecture.as_str().to_owned(),
            license: manifest.licence.clone(),
            size_bytes: manifest.size_bytes.and_then(|size| size.try_into().ok()).unwrap_or_default(),
            sha256: manifest.sha256.map(|hash| hash.to_string()).unwrap_or_default(),
            verified: manifest.verified,
            installed: is_installed(manifest),
            running: false,
            tasks: manifest.tasks.iter().map(|task| task_message(*task).into()).collect(),
            context_length: manifest.context_length.try_into().unwrap_or(i32::MAX),
            quantization: manifest.quantization(),
            device: device.clone(),
        });
        models.collect()
    })
}

fn task_message(task: catalog::Task) -> pb::Task {
    match task {
        catalog::Task::Summary => pb::Task::Summary,
        catalog::Task::Translation => pb::Task::Translation,
    }
}

/// A file's id is its name without the ending.
fn file_id(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
