//! What a run did over time, in a bounded number of steps: for the plot and for the sums.

use std::path::Path;

use super::journal::Journal;

/// The most steps of the plot; when there are more, two become one.
const MAX_STEPS: usize = 60;
/// The shortest step.
const FIRST_STEP_MS: u64 = 1_000;

/// The work of one run, as the journal tells it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::cli) struct Throughput {
    pub(in crate::cli) items: u64,
    /// Of the sources, white space not counted.
    pub(in crate::cli) characters: u64,
    pub(in crate::cli) prompt_tokens: u64,
    pub(in crate::cli) completion_tokens: u64,
    /// From the start of the run to its last result.
    pub(in crate::cli) elapsed_ms: u64,
    /// The length of a step.
    pub(in crate::cli) step_ms: u64,
    /// Characters whose results came in each step.
    pub(in crate::cli) steps: Vec<u64>,
}

impl Throughput {
    /// Of the last run in the journal that tried anything.
    pub(super) fn read(journal: &Path) -> std::io::Result<Option<Self>> {
        let mut run_ms = 0;
        let mut found: Option<Self> = None;
        for line in Journal::lines(journal)? {
            if line.run_ms != run_ms || found.is_none() {
                run_ms = line.run_ms;
                found = Some(Self { step_ms: FIRST_STEP_MS, ..Self::default() });
            }
            let Some(run) = &mut found else { continue };
            run.items += 1;
            run.characters += line.characters;
            run.prompt_tokens += line.prompt_tokens;
            run.completion_tokens += line.completion_tokens;
            run.add(line.time_ms.saturating_sub(run_ms), line.characters);
        }
        Ok(found)
    }

    fn add(&mut self, at_ms: u64, characters: u64) {
        self.elapsed_ms = self.elapsed_ms.max(at_ms);
        let step = |step_ms: u64| usize::try_from(at_ms / step_ms).unwrap_or(usize::MAX);
        while step(self.step_ms) >= MAX_STEPS {
            self.step_ms = self.step_ms.saturating_mul(2);
            self.steps = self.steps.chunks(2).map(|pair| pair.iter().sum()).collect();
        }
        let step = step(self.step_ms);
        self.steps.resize(self.steps.len().max(step + 1), 0);
        self.steps[step] += characters;
    }

    /// Per second, over the whole run.
    pub(in crate::cli) fn rate(&self, amount: u64) -> f64 {
        amount as f64 * 1000.0 / self.elapsed_ms.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_grow_with_the_run_and_lose_nothing() {
        let mut run = Throughput { step_ms: FIRST_STEP_MS, ..Throughput::default() };
        for second in 0..500 {
            run.add(second * 1000, 3);
        }
        assert_eq!(run.step_ms, 16_000);
        assert_eq!(run.steps.len(), 32);
        assert_eq!(run.steps.iter().sum::<u64>(), 1500);
        assert_eq!(run.steps[0], 48);
        assert_eq!(run.elapsed_ms, 499_000);
    }
}
