//! What the command line and the environment decide, checked and in the program's own types.

use std::{path::PathBuf, str::FromStr};

use crate::{engine::EngineConfig, model::ModelOptions, task::Task};

/// Which model: one of the catalog, or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelRef {
    /// The id of a model in the catalog.
    Id(String),
    /// A GGUF file.
    Path(PathBuf),
}

impl FromStr for ModelRef {
    type Err = std::convert::Infallible;

    /// What ends in `.gguf` or holds a path separator is a file, everything else an id.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let is_path = s.ends_with(".gguf") || s.contains(std::path::MAIN_SEPARATOR);
        Ok(if is_path { Self::Path(PathBuf::from(s)) } else { Self::Id(s.to_owned()) })
    }
}

/// A model, for one task or for all that have none of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelChoice {
    /// The task; `None` for all.
    pub task: Option<Task>,
    /// The model.
    pub model: ModelRef,
}

impl FromStr for ModelChoice {
    type Err = std::convert::Infallible;

    /// `summary=MODEL`, `translation=MODEL` or `MODEL`.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let (task, model) = match s.split_once('=') {
            Some(("summary", model)) => (Some(Task::Summary), model),
            Some(("translation", model)) => (Some(Task::Translation), model),
            _ => (None, s),
        };
        Ok(Self { task, model: model.parse()? })
    }
}

/// Which models to run, and how.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// The models; a task without one has the catalog's default. Of two for the same task the later counts.
    pub models: Vec<ModelChoice>,
    /// Where and how it runs.
    pub options: ModelOptions,
    /// How much it takes on at once.
    pub engine: EngineConfig,
    /// A file of prompts; `None` means the ones of the build.
    pub prompts: Option<PathBuf>,
}

impl ModelConfig {
    /// The model of a task: its own, or that of all; `None` means the catalog's default.
    pub fn model(&self, task: Task) -> Option<&ModelRef> {
        let of = |task| self.models.iter().rfind(|choice| choice.task == task).map(|choice| &choice.model);
        of(Some(task)).or_else(|| of(None))
    }

    /// What is needed for some of the tasks: for one alone no other model than its own is loaded.
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

    #[test]
    fn a_task_has_its_own_model_or_that_of_all() {
        let model = |choices: &[&str], task| {
            let models = choices.iter().map(|choice| choice.parse().unwrap()).collect();
            let (options, engine) = (ModelOptions::default(), EngineConfig::default());
            ModelConfig { models, options, engine, prompts: None }.model(task).cloned()
        };
        let id = |id: &str| Some(ModelRef::Id(id.to_owned()));
        assert_eq!(model(&[], Task::Summary), None);
        assert_eq!(model(&["a", "b"], Task::Summary), id("b"));
        let choices = ["summary=a", "b", "translation=c.gguf"];
        assert_eq!(model(&choices, Task::Summary), id("a"));
        assert_eq!(model(&choices, Task::Translation), Some(ModelRef::Path("c.gguf".into())));
        assert_eq!(model(&["summary=a"], Task::Translation), None);
        assert_eq!(model(&["/models/x=y"], Task::Translation), Some(ModelRef::Path("/models/x=y".into())));
    }

    #[test]
    fn a_task_alone_needs_its_own_model_only() {
        let models = ["summary=a", "translation=b"].iter().map(|choice| choice.parse().unwrap()).collect();
        let (options, engine) = (ModelOptions::default(), EngineConfig::default());
        let config = ModelConfig { models, options, engine, prompts: None };
        for (task, id) in [(Task::Summary, "a"), (Task::Translation, "b")] {
            let alone = config.clone().for_tasks(&[task]);
            let id = Some(&ModelRef::Id(id.to_owned()));
            assert_eq!((alone.model(Task::Summary), alone.model(Task::Translation)), (id, id));
        }
        assert_eq!(config.clone().for_tasks(&[Task::Summary, Task::Translation]).models, config.models);
        let default = ModelConfig { models: Vec::new(), ..config }.for_tasks(&[Task::Summary]);
        assert_eq!(default.model(Task::Translation), None);
    }

    #[test]
    fn a_file_is_told_from_an_id_by_its_looks() {
        for path in ["model.gguf", "./model", "/models/qwen"] {
            assert_eq!(path.parse(), Ok(ModelRef::Path(path.into())));
        }
        assert_eq!("qwen3-1.7b-q8_0".parse(), Ok(ModelRef::Id("qwen3-1.7b-q8_0".to_owned())));
    }
}
