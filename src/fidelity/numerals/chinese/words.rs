//! Reads Chinese quantities with words of their own: five-year plans, well-known days, 第几, 翻番, 半, 百分之.
//!
//! Called by the reader at a character that can begin one.

use rust_decimal::Decimal;

use super::{
    Parsed, approximate,
    number::{self, ChineseNumber},
};
use crate::fidelity::numerals::{
    quantity::{Date, Quantity, QuantityKind},
    units::Unit,
};

/// Names and idioms that look like a numeral with a classifier.
pub(super) const NAMES: &[&str] = &[
    "五台山",
    "九寨沟",
    "三国演义",
    "三国志",
    "五大连池",
    "三位一体",
    "一家人",
    "一口气",
    "一点儿",
    "四方面军",
    "八路军",
    "三人行",
    "百家争鸣",
    "千家万户",
    "万家灯火",
    "五项原则",
    "二人转",
    "三轮车",
    "三人制",
    "十项全能",
    "三级跳",
    "四处",
    "十分",
    "百分百",
];

/// Days that are known by their numbers, with month and day.
const DAYS: &[(&str, u8, u8)] = &[
    ("九一八", 9, 18),
    ("七七事变", 7, 7),
    ("五四运动", 5, 4),
    ("五四青年", 5, 4),
    ("“五四”", 5, 4),
    ("五一", 5, 1),
    ("“五一”", 5, 1),
    ("“六一”", 6, 1),
    ("六一儿童", 6, 1),
    ("“七一”", 7, 1),
    ("“八一”", 8, 1),
    ("八一建军", 8, 1),
    ("“十一”", 10, 1),
    ("十一国庆", 10, 1),
    ("十一黄金周", 10, 1),
    ("“三八”", 3, 8),
    ("三八妇女", 3, 8),
    ("一二·九", 12, 9),
    ("双11", 11, 11),
    ("双12", 12, 12),
    ("双十一", 11, 11),
    ("双十二", 12, 12),
    ("双１１", 11, 11),
    ("双１２", 12, 12),
];

/// Reads a five-year plan or a well-known day.
pub(super) fn named(text: &str, at: usize) -> Option<Parsed> {
    let rest = &text[at..];
    let quoted = rest.strip_prefix('“').unwrap_or(rest);
    let open = rest.len() - quoted.len();
    if let Some((name, month, day)) = DAYS.iter().find(|(name, ..)| rest.starts_with(name)) {
        let date = Date { month: Some(*month), day: Some(*day), ..Date::default() };
        let mut quantity =
            Quantity::new(at..at + name.len(), Decimal::from(*month), QuantityKind::Date(date));
        quantity.required = false;
        return Parsed::some(quantity);
    }
    let run: Vec<char> = quoted.chars().take(4).collect();
    let before = text[..at].chars().next_back();
    let (plan, chars) = match run[..] {
        ['十', tens @ ('一' | '二' | '三' | '四' | '五' | '六' | '七'), '五', ..] => {
            (10 + "一二三四五六七".chars().position(|c| c == tens)? as u32 + 1, 3)
        }
        ['十', '五', '”', ..] if open > 0 => (10, 2),
        [one, '五', '”', ..] if open > 0 => {
            (1 + "一二三四五六七八九".chars().position(|c| c == one)? as u32, 2)
        }
        _ => return None,
    };
    if open == 0 && before.is_some_and(number::begins) {
        return None;
    }
    let start = at + open;
    let span = start..start + 3 * chars;
    Parsed::some(Quantity::new(span, Decimal::from(plan), QuantityKind::FiveYearPlan))
}

/// Reads 百分之三 or 千分之五; the number begins at `number_at`.
pub(super) fn percent_of(text: &str, at: usize, number_at: usize, per_mille: bool) -> Option<Parsed> {
    let number = number::scan(text, number_at).filter(|n| !n.vague)?;
    let value = if per_mille { number.value / Decimal::TEN } else { number.value };
    let mut quantity = Quantity::new(at..number.end, value, QuantityKind::Percent);
    approximate(text, &mut quantity, &number);
    Parsed::some(quantity)
}

/// Reads an ordinal: 第50万辆, 第三季度, 第十五个五年规划.
pub(super) fn ordinal(text: &str, at: usize) -> Option<Parsed> {
    let number_at = at + '第'.len_utf8();
    let spaces = text[number_at..].len() - text[number_at..].trim_start_matches(' ').len();
    // 第二多 means `second most`: its 多 is not part of the number.
    let number = number::scan(text, number_at + spaces).filter(|n| !n.vague)?;
    let number = ChineseNumber { end: number.bare_end, ..number };
    let rest = &text[number.end..];
    if rest.starts_with("个五年规划") || rest.starts_with("个五年计划") {
        let span = at..number.end + "个五年规划".len();
        return Parsed::some(Quantity::new(span, number.value, QuantityKind::FiveYearPlan));
    }
    let mut quantity = Quantity::new(at..number.end, number.value, QuantityKind::Ordinal);
    // Small ordinals are often part of a word: 第一时间, 第三方, 第一产业.
    quantity.required = number.digits || number.value > Decimal::TEN;
    if rest.starts_with("季度") {
        quantity.unit = Some(Unit::Quarter);
        quantity.required = true;
    }
    Parsed::some(quantity)
}

/// Reads a multiple: 翻番, 翻一番, 翻了两番, 翻倍, 翻了一倍.
pub(super) fn doubled(text: &str, at: usize) -> Option<Parsed> {
    let after = at + '翻'.len_utf8();
    let after_le = if text[after..].starts_with('了') { after + '了'.len_utf8() } else { after };
    let (doublings, end) = if text[after_le..].starts_with(['番', '倍']) {
        (1, after_le + 3)
    } else {
        let number = number::scan(text, after_le)?;
        let rest = &text[number.end..];
        if rest.starts_with('番') && number.value <= Decimal::TEN {
            (u32::try_from(number.value).ok()?, number.end + 3)
        } else if rest.starts_with('倍') {
            return Parsed::some(Quantity::new(
                at..number.end + 3,
                number.value + Decimal::ONE,
                QuantityKind::Times,
            ));
        } else {
            return None;
        }
    };
    Parsed::some(Quantity::new(at..end, Decimal::from(2_u64.checked_pow(doublings)?), QuantityKind::Times))
}

/// Reads a half, which is too vague to be required: 半数, 过半, 大半, 半年.
pub(super) fn half(text: &str, at: usize) -> Option<Parsed> {
    for (word, value, unit) in [
        ("半年", 6, Unit::Month),
        ("半个月", 15, Unit::Day),
        ("半小时", 30, Unit::Minute),
        ("半个小时", 30, Unit::Minute),
    ] {
        if text[at..].starts_with(word) {
            let mut quantity = Quantity::new(at..at + word.len(), Decimal::from(value), QuantityKind::Count);
            quantity.unit = Some(unit);
            quantity.required = false;
            return Parsed::some(quantity);
        }
    }
    let word = ["半数", "过半", "大半", "半"].into_iter().find(|word| text[at..].starts_with(word))?;
    let mut quantity = Quantity::new(at..at + word.len(), Decimal::new(5, 1), QuantityKind::Fraction(1, 2));
    quantity.required = false;
    Parsed::some(quantity)
}
