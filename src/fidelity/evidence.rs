//! Finds the source sentences that support a summary, by the character pairs that they share.
//!
//! Called by `pipeline`.

use std::collections::HashSet;

/// The minimum share of a summary sentence that each source sentence must add.
const MIN_GAIN: f64 = 0.2;
/// The maximum number of source sentences for one summary sentence.
const MAX_SOURCES: usize = 3;

/// Returns the indices of the source sentences that support a summary sentence, in source order.
///
/// Together they contain most of its character pairs, and each adds at least a fifth of them. Empty if no sentence
/// does.
pub fn supporting_sentences(sentence: &str, sources: &[&str]) -> Vec<usize> {
    let mut uncovered = pairs(sentence);
    let min_gain = (uncovered.len() as f64 * MIN_GAIN).max(1.0);
    let sources: Vec<_> = sources.iter().map(|source| pairs(source)).collect();
    let mut chosen = Vec::new();
    while chosen.len() < MAX_SOURCES {
        let gain = |index: &usize| sources[*index].intersection(&uncovered).count();
        // Prefer the first of equals: `max_by_key` returns the last.
        let best = (0..sources.len()).rev().filter(|i| !chosen.contains(i)).max_by_key(gain);
        let Some(best) = best.filter(|i| gain(i) as f64 >= min_gain) else { break };
        uncovered.retain(|pair| !sources[best].contains(pair));
        chosen.push(best);
    }
    chosen.sort_unstable();
    chosen
}

/// The minimum share of a draft that each chosen source sentence must add.
const MIN_SHARE: f64 = 0.15;
/// The minimum share of a draft that all chosen source sentences must cover together.
const MIN_COVERED_SHARE: f64 = 0.25;

/// Returns the indices of the source sentences that say the same as a draft of a summary, in source order and with at
/// most `limit` characters in total.
///
/// Chooses the first sentence, which states the news, and then those that add most of the draft for their length.
/// Returns `None` if the sentences that fit do not cover the draft.
pub fn sentences_like(draft: &str, sources: &[&str], limit: usize) -> Option<Vec<usize>> {
    let draft_pairs = pairs(draft);
    let mut uncovered = draft_pairs.clone();
    let source_pairs: Vec<_> = sources.iter().map(|source| pairs(source)).collect();
    let lengths: Vec<usize> =
        sources.iter().map(|source| source.chars().filter(|c| !c.is_whitespace()).count()).collect();
    let share = |count: usize| count as f64 / draft_pairs.len().max(1) as f64;
    let (mut chosen, mut length) = (Vec::new(), 0);
    let mut next = (lengths.first().is_some_and(|first| *first <= limit)).then_some(0);
    while let Some(index) = next {
        chosen.push(index);
        length += lengths[index];
        uncovered.retain(|pair| !source_pairs[index].contains(pair));
        let gain = |index: usize| source_pairs[index].intersection(&uncovered).count();
        let worth = |index: usize| gain(index) as f64 / (lengths[index] as f64).sqrt();
        next = (0..sources.len())
            .filter(|i| !chosen.contains(i) && length + lengths[*i] <= limit && share(gain(*i)) >= MIN_SHARE)
            .max_by(|a, b| worth(*a).total_cmp(&worth(*b)));
    }
    chosen.sort_unstable();
    (share(draft_pairs.len() - uncovered.len()) >= MIN_COVERED_SHARE && !chosen.is_empty()).then_some(chosen)
}

/// Returns the pairs of neighboring letters and digits.
fn pairs(text: &str) -> HashSet<(char, char)> {
    let chars: Vec<char> = text.chars().filter(|c| c.is_alphanumeric()).collect();
    chars.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_sources_of_a_summary_sentence() {
        let sources = [
            "马克龙5日下午访问四川大学。",
            "成都是中国西部地区重要的中心城市。",
            "早在1981年，成都就与法国蒙彼利埃市结为友好城市。",
        ];
        assert_eq!(supporting_sentences("马克龙访问四川大学。", &sources), [0]);
        assert_eq!(
            supporting_sentences("成都1981年与蒙彼利埃市结为友好城市，马克龙5日访问四川大学。", &sources),
            [0, 2]
        );
        assert_eq!(supporting_sentences("火箭发射成功。", &sources), [] as [usize; 0]);
    }

    #[test]
    fn chooses_source_sentences_that_say_the_same_as_a_draft() {
        let sources = [
            "马克龙5日下午访问四川大学。",
            "成都是中国西部地区重要的中心城市。",
            "早在1981年，成都就与法国蒙彼利埃市结为友好城市。",
        ];
        let chosen = |draft, limit| sentences_like(draft, &sources, limit);
        let draft = "成都1981年与法国蒙彼利埃市结为友好城市，马克龙访问四川大学";
        assert_eq!(chosen(draft, 100), Some(vec![0, 2]));
        assert_eq!(
            chosen("马克龙访问四川大学，成都结友好城市", 20),
            Some(vec![0]),
            "the fitting sentences cover enough"
        );
        assert_eq!(chosen(draft, 10), None, "nothing fits");
        assert_eq!(chosen("火箭发射成功，卫星入轨。", 100), None, "no sentence covers it");
        assert_eq!(
            chosen("马克龙访问四川大学。", 100),
            Some(vec![0]),
            "sentences that the draft omits are not chosen"
        );
        assert_eq!(sentences_like("", &[], 100), None);
    }
}
