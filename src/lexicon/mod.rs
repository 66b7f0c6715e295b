//! The lexicon: Chinese names and terms of the news with the English to write, and where a text mentions them.
//!
//! Called by `pipeline`, which writes the English into the source and requires it of the translation. Its data is built by
//! `tools/lexicon`; it never decides what to do about a name that is missing.

mod parse;
mod segment;

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, LazyLock},
};

use sha2::{Digest, Sha256};

pub use parse::LexiconError;
use segment::Segmenter;

/// The kind of thing that an entry names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A country, city, river or district.
    Place,
    /// A person.
    Person,
    /// An institution, company, party or newspaper.
    Organization,
    /// A spacecraft, program, event, book or law.
    Work,
    /// A technical or political term.
    Term,
    /// A name of another kind: a people, a language, a festival.
    Name,
}

/// A name or term and its English.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The Chinese, in simplified characters.
    pub source: String,
    /// The English to write.
    pub target: String,
    /// Other English forms that are right.
    pub accepted: Vec<String>,
    /// The kind of thing that it names.
    pub kind: EntryKind,
}

impl Entry {
    /// Returns every English form that is right, the one to write first.
    pub fn forms(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.target.as_str()).chain(self.accepted.iter().map(String::as_str))
    }
}

/// An entry and where a text mentions it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention<'l> {
    /// The bytes of the text.
    pub range: Range<usize>,
    /// The entry.
    pub entry: &'l Entry,
}

/// A lexicon, ready for lookup.
pub struct Lexicon {
    entries: Vec<Entry>,
    by_source: HashMap<String, usize>,
    longest_chars: usize,
    /// `None` for an empty lexicon, which needs none.
    segmenter: Option<Segmenter>,
    sha256: String,
}

static BUILTIN: LazyLock<Arc<Lexicon>> = LazyLock::new(|| {
    let lexicon = Lexicon::parse("src/lexicon/lexicon.tsv", include_str!("lexicon.tsv"));
    Arc::new(lexicon.expect("lexicon.tsv is part of this build and is tested"))
});

/// Words after a name inside one word of the segmenter: 法国人 is 法国 and 人.
const NAME_SUFFIXES: &[&str] = &[
    "人", "省", "市", "县", "区", "州", "籍", "裔", "方", "队", "军", "语", "版", "式", "系", "产", "媒",
    "企", "商", "界", "队员", "政府", "总统", "总理",
];

impl Lexicon {
    /// Returns the lexicon that ships with the program. The first call takes a moment to load it.
    pub fn builtin() -> Arc<Self> {
        BUILTIN.clone()
    }

    /// Returns the lexicon without entries.
    pub fn empty() -> Arc<Self> {
        Arc::new(Self::new(Vec::new()))
    }

    /// Reads a lexicon file; `name` appears in errors.
    ///
    /// # Errors
    /// [`LexiconError`] names the line that is not an entry.
    pub fn parse(name: &str, text: &str) -> Result<Self, LexiconError> {
        Ok(Self::new(parse::entries(name, text)?))
    }

    /// Builds a lexicon; of two entries with the same Chinese the later one counts.
    pub fn new(entries: Vec<Entry>) -> Self {
        let by_source =
            entries.iter().enumerate().map(|(index, entry)| (entry.source.clone(), index)).collect();
        let longest_chars = entries.iter().map(|entry| entry.source.chars().count()).max().unwrap_or(0);
        let names = entries.iter().map(|entry| entry.source.as_str());
        let segmenter = (!entries.is_empty()).then(|| Segmenter::new(names));
        let sha256 = hash(&entries);
        Self { entries, by_source, longest_chars, segmenter, sha256 }
    }

    /// Returns the SHA-256 over the entries, hexadecimal; empty for an empty lexicon. It is part of the key of every result.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Returns the entries in the order of the file.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the entry of exactly this Chinese, in simplified or traditional characters.
    pub fn get(&self, source: &str) -> Option<&Entry> {
        self.entry(&segment::simplified(source))
    }

    fn entry(&self, simplified: &str) -> Option<&Entry> {
        self.by_source.get(simplified).map(|index| &self.entries[*index])
    }

    /// Finds the mentions in a text, from left to right and without overlap: the longest entry that begins and ends
    /// where words do. A name inside of a longer unknown word (林克 in 林克庆) is not a mention.
    pub fn find(&self, text: &str) -> Vec<Mention<'_>> {
        let Some(segmenter) = &self.segmenter else { return Vec::new() };
        // As long as the text, byte for byte, so that ranges hold for both.
        let text = segment::simplified(text);
        let words = segmenter.words(&text);
        let mut mentions = Vec::new();
        let mut index = 0;
        while index < words.len() {
            match self.mention_at(&text, &words[index..]) {
                Some((mention, word_count)) => {
                    mentions.push(mention);
                    index += word_count;
                }
                None => index += 1,
            }
        }
        mentions
    }

    /// Finds the longest mention that begins with the first of some words; also returns the number of words it takes.
    fn mention_at(&self, text: &str, words: &[Range<usize>]) -> Option<(Mention<'_>, usize)> {
        let start = words[0].start;
        if follows_digit(text, start) && text[start..].starts_with(['日', '月', '年', '时', '点']) {
            return None;
        }
        let within_limit = words.iter().take_while(|word| {
            // Characters of the lexicon have three bytes each, Latin letters fewer.
            word.end - start <= 3 * self.longest_chars
        });
        let whole_words = (1..=within_limit.count()).rev().find_map(|count| {
            let range = start..words[count - 1].end;
            self.entry(&text[range.clone()]).map(|entry| (Mention { range, entry }, count))
        });
        whole_words.or_else(|| {
            let word = &text[words[0].clone()];
            let name = NAME_SUFFIXES.iter().filter_map(|suffix| word.strip_suffix(suffix)).find_map(|name| {
                (name.chars().count() >= 2)
                    .then(|| self.entry(name))
                    .flatten()
                    .map(|entry| (name.len(), entry))
            });
            name.map(|(length, entry)| (Mention { range: start..start + length, entry }, 1))
        })
    }
}

impl std::fmt::Debug for Lexicon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lexicon({} entries, {})", self.entries.len(), self.sha256)
    }
}

fn hash(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let mut hash = Sha256::new();
    for entry in entries {
        hash.update(format!("{}\t{}\t{}\n", entry.source, entry.target, entry.accepted.join("|")));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn follows_digit(text: &str, at: usize) -> bool {
    text[..at].trim_end().ends_with(|c: char| c.is_ascii_digit() || "一二三四五六七八九十".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let lexicon = Lexicon::builtin();
        lexicon.find(text).iter().map(|m| format!("{}={}", &text[m.range.clone()], m.entry.target)).collect()
    }

    #[test]
    fn finds_the_longest_names_at_word_boundaries() {
        assert_eq!(found("甘肃省兰州市发布消息"), ["甘肃省=Gansu Province", "兰州市=Lanzhou"]);
        assert_eq!(found("美国教育部的官员"), ["美国教育部=the U.S. Department of Education"]);
        assert_eq!(found("大武器和长治久安"), [] as [&str; 0]);
        assert_eq!(found("副市长林克庆说"), [] as [&str; 0]);
    }

    #[test]
    fn finds_names_in_traditional_characters_and_before_suffixes() {
        assert_eq!(found("法國人在圖盧茲"), ["法國=France", "圖盧茲=Toulouse"]);
        assert_eq!(found("新华社东京3月1日电"), ["新华社=Xinhua News Agency", "东京=Tokyo"]);
    }

    #[test]
    fn the_built_in_lexicon_has_no_chinese_in_its_english() {
        let is_han = |c: char| ('\u{3400}'..='\u{9fff}').contains(&c);
        let lexicon = Lexicon::builtin();
        assert!(lexicon.entries().len() > 20_000);
        for entry in lexicon.entries() {
            assert!(!entry.forms().any(|form| form.contains(is_han)), "{entry:?}");
        }
        assert_eq!(lexicon.get("敘利亞").unwrap().target, "Syria");
    }

    #[test]
    fn names_the_line_that_is_not_an_entry() {
        let error = Lexicon::parse("a.tsv", "甲\tA\t\tplace\n乙\tB\t\tplanet\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "a.tsv, line 2: `planet` is not a kind: use place, person, organization, work, term or name"
        );
    }
}
