//! What is known about words: common English ones, which name nothing, and names that have a known Chinese form.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

/// English words that are no names, in lower case; the list says where it is from.
static COMMON: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("data/common_words.txt").lines().filter(|line| !line.starts_with('#')).collect()
});

/// Names that most people have heard of, of persons, places and firms.
static PROPER: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("data/proper_names.txt").lines().filter(|line| !line.starts_with('#')).collect()
});

/// The Chinese forms of a name, by the name.
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

/// Endings, and what stands in their place in the list.
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

/// The most words of a known name.
const LONGEST: usize = 4;

/// Whether a word in lower case is a common one, in whatever form.
pub(super) fn is_common(word: &str) -> bool {
    let is = |word: &str| COMMON.contains(word);
    is(word)
        || SUFFIXES.iter().any(|(suffix, stems)| {
            word.strip_suffix(suffix).is_some_and(|stem| stems.iter().any(|end| is(&format!("{stem}{end}"))))
        })
}

/// Whether a word as it is written is a name that most people have heard of.
pub(super) fn is_proper(word: &str) -> bool {
    PROPER.contains(word) || word.strip_suffix('s').is_some_and(|one| PROPER.contains(one))
}

/// Whether a word comes from a known name of one word whose Chinese form stands in the source: Armenian from Armenia.
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

/// The longest known name that begins with the first of some words as they are written: how many words it has, and
/// whether one of its Chinese forms stands in the source.
pub(super) fn known(words: &[&str], source: &str) -> Option<(usize, bool)> {
    (1..=LONGEST.min(words.len())).rev().find_map(|count| {
        let forms = KNOWN.get(words[..count].join(" ").as_str())?;
        Some((count, forms.iter().any(|form| source.contains(form))))
    })
}
