//! Measures the similarity of two texts by the pairs of adjacent Chinese characters they share.
//!
//! A headline and the first sentence under it share most of their pairs, because the lead of a story repeats its
//! headline. A section shares many pairs with the sections before it, an unrelated story few. `blocks` and `assemble`
//! weigh this evidence.

/// The size of the bit set. Pairs are hashed into it, so two pairs may collide.
const BITS: usize = 1 << 14;

/// The set of pairs of adjacent Chinese characters, letters and digits of some texts.
pub(crate) struct CharPairs {
    bits: Vec<u64>,
}

impl Default for CharPairs {
    fn default() -> Self {
        Self::new()
    }
}

impl CharPairs {
    /// Creates an empty set.
    pub(crate) fn new() -> Self {
        Self { bits: vec![0; BITS / 64] }
    }

    /// Creates the set of the pairs in the first `limit` characters of `text`.
    pub(crate) fn of(text: &str, limit: usize) -> Self {
        let mut pairs = Self::new();
        pairs.add(text, limit);
        pairs
    }

    /// Adds the pairs in the first `limit` characters of `text`.
    pub(crate) fn add(&mut self, text: &str, limit: usize) {
        each_pair(text, limit, |pair| self.bits[pair / 64] |= 1 << (pair % 64));
    }

    /// Removes all pairs.
    pub(crate) fn clear(&mut self) {
        self.bits.fill(0);
    }

    /// Returns the share, from 0 to 1, of the pairs in the first `limit` characters of `text` that are in this set.
    pub(crate) fn share(&self, text: &str, limit: usize) -> f32 {
        let (mut all, mut shared) = (0u16, 0u16);
        each_pair(text, limit.min(usize::from(u16::MAX)), |pair| {
            all += 1;
            shared += u16::from(self.contains(pair));
        });
        if all == 0 { 0.0 } else { f32::from(shared) / f32::from(all) }
    }

    /// Returns the share, from 0 to 1, of the pairs in `list` that are in this set; see [`list_pairs`].
    pub(crate) fn share_of(&self, list: &[u16]) -> f32 {
        let shared = list.iter().filter(|pair| self.contains(usize::from(**pair))).count();
        if list.is_empty() { 0.0 } else { shared as f32 / list.len() as f32 }
    }

    /// Adds the pairs in `list`.
    pub(crate) fn add_list(&mut self, list: &[u16]) {
        for pair in list.iter().map(|pair| usize::from(*pair)) {
            self.bits[pair / 64] |= 1 << (pair % 64);
        }
    }

    fn contains(&self, pair: usize) -> bool {
        self.bits[pair / 64] >> (pair % 64) & 1 == 1
    }
}

/// Replaces the contents of `list` by the pairs in the first `limit` characters of `text`. A list can be compared with
/// several sets.
pub(crate) fn list_pairs(text: &str, limit: usize, list: &mut Vec<u16>) {
    list.clear();
    each_pair(text, limit, |pair| list.extend(u16::try_from(pair)));
}

/// Calls `visit` with the hash of each pair in the first `limit` characters of `text`. Function words are not part of any
/// pair. This runs over most of a page, so the loop is kept simple.
fn each_pair(text: &str, limit: usize, mut visit: impl FnMut(usize)) {
    let mut before = 0u32;
    for character in text.chars().take(limit) {
        let is_significant = match character {
            '的' | '了' | '是' | '在' | '和' | '与' | '及' | '一' | '不' | '有' | '为' | '将' | '对' => {
                false
            }
            '\u{3400}'..='\u{9FFF}' | '\u{20000}'.. | '0'..='9' | 'A'..='Z' | 'a'..='z' => true,
            _ => false,
        };
        if !is_significant {
            before = 0;
            continue;
        }
        let code = u32::from(character);
        if before != 0 {
            let hash = (u64::from(before) << 21 | u64::from(code)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            visit((hash >> (64 - BITS.trailing_zeros())) as usize);
        }
        before = code;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_lead_similar_to_its_own_headline_only() {
        let lead = CharPairs::of("全市第一座社区图书馆昨天在城东开馆，居民凭身份证就能借书。", 100);
        assert!(lead.share("社区图书馆城东开馆", 100) > 0.7);
        assert!(lead.share("渔民出海迎来丰收", 100) < 0.2);
        assert!(lead.share("", 100) == 0.0);
    }
}
