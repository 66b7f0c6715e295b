//! Word lists: common English words, well-known names, and names with their Chinese forms.
//!
//! Used by `invented` and `renderings`.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

/// Common English words, in lower case. The file states its source.
static COMMON: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("data/common_words.txt").lines().filter(|line| !line.starts_with('#')).collect()
});

/// Well-known names of people, places and companies. The file states its source.
static PROPER: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("data/proper_names.txt").lines().filter(|line| !line.starts_with('#')).collect()
});

/// The Chinese forms of well-known names, by name.
static KNOWN: LazyLock<HashMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
    let mut names: HashMap<_, Vec<_>> = HashMap::new();
    for line in include_str!("data/known_names.tsv").lines().filter(|line| !line.starts_with('#')) {
        let Some((latin, chinese)) = line.split_once('\t') else { continue };
        for name in latin.split('|') {
            names.entry(name).or_default().extend(chinese.split('|'));
        }
    }
    names
});

/// Endings of inflected and derived words, and the endings of the listed words that they come from.
const SUFFIXES: &[(&str, &[&str])] = &[
    ("s", &[""]),
    ("es", &["", "e"]),
    ("ies", &["y"]),
    ("ed", &["", "e"]),
    ("ing", &["", "e"]),
    ("er", &["", "e"]),
    ("ers", &["", "e", "er"]),
    ("ly", &[""]),
    ("al", &[""]),
    ("ist", &[""]),
    ("ists", &["", "ist"]),
    ("ness", &[""]),
    ("ization", &["ize"]),
    ("izations", &["ize"]),
    ("ility", &["le"]),
    ("ological", &["ology"]),
    ("ical", &["y", "ic"]),
    ("ful", &[""]),
    ("less", &[""]),
];

/// The maximum number of words in a known name.
const MAX_NAME_WORDS: usize = 4;

/// Returns `true` if a lower-case word is a form of a common word.
pub(super) fn is_common(word: &str) -> bool {
    let is = |word: &str| COMMON.contains(word);
    is(word)
        || SUFFIXES.iter().any(|(suffix, stems)| {
            word.strip_suffix(suffix).is_some_and(|stem| stems.iter().any(|end| is(&format!("{stem}{end}"))))
        })
}

/// Returns `true` if a capitalized word is a well-known name.
pub(super) fn is_proper(word: &str) -> bool {
    PROPER.contains(word) || word.strip_suffix('s').is_some_and(|one| PROPER.contains(one))
}

/// Returns `true` if a word derives from a known name whose Chinese form appears in the source: Armenian from Armenia.
pub(super) fn derives_from_known(word: &str, source: &str) -> bool {
    const ENDINGS: &[&str] =
        &["ians", "ian", "ans", "an", "ns", "n", "ese", "ish", "ic", "ics", "s", "i", "is"];
    ENDINGS.iter().filter_map(|ending| word.strip_suffix(ending)).filter(|stem| stem.len() >= 4).any(|stem| {
        ["", "a", "ia", "ium", "e", "y", "o"].iter().any(|end| {
            let forms = KNOWN.get(format!("{stem}{end}").as_str());
            forms.is_some_and(|forms| forms.iter().any(|form| source.contains(form)))
        })
    })
}

/// Finds the longest known name that begins with the first of the words. Returns its number of words, and `true` if one
/// of its Chinese forms appears in the source.
pub(super) fn known_name(words: &[&str], source: &str) -> Option<(usize, bool)> {
    (1..=MAX_NAME_WORDS.min(words.len())).rev().find_map(|count| {
        let forms = KNOWN.get(words[..count].join(" ").as_str())?;
        Some((count, forms.iter().any(|form| source.contains(form))))
    })
}
