//! Whether the quantities of two texts are the same, by value.
//!
//! Every quantity is one or several parts (the ends of a range; year, month and day), and every part looks for one of the
//! same value on the other side: first for one that is written the same way, then for one that comes to the same.

use std::collections::BTreeSet;

use rust_decimal::Decimal;

use super::{
    en::read_en,
    units::Unit,
    value::{Kind, Quantity},
    zh::read_zh,
};

/// What a translation did with the quantities of its source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NumberReport {
    /// The quantities that the translation must hold; spans into the source.
    pub expected: Vec<Quantity>,
    /// How many of them it holds.
    pub kept: usize,
    /// Those that it does not hold; spans into the source.
    pub missing: Vec<Quantity>,
    /// Quantities of the translation that the source does not hold; spans into the translation.
    pub unexpected: Vec<Quantity>,
    /// What was read in both: a quantity of the source and one of the translation that say the same, each with its span
    /// into its own text. One may stand in several pairs.
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

/// Compares two Chinese texts: the numbers of the first, a summary, that the second does not hold.
pub fn summary_numbers_not_in(summary: &str, source: &str) -> Vec<Quantity> {
    let known = read_zh(source);
    let known: Vec<Part> = parts(&known).collect();
    let mut found = read_zh(summary);
    found.retain(|quantity| {
        let own = std::slice::from_ref(quantity);
        quantity.firm && parts(own).any(|part| !known.iter().any(|k| agree(k, &part).is_some()))
    });
    found
}

fn match_up(expected: Vec<Quantity>, found: &[Quantity]) -> NumberReport {
    let wanted: Vec<Part> = parts(&expected).collect();
    let mut have: Vec<Part> = parts(found).collect();
    name_currencies(&wanted, &mut have);
    let mut taken = vec![false; have.len()];
    let mut kept = vec![false; wanted.len()];
    let mut pairs = BTreeSet::new();
    for grade in [Grade::Same, Grade::Alike, Grade::Converted] {
        for firm in [true, false] {
            for (index, part) in wanted.iter().enumerate().filter(|(_, part)| part.firm == firm) {
                if kept[index] {
                    continue;
                }
                let partner =
                    (0..have.len()).find(|other| !taken[*other] && agree(part, &have[*other]) == Some(grade));
                if let Some(partner) = partner {
                    taken[partner] = true;
                    kept[index] = true;
                    pairs.insert((part.of, have[partner].of));
                }
            }
        }
    }
    let lost: Vec<usize> = wanted
        .iter()
        .zip(&kept)
        .filter(|(part, kept)| !**kept && !also_whole(part, &wanted, &have))
        .map(|(part, _)| part.of)
        .collect();
    let added: Vec<usize> = have
        .iter()
        .zip(&taken)
        .filter(|(part, taken)| {
            !**taken && !wanted.iter().any(|w| agree(w, part).is_some()) && !implied(part, &wanted)
        })
        .map(|(part, _)| part.of)
        .collect();
    let missing: Vec<Quantity> = expected
        .iter()
        .enumerate()
        .filter(|(i, q)| q.firm && lost.contains(i))
        .map(|(_, q)| q.clone())
        .collect();
    let unexpected = found
        .iter()
        .enumerate()
        .filter(|(i, q)| q.firm && added.contains(i))
        .map(|(_, q)| q.clone())
        .collect();
    let pairs = pairs.into_iter().map(|(zh, en)| (expected[zh].clone(), found[en].clone())).collect();
    let expected: Vec<Quantity> = expected.into_iter().filter(|q| q.firm).collect();
    NumberReport { kept: expected.len() - missing.len(), expected, missing, unexpected, pairs }
}

/// An amount of the source without a currency (30亿 behind 200亿元) may be given the one of the others, but no second: in
/// such a translation an amount of money that the source nowhere names stands for no bare number.
fn name_currencies(wanted: &[Part], have: &mut [Part]) {
    let money = |part: &Part| match part.class {
        Class::Money(currency) => Some(currency),
        _ => None,
    };
    let named: Vec<_> = wanted.iter().filter_map(money).collect();
    for part in have.iter_mut() {
        part.foreign = !named.is_empty() && money(part).is_some_and(|currency| !named.contains(&currency));
    }
}

/// What is compared: a value of a class.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// The index of its quantity.
    of: usize,
    value: Decimal,
    class: Class,
    firm: bool,
    /// The upper end of a range of which this is the lower.
    upper: Option<Decimal>,
    /// Money of a currency that the source does not name though it names one.
    foreign: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Number(Option<Unit>),
    Money(super::Currency),
    Percent,
    Fraction(u32, u32),
    Times,
    Ordinal(Option<Unit>),
    Year,
    Month,
    Day,
    Weekday,
    Clock(u8),
    Plan,
    Magnitude,
}

/// How well two parts agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    /// The same value of the same class.
    Same,
    /// The same value, written as something that can stand for it.
    Alike,
    /// Another unit or form that comes to the same.
    Converted,
}

fn parts(quantities: &[Quantity]) -> impl Iterator<Item = Part> + '_ {
    quantities.iter().enumerate().flat_map(|(of, quantity)| {
        let part =
            |class, value, upper| Part { of, value, class, firm: quantity.firm, upper, foreign: false };
        let class = match quantity.kind {
            Kind::Count => Class::Number(quantity.unit),
            Kind::Money(currency) => Class::Money(currency),
            Kind::Percent => Class::Percent,
            Kind::Fraction(numerator, denominator) => Class::Fraction(numerator, denominator),
            Kind::Times => Class::Times,
            Kind::Ordinal => Class::Ordinal(quantity.unit),
            Kind::Clock(clock) => Class::Clock(clock.minute),
            Kind::FiveYearPlan => Class::Plan,
            Kind::Magnitude => Class::Magnitude,
            Kind::Date(date) => {
                let mut found = Vec::new();
                found.extend(date.year.map(|v| (Class::Year, Decimal::from(v))));
                found.extend(date.month.map(|v| (Class::Month, Decimal::from(v))));
                found.extend(date.day.map(|v| (Class::Day, Decimal::from(v))));
                found.extend(date.weekday.map(|v| (Class::Weekday, Decimal::from(v))));
                let last = found.len().saturating_sub(1);
                let upper = |i: usize| quantity.upper.filter(|_| i == last);
                let mut all: Vec<Part> = found
                    .iter()
                    .enumerate()
                    .map(|(i, (class, value))| part(*class, *value, upper(i)))
                    .collect();
                if let (Some(upper), Some((class, _))) = (quantity.upper, found.last()) {
                    all.push(part(*class, upper, None));
                }
                return all;
            }
        };
        let mut all = vec![part(class, quantity.value, quantity.upper)];
        all.extend(quantity.upper.map(|upper| part(class, upper, None)));
        all
    })
}

/// Whether two parts can stand for each other, and how well.
fn agree(a: &Part, b: &Part) -> Option<Grade> {
    use super::Currency;
    use Class::{
        Clock, Day, Fraction, Magnitude, Money, Month, Number, Ordinal, Percent, Plan, Times, Weekday, Year,
    };
    let equal = a.value == b.value;
    let grade = |yes: bool, grade: Grade| yes.then_some(grade);
    match (a.class, b.class) {
        (Number(x), Number(y)) if x == y => grade(equal, Grade::Same),
        (Number(Some(x)), Number(Some(y))) => grade(converted(a.value, x, b.value, y), Grade::Converted),
        (Number(_), Number(_)) => grade(equal, Grade::Alike),
        (Money(x), Money(y)) => grade(equal && x == y, Grade::Same),
        // ¥ is the yen's sign as well, and a bare 元 or dollar may be any.
        (Money(_), Number(None)) | (Number(None), Money(_)) => {
            grade(equal && !a.foreign && !b.foreign, Grade::Alike)
        }
        // Pounds are money and a weight.
        (Money(Currency::Pound), Number(Some(Unit::Pound)))
        | (Number(Some(Unit::Pound)), Money(Currency::Pound)) => grade(equal, Grade::Alike),
        (Percent, Percent) | (Times, Times) | (Month, Month) | (Day, Day) => grade(equal, Grade::Same),
        // 90年代 and the '90s leave out the century.
        (Year, Year) => {
            let hundred = Decimal::ONE_HUNDRED;
            let (low, high) = (a.value.min(b.value), a.value.max(b.value));
            grade(equal || (low < hundred && high % hundred == low), Grade::Same)
        }
        (Weekday, Weekday) | (Plan, Plan) => grade(equal, Grade::Same),
        (Fraction(..), Fraction(..)) => grade(equal, Grade::Same),
        (Ordinal(x), Ordinal(y)) => grade(equal, if x == y { Grade::Same } else { Grade::Alike }),
        (Percent, Fraction(..)) => grade(near(a.value, b.value * Decimal::ONE_HUNDRED), Grade::Converted),
        (Fraction(..), Percent) => agree(b, a),
        // `three quarters` of a year
        (Number(Some(Unit::Quarter)), Fraction(n, 4)) => grade(a.value == Decimal::from(n), Grade::Alike),
        (Fraction(_, 4), Number(Some(Unit::Quarter))) => agree(b, a),
        (Times, Percent) => {
            let full = a.value * Decimal::ONE_HUNDRED;
            grade(full == b.value || full == b.value + Decimal::ONE_HUNDRED, Grade::Converted)
        }
        (Percent, Times) => agree(b, a),
        (Times, Number(None)) | (Percent, Number(None)) => grade(equal, Grade::Alike),
        (Number(None), Times | Percent) => grade(equal, Grade::Alike),
        (Clock(x), Clock(y)) => {
            let half_day = Decimal::from(12);
            let same = equal || a.value == b.value + half_day || b.value == a.value + half_day;
            grade(same && x == y, Grade::Same)
        }
        (Clock(0), Number(_)) | (Number(_), Clock(0)) => grade(equal, Grade::Alike),
        (Magnitude, Magnitude) if equal => Some(Grade::Same),
        (Magnitude, Magnitude) => {
            grade(of_size(a.value, b.value) || of_size(b.value, a.value), Grade::Converted)
        }
        (Magnitude, Number(_) | Money(_)) => grade(of_size(b.value, a.value), Grade::Converted),
        (Number(_) | Money(_), Magnitude) => agree(b, a),
        (Ordinal(_), Number(_)) | (Number(_), Ordinal(_)) => grade(equal, Grade::Alike),
        (Year, Number(None | Some(Unit::Year))) | (Number(None | Some(Unit::Year)), Year) => {
            grade(equal, Grade::Alike)
        }
        (Day, Number(None) | Ordinal(_)) | (Number(None) | Ordinal(_), Day) => grade(equal, Grade::Alike),
        _ => None,
    }
}

/// Whether a value is of an order of magnitude: at least that, and less than a hundred times that.
fn of_size(value: Decimal, magnitude: Decimal) -> bool {
    value >= magnitude && magnitude.checked_mul(Decimal::ONE_HUNDRED).is_some_and(|most| value < most)
}

/// Equal within what rounding to two digits loses.
fn near(a: Decimal, b: Decimal) -> bool {
    (a - b).abs() <= b.abs() * Decimal::new(15, 3)
}

/// Whether two amounts in units of the same dimension come to the same, within 1.5 %.
fn converted(a: Decimal, x: Unit, b: Decimal, y: Unit) -> bool {
    let amount = |value: Decimal, unit: Unit| value.checked_mul(unit.worth());
    x.dimension() == y.dimension() && amount(a, x).zip(amount(b, y)).is_some_and(|(a, b)| near(a, b))
}

/// A part of the source that needs no partner: a year that is kept elsewhere, the months 1 to 5 where the translation has `the first five months`.
fn also_whole(part: &Part, wanted: &[Part], have: &[Part]) -> bool {
    if part.class == Class::Year && have.iter().any(|h| agree(part, h) == Some(Grade::Same)) {
        return true;
    }
    let range = wanted.iter().find(|other| other.of == part.of && other.upper.is_some());
    let Some(range) = range else { return false };
    let (Class::Month, Some(last)) = (range.class, range.upper) else { return false };
    range.value == Decimal::ONE
        && have.iter().any(|h| h.class == Class::Number(Some(Unit::Month)) && h.value == last)
}

/// A part of the translation that follows from the source: the years of a five-year plan, the months of a range.
fn implied(part: &Part, wanted: &[Part]) -> bool {
    wanted.iter().any(|w| match (w.class, part.class) {
        // The first plan began in 1953, the tenth in 2001, the fifteenth in 2026.
        (Class::Plan, Class::Year) => {
            let first = Decimal::from(1951) + w.value * Decimal::from(5);
            part.value == first || part.value == first + Decimal::from(4)
        }
        // A day that is written as a number: 11.11 for 11月11日.
        (Class::Day, Class::Number(None)) => wanted.iter().any(|m| {
            m.of == w.of && m.class == Class::Month && part.value == m.value + w.value / Decimal::ONE_HUNDRED
        }),
        (Class::Month, Class::Number(Some(Unit::Month))) => {
            w.value == Decimal::ONE && w.upper == Some(part.value)
        }
        _ => false,
    })
}
