//! Which source sentences a summary sentence rests on.

use std::collections::HashSet;

/// A further source sentence must explain at least this share of the summary sentence.
const LEAST_GAIN: f64 = 0.2;
/// The most source sentences named for one summary sentence.
const MOST: usize = 3;

/// The indices of the source sentences that a summary sentence rests on, in source order: those that
/// together hold most of its character pairs, each adding at least a fifth of them. Empty when none does.
pub fn supporting_sentences(sentence: &str, sources: &[&str]) -> Vec<usize> {
    let mut unexplained = pairs(sentence);
    let least = (unexplained.len() as f64 * LEAST_GAIN).max(1.0);
    let sources: Vec<_> = sources.iter().map(|source| pairs(source)).collect();
    let mut chosen = Vec::new();
    while chosen.len() < MOST {
        let gain = |index: &usize| sources[*index].intersection(&unexplained).count();
        // Of equals the first: max_by_key would take the last.
        let best = (0..sources.len()).rev().filter(|i| !chosen.contains(i)).max_by_key(gain);
        let Some(best) = best.filter(|i| gain(i) as f64 >= least) else { break };
        unexplained.retain(|pair| !sources[best].contains(pair));
        chosen.push(best);
    }
    chosen.sort_unstable();
    chosen
}

/// The pairs of neighbouring letters and digits.
fn pairs(text: &str) -> HashSet<(char, char)> {
    let chars: Vec<char> = text.chars().filter(|c| c.is_alphanumeric()).collect();
    chars.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_sentence_finds_its_sources() {
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
}
