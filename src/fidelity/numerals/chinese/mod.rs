//! Reads the quantities of a Chinese text.
//!
//! Walks through the text once. At each character that can begin a quantity, `dates` and `words` try their forms; then
//! `number` reads a number, `measures` adds its unit, and this file adds ranges and exactness. Called by `compare` and
//! `rewrite`.

mod dates;
mod measures;
pub(super) mod number;
mod spelled;
mod words;

use rust_decimal::Decimal;

use self::{
    measures::{CLASSIFIERS, measured},
    number::ChineseNumber,
    words::{NAMES, doubled, half, named, ordinal, percent_of},
};
use super::{
    quantity::{Approx, Quantity, QuantityKind},
    units,
};

/// Words before a number that qualify its exactness.
const ABOUT: &[&str] = &["约", "大约", "约为", "约有", "大概", "左右", "将近约"];
const OVER: &[&str] = &["超", "超过", "逾", "突破", "高于", "至少", "不少于", "不低于", "超出", "多于"];
const UNDER: &[&str] = &["近", "将近", "接近", "不足", "不到", "低于", "少于", "不超过", "至多", "最多"];

/// The separators between the ends of a range.
const RANGE: &[&str] = &["——", "—", "–", "-", "－", "~", "～", "∼", "至", "到", "−", "‑"];

/// Returns the quantities of a Chinese text, in order and without overlaps.
///
/// ```
/// use yizhai::fidelity::numerals::{QuantityKind, read_zh};
///
/// let found = read_zh("前9个月营收557.4亿元，同比增长14.8%。");
/// let values: Vec<String> = found.iter().map(|q| q.value.to_string()).collect();
/// assert_eq!(values, ["9", "55740000000", "14.8"]);
/// assert_eq!(found[2].kind, QuantityKind::Percent);
/// ```
pub fn read_zh(text: &str) -> Vec<Quantity> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if c.is_ascii_alphabetic() {
            at = skip_identifier(text, at);
            continue;
        }
        let next = match read_at(text, at) {
            Some(Parsed { quantity: Some(mut quantity), end }) => {
                // The 数 of 半数万亿 already belongs to the quantity before.
                let taken = found.last().map_or(0, |last: &Quantity| last.span.end);
                quantity.span.start = quantity.span.start.max(taken);
                found.push(quantity);
                end
            }
            Some(Parsed { quantity: None, end }) => end,
            None => at + c.len_utf8(),
        };
        at = next.max(at + c.len_utf8());
    }
    found
}

/// The result of reading at a position: a quantity, or a word with a numeral that is not one.
struct Parsed {
    quantity: Option<Quantity>,
    /// The end, in bytes of the text.
    end: usize,
}

impl Parsed {
    fn some(quantity: Quantity) -> Option<Self> {
        let end = quantity.span.end;
        Some(Self { quantity: Some(quantity), end })
    }
}

/// Skips a name of letters and digits (`T5`, `G60`, `COVID-19`, `CO2`), but not the digits after a currency code.
fn skip_identifier(text: &str, at: usize) -> usize {
    let letters = text[at..].find(|c: char| !c.is_ascii_alphabetic()).map_or(text.len(), |n| at + n);
    if units::english_sign(&text[at..letters]).is_some() {
        return letters;
    }
    let rest = &text[letters..];
    let joined = rest.strip_prefix('-').filter(|r| r.starts_with(|c: char| c.is_ascii_digit()));
    // A name can continue after an apostrophe: Chang’e-6.
    let is_name =
        text[at..].starts_with(|c: char| c.is_ascii_uppercase()) || text[..at].ends_with(['’', '\'']);
    let joined = joined.filter(|_| is_name);
    if !rest.starts_with(|c: char| c.is_ascii_digit()) && joined.is_none() {
        return letters;
    }
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '/');
    text[letters..].find(|c: char| !name(c)).map_or(text.len(), |n| letters + n)
}

/// Reads what begins at a character: a quantity, or a word with a numeral to skip.
fn read_at(text: &str, at: usize) -> Option<Parsed> {
    let rest = &text[at..];
    let first = rest.chars().next()?;
    match first {
        '百' | '千' => {
            for (prefix, per_mille) in [("百分之", false), ("千分之", true)] {
                if let Some(read) = rest
                    .starts_with(prefix)
                    .then(|| percent_of(text, at, at + prefix.len(), per_mille))
                    .flatten()
                {
                    return Some(read);
                }
            }
        }
        '第' => return ordinal(text, at),
        '翻' => return doubled(text, at),
        '半' | '过' | '大' => return half(text, at),
        '周' | '星' | '礼' => return dates::weekday(text, at),
        '“' | '双' => {
            if let Some(read) = named(text, at) {
                return Some(read);
            }
        }
        _ => {}
    }
    if !number::begins(first) {
        return None;
    }
    if let Some(name) = NAMES.iter().find(|name| rest.starts_with(**name)) {
        return Some(Parsed { quantity: None, end: at + name.len() });
    }
    if let Some(read) = named(text, at).or_else(|| dates::read(text, at)) {
        return Some(read);
    }
    let number = number::scan(text, at)?;
    if number.vague {
        // A 几 or 数 before the number is part of it.
        let start = text[..at].strip_suffix(['几', '数']).map_or(at, str::len);
        if let Some((lower, upper)) = spelled::neighbors(&text[start..number.end]) {
            let mut quantity = Quantity::new(start..number.end, lower, QuantityKind::Count);
            quantity.upper = Some(upper);
            quantity.required = false;
            return Parsed::some(quantity);
        }
        let mut quantity = Quantity::new(start..number.end, number.value, QuantityKind::Magnitude);
        quantity.required = false;
        let large = number.value >= Decimal::ONE_THOUSAND && !number.digits;
        return Some(Parsed { quantity: large.then_some(quantity), end: number.end });
    }
    let mut quantity = measured(text, at, &number);
    if let Some(range) = range(text, at, &number, quantity.as_ref()) {
        return Parsed::some(range);
    }
    if let Some(quantity) = &mut quantity {
        approximate(text, quantity, &number);
    }
    let end = quantity.as_ref().map_or(number.end, |q| q.span.end);
    Some(Parsed { quantity, end })
}

/// Reads a range, that is a number, a dash and a number with the unit of both: 3万至5万, 100—200, 6%到7%, 600-700万卢布.
fn range(text: &str, at: usize, number: &ChineseNumber, lower: Option<&Quantity>) -> Option<Quantity> {
    let (lower_end, own) = match lower {
        Some(q) if q.span.end > number.end => (q.span.end, Some(q)),
        _ => (number.end, None),
    };
    let dash = RANGE.iter().find(|dash| text[lower_end..].starts_with(**dash))?;
    let upper_at = lower_end + dash.len();
    if !text[upper_at..].starts_with(number::begins) {
        return None;
    }
    let second = number::scan(text, upper_at).filter(|n| !n.vague && n.digits == number.digits)?;
    let mut upper = dates::read(text, upper_at).is_none().then(|| measured(text, upper_at, &second))??;
    let mut value = number.value;
    if number.scale == Decimal::ONE
        && second.scale > Decimal::ONE
        && own.is_none()
        && value < second.value / second.scale
    {
        value = value.checked_mul(second.scale)?;
    }
    if let Some(own) = own {
        value = own.value;
        if own.kind != upper.kind || own.unit != upper.unit {
            return None;
        }
    }
    if value >= upper.value || upper.upper.is_some() {
        return None;
    }
    approximate(text, &mut upper, &second);
    upper.upper = Some(upper.value);
    upper.value = value;
    upper.span.start = at;
    upper.required = true;
    Some(upper)
}

/// Adds the exactness that the text states, and extends the span over a 多 or 余 after the unit.
fn approximate(text: &str, quantity: &mut Quantity, number: &ChineseNumber) {
    let before = text[..quantity.span.start].trim_end_matches(' ');
    let after = &text[quantity.span.end..];
    let classifier = CLASSIFIERS.iter().filter(|word| after.starts_with(**word)).map(|word| word.len()).max();
    let after_classifier = &after[classifier.unwrap_or(0)..];
    let is_followed_by = |word: &str| after.starts_with(word) || after_classifier.starts_with(word);
    if let Some(more) = after.chars().next().filter(|c| matches!(c, '多' | '余'))
        && quantity.unit.is_some()
    {
        quantity.span.end += more.len_utf8();
        quantity.approx = Approx::MoreThan;
    } else if number.more || is_followed_by("以上") || OVER.iter().any(|word| before.ends_with(word)) {
        quantity.approx = Approx::MoreThan;
    } else if UNDER.iter().any(|word| before.ends_with(word)) {
        quantity.approx = Approx::LessThan;
    } else if is_followed_by("左右") || ABOUT.iter().any(|word| before.ends_with(word)) {
        quantity.approx = Approx::About;
    }
}
