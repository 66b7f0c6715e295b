//! Splits English text into tokens and reads a number from them, in digits or words, with its scale.
//!
//! Called by the reader, `dates` and `words`, which look at the text around the number. Knows no units.

use std::ops::Range;

use rust_decimal::Decimal;

/// A word, a number in digits, or any other character except white space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EnglishToken {
    pub span: Range<usize>,
    /// The token in lower case.
    pub text: String,
    /// The token begins with a capital letter.
    pub capital: bool,
    /// No space separates it from the token before it.
    pub glued: bool,
    /// The value of a number in digits.
    pub value: Option<Decimal>,
    /// The token consists of digits only.
    pub plain: bool,
}

/// Splits a text into tokens. Letters and digits that touch become separate tokens (`1.35bn`, `US$1`).
pub(super) fn tokens(text: &str) -> Vec<EnglishToken> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut glued = false;
    while let Some(c) = text[at..].chars().next() {
        if c.is_whitespace() {
            at += c.len_utf8();
            glued = false;
            continue;
        }
        let end = if c.is_ascii_digit() {
            digits_end(text, at)
        } else if c.is_alphabetic() {
            text[at..].find(|c: char| !c.is_alphabetic()).map_or(text.len(), |n| at + n)
        } else {
            at + c.len_utf8()
        };
        let word = &text[at..end];
        found.push(EnglishToken {
            span: at..end,
            text: word.to_lowercase(),
            capital: c.is_uppercase(),
            glued,
            value: if c.is_ascii_digit() { word.replace(',', "").parse().ok() } else { None },
            plain: word.bytes().all(|b| b.is_ascii_digit()),
        });
        at = end;
        glued = true;
    }
    found
}

/// Returns the end of a number in digits, including grouping commas and decimals.
fn digits_end(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    let run = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut end = at + run(at);
    if end - at <= 3 {
        while bytes.get(end) == Some(&b',') && run(end + 1) == 3 {
            end += 4;
        }
    }
    if bytes.get(end) == Some(&b'.') && run(end + 1) > 0 {
        end += 1 + run(end + 1);
    }
    end
}

/// A number made of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EnglishNumber {
    pub value: Decimal,
    /// The index of the token after it.
    pub next: usize,
    /// The factor of its scale: a million for `3.5 million`; 1 without a scale.
    pub scale: Decimal,
    /// The number is written in words.
    pub spelled: bool,
    /// The number consists of four digits, so it can be a year.
    pub year: bool,
    /// The number ends with a word such as `third`.
    pub ordinal: bool,
}

pub(super) fn ones(word: &str) -> Option<u32> {
    const WORDS: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    WORDS.iter().position(|w| *w == word).map(|n| n as u32)
}

fn tens(word: &str) -> Option<u32> {
    const WORDS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    WORDS.iter().position(|w| *w == word).map(|n| 10 * (n as u32 + 2))
}

pub(super) fn ordinal_word(word: &str) -> Option<u32> {
    const WORDS: [&str; 20] = [
        "zeroth",
        "first",
        "second",
        "third",
        "fourth",
        "fifth",
        "sixth",
        "seventh",
        "eighth",
        "ninth",
        "tenth",
        "eleventh",
        "twelfth",
        "thirteenth",
        "fourteenth",
        "fifteenth",
        "sixteenth",
        "seventeenth",
        "eighteenth",
        "nineteenth",
    ];
    const TENS: [&str; 8] = [
        "twentieth",
        "thirtieth",
        "fortieth",
        "fiftieth",
        "sixtieth",
        "seventieth",
        "eightieth",
        "ninetieth",
    ];
    let tens = || TENS.iter().position(|w| *w == word).map(|n| 10 * (n as u32 + 2));
    let scale =
        || [("hundredth", 100), ("thousandth", 1_000), ("millionth", 1_000_000)].iter().find(|s| s.0 == word);
    WORDS.iter().position(|w| *w == word).map(|n| n as u32).or_else(tens).or_else(|| scale().map(|s| s.1))
}

/// Returns the factor of a scale word. `short` also accepts the abbreviations that follow digits.
pub(super) fn scale_word(word: &str, short: bool) -> Option<Decimal> {
    Some(Decimal::from(match word {
        "hundred" => 100_u64,
        "thousand" => 1_000,
        "million" => 1_000_000,
        "billion" => 1_000_000_000,
        "trillion" => 1_000_000_000_000,
        "mn" | "mln" if short => 1_000_000,
        "bn" | "bln" if short => 1_000_000_000,
        "tn" | "trn" if short => 1_000_000_000_000,
        _ => return None,
    }))
}

/// Reads the number that begins with token `at`.
pub(super) fn scan(tokens: &[EnglishToken], at: usize) -> Option<EnglishNumber> {
    let token = tokens.get(at)?;
    match token.value {
        Some(value) => scan_digits(tokens, at, value),
        None => scan_words(tokens, at),
    }
}

fn is(tokens: &[EnglishToken], at: usize, word: &str) -> bool {
    tokens.get(at).is_some_and(|token| token.text == word)
}

fn scan_digits(tokens: &[EnglishToken], at: usize, value: Decimal) -> Option<EnglishNumber> {
    let token = &tokens[at];
    let mut number = EnglishNumber {
        value,
        next: at + 1,
        scale: Decimal::ONE,
        spelled: false,
        year: token.plain && token.text.len() == 4,
        ordinal: false,
    };
    // `2. 4 trillion` has a stray space.
    if is(tokens, at + 1, ".")
        && tokens[at + 1].glued
        && let Some(decimals) = tokens.get(at + 2).filter(|t| t.plain && !t.glued && token.plain)
        && tokens.get(at + 3).is_some_and(|t| scale_word(&t.text, true).is_some())
    {
        number.value = format!("{}.{}", token.text, decimals.text).parse().ok()?;
        number.next = at + 3;
    }
    scales(tokens, &mut number)?;
    Some(number)
}

/// Multiplies a number by the scale words that follow it, with or without a hyphen.
fn scales(tokens: &[EnglishToken], number: &mut EnglishNumber) -> Option<()> {
    loop {
        let hyphen = is(tokens, number.next, "-") && tokens[number.next].glued;
        let word = number.next + usize::from(hyphen);
        let Some(scale) = tokens.get(word).and_then(|token| scale_word(&token.text, !number.spelled)) else {
            return Some(());
        };
        number.value = number.value.checked_mul(scale)?.normalize();
        number.scale = number.scale.checked_mul(scale)?;
        number.next = word + 1;
        number.year = false;
    }
}

fn scan_words(tokens: &[EnglishToken], at: usize) -> Option<EnglishNumber> {
    let mut total = Decimal::ZERO;
    let mut part = Decimal::ZERO;
    let mut here = at;
    let mut end = at;
    let mut ordinal = false;
    let mut scale = Decimal::ONE;
    let mut after_tens = false;
    let mut after_ones = false;
    let first = tokens[at].text.as_str();
    match first {
        // `half a million`, `half a dozen`
        "half" => {
            let article = usize::from(is(tokens, at + 1, "a"));
            let word = tokens.get(at + 1 + article)?;
            if word.text == "dozen" {
                return Some(spelled(Decimal::from(6), at + 2 + article, Decimal::ONE));
            }
            let scale = scale_word(&word.text, false)?;
            return Some(spelled((Decimal::new(5, 1) * scale).normalize(), at + 2 + article, scale));
        }
        // `a dozen`, `a hundred`
        "a" | "an" => {
            let word = tokens.get(at + 1)?;
            if word.text == "dozen" {
                return Some(spelled(Decimal::from(12), at + 2, Decimal::ONE));
            }
            scale_word(&word.text, false)?;
            part = Decimal::ONE;
            here = at + 1;
        }
        _ => {}
    }
    while let Some(token) = tokens.get(here) {
        let word = token.text.as_str();
        if let Some(value) = ones(word) {
            if after_ones || (after_tens && value >= 10) {
                break;
            }
            part = part.checked_add(Decimal::from(value))?;
            after_ones = true;
        } else if let Some(value) = tens(word) {
            if after_ones || after_tens {
                break;
            }
            part = part.checked_add(Decimal::from(value))?;
            after_tens = true;
        } else if word == "dozen" && here > at {
            part = part.checked_mul(Decimal::from(12))?;
            end = here + 1;
            break;
        } else if word == "hundred" && (here > at) {
            part = part.max(Decimal::ONE).checked_mul(Decimal::ONE_HUNDRED)?;
            (after_tens, after_ones) = (false, false);
            scale = scale.max(Decimal::ONE_HUNDRED);
        } else if let Some(factor) = scale_word(word, false).filter(|_| here > at) {
            total = total.checked_add(part.max(Decimal::ONE).checked_mul(factor)?)?;
            part = Decimal::ZERO;
            (after_tens, after_ones) = (false, false);
            scale = scale.max(factor);
        } else if let Some(value) = ordinal_word(word).filter(|v| *v < 100) {
            // `second` is an ordinal only after tens and scales; after other numbers it is a unit of time.
            if after_ones
                || (here > at && value >= 10 && after_tens)
                || (here > at && !after_tens && scale == Decimal::ONE)
            {
                break;
            }
            part = part.checked_add(Decimal::from(value))?;
            ordinal = true;
            end = here + 1;
            break;
        } else if word == "and"
            && here > at
            && scale > Decimal::ONE
            && !after_ones
            && !after_tens
            && tokens.get(here + 1).is_some_and(|t| ones(&t.text).or_else(|| tens(&t.text)).is_some())
        {
            here += 1;
            continue;
        } else if word == "and" && after_ones && is(tokens, here + 1, "a") && is(tokens, here + 2, "half") {
            part = part.checked_add(Decimal::new(5, 1))?;
            here += 3;
            end = here;
            continue;
        } else if word == "-" && token.glued && here > at && next_is_part(tokens, here + 1, after_tens) {
            here += 1;
            continue;
        } else {
            break;
        }
        here += 1;
        end = here;
    }
    if end == at || (first == "a" || first == "an") && end < at + 2 {
        return None;
    }
    let value = total.checked_add(part)?;
    Some(EnglishNumber { ordinal, ..spelled(value.normalize(), end, scale) })
}

fn next_is_part(tokens: &[EnglishToken], at: usize, after_tens: bool) -> bool {
    tokens.get(at).is_some_and(|t| {
        scale_word(&t.text, false).is_some()
            || (after_tens && (ones(&t.text).is_some() || ordinal_word(&t.text).is_some()))
    })
}

fn spelled(value: Decimal, next: usize, scale: Decimal) -> EnglishNumber {
    EnglishNumber { value, next, scale, spelled: true, year: false, ordinal: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_in_digits_and_words() {
        for (text, value) in [
            ("1,234.5", "1234.5"),
            ("3.5 million", "3500000"),
            ("1.35bn", "1350000000"),
            ("10-million", "10000000"),
            ("3 hundred million", "300000000"),
            ("2. 4 trillion", "2400000000000"),
            ("half a million", "500000"),
            ("a dozen", "12"),
            ("two dozen", "24"),
            ("twenty-three", "23"),
            ("one hundred and five", "105"),
            ("two and a half million", "2500000"),
            ("a hundred thousand", "100000"),
            ("three hundred forty-two thousand and six", "342006"),
            ("twenty-first", "21"),
            ("third", "3"),
        ] {
            let tokens = tokens(text);
            let number = scan(&tokens, 0).unwrap();
            assert_eq!(number.value.to_string(), value, "{text}");
            assert_eq!(number.next, tokens.len(), "{text}");
        }
    }

    #[test]
    fn ignores_words_that_are_not_numbers() {
        for text in ["a man", "half of", "hundreds of", "million", "and"] {
            assert_eq!(scan(&tokens(text), 0), None, "{text}");
        }
        assert_eq!(scan(&tokens("one second"), 0).unwrap().value, Decimal::ONE);
    }
}
