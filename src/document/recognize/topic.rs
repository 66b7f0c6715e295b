//! Measures how much two texts speak of the same thing, by the pairs of Chinese characters they share.
//!
//! A headline and the first sentence under it share most of theirs, because news says the news twice; a section
//! shares many with the sections before it, an unrelated story few. `boundary` and `late` weigh this evidence.

/// Bits of the table; pairs fall on them by a hash, so a rare pair may be taken for another one.
const BITS: usize = 1 << 14;

/// The pairs of adjacent Chinese characters (or letters and digits) of some texts.
pub(crate) struct CharPairs {
    bits: Vec<u64>,
}

impl Default for CharPairs {
    fn default() -> Self {
        Self::new()
    }
}

impl CharPairs {
    /// No pairs yet.
    pub(crate) fn new() -> Self {
        Self { bits: vec![0; BITS / 64] }
    }

    /// The pairs of the first `limit` characters of `text`.
    pub(crate) fn of(text: &str, limit: usize) -> Self {
        let mut pairs = Self::new();
        pairs.add(text, limit);
        pairs
    }

    /// Adds the pairs of the first `limit` characters of `text`.
    pub(crate) fn add(&mut self, text: &str, limit: usize) {
        each_pair(text, limit, |pair| self.bits[pair / 64] |= 1 << (pair % 64));
    }

    /// Forgets all pairs.
    pub(crate) fn clear(&mut self) {
        self.bits.fill(0);
    }

    /// Which part of the pairs of the first `limit` characters of `text` is among these, from 0 to 1.
    pub(crate) fn share(&self, text: &str, limit: usize) -> f32 {
        let (mut all, mut known) = (0u16, 0u16);
        each_pair(text, limit.min(usize::from(u16::MAX)), |pair| {
            all += 1;
            known += u16::from(self.holds(pair));
        });
        if all == 0 { 0.0 } else { f32::from(known) / f32::from(all) }
    }

    /// The same for a list of pairs that was made once, to be compared with several texts.
    pub(crate) fn share_of(&self, list: &[u16]) -> f32 {
        let known = list.iter().filter(|pair| self.holds(usize::from(**pair))).count();
        if list.is_empty() { 0.0 } else { known as f32 / list.len() as f32 }
    }

    /// Adds the pairs of a list.
    pub(crate) fn add_list(&mut self, list: &[u16]) {
        for pair in list.iter().map(|pair| usize::from(*pair)) {
            self.bits[pair / 64] |= 1 << (pair % 64);
        }
    }

    fn holds(&self, pair: usize) -> bool {
        self.bits[pair / 64] >> (pair % 64) & 1 == 1
    }
}

/// Puts the pairs of the first `limit` characters of `text` into `list`, in place of what was in it.
pub(crate) fn list_pairs(text: &str, limit: usize, list: &mut Vec<u16>) {
    list.clear();
    each_pair(text, limit, |pair| list.extend(u16::try_from(pair)));
}

/// Calls `take` with the place of each pair in the first `limit` characters of `text`. Characters that carry no topic
/// stand in no pair. Most of a page passes through here, hence the plain loop.
fn each_pair(text: &str, limit: usize, mut take: impl FnMut(usize)) {
    let mut before = 0u32;
    for character in text.chars().take(limit) {
        let telling = match character {
            '的' | '了' | '是' | '在' | '和' | '与' | '及' | '一' | '不' | '有' | '为' | '将' | '对' => {
                false
            }
            '\u{3400}'..='\u{9FFF}' | '\u{20000}'.. | '0'..='9' | 'A'..='Z' | 'a'..='z' => true,
            _ => false,
        };
        if !telling {
            before = 0;
            continue;
        }
        let code = u32::from(character);
        if before != 0 {
            let mixed = (u64::from(before) << 21 | u64::from(code)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            take((mixed >> (64 - BITS.trailing_zeros())) as usize);
        }
        before = code;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lead_repeats_its_headline_and_no_other() {
        let lead = CharPairs::of("全市第一座社区图书馆昨天在城东开馆，居民凭身份证就能借书。", 100);
        assert!(lead.share("社区图书馆城东开馆", 100) > 0.7);
        assert!(lead.share("渔民出海迎来丰收", 100) < 0.2);
        assert!(lead.share("", 100) == 0.0);
    }
}
