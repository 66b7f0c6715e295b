//! The progress bars on a terminal: one for the pages, one for the characters.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::state::ProgressState;

pub(super) struct ProgressBars {
    multi: MultiProgress,
    pages: ProgressBar,
    characters: ProgressBar,
}

impl ProgressBars {
    pub(super) fn new() -> Self {
        let multi = MultiProgress::new();
        let style = |template| {
            ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("━╸─")
        };
        let pages =
            multi.add(ProgressBar::no_length().with_style(style("{elapsed_precise} [{wide_bar}] {msg}")));
        let characters = multi.add(ProgressBar::no_length().with_style(style("         [{wide_bar}] {msg}")));
        pages.enable_steady_tick(Duration::from_millis(500));
        Self { multi, pages, characters }
    }

    pub(super) fn show(&self, state: &ProgressState) {
        if let Some(total) = state.total_items {
            self.pages.set_length(total);
        }
        self.pages.set_position(state.items());
        self.pages.set_message(state.items_text());
        // A bar of length 0 would be drawn full.
        self.characters.set_length(state.expected_characters().unwrap_or(state.characters()).max(1));
        self.characters.set_position(state.characters());
        self.characters.set_message(state.characters_text());
    }

    pub(super) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.multi.suspend(write)
    }

    pub(super) fn clear(&self) {
        self.pages.finish_and_clear();
        self.characters.finish_and_clear();
    }
}
