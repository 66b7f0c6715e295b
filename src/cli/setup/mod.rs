//! The setup of commands: glossaries, models, and the connection to a server.

pub(super) mod connection;
pub(super) mod glossary;
pub(super) mod model;

use crate::{pb, task::Task};

/// Returns the value of a task in messages.
pub(super) fn task_message(task: Task) -> i32 {
    match task {
        Task::Summary => pb::Task::Summary.into(),
        Task::Translation => pb::Task::Translation.into(),
    }
}
