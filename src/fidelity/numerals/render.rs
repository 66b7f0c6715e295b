//! Writes quantities in English without changing their values.
//!
//! Called by `rewrite`, which puts the English into a Chinese source, and for the messages of findings.

use rust_decimal::Decimal;

use super::{
    quantity::{Approx, Clock, Date, MONTHS, Quantity, QuantityKind, WEEKDAYS},
    units::Unit,
};

/// The maximum number of decimals before `million` and the like; a number that needs more is written out in digits.
const MOST_DECIMALS: u32 = 5;

/// Writes a number as a newspaper does: `35,000`, `3.5 billion`, `29.2931 million`. The value stays exact.
pub fn number(value: Decimal) -> String {
    let value = value.normalize();
    for (scale, name) in [(12, "trillion"), (9, "billion"), (6, "million")] {
        let unit = Decimal::from(10_u64.pow(scale));
        if value.abs() >= unit {
            let Some(short) = value.checked_div(unit).map(|v| v.normalize()) else { break };
            if short.scale() <= MOST_DECIMALS && short.checked_mul(unit) == Some(value) {
                return format!("{} {name}", grouped(short));
            }
        }
    }
    grouped(value)
}

/// Writes a number in digits, grouped by commas.
fn grouped(value: Decimal) -> String {
    let text = value.to_string();
    let (whole, decimals) = text.split_once('.').map_or((text.as_str(), None), |(w, d)| (w, Some(d)));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut out = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(decimals) = decimals {
        out.push('.');
        out.push_str(decimals);
    }
    out
}

/// Writes an ordinal: `3rd`, `500,000th`.
pub(super) fn ordinal(value: Decimal) -> String {
    let number = grouped(value.normalize());
    let teen = number.len() > 1 && number.as_bytes()[number.len() - 2] == b'1';
    let suffix = match number.as_bytes().last() {
        Some(b'1') if !teen => "st",
        Some(b'2') if !teen => "nd",
        Some(b'3') if !teen => "rd",
        _ => "th",
    };
    number + suffix
}

/// Writes a quantity in English, with its unit but without words such as `more than`.
///
/// ```
/// use yizhai::fidelity::numerals::{english, read_zh};
///
/// assert_eq!(english(&read_zh("35亿元")[0]), "3.5 billion yuan");
/// assert_eq!(english(&read_zh("12月3日")[0]), "Dec. 3");
/// assert_eq!(english(&read_zh("三分之二")[0]), "two-thirds");
/// ```
pub fn english(quantity: &Quantity) -> String {
    match quantity.kind {
        QuantityKind::Ordinal => format!("{}{}", ordinal(quantity.value), unit(quantity)),
        QuantityKind::FiveYearPlan => format!("{} Five-Year Plan", ordinal(quantity.value)),
        QuantityKind::Date(date) => date_english(date, quantity.upper),
        QuantityKind::Clock(clock) => clock_english(clock),
        QuantityKind::Fraction(numerator, denominator) => fraction(numerator, denominator),
        QuantityKind::Percent => format!("{} percent", amount(quantity)),
        QuantityKind::Times => format!("{} times", amount(quantity)),
        QuantityKind::Money(currency) if is_one(quantity) => format!("1 {}", currency.english_singular()),
        QuantityKind::Money(currency) => format!("{} {}", amount(quantity), currency.english()),
        QuantityKind::Magnitude => magnitude(quantity.value),
        QuantityKind::Count => format!("{}{}", amount(quantity), unit(quantity)),
    }
}

/// Writes an order of magnitude: `thousands`, `tens of thousands`, `hundreds of millions`.
fn magnitude(value: Decimal) -> String {
    for (scale, name) in [(12, "trillion"), (9, "billion"), (6, "million"), (3, "thousand")] {
        let unit = Decimal::from(10_u64.pow(scale));
        if value >= unit {
            let times = value.checked_div(unit).unwrap_or(Decimal::ONE);
            let words = match () {
                () if times >= Decimal::ONE_HUNDRED => "hundreds of ",
                () if times >= Decimal::TEN => "tens of ",
                () => "",
            };
            return format!("{words}{name}s");
        }
    }
    "many".to_owned()
}

/// Writes the number or the range of numbers without a unit.
pub(super) fn amount(quantity: &Quantity) -> String {
    match quantity.upper {
        Some(upper) => format!("{} to {}", number(quantity.value), number(upper)),
        None => number(quantity.value),
    }
}

/// Returns the name of the unit with a leading space; empty without a unit.
fn unit(quantity: &Quantity) -> String {
    let one = quantity.kind == QuantityKind::Ordinal || is_one(quantity);
    let name = |unit: Unit| if one { unit.english_singular() } else { unit.english() };
    quantity.unit.map_or(String::new(), |unit| format!(" {}", name(unit)))
}

fn is_one(quantity: &Quantity) -> bool {
    quantity.value == Decimal::ONE && quantity.upper.is_none()
}

fn fraction(numerator: u32, denominator: u32) -> String {
    const SMALL: [&str; 10] = ["", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    const PARTS: [&str; 11] =
        ["", "", "half", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"];
    match (SMALL.get(numerator as usize), PARTS.get(denominator as usize)) {
        (Some(n), Some(d)) if numerator > 0 && denominator > 2 => {
            format!("{n}-{d}{}", if numerator > 1 { "s" } else { "" })
        }
        (_, Some(&"half")) if numerator == 1 => "half".to_owned(),
        _ => format!("{numerator}/{denominator}"),
    }
}

impl Date {
    /// Writes the date as news agencies do: `Dec. 6, 2025`, `December 2025`, `Saturday`.
    pub fn english(self) -> String {
        date_english(self, None)
    }
}

fn date_english(date: Date, upper: Option<Decimal>) -> String {
    const SHORT: [&str; 12] =
        ["Jan.", "Feb.", "March", "April", "May", "June", "July", "Aug.", "Sept.", "Oct.", "Nov.", "Dec."];
    let name = |names: &'static [&'static str], n: u8| names.get(usize::from(n).wrapping_sub(1)).copied();
    let end = |n: Decimal| format!("-{n}");
    let upper_day = upper.map(end).unwrap_or_default();
    match date {
        Date { year, month: Some(month), day: Some(day), .. } => {
            let year = year.map_or(String::new(), |year| format!(", {year}"));
            format!("{} {day}{upper_day}{year}", name(&SHORT, month).unwrap_or_default())
        }
        Date { year, month: Some(month), day: None, .. } => {
            let last = upper.and_then(|upper| name(&MONTHS, u8::try_from(upper).ok()?));
            let last = last.map_or(String::new(), |last| format!(" to {last}"));
            let year = year.map_or(String::new(), |year| format!(" {year}"));
            format!("{}{last}{year}", name(&MONTHS, month).unwrap_or_default())
        }
        Date { year: Some(year), .. } => format!("{year}{upper_day}"),
        Date { day: Some(day), .. } => match upper {
            Some(upper) => format!("the {} to {}", ordinal(Decimal::from(day)), ordinal(upper)),
            None => format!("the {}", ordinal(Decimal::from(day))),
        },
        Date { weekday: Some(weekday), .. } => name(&WEEKDAYS, weekday).unwrap_or_default().to_owned(),
        Date { year: None, month: None, day: None, weekday: None } => String::new(),
    }
}

fn clock_english(clock: Clock) -> String {
    format!("{}:{:02}", clock.hour, clock.minute)
}

/// Returns the quantity in English, including what its own Chinese text says about exactness (`more than` for 多, 余
/// and 来) and with `percentage points` for 百分点.
pub(in crate::fidelity) fn english_of(quantity: &Quantity, text: &str) -> String {
    let english = match quantity.kind {
        QuantityKind::Percent if quantity.text(text).contains("百分点") => {
            format!("{} percentage points", amount(quantity))
        }
        _ => english(quantity),
    };
    format!("{}{english}", inner_approx(quantity, text))
}

/// Returns `more than ` if the quantity's own text contains 多, 余 or 来; otherwise an empty string.
pub(super) fn inner_approx(quantity: &Quantity, text: &str) -> &'static str {
    let own = quantity.text(text);
    if quantity.approx == Approx::MoreThan && own.contains(['多', '余', '来']) { "more than " } else { "" }
}
