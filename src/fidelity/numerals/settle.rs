//! A Chinese text whose quantities are already English, so that a model only has to copy them.
//!
//! A small model cannot turn 3.5万 into 35,000; code can, exactly. Called by `pipeline` before the prompt is made.

use std::ops::Range;

use rust_decimal::Decimal;

use super::{
    render::{amount, english, inner_approx, number, ordinal},
    units::Unit,
    value::{Kind, Quantity},
    zh::read_zh,
};

/// Which quantities are settled. The default settles all that was measured to help: amounts, dates and plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settle {
    /// Amounts that English counts otherwise: everything with 万, 亿, 多, 余, and Chinese numerals above ten; money,
    /// percentages and fractions in words, ordinals with a scale.
    pub amounts: bool,
    /// Money without a scale as well: `8元` → `8 yuan`.
    pub small_money: bool,
    /// Dates: `12月3日` → `Dec. 3`, `2025年12月` → `December 2025`, `5日` → `the 5th`. A bare `2025年` stays.
    pub dates: bool,
    /// `“十五五”` → `15th Five-Year Plan`.
    pub plans: bool,
    /// `前9个月` → `first nine months`, `第三季度` → `third quarter`.
    pub periods: bool,
    /// Units of measure: `3万亩` → `30,000 mu`, `500斤` → `500 jin`, `32891平方米` → `32,891 square meters`. Years, days
    /// and other lengths of time stay: 3年来 and 3天前 are more than a number and a unit.
    pub units: bool,
    /// How many there are of which some were named, up to twelve: `甲、乙等6个国家` → `甲、乙等 six 国家`.
    pub members: bool,
}

impl Default for Settle {
    fn default() -> Self {
        Self {
            amounts: true,
            small_money: false,
            dates: true,
            plans: true,
            periods: false,
            units: false,
            members: true,
        }
    }
}

impl Settle {
    /// Everything.
    pub const ALL: Self = Self {
        amounts: true,
        small_money: true,
        dates: true,
        plans: true,
        periods: true,
        units: true,
        members: true,
    };
}

/// What was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// Where it stood in the source, in bytes.
    pub source: Range<usize>,
    /// Where the English stands in the settled text, in bytes, without the spaces around it.
    pub settled: Range<usize>,
    /// The English that was written there; a translation should hold it as it is.
    pub english: String,
}

/// Rewrites the quantities of a Chinese text that a small model cannot convert.
///
/// ```
/// use yizhai::fidelity::numerals::settle_zh;
///
/// assert_eq!(settle_zh("前9个月营收557.4亿元。"), "前9个月营收 55.74 billion yuan。");
/// assert_eq!(settle_zh("建成3.5万多家工厂"), "建成 more than 35,000 家工厂");
/// ```
pub fn settle_zh(text: &str) -> String {
    settle_with(text, Settle::default()).0
}

/// Rewrites the quantities that `options` names and tells what was replaced, in order.
pub fn settle_with(text: &str, options: Settle) -> (String, Vec<Replacement>) {
    let mut settled = String::with_capacity(text.len() + text.len() / 4);
    let mut replaced = Vec::new();
    let mut at = 0;
    for quantity in read_zh(text) {
        let Some((span, english)) = replacement(text, &quantity, options) else { continue };
        if span.start < at {
            continue;
        }
        settled.push_str(&text[at..span.start]);
        if settled.ends_with(|c: char| c.is_alphanumeric() || c == '%') {
            settled.push(' ');
        }
        let start = settled.len();
        settled.push_str(&english);
        let end = settled.len();
        if text[span.end..].starts_with(|c: char| c.is_alphanumeric()) {
            settled.push(' ');
        }
        at = span.end;
        replaced.push(Replacement { source: span, settled: start..end, english });
    }
    settled.push_str(&text[at..]);
    (settled, replaced)
}

/// The English for a quantity and the bytes that it replaces, if it is to be settled.
fn replacement(text: &str, quantity: &Quantity, options: Settle) -> Option<(Range<usize>, String)> {
    if !quantity.firm {
        return None;
    }
    let own = quantity.text(text);
    let span = quantity.span.clone();
    let scaled = own.contains(['万', '亿']) || own.contains(['多', '余']);
    let numerals = !own.contains(|c: char| super::zh_number::digit(c).is_some());
    let long = numerals && quantity.value > Decimal::TEN;
    match quantity.kind {
        Kind::FiveYearPlan if options.plans => Some((unquoted(text, span), english(quantity))),
        Kind::Date(date) if options.dates && (date.month.is_some() || date.day.is_some()) => {
            Some((span, english(quantity)))
        }
        Kind::Ordinal if options.periods && quantity.unit == Some(Unit::Quarter) => {
            Some((span.start..span.end + "季度".len(), format!("{} quarter", ordinal_word(quantity.value))))
        }
        Kind::Ordinal if options.amounts && scaled => Some((span, ordinal(quantity.value))),
        Kind::Percent if options.amounts && !own.contains(['%', '％', '‰']) => {
            let points = own.contains("百分点");
            let name = if points { "percentage points" } else { "percent" };
            Some((span, format!("{}{} {name}", inner_approx(quantity, text), amount(quantity))))
        }
        Kind::Fraction(..) if options.amounts && own.contains("分之") => Some((span, english(quantity))),
        Kind::Times if options.amounts && scaled => {
            Some((span, format!("{}{}", inner_approx(quantity, text), english(quantity))))
        }
        Kind::Money(_)
            if options.amounts && (scaled || long)
                || options.small_money && matches!(quantity.kind, Kind::Money(_)) =>
        {
            Some((span, format!("{}{}", inner_approx(quantity, text), english(quantity))))
        }
        Kind::Count => count(text, quantity, options, scaled || long),
        _ => None,
    }
}

/// The span with the quotation marks around it, which belong to the Chinese abbreviation.
fn unquoted(text: &str, span: Range<usize>) -> Range<usize> {
    let open = text[..span.start].strip_suffix('“').map(str::len);
    let close = text[span.end..].starts_with('”').then(|| span.end + '”'.len_utf8());
    open.zip(close).map_or(span, |(open, close)| open..close)
}

fn count(
    text: &str,
    quantity: &Quantity,
    options: Settle,
    amount_wanted: bool,
) -> Option<(Range<usize>, String)> {
    let own = quantity.text(text);
    let span = quantity.span.clone();
    if options.members
        && quantity.upper.is_none()
        && quantity.unit.is_none()
        && text[..span.start].ends_with('等')
        && let Some(value) = member_count(quantity.value)
    {
        let measure = if text[span.end..].starts_with('个') { '个'.len_utf8() } else { 0 };
        return Some((span.start..span.end + measure, value.to_owned()));
    }
    if options.periods
        && matches!(quantity.unit, Some(Unit::Month | Unit::Quarter))
        && let Some(start) = text[..span.start].strip_suffix('前').map(str::len)
        && let Some(value) = small_word(quantity.value)
    {
        let name = if quantity.unit == Some(Unit::Month) { "months" } else { "quarters" };
        return Some((start..span.end, format!("first {value} {name}")));
    }
    let measured = options.units
        && quantity.unit.is_some_and(|unit| {
            !unit.is_time() && own.ends_with(|c: char| !c.is_ascii()) && !unit_name(own, unit).is_empty()
        });
    if measured {
        return Some((span, format!("{}{}", inner_approx(quantity, text), english(quantity))));
    }
    if !(options.amounts && amount_wanted && quantity.firm) {
        return None;
    }
    // The unit stays Chinese: the model knows 吨 and 公里.
    let unit = quantity
        .unit
        .map_or(0, |unit| if own.ends_with(unit_name(own, unit)) { unit_name(own, unit).len() } else { 0 });
    let value = match quantity.upper {
        Some(upper) => format!("{} to {}", number(quantity.value), number(upper)),
        None => number(quantity.value),
    };
    Some((span.start..span.end - unit, format!("{}{value}", inner_approx(quantity, text))))
}

/// The Chinese name of the unit at the end of a quantity's text; empty if it does not end with one.
fn unit_name(own: &str, unit: Unit) -> &str {
    let mut starts = own.char_indices().map(|(at, _)| at);
    starts
        .find(|at| super::units::chinese_unit(&own[*at..]) == Some((unit, own.len() - at)))
        .map_or("", |at| &own[at..])
}

/// The numbers that have a word.
const WORDS: [&str; 13] =
    ["", "", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];

/// How many there are of which some were named, as a word. The model takes a digit there for a part of the list and drops
/// it (巴哈马、牙买加等6个国家).
fn member_count(value: Decimal) -> Option<&'static str> {
    small_number(value).and_then(|number| WORDS.get(number).copied()).filter(|word| !word.is_empty())
}

/// `first nine months`, but `first 10 months`.
fn small_word(value: Decimal) -> Option<&'static str> {
    match small_number(value)? {
        10 => Some("10"),
        11 => Some("11"),
        12.. => None,
        _ => member_count(value),
    }
}

fn small_number(value: Decimal) -> Option<usize> {
    usize::try_from(value).ok().filter(|_| value.fract().is_zero())
}

fn ordinal_word(value: Decimal) -> String {
    const WORDS: [&str; 5] = ["", "first", "second", "third", "fourth"];
    let word = usize::try_from(value).ok().and_then(|n| WORDS.get(n)).copied().unwrap_or_default();
    if word.is_empty() { ordinal(value) } else { word.to_owned() }
}
