//! Numbers written in digits that an output holds and its source does not.
//!
//! A string comparison: right for summaries, which stand in the language of their source.

/// The numbers in digits (with their decimals) of `output` that do not stand in `source`, in order.
pub fn numbers_not_in<'a>(output: &'a str, source: &str) -> Vec<&'a str> {
    let known = numbers(source);
    numbers(output).into_iter().filter(|number| !known.contains(number)).collect()
}

/// Every maximal run of ASCII digits, with decimals: `3.5`, `2025`, `14.8`.
fn numbers(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let start = at;
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        if bytes.get(at) == Some(&b'.') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) {
            at += 1;
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
        }
        found.push(&text[start..at]);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_invented_numbers_are_named() {
        let source = "前9个月全省航天产业营收557.4亿元，同比增长14.8%。";
        assert_eq!(numbers_not_in("营收557.4亿元，增长14.8%", source), Vec::<&str>::new());
        assert_eq!(numbers_not_in("2024年营收557亿元，增长14.8%。", source), ["2024", "557"]);
    }
}
