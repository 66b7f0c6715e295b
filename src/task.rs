//! The tasks that a model performs on a section, shared by every layer below the wire.
//!
//! `server::convert` maps them to and from the API's `Task`.

use std::str::FromStr;

use serde::Deserialize;

/// A result that can be produced for a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// A Chinese summary.
    Summary,
    /// An English translation.
    Translation,
}

impl Task {
    /// Every task.
    pub const ALL: [Self; 2] = [Self::Summary, Self::Translation];

    /// Returns the name used in manifests, on the command line and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Summary => "summary",
            Self::Translation => "translation",
        }
    }
}

/// The error returned for a text that names no task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown task `{0}`; expected `summary` or `translation`")]
pub struct UnknownTask(String);

impl FromStr for Task {
    type Err = UnknownTask;

    fn from_str(name: &str) -> Result<Self, UnknownTask> {
        Self::ALL.into_iter().find(|task| task.as_str() == name).ok_or_else(|| UnknownTask(name.to_owned()))
    }
}

/// A set of tasks. The default contains all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tasks {
    /// Produce a Chinese summary of every section.
    pub summary: bool,
    /// Produce an English translation of every paragraph.
    pub translation: bool,
}

impl Tasks {
    /// The empty set.
    pub const NONE: Self = Self { summary: false, translation: false };

    /// Returns `true` if the set contains `task`.
    pub fn contains(self, task: Task) -> bool {
        match task {
            Task::Summary => self.summary,
            Task::Translation => self.translation,
        }
    }

    /// Adds `task` to the set.
    pub fn insert(&mut self, task: Task) {
        match task {
            Task::Summary => self.summary = true,
            Task::Translation => self.translation = true,
        }
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self { summary: true, translation: true }
    }
}

impl FromIterator<Task> for Tasks {
    fn from_iter<I: IntoIterator<Item = Task>>(tasks: I) -> Self {
        tasks.into_iter().fold(Self::NONE, |mut set, task| {
            set.insert(task);
            set
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_parsed_from_its_name() {
        for task in Task::ALL {
            assert_eq!(task.as_str().parse(), Ok(task));
        }
        assert_eq!("Summary".parse::<Task>(), Err(UnknownTask("Summary".to_owned())));
    }

    #[test]
    fn a_set_contains_exactly_the_tasks_it_was_collected_from() {
        for tasks in [vec![], vec![Task::Summary], vec![Task::Translation], Task::ALL.to_vec()] {
            let set: Tasks = tasks.iter().copied().collect();
            for task in Task::ALL {
                assert_eq!(set.contains(task), tasks.contains(&task));
            }
        }
    }
}
