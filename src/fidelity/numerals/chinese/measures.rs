//! Reads the unit, currency, percent sign or classifier after a Chinese number.
//!
//! Called by the reader with the number that `number` has read.

use rust_decimal::Decimal;

use super::number::{self, ChineseNumber};
use crate::fidelity::numerals::{
    quantity::{Approx, Quantity, QuantityKind},
    units::{self, Currency, Unit},
};

/// Classifiers and other words after which a numeral is a count.
pub(super) const CLASSIFIERS: &[&str] = &[
    "个", "名", "人", "位", "家", "项", "次", "件", "只", "条", "台", "辆", "架", "艘", "枚", "座", "栋",
    "幢", "间", "套", "户", "口", "头", "匹", "棵", "株", "亩", "篇", "部", "本", "册", "份", "张", "幅",
    "支", "批", "期", "届", "轮", "场", "场次", "笔", "宗", "起", "例", "种", "类", "级", "层", "站", "所",
    "处", "组", "对", "双", "倍", "集", "款", "列", "班", "趟", "路", "队", "点", "分", "秒", "度", "岁",
    "年", "天", "月", "日", "周", "小时", "分钟", "国", "省", "市", "县", "区", "镇", "乡", "村", "大", "强",
    "方", "代", "步", "阶段", "成", "号", "人次", "标箱", "周年", "万", "亿", "元",
];

/// Adds the unit after a number. Returns `None` if the numerals are part of a word and not a quantity.
pub(super) fn measured(text: &str, at: usize, number: &ChineseNumber) -> Option<Quantity> {
    let span = |end: usize| at..end;
    let spaces = text[number.end..].len() - text[number.end..].trim_start_matches(' ').len();
    let gap = number.end + spaces;
    let rest = &text[gap..];
    // 百万人次, 千万美元 and 万亿市值 have a value; 万辆 and 百年 are vague.
    let head = text[at..].chars().next().map_or(0, char::len_utf8);
    let scale_with_value = number.headless
        && number.bare_end > at + head
        && number.value >= Decimal::from(1_000_000)
        && (CLASSIFIERS.iter().any(|word| rest.starts_with(word)) || units::chinese_currency(rest).is_some());
    let required = number.digits
        || scale_with_value
        || (!number.headless && (number.value > Decimal::TEN || number.scale > Decimal::ONE));
    if let Some(denominator) = rest.strip_prefix("分之") {
        return fraction(text, at, number, text.len() - denominator.len());
    }
    for (sign, per_mille) in [
        ("个百分点", false),
        ("个多百分点", false),
        ("百分点", false),
        ("%", false),
        ("％", false),
        ("‰", true),
    ] {
        if rest.starts_with(sign) {
            let value = if per_mille { number.value / Decimal::TEN } else { number.value };
            return Some(Quantity::new(span(gap + sign.len()), value, QuantityKind::Percent));
        }
    }
    if let Some(quantity) = tenths(text, at, number, gap) {
        return Some(quantity);
    }
    for (times, half) in [("倍半", true), ("倍", false), ("多倍", false), ("余倍", false)] {
        if rest.starts_with(times) {
            let value = if half { number.value + Decimal::new(5, 1) } else { number.value };
            let mut quantity = Quantity::new(span(gap + times.len()), value, QuantityKind::Times);
            quantity.required = !number.headless;
            return Some(quantity);
        }
    }
    if let Some(quantity) = slashed(text, at, number) {
        return Some(quantity);
    }
    if rest.starts_with("比") || rest.starts_with("∶") {
        // In 3比1, both numbers are read on their own.
    } else if let Some((currency, length)) = units::chinese_currency(rest).filter(|_| is_money(rest)) {
        // 人民币 before an amount and 元 after it are the same currency.
        let named =
            text[..at].strip_suffix("人民币").filter(|_| currency == Currency::Yuan).map_or(at, str::len);
        let mut quantity = Quantity::new(named..gap + length, number.value, QuantityKind::Money(currency));
        quantity.required = required || (!number.headless && number.value > Decimal::ONE);
        return Some(quantity);
    }
    if let Some((currency, length)) = units::english_sign(&text[..at]) {
        return Some(Quantity::new(at - length..number.end, number.value, QuantityKind::Money(currency)));
    }
    // 3个半小时, 一个半月
    for (word, unit) in [("个半小时", Unit::Hour), ("个半月", Unit::Month), ("个半钟头", Unit::Hour)]
    {
        if rest.starts_with(word) {
            let value = number.value.checked_add(Decimal::new(5, 1))?;
            let mut quantity = Quantity::new(span(gap + word.len()), value, QuantityKind::Count);
            quantity.unit = Some(unit);
            return Some(quantity);
        }
    }
    if let Some((unit, length)) = units::chinese_unit(rest).filter(|(unit, _)| is_unit(*unit, rest, number)) {
        let mut quantity = Quantity::new(span(gap + length), number.value, QuantityKind::Count);
        quantity.unit = Some(unit);
        quantity.required = required || (!number.headless && number.value > Decimal::TWO);
        // Add the half of 两年半, but not the 半 of 三天半夜.
        let after = &rest[length..];
        if unit.is_time() && after.starts_with('半') && !after.starts_with("半夜") && !number.more {
            quantity.value = number.value.checked_add(Decimal::new(5, 1))?;
            quantity.span.end += '半'.len_utf8();
        }
        return Some(quantity);
    }
    if rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let mut quantity = Quantity::new(span(number.end), number.value, QuantityKind::Count);
        if let Some((unit, length)) = units::english_unit(rest) {
            quantity.unit = Some(unit);
            quantity.span.end = gap + length;
        } else if spaces == 0 && number.digits {
            quantity.span.end = gap + letters;
        }
        return number.digits.then_some(quantity);
    }
    // 十分 means `very` and 四处 means `everywhere`; 十大 and 三大 are counts.
    let word = !number.digits
        && [("十", "分"), ("四", "处"), ("一", "点"), ("万", "分"), ("百", "分")]
            .iter()
            .any(|(own, next)| &text[at..number.end] == *own && rest.starts_with(next));
    let counted = !word && CLASSIFIERS.iter().any(|word| rest.starts_with(word));
    if !number.digits && !counted && ((number.headless && !required) || number.value < Decimal::from(100)) {
        return None;
    }
    let mut quantity = Quantity::new(span(number.end), number.value, QuantityKind::Count);
    // The number in 伊尔-76 is part of the name of a model.
    let required = required && !(number.plain_digits > 0 && joined_name(text, at) && !counted);
    quantity.required = required || (counted && !number.headless && number.value > Decimal::TWO);
    Some(quantity)
}

/// Returns `true` unless the 元 or 块 at the start begins a word that is not about money.
fn is_money(rest: &str) -> bool {
    ![
        "元旦", "元素", "元件", "元首", "块地", "块土", "块石", "块田", "元化", "元一", "块屏", "块板",
        "块钢", "块电",
    ]
    .iter()
    .any(|word| rest.starts_with(word))
}

/// Returns `true` unless the name of a unit is likely to be part of another word here.
fn is_unit(unit: Unit, rest: &str, number: &ChineseNumber) -> bool {
    match unit {
        Unit::CubicMeter if rest.starts_with('方') => {
            number.scale >= Decimal::from(10_000) && !rest.starts_with("方面") && !rest.starts_with("方案")
        }
        Unit::Year => !rest.starts_with("年级") && !rest.starts_with("年代"),
        Unit::Meter => !rest.starts_with("米饭"),
        Unit::Liter => !["升级", "升至", "升到", "升高"].iter().any(|word| rest.starts_with(word)),
        Unit::Week => !rest.starts_with("周边") && !rest.starts_with("周围"),
        Unit::Day => !["天然", "天津", "天文"].iter().any(|word| rest.starts_with(word)),
        _ => true,
    }
}

/// Returns `true` if a hyphen joins the number to a Chinese name before it.
fn joined_name(text: &str, at: usize) -> bool {
    text[..at].strip_suffix('-').is_some_and(|name| {
        name.ends_with(|c: char| {
            c.is_alphabetic() && !c.is_ascii() && !number::begins(c) && !"年月日号时点".contains(c)
        })
    })
}

/// Reads a fraction in digits, such as `1/5`, unless it is a date.
fn slashed(text: &str, at: usize, number: &ChineseNumber) -> Option<Quantity> {
    let denominator_at = text.len() - text[number.end..].strip_prefix('/')?.len();
    let starts = text[denominator_at..].starts_with(|c: char| c.is_ascii_digit());
    let second = number::scan(text, denominator_at).filter(|n| starts && n.plain_digits > 0)?;
    let (n, d) = (u32::try_from(number.value).ok()?, u32::try_from(second.value).ok()?);
    if number.plain_digits == 0
        || n == 0
        || n >= d
        || d > 100
        || text[second.end..].starts_with(['/', '月', '日'])
    {
        return None;
    }
    let value = Decimal::from(n).checked_div(Decimal::from(d))?;
    Some(Quantity::new(at..second.bare_end, value, QuantityKind::Fraction(n, d)))
}

/// Reads tenths as percent: 近七成, 3成半.
fn tenths(text: &str, at: usize, number: &ChineseNumber, gap: usize) -> Option<Quantity> {
    let after = text[gap..].strip_prefix('成')?;
    if number.value > Decimal::TEN
        || number.more && number.digits
        || after.starts_with(|c: char| "立为员功都本果绩长交就熟群份套型".contains(c))
    {
        return None;
    }
    let mut value = number.value * Decimal::TEN;
    let mut end = gap + '成'.len_utf8();
    if after.starts_with('半') {
        value += Decimal::from(5);
        end += '半'.len_utf8();
    } else if let Some(more) = after.chars().next().filter(|c| matches!(c, '多' | '余')) {
        end += more.len_utf8();
    }
    let mut quantity = Quantity::new(at..end, value, QuantityKind::Percent);
    quantity.required = number.value > Decimal::ONE;
    if after.starts_with(['多', '余']) {
        quantity.approx = Approx::MoreThan;
    }
    Some(quantity)
}

/// Reads a fraction whose denominator has been read: 三分之二.
fn fraction(text: &str, at: usize, number: &ChineseNumber, numerator_at: usize) -> Option<Quantity> {
    let numerator = number::scan(text, numerator_at).filter(|n| !n.vague)?;
    let (n, d) = (u32::try_from(numerator.value).ok()?, u32::try_from(number.value).ok()?);
    let value = Decimal::from(n).checked_div(Decimal::from(d))?;
    Some(Quantity::new(at..numerator.end, value, QuantityKind::Fraction(n, d)))
}
