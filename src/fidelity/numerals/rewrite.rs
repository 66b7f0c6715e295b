//! Rewrites the quantities of a Chinese text in English, so that the model only has to copy them.
//!
//! A small model cannot convert 3.5万 into 35,000; code can, exactly. Called by `pipeline` before it builds a prompt.

use std::ops::Range;

use rust_decimal::Decimal;

use super::{
    chinese::{number::digit, read_zh},
    quantity::{Quantity, QuantityKind},
    render::{amount, english, english_of, inner_approx, ordinal},
    units::{Unit, chinese_unit},
};

/// The kinds of quantities to rewrite. The default covers those whose rewriting improved translations when measured:
/// amounts, dates, five-year plans and totals of lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuantityRewrite {
    /// Amounts that English counts differently: everything with 万, 亿, 多 or 余, Chinese numerals above ten, money,
    /// percentages and fractions in words, and ordinals with a scale.
    pub amounts: bool,
    /// Money without a scale as well: `8元` → `8 yuan`.
    pub small_money: bool,
    /// Dates: `12月3日` → `Dec. 3`, `2025年12月` → `December 2025`, `5日` → `the 5th`. A bare `2025年` is left alone.
    pub dates: bool,
    /// `“十五五”` → `15th Five-Year Plan`.
    pub plans: bool,
    /// `前9个月` → `first nine months`, `第三季度` → `third quarter`.
    pub periods: bool,
    /// Units of measure: `3万亩` → `30,000 mu`, `500斤` → `500 jin`, `32891平方米` → `32,891 square meters`. Durations
    /// are left alone: 3年来 and 3天前 are more than a number and a unit.
    pub units: bool,
    /// The total that ends a list, up to twelve: `甲、乙等6个国家` → `甲、乙等 six 国家`.
    pub list_totals: bool,
}

impl Default for QuantityRewrite {
    fn default() -> Self {
        Self {
            amounts: true,
            small_money: false,
            dates: true,
            plans: true,
            periods: false,
            units: false,
            list_totals: true,
        }
    }
}

impl QuantityRewrite {
    /// Rewrites every kind of quantity.
    pub const ALL: Self = Self {
        amounts: true,
        small_money: true,
        dates: true,
        plans: true,
        periods: true,
        units: true,
        list_totals: true,
    };
}

/// A quantity of a Chinese text and the English that replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replacement {
    /// The bytes of the Chinese text to replace.
    pub(super) span: Range<usize>,
    /// The English to write there.
    pub(super) english: String,
}

/// Rewrites the quantities of a Chinese text that `options` selects in English, set apart by spaces.
///
/// ```
/// use yizhai::fidelity::numerals::{QuantityRewrite, rewrite_quantities};
///
/// let rewritten = rewrite_quantities("前9个月营收557.4亿元。", QuantityRewrite::default());
/// assert_eq!(rewritten, "前9个月营收 55.74 billion yuan。");
/// ```
pub fn rewrite_quantities(text: &str, options: QuantityRewrite) -> String {
    let mut rewritten = String::with_capacity(text.len() + text.len() / 4);
    let mut copied = 0;
    for Replacement { span, english } in replacements(text, options) {
        rewritten.push_str(&text[copied..span.start]);
        if rewritten.ends_with(|c: char| c.is_alphanumeric() || c == '%') {
            rewritten.push(' ');
        }
        rewritten.push_str(&english);
        if text[span.end..].starts_with(|c: char| c.is_alphanumeric()) {
            rewritten.push(' ');
        }
        copied = span.end;
    }
    rewritten.push_str(&text[copied..]);
    rewritten
}

/// Returns the replacements that `options` selects, in order and without overlaps.
pub(super) fn replacements(text: &str, options: QuantityRewrite) -> Vec<Replacement> {
    let mut found: Vec<Replacement> = Vec::new();
    for quantity in read_zh(text) {
        let end = found.last().map_or(0, |last| last.span.end);
        let selected = replacement(text, &quantity, options).filter(|(span, _)| span.start >= end);
        found.extend(selected.map(|(span, english)| Replacement { span, english }));
    }
    found
}

/// Returns the English for a quantity and the bytes that it replaces, or `None` if `options` does not select it.
fn replacement(text: &str, quantity: &Quantity, options: QuantityRewrite) -> Option<(Range<usize>, String)> {
    if !quantity.required {
        return None;
    }
    let own = quantity.text(text);
    let span = quantity.span.clone();
    let scaled = own.contains(['万', '亿', '多', '余']);
    let has_no_digits = !own.contains(|c: char| digit(c).is_some());
    let long_numeral = has_no_digits && quantity.value > Decimal::TEN;
    match quantity.kind {
        QuantityKind::FiveYearPlan if options.plans => Some((unquoted(text, span), english(quantity))),
        QuantityKind::Date(date) if options.dates && (date.month.is_some() || date.day.is_some()) => {
            Some((span, english(quantity)))
        }
        QuantityKind::Ordinal if options.periods && quantity.unit == Some(Unit::Quarter) => {
            Some((span.start..span.end + "季度".len(), format!("{} quarter", ordinal_word(quantity.value))))
        }
        QuantityKind::Ordinal if options.amounts && scaled => Some((span, ordinal(quantity.value))),
        QuantityKind::Percent if options.amounts && !own.contains(['%', '％', '‰']) => {
            Some((span, english_of(quantity, text)))
        }
        QuantityKind::Fraction(..) if options.amounts && own.contains("分之") => {
            Some((span, english(quantity)))
        }
        QuantityKind::Times if options.amounts && scaled => Some((span, english_of(quantity, text))),
        QuantityKind::Money(_)
            if options.amounts && (scaled || long_numeral)
                || options.small_money && matches!(quantity.kind, QuantityKind::Money(_)) =>
        {
            Some((span, english_of(quantity, text)))
        }
        QuantityKind::Count => count(text, quantity, options, scaled || long_numeral),
        _ => None,
    }
}

/// Extends a span over the quotation marks around it, which belong to the Chinese abbreviation.
fn unquoted(text: &str, span: Range<usize>) -> Range<usize> {
    let open = text[..span.start].strip_suffix('“').map(str::len);
    let close = text[span.end..].starts_with('”').then(|| span.end + '”'.len_utf8());
    open.zip(close).map_or(span, |(open, close)| open..close)
}

/// Returns the replacement for a plain count.
fn count(
    text: &str,
    quantity: &Quantity,
    options: QuantityRewrite,
    is_amount: bool,
) -> Option<(Range<usize>, String)> {
    let own = quantity.text(text);
    let span = quantity.span.clone();
    if options.list_totals
        && quantity.upper.is_none()
        && quantity.unit.is_none()
        && text[..span.start].ends_with('等')
        && let Some(value) = list_total(quantity.value)
    {
        let measure_word = if text[span.end..].starts_with('个') { '个'.len_utf8() } else { 0 };
        return Some((span.start..span.end + measure_word, value.to_owned()));
    }
    if options.periods
        && matches!(quantity.unit, Some(Unit::Month | Unit::Quarter))
        && let Some(start) = text[..span.start].strip_suffix('前').map(str::len)
        && let Some(value) = period_count(quantity.value)
    {
        let name = if quantity.unit == Some(Unit::Month) { "months" } else { "quarters" };
        return Some((start..span.end, format!("first {value} {name}")));
    }
    let has_unit_to_rewrite = options.units
        && quantity.unit.is_some_and(|unit| {
            !unit.is_time() && own.ends_with(|c: char| !c.is_ascii()) && !unit_name(own, unit).is_empty()
        });
    if has_unit_to_rewrite {
        return Some((span, english_of(quantity, text)));
    }
    if !(options.amounts && is_amount && quantity.required) {
        return None;
    }
    // Leave the unit in Chinese: the model knows 吨 and 公里.
    let unit = quantity
        .unit
        .map_or(0, |unit| if own.ends_with(unit_name(own, unit)) { unit_name(own, unit).len() } else { 0 });
    let english = format!("{}{}", inner_approx(quantity, text), amount(quantity));
    Some((span.start..span.end - unit, english))
}

/// Returns the Chinese name of `unit` at the end of a quantity's text; empty if the text does not end with it.
fn unit_name(own: &str, unit: Unit) -> &str {
    let mut starts = own.char_indices().map(|(at, _)| at);
    starts.find(|at| chinese_unit(&own[*at..]) == Some((unit, own.len() - at))).map_or("", |at| &own[at..])
}

/// The numbers that are written as words.
const WORDS: [&str; 13] =
    ["", "", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];

/// Returns the total of a list as a word. The model mistakes a digit for part of the list and drops it
/// (巴哈马、牙买加等6个国家).
fn list_total(value: Decimal) -> Option<&'static str> {
    small_number(value).and_then(|number| WORDS.get(number).copied()).filter(|word| !word.is_empty())
}

/// Returns the count of a period as it is written in `first nine months` and `first 10 months`.
fn period_count(value: Decimal) -> Option<&'static str> {
    match small_number(value)? {
        10 => Some("10"),
        11 => Some("11"),
        12.. => None,
        _ => list_total(value),
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
