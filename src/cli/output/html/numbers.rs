//! Numbers in a text and what they come to, for linking them across languages. Called by `marks`; judges nothing.

use std::ops::Range;

/// A number in digits, with the word that scales it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Number {
    /// Its bytes in the text.
    pub(super) range: Range<usize>,
    /// Its value, written in one way only: significant digits and a power of ten.
    pub(super) value: String,
}

/// What a word after the digits multiplies by, as a power of ten; longer words before those that they begin with.
const SCALES: [(&str, i32); 7] =
    [("万亿", 12), ("亿", 8), ("万", 4), ("trillion", 12), ("billion", 9), ("million", 6), ("thousand", 3)];

/// The numbers of a text in Chinese or English, in order: `557.4亿` and `55.74 billion` have the same value.
pub(super) fn numbers(text: &str) -> Vec<Number> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let start = at;
        let mut digits = String::new();
        while let Some(byte) = bytes.get(at) {
            let groups = *byte == b',' && is_group(&bytes[at + 1..]);
            if byte.is_ascii_digit() {
                digits.push(char::from(*byte));
            } else if !groups {
                break;
            }
            at += 1;
        }
        let mut exponent = 0;
        if bytes.get(at) == Some(&b'.') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) {
            at += 1;
            while let Some(byte) = bytes.get(at).filter(|byte| byte.is_ascii_digit()) {
                digits.push(char::from(*byte));
                exponent -= 1;
                at += 1;
            }
        }
        let rest = &text[at..];
        let word = rest.strip_prefix([' ', '-']).unwrap_or(rest);
        if let Some((scale, power)) = SCALES.iter().find(|(scale, _)| word.starts_with(scale)) {
            exponent += power;
            at += rest.len() - word.len() + scale.len();
        }
        found.push(Number { range: start..at, value: value(&digits, exponent) });
    }
    found
}

/// Whether a comma before these bytes groups thousands: exactly three digits follow.
fn is_group(rest: &[u8]) -> bool {
    rest.iter().take_while(|byte| byte.is_ascii_digit()).count() == 3
}

fn value(digits: &str, exponent: i32) -> String {
    let significant = digits.trim_start_matches('0');
    let plain = significant.trim_end_matches('0');
    if plain.is_empty() {
        return "0".to_owned();
    }
    let zeros = i32::try_from(significant.len() - plain.len()).unwrap_or(i32::MAX);
    format!("{plain}e{}", exponent.saturating_add(zeros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_amount_has_the_same_value_in_both_languages() {
        for (zh, en) in [
            ("557.4亿元", "55.74 billion yuan"),
            ("3.2万亿", "3.2 trillion"),
            ("1200万人", "12 million people"),
            ("6日", "the 06"),
            ("1,234.50", "1234.5"),
            ("2万", "20,000"),
            ("0", "0.0"),
        ] {
            let values = |text| numbers(text).into_iter().map(|n| n.value).collect::<Vec<_>>();
            assert_eq!(values(zh), values(en), "{zh} {en}");
        }
    }

    #[test]
    fn ranges_hold_the_number_and_its_scale() {
        let text = "增长14.8%，达557.4亿元，1,23 and 5 million.";
        let found: Vec<&str> = numbers(text).iter().map(|n| &text[n.range.clone()]).collect();
        assert_eq!(found, ["14.8", "557.4亿", "1", "23", "5 million"]);
    }
}
