//! Finds names in an English translation that its Chinese source does not explain.
//!
//! Called by `check`.

use std::ops::Range;

use super::{
    known::{derives_from_known, is_common, is_proper, known_name},
    phonetics::SourceSounds,
};
use crate::fidelity::han::{contains_han, is_han};

/// The lengths of words that can be checked as names, in characters.
const NAME_LENGTHS: std::ops::RangeInclusive<usize> = 3..=32;

/// Capitalized words that are not names: titles, forms of address, numerals, days, months and the like.
pub(super) const NOT_NAMES: &[&str] = &[
    "mr",
    "mrs",
    "ms",
    "dr",
    "prof",
    "st",
    "jr",
    "sr",
    "inc",
    "ltd",
    "corp",
    "co",
    "plc",
    "phd",
    "ceo",
    "cfo",
    "cto",
    "gdp",
    "am",
    "pm",
    "ad",
    "bc",
    "bce",
    "tv",
    "pc",
    "ai",
    "it",
    "dna",
    "aids",
    "hiv",
    "usb",
    "gps",
    "led",
    "vr",
    "ar",
    "iot",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
    "jan",
    "feb",
    "mar",
    "apr",
    "jun",
    "jul",
    "aug",
    "sep",
    "sept",
    "oct",
    "nov",
    "dec",
    "rmb",
    "usd",
    "eur",
    "gbp",
    "jpy",
    "krw",
    "cny",
    "rub",
    "hkd",
    "mu",
    "chinese",
    "china",
    "mandarin",
    "english",
    "internet",
    "web",
    "earth",
    "moon",
    "sun",
    "mars",
    "teu",
    "ii",
    "iii",
    "iv",
    "vi",
    "vii",
    "viii",
    "ix",
    "xi",
    "xii",
    "celsius",
    "fahrenheit",
    "catholic",
    "bible",
    "nazi",
    "gmt",
    "utc",
];

/// Returns the names of an English output that its Chinese source does not explain, as byte ranges of the output in
/// order.
///
/// `allowed` are the renderings of glossary terms. A name is reported only if it is well known (Anderson, Nairobi,
/// Microsoft) or a Chinese name in pinyin. The source explains a name if it contains the name itself, its pinyin, a
/// transcription that sounds like it, or a known Chinese form; one word of a name is enough. An unknown name is never
/// reported, because it may be a translation of something in the source.
pub(in crate::fidelity) fn invented_names(source: &str, allowed: &[&str], output: &str) -> Vec<Range<usize>> {
    // Only Chinese sources can be checked.
    if !contains_han(source) {
        return Vec::new();
    }
    let sounds = SourceSounds::of(source);
    // The text in which names are searched literally.
    let mut literal = source.to_lowercase();
    for rendering in allowed {
        literal.push(' ');
        literal.push_str(&rendering.to_lowercase());
    }
    let words = words(output);
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        if !words[at].capital {
            at += 1;
            continue;
        }
        let length = words[at..]
            .iter()
            .enumerate()
            .take_while(|(n, word)| word.capital && (*n == 0 || word.joined))
            .count();
        let run = &words[at..at + length];
        check_run(run, source, &literal, &sounds, output, &mut found);
        at += length;
    }
    found.sort_by_key(|name| name.start);
    found
}

/// Adds the names in a run of capitalized words that the source does not explain.
fn check_run(
    run: &[LatinWord],
    source: &str,
    literal: &str,
    sounds: &SourceSounds,
    output: &str,
    found: &mut Vec<Range<usize>>,
) {
    let texts: Vec<&str> = run.iter().map(|word| word.text).collect();
    if let [first, last] = run
        && is_full_name(first.text, last.text, source, literal)
    {
        let (first_name, surname) = (first.text.to_lowercase(), last.text.to_lowercase());
        if !sounds.explain_full_name(&first_name, &surname) {
            found.push(first.span.start..last.span.end);
        }
        return;
    }
    let mut unexplained: Vec<usize> = Vec::new();
    let mut explained = false;
    let mut at = 0;
    while at < run.len() {
        if let Some((count, is_in_source)) = known_name(&texts[at..], source) {
            let name = &output[run[at].span.start..run[at + count - 1].span.end];
            if is_in_source || literal.contains(&name.to_lowercase()) {
                explained = true;
            } else {
                found.push(run[at].span.start..run[at + count - 1].span.end);
            }
            at += count;
            continue;
        }
        let word = &run[at];
        let lower = word.text.to_lowercase();
        let acronym = word.text.chars().count() > 1 && word.text.chars().all(char::is_uppercase);
        // The words of `John Smith` can be common words, but hardly next to each other.
        let is_name_beside = |n: usize| {
            texts.get(n).is_some_and(|text| is_proper(text) && !sounds.explain(&text.to_lowercase()))
        };
        let full_name =
            is_proper(word.text) && (is_name_beside(at + 1) || (at > 0 && is_name_beside(at - 1)));
        if literal.contains(&lower) {
            explained = true;
        } else if full_name && !acronym && !sounds.explain(&lower) && !NOT_NAMES.contains(&lower.as_str()) {
            unexplained.push(at);
        } else if !NAME_LENGTHS.contains(&lower.chars().count())
            || acronym
            || NOT_NAMES.contains(&lower.as_str())
            || is_common(&lower)
        {
            // The word is neutral.
        } else if sounds.explain(&lower) || derives_from_known(word.text, source) {
            explained = true;
        } else if is_proper(word.text) {
            unexplained.push(at);
        } else if run.len() == 2
            && at == 1
            && SourceSounds::is_pinyin(&lower)
            && SourceSounds::is_surname(texts[0])
        {
            // A surname of one syllable is in many texts; the given name decides.
            found.push(run[0].span.start..run[1].span.end);
            return;
        }
        at += 1;
    }
    // A single word at the beginning of a sentence is capitalized anyway.
    let first_alone = run.len() == 1 && run[0].begins_sentence;
    if let (false, false, Some(first), Some(last)) =
        (explained, first_alone, unexplained.first(), unexplained.last())
    {
        found.push(run[*first].span.start..run[*last].span.end);
    }
}

/// Returns `true` if two words are a first name and a surname without other evidence, such as `John Smith`.
fn is_full_name(first: &str, last: &str, source: &str, literal: &str) -> bool {
    let plain = |word: &str| {
        let lower = word.to_lowercase();
        is_proper(word)
            && NAME_LENGTHS.contains(&lower.chars().count())
            && !literal.contains(&lower)
            && !NOT_NAMES.contains(&lower.as_str())
            && !derives_from_known(word, source)
            && known_name(&[word], source).is_none()
    };
    plain(first) && plain(last) && known_name(&[first, last], source).is_none()
}

/// A word in a script other than Han.
pub(super) struct LatinWord<'a> {
    pub(super) text: &'a str,
    pub(super) span: Range<usize>,
    /// It begins with a capital letter and touches no digit.
    pub(super) capital: bool,
    /// Only a space, hyphen or dot separates it from the word before.
    joined: bool,
    /// It can be the beginning of a sentence.
    begins_sentence: bool,
}

/// Splits a text into its words in scripts other than Han.
pub(super) fn words(text: &str) -> Vec<LatinWord<'_>> {
    let letter = |c: char| c.is_alphabetic() && !is_han(c);
    let mut found: Vec<LatinWord> = Vec::new();
    let mut at = 0;
    let mut previous = 0;
    while let Some(offset) = text[at..].find(letter) {
        let start = at + offset;
        let mut end = start;
        for (n, c) in text[start..].char_indices() {
            let next = text[start + n + c.len_utf8()..].chars().next();
            let inner = matches!(c, '\'' | '’') && next.is_some_and(|c| letter(c) && c.is_lowercase());
            let tail = &text[start + n..];
            let possessive = inner
                && ["'s", "’s"].iter().any(|s| tail.strip_prefix(s).is_some_and(|t| !t.starts_with(letter)));
            if !(letter(c) || inner) || possessive {
                break;
            }
            end = start + n + c.len_utf8();
        }
        let between = &text[previous..start];
        let ends = |c: char| matches!(c, '.' | '!' | '?' | ':' | '"' | '“' | '\n' | '(' | ';');
        found.push(LatinWord {
            text: &text[start..end],
            span: start..end,
            capital: text[start..].starts_with(char::is_uppercase) && !touches_digit(text, start, end),
            joined: matches!(between, " " | "-" | "·" | " · "),
            begins_sentence: found.is_empty() || between.contains(ends),
        });
        previous = end;
        at = end;
    }
    found
}

/// Returns `true` if a word touches a digit: `CO2`, `72TB`.
fn touches_digit(text: &str, start: usize, end: usize) -> bool {
    text[..start].ends_with(|c: char| c.is_ascii_digit())
        || text[end..].starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invented<'a>(source: &str, output: &'a str) -> Vec<&'a str> {
        invented_names(source, &["LandSpace"], output).into_iter().map(|name| &output[name]).collect()
    }

    #[test]
    fn finds_names_that_the_source_does_not_explain() {
        for (source, output, name) in [
            ("火箭发射入轨。", "The rocket entered orbit, CNN reported.", "CNN"),
            ("火箭发射入轨。", "The rocket of Blue Origin entered orbit.", "Blue Origin"),
            ("专家表示，市场前景广阔。", "Professor Anderson said the market was promising.", "Anderson"),
            ("专家表示，市场前景广阔。", "Experts such as John Smith said so.", "John Smith"),
            ("该市新建两所学校。", "The city built two schools with Wang Xiaoming.", "Wang Xiaoming"),
            ("总统会见了代表。", "The president met delegates in Nairobi.", "Nairobi"),
        ] {
            assert_eq!(invented(source, output), [name], "{output}");
        }
    }

    #[test]
    fn accepts_names_that_the_source_explains() {
        for (source, output) in [
            ("蓝箭航天披露细节。", "LandSpace disclosed details."),
            ("美国总统约翰·史密斯抵达内罗毕。", "U.S. President John Smith arrived in Nairobi."),
            ("林伯强接受采访。", "Lin Boqiang was interviewed."),
            ("外交部发言人说。", "The Ministry of Foreign Affairs spokesperson said on Friday."),
            ("HEPS启动联调。", "HEPS began joint commissioning."),
            ("亚美尼亚总理说。", "The Armenian prime minister said so."),
            ("据路透社报道。", "According to Reuters."),
            ("法国总统马克龙抵达成都。", "French President Macron arrived in Chengdu."),
            ("研讨会开幕。", "Commemorating the event, the symposium opened."),
            ("names only", "Nairobi"),
        ] {
            assert_eq!(invented(source, output), [""; 0], "{output}");
        }
    }
}
