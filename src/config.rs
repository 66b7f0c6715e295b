//! The choice of models and how they run, as given by the command line.

use std::{path::PathBuf, str::FromStr};

use crate::{engine::EngineConfig, model::ModelOptions, task::Task};

/// A reference to a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelRef {
    /// The id of a model in the catalog.
    Id(String),
    /// The path of a GGUF file, or of the directory of an encoder-decoder model.
    Path(PathBuf),
}

impl FromStr for ModelRef {
    type Err = std::convert::Infallible;

    /// Parses a path if the text ends in `.gguf` or contains a path separator, and an id otherwise.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let is_path = s.ends_with(".gguf") || s.contains(std::path::MAIN_SEPARATOR);
        Ok(if is_path { Self::Path(PathBuf::from(s)) } else { Self::Id(s.to_owned()) })
    }
}

/// A model for one task, or for all tasks without their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelChoice {
    /// The task; `None` for all tasks without their own.
    pub task: Option<Task>,
    /// The model.
    pub model: ModelRef,
}

impl FromStr for ModelChoice {
    type Err = std::convert::Infallible;

    /// Parses `summary=MODEL`, `translation=MODEL` or `MODEL`.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let with_task = s.split_once('=').and_then(|(task, model)| Some((task.parse().ok()?, model)));
        let (task, model) = with_task.map_or((None, s), |(task, model)| (Some(task), model));
        Ok(Self { task, model: model.parse()? })
    }
}

/// The models to run and their options.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// The models. Tasks without a model use the default of the catalog. Later choices for the same task take
    /// precedence.
    pub models: Vec<ModelChoice>,
    /// The options of the models, such as the device.
    pub options: ModelOptions,
    /// The options of the engines, such as the batch size.
    pub engine: EngineConfig,
    /// A file of prompts; `None` for the built-in prompts.
    pub prompts: Option<PathBuf>,
}

impl ModelConfig {
    /// Returns the model of a task. `None` means the default of the catalog.
    pub fn model(&self, task: Task) -> Option<&ModelRef> {
        let last = |task| self.models.iter().rfind(|choice| choice.task == task).map(|choice| &choice.model);
        last(Some(task)).or_else(|| last(None))
    }

    /// Restricts the configuration to what `tasks` need. For a single task, only its model is loaded.
    #[must_use]
    pub fn for_tasks(self, tasks: &[Task]) -> Self {
        let [task] = tasks else { return self };
        let models = self.model(*task).cloned().map(|model| ModelChoice { task: None, model });
        Self { models: models.into_iter().collect(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(choices: &[&str]) -> ModelConfig {
        let models = choices.iter().map(|choice| choice.parse().unwrap()).collect();
        let (options, engine) = (ModelOptions::default(), EngineConfig::default());
        ModelConfig { models, options, engine, prompts: None }
    }

    fn id(id: &str) -> Option<ModelRef> {
        Some(ModelRef::Id(id.to_owned()))
    }

    #[test]
    fn a_task_uses_its_own_model_or_the_common_one() {
        let model = |choices: &[&str], task| config(choices).model(task).cloned();
        assert_eq!(model(&[], Task::Summary), None);
        assert_eq!(model(&["a", "b"], Task::Summary), id("b"));
        let choices = ["summary=a", "b", "translation=c.gguf"];
        assert_eq!(model(&choices, Task::Summary), id("a"));
        assert_eq!(model(&choices, Task::Translation), Some(ModelRef::Path("c.gguf".into())));
        assert_eq!(model(&["summary=a"], Task::Translation), None);
        assert_eq!(model(&["/models/x=y"], Task::Translation), Some(ModelRef::Path("/models/x=y".into())));
    }

    #[test]
    fn a_single_task_needs_only_its_own_model() {
        let config = config(&["summary=a", "translation=b"]);
        for (task, model) in [(Task::Summary, id("a")), (Task::Translation, id("b"))] {
            let restricted = config.clone().for_tasks(&[task]);
            assert_eq!(restricted.model(Task::Summary), model.as_ref());
            assert_eq!(restricted.model(Task::Translation), model.as_ref());
        }
        assert_eq!(config.clone().for_tasks(&[Task::Summary, Task::Translation]).models, config.models);
        let default = ModelConfig { models: Vec::new(), ..config }.for_tasks(&[Task::Summary]);
        assert_eq!(default.model(Task::Translation), None);
    }

    #[test]
    fn parses_paths_and_ids() {
        for path in ["model.gguf", "./model", "/models/qwen"] {
            assert_eq!(path.parse(), Ok(ModelRef::Path(path.into())));
        }
        assert_eq!("qwen3-1.7b-q8_0".parse(), Ok(ModelRef::Id("qwen3-1.7b-q8_0".to_owned())));
    }
}
