//! Which source sentences a summary rests on.

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

/// A source sentence must hold at least this share of a draft to stand in for it.
const LEAST_SHARE: f64 = 0.15;
/// And all that were chosen together this one.
const LEAST_COVER: f64 = 0.25;

/// The source sentences that say what a draft of a summary says, as indices in source order, of at most `limit`
/// characters together: the first one, where the news stands, and those that hold most of what is left of the draft for
/// their length. `None` when what fits does not say it.
///
/// The draft tells what matters and how much of it; the words are the source's own, with its numbers and names.
pub fn sentences_behind(draft: &str, sources: &[&str], limit: usize) -> Option<Vec<usize>> {
    let wanted = pairs(draft);
    let mut left = wanted.clone();
    let held: Vec<_> = sources.iter().map(|source| pairs(source)).collect();
    let lengths: Vec<usize> =
        sources.iter().map(|source| source.chars().filter(|c| !c.is_whitespace()).count()).collect();
    let share = |count: usize| count as f64 / wanted.len().max(1) as f64;
    let (mut chosen, mut length) = (Vec::new(), 0);
    let mut next = (lengths.first().is_some_and(|first| *first <= limit)).then_some(0);
    while let Some(index) = next {
        chosen.push(index);
        length += lengths[index];
        left.retain(|pair| !held[index].contains(pair));
        let gain = |index: usize| held[index].intersection(&left).count();
        let worth = |index: usize| gain(index) as f64 / (lengths[index] as f64).sqrt();
        next = (0..sources.len())
            .filter(|i| {
                !chosen.contains(i) && length + lengths[*i] <= limit && share(gain(*i)) >= LEAST_SHARE
            })
            .max_by(|a, b| worth(*a).total_cmp(&worth(*b)));
    }
    chosen.sort_unstable();
    (share(wanted.len() - left.len()) >= LEAST_COVER && !chosen.is_empty()).then_some(chosen)
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

    #[test]
    fn a_draft_chooses_sentences_of_the_source() {
        let sources = [
            "马克龙5日下午访问四川大学。",
            "成都是中国西部地区重要的中心城市。",
            "早在1981年，成都就与法国蒙彼利埃市结为友好城市。",
        ];
        let behind = |draft, limit| sentences_behind(draft, &sources, limit);
        let draft = "成都1981年与法国蒙彼利埃市结为友好城市，马克龙访问四川大学";
        assert_eq!(behind(draft, 100), Some(vec![0, 2]));
        assert_eq!(
            behind("马克龙访问四川大学，成都结友好城市", 20),
            Some(vec![0]),
            "what fits says enough of it"
        );
        assert_eq!(behind(draft, 10), None, "nothing fits");
        assert_eq!(behind("火箭发射成功，卫星入轨。", 100), None, "nothing says it");
        assert_eq!(behind("马克龙访问四川大学。", 100), Some(vec![0]), "what the draft leaves out stays out");
        assert_eq!(sentences_behind("", &[], 100), None);
    }
}
