//! Word boundaries in Chinese text, so that a name is found only where it is a word.

use std::{collections::HashMap, ops::Range, sync::LazyLock};

use jieba_rs::Jieba;

/// Splits text into words; knows the entries of a lexicon as words.
pub(super) struct Segmenter(Jieba);

impl Segmenter {
    /// A segmenter that prefers `names` over splitting them.
    pub(super) fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let mut jieba = Jieba::new();
        for name in names {
            jieba.add_word(name, None, None);
        }
        Self(jieba)
    }

    /// Returns the byte ranges of the words of a text, in order.
    pub(super) fn words(&self, text: &str) -> Vec<Range<usize>> {
        let mut start = 0;
        let words = self.0.cut(text, true);
        words
            .into_iter()
            .map(|word| {
                let range = start..start + word.word.len();
                start = range.end;
                range
            })
            .collect()
    }
}

/// Traditional characters and their simplified forms, from CC-CEDICT; pairs of equal UTF-8 length only.
static SIMPLIFIED: LazyLock<HashMap<char, char>> = LazyLock::new(|| {
    let pairs = include_str!("traditional.txt").lines().filter(|line| !line.starts_with('#'));
    pairs
        .filter_map(|pair| {
            let mut characters = pair.chars();
            Some((characters.next()?, characters.next()?))
        })
        .collect()
});

/// Converts traditional characters to simplified ones. The result has the same length in bytes, character by character.
pub(super) fn simplified(text: &str) -> String {
    text.chars().map(|c| SIMPLIFIED.get(&c).copied().unwrap_or(c)).collect()
}
