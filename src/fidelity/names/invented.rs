//! Names in an English translation that come from nowhere in its Chinese source.

use std::ops::Range;

use super::{
    lexicon::{derives_from_known, is_common, is_proper, known},
    phonetics::SourceSounds,
};
use crate::fidelity::han;

/// A word with fewer or more letters is no name that could be looked for.
const LETTERS: std::ops::RangeInclusive<usize> = 3..=32;

/// Capitalised words that name nothing: titles, forms of address, ordinals, days and months.
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

/// The names of an English output that its Chinese source cannot have given it: byte ranges of the output, in order.
///
/// `allowed` are renderings that were settled beforehand. A name is doubted only if it is one that people have heard of
/// (Anderson, Nairobi, Microsoft) or a Chinese name in pinyin, and the source has it neither as it is, nor in pinyin, nor in
/// a transcription, nor in a Chinese form that is known. Of the words of one name it is enough that one is there. What
/// nobody has heard of may be how something in the source is called.
///
/// ```
/// use yizhai::fidelity::invented_names;
///
/// let output = "French President Macron arrived in Chengdu, Reuters reported.";
/// let found = invented_names("法国总统马克龙抵达成都。", &[], output);
/// assert_eq!(found.len(), 1);
/// assert_eq!(&output[found[0].clone()], "Reuters");
/// ```
pub(in crate::fidelity) fn invented_names(source: &str, allowed: &[&str], output: &str) -> Vec<Range<usize>> {
    // A source without Chinese gives its names as they are; nothing is known about any other.
    if !han::contains_han(source) {
        return Vec::new();
    }
    let sounds = SourceSounds::of(source);
    let mut given = source.to_lowercase();
    for rendering in allowed {
        given.push(' ');
        given.push_str(&rendering.to_lowercase());
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
        doubt(run, source, &given, &sounds, output, &mut found);
        at += length;
    }
    found.sort_by_key(|name| name.start);
    found
}

/// Adds the parts of a run of capitalised words that the source does not explain.
fn doubt(
    run: &[LatinWord],
    source: &str,
    given: &str,
    sounds: &SourceSounds,
    output: &str,
    found: &mut Vec<Range<usize>>,
) {
    let texts: Vec<&str> = run.iter().map(|word| word.text).collect();
    if let [first, last] = run
        && is_full_name(first.text, last.text, source, given)
    {
        let (first_name, surname) = (first.text.to_lowercase(), last.text.to_lowercase());
        if !sounds.hold_full_name(&first_name, &surname) {
            found.push(first.span.start..last.span.end);
        }
        return;
    }
    let mut unexplained: Vec<usize> = Vec::new();
    let mut explained = false;
    let mut at = 0;
    while at < run.len() {
        if let Some((count, there)) = known(&texts[at..], source) {
            let name = &output[run[at].span.start..run[at + count - 1].span.end];
            if there || given.contains(&name.to_lowercase()) {
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
        // `John Smith`: common words as well, but not one behind the other.
        let beside =
            |n: usize| texts.get(n).is_some_and(|text| is_proper(text) && !sounds.hold(&text.to_lowercase()));
        let full_name = is_proper(word.text) && (beside(at + 1) || (at > 0 && beside(at - 1)));
        if given.contains(&lower) {
            explained = true;
        } else if full_name && !acronym && !sounds.hold(&lower) && !NOT_NAMES.contains(&lower.as_str()) {
            unexplained.push(at);
        } else if !LETTERS.contains(&lower.chars().count())
            || acronym
            || NOT_NAMES.contains(&lower.as_str())
            || is_common(&lower)
        {
            // Says nothing either way.
        } else if sounds.hold(&lower) || derives_from_known(word.text, source) {
            explained = true;
        } else if is_proper(word.text) {
            unexplained.push(at);
        } else if run.len() == 2
            && at == 1
            && SourceSounds::is_pinyin(&lower)
            && SourceSounds::is_surname(texts[0])
        {
            // A surname of one syllable stands in many texts; the given name decides.
            found.push(run[0].span.start..run[1].span.end);
            return;
        }
        at += 1;
    }
    // A rare word that begins a sentence alone is capitalised for that.
    let first_alone = run.len() == 1 && run[0].begins;
    if let (false, false, Some(first), Some(last)) =
        (explained, first_alone, unexplained.first(), unexplained.last())
    {
        found.push(run[*first].span.start..run[*last].span.end);
    }
}

/// Whether two words are a first name and a surname of which nothing else is known: `John Smith`.
fn is_full_name(first: &str, last: &str, source: &str, given: &str) -> bool {
    let plain = |word: &str| {
        let lower = word.to_lowercase();
        is_proper(word)
            && LETTERS.contains(&lower.chars().count())
            && !given.contains(&lower)
            && !NOT_NAMES.contains(&lower.as_str())
            && !derives_from_known(word, source)
            && known(&[word], source).is_none()
    };
    plain(first) && plain(last) && known(&[first, last], source).is_none()
}

/// A word of the output.
pub(super) struct LatinWord<'a> {
    pub(super) text: &'a str,
    pub(super) span: Range<usize>,
    pub(super) capital: bool,
    /// Only a space or a hyphen stands between it and the word before.
    joined: bool,
    /// It begins a sentence.
    begins: bool,
}

/// The words of a text in any script but Han.
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
            capital: text[start..].starts_with(char::is_uppercase) && !glued_to_digit(text, start, end),
            joined: matches!(between, " " | "-" | "·" | " · "),
            begins: found.is_empty() || between.contains(ends),
        });
        previous = end;
        at = end;
    }
    found
}

/// `CO2`, `R2`, `72TB`: neither a name nor a word.
fn glued_to_digit(text: &str, start: usize, end: usize) -> bool {
    text[..start].ends_with(|c: char| c.is_ascii_digit())
        || text[end..].starts_with(|c: char| c.is_ascii_digit())
}

fn is_han(c: char) -> bool {
    han::contains_han(c.encode_utf8(&mut [0; 4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invented<'a>(source: &str, output: &'a str) -> Vec<&'a str> {
        invented_names(source, &["LandSpace"], output).into_iter().map(|name| &output[name]).collect()
    }

    #[test]
    fn names_from_nowhere_are_found() {
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
    fn names_of_the_source_are_left() {
        for (source, output) in [
            ("蓝箭航天披露细节。", "LandSpace disclosed details."),
            ("美国总统约翰·史密斯抵达内罗毕。", "U.S. President John Smith arrived in Nairobi."),
            ("林伯强接受采访。", "Lin Boqiang was interviewed."),
            ("外交部发言人说。", "The Ministry of Foreign Affairs spokesperson said on Friday."),
            ("HEPS启动联调。", "HEPS began joint commissioning."),
            ("亚美尼亚总理说。", "The Armenian prime minister said so."),
            ("据路透社报道。", "According to Reuters."),
            ("研讨会开幕。", "Commemorating the event, the symposium opened."),
            ("names only", "Nairobi"),
        ] {
            assert_eq!(invented(source, output), [""; 0], "{output}");
        }
    }
}
