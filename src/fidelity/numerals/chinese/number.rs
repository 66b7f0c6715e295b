//! Reads a number from Chinese text: digits of any width or Chinese numerals, with the scale after them.
//!
//! Called by the reader, `dates`, `measures` and `words`, which look at the text around the number. Knows no units.

use rust_decimal::Decimal;

use super::spelled::scan_numerals;

/// A number and the way in which it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChineseNumber {
    pub value: Decimal,
    /// The end, in bytes of the text.
    pub end: usize,
    /// The end without a 多, 余 or 来 after the number.
    pub bare_end: usize,
    /// The number contains digits of any width.
    pub digits: bool,
    /// The factor of its scale: 10,000 for `3.5万`; 1 without a scale.
    pub scale: Decimal,
    /// The number contains 多, 余 or 来.
    pub more: bool,
    /// The number of digits if it has no comma, decimals or scale, so that it can be a year; otherwise 0.
    pub plain_digits: usize,
    /// It has no exact value (十几, 数千, 七八). `value` is then its order of magnitude or zero.
    pub vague: bool,
    /// It consists of scales only: 百, 万, 千万.
    pub headless: bool,
}

/// Returns the value of a digit of any width.
pub(in crate::fidelity::numerals) fn digit(c: char) -> Option<u32> {
    match c {
        '0'..='9' => Some(c as u32 - '0' as u32),
        '０'..='９' => Some(c as u32 - '０' as u32),
        _ => None,
    }
}

/// Returns the value of a Chinese numeral below ten.
pub(super) fn numeral(c: char) -> Option<u32> {
    Some(match c {
        '零' | '〇' | '○' => 0,
        '一' | '壹' => 1,
        '二' | '两' | '贰' => 2,
        '三' | '叁' => 3,
        '四' | '肆' => 4,
        '五' | '伍' => 5,
        '六' | '陆' => 6,
        '七' | '柒' => 7,
        '八' | '捌' => 8,
        '九' | '玖' => 9,
        _ => return None,
    })
}

pub(super) fn small_scale(c: char) -> Option<u32> {
    match c {
        '十' | '拾' => Some(10),
        '百' | '佰' => Some(100),
        '千' | '仟' => Some(1_000),
        _ => None,
    }
}

pub(super) fn large_scale(c: char) -> Option<u64> {
    match c {
        '万' => Some(10_000),
        '亿' => Some(100_000_000),
        _ => None,
    }
}

/// Returns `true` if a number can begin with the character.
pub(super) fn begins(c: char) -> bool {
    digit(c).is_some() || numeral(c).is_some() || small_scale(c).is_some() || large_scale(c).is_some()
}

/// Reads the number that begins at `at`, a character boundary.
pub(super) fn scan(text: &str, at: usize) -> Option<ChineseNumber> {
    let first = text.get(at..)?.chars().next()?;
    if digit(first).is_some() { scan_digits(text, at) } else { scan_numerals(text, at) }
}

fn scan_digits(text: &str, at: usize) -> Option<ChineseNumber> {
    let (mut value, mut end, plain_digits) = mantissa(text, at)?;
    let mut number = ChineseNumber {
        value,
        end,
        bare_end: end,
        digits: true,
        scale: Decimal::ONE,
        more: false,
        plain_digits,
        vague: false,
        headless: false,
    };
    // A space can precede the scale: `130 万`.
    let spaces = leading_spaces(&text[end..]);
    let (more, after) = more_than(text, end + spaces);
    if text[after..].starts_with('几') {
        number.vague = true;
        number.end = after + '几'.len_utf8();
        return Some(number);
    }
    let (scale, scale_end) = scale(text, after);
    if scale_end > after {
        value = value.checked_mul(scale)?;
        end = scale_end;
        number.scale = scale;
        number.plain_digits = 0;
        number.more = more;
        // `1亿2000万` continues with a smaller part of the same number.
        if !more
            && text[end..].starts_with(|c| digit(c).is_some())
            && let Some(rest) = scan_digits(text, end).filter(|rest| rest.scale > Decimal::ONE)
            && rest.value < scale
        {
            value = value.checked_add(rest.value)?;
            end = rest.bare_end;
        }
    }
    number.value = value.normalize();
    number.bare_end = end;
    let (more, after) = more_than(text, end + leading_spaces(&text[end..]));
    number.more |= more;
    number.end = if more { after } else { end };
    Some(number)
}

/// Reads digits with commas and decimals. Returns the value, the end, and the number of digits if there is nothing
/// else.
fn mantissa(text: &str, at: usize) -> Option<(Decimal, usize, usize)> {
    let mut plain = String::new();
    let mut end = at;
    let mut groups = 0;
    let mut since_comma = 0;
    for (offset, c) in text[at..].char_indices() {
        if let Some(value) = digit(c) {
            plain.push(char::from_digit(value, 10)?);
            since_comma += 1;
            end = at + offset + c.len_utf8();
            continue;
        }
        // A comma is followed by exactly three digits; a full-width comma, by full-width digits.
        let wide = c == '，';
        let group: Vec<char> = text[at + offset + c.len_utf8()..].chars().take(4).collect();
        let three = group.len() >= 3
            && group[..3].iter().all(|c| digit(*c).is_some() && (!wide || !c.is_ascii()))
            && group.get(3).is_none_or(|c| digit(*c).is_none());
        if (c == ',' || wide) && three && since_comma <= 3 && (groups == 0 || since_comma == 3) {
            groups += 1;
            since_comma = 0;
            continue;
        }
        break;
    }
    let digits = plain.len();
    if let Some(point) = text[end..].chars().next().filter(|c| matches!(c, '.' | '．' | '·')) {
        let decimals: String = text[end + point.len_utf8()..]
            .chars()
            .map_while(digit)
            .filter_map(|value| char::from_digit(value, 10))
            .collect();
        if !decimals.is_empty() {
            let length: usize =
                text[end + point.len_utf8()..].chars().take(decimals.len()).map(char::len_utf8).sum();
            end += point.len_utf8() + length;
            return Some((format!("{plain}.{decimals}").parse().ok()?, end, 0));
        }
    }
    Some((plain.parse().ok()?, end, if groups == 0 { digits } else { 0 }))
}

/// Reads a 多, 余 or 来 at `at`; 来 only before a scale or a classifier. Returns `true` if there is one, and the position
/// after it.
pub(super) fn more_than(text: &str, at: usize) -> (bool, usize) {
    let mut chars = text[at..].chars();
    match chars.next() {
        Some(c @ ('多' | '余')) => (true, at + c.len_utf8()),
        Some(c @ '来') if chars.next().is_some_and(|c| "个人名位家万亿天岁年次".contains(c)) => {
            (true, at + c.len_utf8())
        }
        _ => (false, at),
    }
}

/// Returns the product of the scale characters at `at` (万亿 is a trillion) and their end. Stops before the 千 of a unit
/// of measure (千米, 千克, 千瓦).
pub(super) fn scale(text: &str, at: usize) -> (Decimal, usize) {
    let mut product = Decimal::ONE;
    let mut end = at;
    while let Some(c) = text[end..].chars().next() {
        let rest = &text[end + c.len_utf8()..];
        if c == '千' && rest.starts_with(['米', '克', '瓦', '伏', '卡', '帕', '赫']) {
            break;
        }
        if c == '百' && rest.starts_with("分") {
            break;
        }
        let factor = small_scale(c).map(u64::from).or_else(|| large_scale(c));
        let Some(next) = factor.and_then(|f| product.checked_mul(Decimal::from(f))) else { break };
        // Nobody writes a scale greater than a trillion times ten thousand.
        if next > Decimal::from(10_000_000_000_000_000_u64) {
            break;
        }
        product = next;
        end += c.len_utf8();
    }
    (product, end)
}

fn leading_spaces(text: &str) -> usize {
    text.len() - text.trim_start_matches([' ', '\u{a0}', '\u{3000}']).len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fidelity::numerals::chinese::spelled::neighbors;

    #[test]
    fn reads_digits_and_numerals_with_scales() {
        for (text, value) in [
            ("3.5万", "35000"),
            ("1.2亿", "120000000"),
            ("2.3万亿", "2300000000000"),
            ("130 万", "1300000"),
            ("７０万", "700000"),
            ("6.９１万", "69100"),
            ("１５，２００", "15200"),
            ("1,234,567.5", "1234567.5"),
            ("3000多万", "30000000"),
            ("1亿2000万", "120000000"),
            ("30万亿", "30000000000000"),
            ("五千万", "50000000"),
            ("三亿五千万", "350000000"),
            ("两千三百", "2300"),
            ("两千三", "2300"),
            ("一万零八", "10008"),
            ("十二", "12"),
            ("二十", "20"),
            ("一百一十", "110"),
            ("一百零五", "105"),
            ("百", "100"),
            ("千万", "10000000"),
            ("万亿", "1000000000000"),
            ("三点五亿", "350000000"),
            ("二〇二五", "2025"),
            ("一万亿", "1000000000000"),
            ("两万三千亿", "2300000000000"),
        ] {
            let number = scan(text, 0).unwrap();
            assert_eq!((number.value.to_string(), number.vague), (value.to_owned(), false), "{text}");
            assert_eq!(number.end, text.len(), "{text}");
        }
    }

    #[test]
    fn recognizes_vague_numbers() {
        for text in ["十几", "七八", "20几"] {
            assert!(scan(text, 0).unwrap().vague, "{text}");
        }
        assert!(scan("数千", 3).unwrap().vague);
        for (text, lower, upper) in [
            ("二三十", 20, 30),
            ("十五六", 15, 16),
            ("七八千", 7_000, 8_000),
            ("七八", 7, 8),
            ("两三百万", 2_000_000, 3_000_000),
        ] {
            assert!(scan(text, 0).unwrap().vague, "{text}");
            assert_eq!(neighbors(text), Some((Decimal::from(lower), Decimal::from(upper))), "{text}");
        }
        for text in ["十几", "三十", "二〇二五", "一百零五", "八七"] {
            assert_eq!(neighbors(text), None, "{text}");
        }
        assert!(scan("几十", 3).unwrap().vague);
        assert!(scan("百", 0).unwrap().headless);
    }
}
