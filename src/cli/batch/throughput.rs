//! The throughput of a run over time, for the plot of the index and the report.

use std::path::Path;

use super::journal::Journal;

/// Maximum number of intervals. When a run exceeds it, the intervals are merged in pairs.
const MAX_INTERVALS: usize = 60;
const FIRST_INTERVAL_MS: u64 = 1_000;

/// The throughput of one run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::cli) struct Throughput {
    pub(in crate::cli) items: u64,
    /// Characters of the sources, without white space.
    pub(in crate::cli) characters: u64,
    pub(in crate::cli) prompt_tokens: u64,
    pub(in crate::cli) completion_tokens: u64,
    /// Time from the start of the run to its last result.
    pub(in crate::cli) elapsed_ms: u64,
    pub(in crate::cli) interval_ms: u64,
    /// Characters of the results of each interval.
    pub(in crate::cli) characters_by_interval: Vec<u64>,
}

impl Throughput {
    /// Reads the last run in the journal that processed an item.
    pub(super) fn read(journal: &Path) -> std::io::Result<Option<Self>> {
        let mut run_ms = 0;
        let mut last_run: Option<Self> = None;
        for entry in Journal::entries(journal)? {
            if entry.run_ms != run_ms || last_run.is_none() {
                run_ms = entry.run_ms;
                last_run = Some(Self { interval_ms: FIRST_INTERVAL_MS, ..Self::default() });
            }
            let Some(run) = &mut last_run else { continue };
            run.items += 1;
            run.characters += entry.characters;
            run.prompt_tokens += entry.prompt_tokens;
            run.completion_tokens += entry.completion_tokens;
            run.add(entry.time_ms.saturating_sub(run_ms), entry.characters);
        }
        Ok(last_run)
    }

    fn add(&mut self, at_ms: u64, characters: u64) {
        self.elapsed_ms = self.elapsed_ms.max(at_ms);
        let interval = |interval_ms: u64| usize::try_from(at_ms / interval_ms).unwrap_or(usize::MAX);
        while interval(self.interval_ms) >= MAX_INTERVALS {
            self.interval_ms = self.interval_ms.saturating_mul(2);
            self.characters_by_interval =
                self.characters_by_interval.chunks(2).map(|pair| pair.iter().sum()).collect();
        }
        let interval = interval(self.interval_ms);
        self.characters_by_interval.resize(self.characters_by_interval.len().max(interval + 1), 0);
        self.characters_by_interval[interval] += characters;
    }

    /// Returns the average of `amount` per second over the run.
    pub(in crate::cli) fn rate(&self, amount: u64) -> f64 {
        amount as f64 * 1000.0 / self.elapsed_ms.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_the_intervals_of_a_long_run() {
        let mut run = Throughput { interval_ms: FIRST_INTERVAL_MS, ..Throughput::default() };
        for second in 0..500 {
            run.add(second * 1000, 3);
        }
        assert_eq!(run.interval_ms, 16_000);
        assert_eq!(run.characters_by_interval.len(), 32);
        assert_eq!(run.characters_by_interval.iter().sum::<u64>(), 1500);
        assert_eq!(run.characters_by_interval[0], 48);
        assert_eq!(run.elapsed_ms, 499_000);
    }
}
