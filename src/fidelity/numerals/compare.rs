//! Compares the quantities of two texts by value.
//!
//! Every quantity has one or several components: the ends of a range, or year, month and day. Each component of the
//! source looks for a counterpart of the same value in the output: first one that is written the same way, then one
//! that is equivalent.

use std::collections::BTreeSet;

use rust_decimal::Decimal;

use super::{
    Currency,
    chinese::read_zh,
    english::read_en,
    quantity::{Quantity, QuantityKind},
    units::Unit,
};

/// The quantities of a source, of its translation, and their relation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NumberReport {
    /// The quantities that the translation must contain; spans into the source.
    pub expected: Vec<Quantity>,
    /// The number of expected quantities that the translation contains.
    pub kept: usize,
    /// The expected quantities that the translation lacks; spans into the source.
    pub missing: Vec<Quantity>,
    /// The quantities of the translation that the source lacks; spans into the translation.
    pub unexpected: Vec<Quantity>,
    /// The quantities of the source with their counterparts in the translation, each with its span in its own text. A
    /// quantity can be in several pairs.
    pub pairs: Vec<(Quantity, Quantity)>,
}

/// Compares the quantities of a Chinese source and its English translation.
///
/// ```
/// use yizhai::fidelity::numerals::compare;
///
/// assert!(compare("投资35亿元", "an investment of 3.5 billion yuan").missing.is_empty());
/// let report = compare("12月3日，投资35亿元", "an investment of 350 million yuan");
/// assert_eq!((report.expected.len(), report.kept), (2, 0));
/// assert_eq!((report.unexpected.len(), report.pairs.len()), (1, 0));
/// ```
pub fn compare(zh: &str, en: &str) -> NumberReport {
    match_up(read_zh(zh), &read_en(en))
}

/// Returns the quantities of a Chinese summary that its Chinese source lacks.
pub(in crate::fidelity) fn summary_numbers_not_in(summary: &str, source: &str) -> Vec<Quantity> {
    let known = read_zh(source);
    let known: Vec<Component> = components(&known).collect();
    let is_known = |own: &Component| known.iter().any(|other| match_quality(other, own).is_some());
    let mut found = read_zh(summary);
    found.retain(|quantity| {
        quantity.required && !components(std::slice::from_ref(quantity)).all(|own| is_known(&own))
    });
    found
}

fn match_up(expected: Vec<Quantity>, found: &[Quantity]) -> NumberReport {
    let wanted: Vec<Component> = components(&expected).collect();
    let mut present: Vec<Component> = components(found).collect();
    mark_foreign_currencies(&wanted, &mut present);
    let mut taken = vec![false; present.len()];
    let mut kept = vec![false; wanted.len()];
    let mut pairs = BTreeSet::new();
    for quality in [MatchQuality::Same, MatchQuality::SameValue, MatchQuality::Converted] {
        for required in [true, false] {
            for (index, own) in wanted.iter().enumerate().filter(|(_, own)| own.required == required) {
                if kept[index] {
                    continue;
                }
                let counterpart = (0..present.len())
                    .find(|other| !taken[*other] && match_quality(own, &present[*other]) == Some(quality));
                if let Some(counterpart) = counterpart {
                    taken[counterpart] = true;
                    kept[index] = true;
                    pairs.insert((own.quantity, present[counterpart].quantity));
                }
            }
        }
    }
    let lost: Vec<usize> = wanted
        .iter()
        .zip(&kept)
        .filter(|(own, kept)| !**kept && !is_kept_elsewhere(own, &wanted, &present))
        .map(|(own, _)| own.quantity)
        .collect();
    let added: Vec<usize> = present
        .iter()
        .zip(&taken)
        .filter(|(other, taken)| {
            !**taken
                && !wanted.iter().any(|own| match_quality(own, other).is_some())
                && !is_implied(other, &wanted)
        })
        .map(|(other, _)| other.quantity)
        .collect();
    let required = |quantities: &[Quantity], of: &[usize]| -> Vec<Quantity> {
        let chosen = quantities.iter().enumerate().filter(|(index, q)| q.required && of.contains(index));
        chosen.map(|(_, quantity)| quantity.clone()).collect()
    };
    let missing = required(&expected, &lost);
    let unexpected = required(found, &added);
    let pairs = pairs.into_iter().map(|(zh, en)| (expected[zh].clone(), found[en].clone())).collect();
    let expected: Vec<Quantity> = expected.into_iter().filter(|quantity| quantity.required).collect();
    NumberReport { kept: expected.len() - missing.len(), expected, missing, unexpected, pairs }
}

/// Marks amounts in a currency that the source does not name although it names another one.
///
/// An amount without a currency (30亿 after 200亿元) can be rendered in the currency of the other amounts, but not in
/// one that the source never names.
fn mark_foreign_currencies(source: &[Component], output: &mut [Component]) {
    let currency = |component: &Component| match component.kind {
        ComponentKind::Money(currency) => Some(currency),
        _ => None,
    };
    let named: Vec<_> = source.iter().filter_map(currency).collect();
    for component in output.iter_mut() {
        component.foreign = !named.is_empty() && currency(component).is_some_and(|own| !named.contains(&own));
    }
}

/// A single value of a quantity, to be matched with one of the other text.
#[derive(Debug, Clone, Copy)]
struct Component {
    /// The index of the quantity that it belongs to.
    quantity: usize,
    value: Decimal,
    kind: ComponentKind,
    required: bool,
    /// The upper end of the range of which this is the lower end.
    upper: Option<Decimal>,
    /// Money in a currency that the source does not name although it names another one.
    foreign: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ComponentKind {
    Number(Option<Unit>),
    Money(Currency),
    Percent,
    Fraction(u32, u32),
    Times,
    Ordinal(Option<Unit>),
    Year,
    Month,
    Day,
    Weekday,
    /// A time of day; the value is the hour, this is the minute.
    Clock(u8),
    Plan,
    Magnitude,
}

/// The closeness of a match between two components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MatchQuality {
    /// The same value of the same kind.
    Same,
    /// The same value of a compatible kind.
    SameValue,
    /// An equivalent value in another unit or form.
    Converted,
}

fn components(quantities: &[Quantity]) -> impl Iterator<Item = Component> + '_ {
    quantities.iter().enumerate().flat_map(|(index, quantity)| {
        let component = |kind, value, upper| Component {
            quantity: index,
            value,
            kind,
            required: quantity.required,
            upper,
            foreign: false,
        };
        let kind = match quantity.kind {
            QuantityKind::Count => ComponentKind::Number(quantity.unit),
            QuantityKind::Money(currency) => ComponentKind::Money(currency),
            QuantityKind::Percent => ComponentKind::Percent,
            QuantityKind::Fraction(numerator, denominator) => ComponentKind::Fraction(numerator, denominator),
            QuantityKind::Times => ComponentKind::Times,
            QuantityKind::Ordinal => ComponentKind::Ordinal(quantity.unit),
            QuantityKind::Clock(clock) => ComponentKind::Clock(clock.minute),
            QuantityKind::FiveYearPlan => ComponentKind::Plan,
            QuantityKind::Magnitude => ComponentKind::Magnitude,
            QuantityKind::Date(date) => {
                let mut named = Vec::new();
                named.extend(date.year.map(|v| (ComponentKind::Year, Decimal::from(v))));
                named.extend(date.month.map(|v| (ComponentKind::Month, Decimal::from(v))));
                named.extend(date.day.map(|v| (ComponentKind::Day, Decimal::from(v))));
                named.extend(date.weekday.map(|v| (ComponentKind::Weekday, Decimal::from(v))));
                let last = named.len().saturating_sub(1);
                let upper = |i: usize| quantity.upper.filter(|_| i == last);
                let mut all: Vec<Component> = named
                    .iter()
                    .enumerate()
                    .map(|(i, (kind, value))| component(*kind, *value, upper(i)))
                    .collect();
                if let (Some(upper), Some((kind, _))) = (quantity.upper, named.last()) {
                    all.push(component(*kind, upper, None));
                }
                return all;
            }
        };
        let mut all = vec![component(kind, quantity.value, quantity.upper)];
        all.extend(quantity.upper.map(|upper| component(kind, upper, None)));
        all
    })
}

/// Returns the closeness of the match between two components, or `None` if they do not match.
fn match_quality(a: &Component, b: &Component) -> Option<MatchQuality> {
    use ComponentKind::{
        Clock, Day, Fraction, Magnitude, Money, Month, Number, Ordinal, Percent, Plan, Times, Weekday, Year,
    };
    let equal = a.value == b.value;
    let matches_if = |matches: bool, quality: MatchQuality| matches.then_some(quality);
    match (a.kind, b.kind) {
        (Number(x), Number(y)) if x == y => matches_if(equal, MatchQuality::Same),
        (Number(Some(x)), Number(Some(y))) => {
            matches_if(converted(a.value, x, b.value, y), MatchQuality::Converted)
        }
        (Number(_), Number(_)) => matches_if(equal, MatchQuality::SameValue),
        (Money(x), Money(y)) => matches_if(equal && x == y, MatchQuality::Same),
        // An amount can lose its currency in one of the languages.
        (Money(_), Number(None)) | (Number(None), Money(_)) => {
            matches_if(equal && !a.foreign && !b.foreign, MatchQuality::SameValue)
        }
        // A pound can be money or a weight.
        (Money(Currency::Pound), Number(Some(Unit::Pound)))
        | (Number(Some(Unit::Pound)), Money(Currency::Pound)) => matches_if(equal, MatchQuality::SameValue),
        (Percent, Percent) | (Times, Times) | (Month, Month) | (Day, Day) => {
            matches_if(equal, MatchQuality::Same)
        }
        // 90年代 and the '90s omit the century.
        (Year, Year) => {
            let hundred = Decimal::ONE_HUNDRED;
            let (low, high) = (a.value.min(b.value), a.value.max(b.value));
            matches_if(equal || (low < hundred && high % hundred == low), MatchQuality::Same)
        }
        (Weekday, Weekday) | (Plan, Plan) => matches_if(equal, MatchQuality::Same),
        (Fraction(..), Fraction(..)) => matches_if(equal, MatchQuality::Same),
        (Ordinal(x), Ordinal(y)) => {
            matches_if(equal, if x == y { MatchQuality::Same } else { MatchQuality::SameValue })
        }
        (Percent, Fraction(..)) => {
            matches_if(near(a.value, b.value * Decimal::ONE_HUNDRED), MatchQuality::Converted)
        }
        (Fraction(..), Percent) => match_quality(b, a),
        // `three quarters` can be quarters of a year.
        (Number(Some(Unit::Quarter)), Fraction(n, 4)) => {
            matches_if(a.value == Decimal::from(n), MatchQuality::SameValue)
        }
        (Fraction(_, 4), Number(Some(Unit::Quarter))) => match_quality(b, a),
        (Times, Percent) => {
            let full = a.value * Decimal::ONE_HUNDRED;
            matches_if(full == b.value || full == b.value + Decimal::ONE_HUNDRED, MatchQuality::Converted)
        }
        (Percent, Times) => match_quality(b, a),
        (Times, Number(None)) | (Percent, Number(None)) => matches_if(equal, MatchQuality::SameValue),
        (Number(None), Times | Percent) => matches_if(equal, MatchQuality::SameValue),
        (Clock(x), Clock(y)) => {
            let half_day = Decimal::from(12);
            let same = equal || a.value == b.value + half_day || b.value == a.value + half_day;
            matches_if(same && x == y, MatchQuality::Same)
        }
        (Clock(0), Number(_)) | (Number(_), Clock(0)) => matches_if(equal, MatchQuality::SameValue),
        (Magnitude, Magnitude) if equal => Some(MatchQuality::Same),
        (Magnitude, Magnitude) => matches_if(
            has_magnitude(a.value, b.value) || has_magnitude(b.value, a.value),
            MatchQuality::Converted,
        ),
        (Magnitude, Number(_) | Money(_)) => {
            matches_if(has_magnitude(b.value, a.value), MatchQuality::Converted)
        }
        (Number(_) | Money(_), Magnitude) => match_quality(b, a),
        (Ordinal(_), Number(_)) | (Number(_), Ordinal(_)) => matches_if(equal, MatchQuality::SameValue),
        (Year, Number(None | Some(Unit::Year))) | (Number(None | Some(Unit::Year)), Year) => {
            matches_if(equal, MatchQuality::SameValue)
        }
        (Day, Number(None) | Ordinal(_)) | (Number(None) | Ordinal(_), Day) => {
            matches_if(equal, MatchQuality::SameValue)
        }
        _ => None,
    }
}

/// Returns `true` if a value has an order of magnitude: at least `magnitude` and less than a hundred times as much.
fn has_magnitude(value: Decimal, magnitude: Decimal) -> bool {
    value >= magnitude && magnitude.checked_mul(Decimal::ONE_HUNDRED).is_some_and(|limit| value < limit)
}

/// Returns `true` if two values differ by no more than rounding to two digits can explain (1.5 %).
fn near(a: Decimal, b: Decimal) -> bool {
    (a - b).abs() <= b.abs() * Decimal::new(15, 3)
}

/// Returns `true` if two amounts in units of the same dimension are equal within 1.5 %.
fn converted(a: Decimal, a_unit: Unit, b: Decimal, b_unit: Unit) -> bool {
    let in_base_unit = |value: Decimal, unit: Unit| value.checked_mul(unit.factor());
    a_unit.dimension() == b_unit.dimension()
        && in_base_unit(a, a_unit).zip(in_base_unit(b, b_unit)).is_some_and(|(a, b)| near(a, b))
}

/// Returns `true` if an unmatched component of the source is not lost: a year that the output has elsewhere, or the
/// months 1 to 5 where the output has `the first five months`.
fn is_kept_elsewhere(own: &Component, source: &[Component], output: &[Component]) -> bool {
    if own.kind == ComponentKind::Year
        && output.iter().any(|other| match_quality(own, other) == Some(MatchQuality::Same))
    {
        return true;
    }
    let range = source.iter().find(|other| other.quantity == own.quantity && other.upper.is_some());
    let Some(range) = range else { return false };
    let (ComponentKind::Month, Some(last)) = (range.kind, range.upper) else { return false };
    range.value == Decimal::ONE
        && output
            .iter()
            .any(|other| other.kind == ComponentKind::Number(Some(Unit::Month)) && other.value == last)
}

/// Returns `true` if a component of the output follows from the source: the years of a five-year plan, the months of a
/// range.
fn is_implied(other: &Component, source: &[Component]) -> bool {
    source.iter().any(|own| match (own.kind, other.kind) {
        // The first plan began in 1953, the tenth in 2001, the fifteenth in 2026.
        (ComponentKind::Plan, ComponentKind::Year) => {
            let first = Decimal::from(1951) + own.value * Decimal::from(5);
            other.value == first || other.value == first + Decimal::from(4)
        }
        // A date that is written as a number: 11.11 for 11月11日.
        (ComponentKind::Day, ComponentKind::Number(None)) => source.iter().any(|month| {
            month.quantity == own.quantity
                && month.kind == ComponentKind::Month
                && other.value == month.value + own.value / Decimal::ONE_HUNDRED
        }),
        (ComponentKind::Month, ComponentKind::Number(Some(Unit::Month))) => {
            own.value == Decimal::ONE && own.upper == Some(other.value)
        }
        _ => false,
    })
}
