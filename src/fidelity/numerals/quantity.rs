//! What a quantity is: an exact value, its kind, its unit, and where it stands.
//!
//! Written by the readers, compared by `compare`, rendered by `render`. Reads no text itself.

use std::ops::Range;

use rust_decimal::Decimal;

use super::units::{Currency, Unit};

/// A quantity read out of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity {
    /// Where it stands, in bytes of the text it was read from, with its unit and what stands between number and
    /// unit (`3.5万多家` without the 家, `35亿元` with the 元).
    pub span: Range<usize>,
    /// Its value: `35亿` is 3,500,000,000; `14.8%` is 14.8; `三分之一` is a third with 28 digits; of a date
    /// the largest part that is named.
    pub value: Decimal,
    /// The upper end of a range, of the same kind and unit; of a range of dates, of the smallest part named.
    pub upper: Option<Decimal>,
    /// What is counted or named.
    pub kind: QuantityKind,
    /// The unit of measure, if it has one that is known.
    pub unit: Option<Unit>,
    /// How exact the text says it is.
    pub approx: Approx,
    /// Whether the other text must hold it. Not so for `一个`, `两国`, `今年` or `百年`, which are rendered without a
    /// number as often as with one, and in English for `one`, `first` or `half`.
    pub required: bool,
}

/// What a quantity counts or names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QuantityKind {
    /// A number of things or of units.
    Count,
    /// Percent and percentage points: 14.8 is 14.8 %.
    Percent,
    /// A part of a whole, as its numerator and denominator.
    Fraction(u32, u32),
    /// So many times as much.
    Times,
    /// A place in an order: 第50万辆, the 19th century, the third quarter.
    Ordinal,
    /// An amount of money.
    Money(Currency),
    /// A day, a month, a year, a decade or a day of the week.
    Date(Date),
    /// A time of day.
    Clock(Clock),
    /// No number but how large one is: 1,000 for 数千 and for `thousands`, 10,000 for `tens of thousands`.
    Magnitude,
    /// A five-year plan: 15 is the one for 2026 to 2030.
    FiveYearPlan,
}

/// The parts of a date that are named; at least one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Date {
    /// The year, such as 2025; of a decade its first year.
    pub year: Option<u16>,
    /// The month, from 1.
    pub month: Option<u8>,
    /// The day of the month, from 1.
    pub day: Option<u8>,
    /// The day of the week, 1 for Monday.
    pub weekday: Option<u8>,
}

/// A time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Clock {
    /// 0 to 24 as it is written: whether 3 is in the morning or in the afternoon is not known.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
}

/// How exact the text says a quantity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Approx {
    /// Nothing is said.
    #[default]
    Exact,
    /// 约, 左右: about.
    About,
    /// 多, 余, 超, 逾, 以上: more than.
    MoreThan,
    /// 近, 不足, 不到: nearly.
    LessThan,
}

impl Quantity {
    /// A required, exact quantity; the readers change what differs.
    pub(super) fn new(span: Range<usize>, value: Decimal, kind: QuantityKind) -> Self {
        Self {
            span,
            value: value.normalize(),
            upper: None,
            kind,
            unit: None,
            approx: Approx::Exact,
            required: true,
        }
    }

    /// The text of the quantity in the text that it was read from; empty for another text.
    pub fn text<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.span.clone()).unwrap_or_default()
    }
}

/// The months in English, as they are written.
pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The days of the week, from Monday.
pub(super) const WEEKDAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl Date {
    /// The largest part that is named, as the value of the quantity.
    pub(super) fn value(self) -> Decimal {
        let parts =
            [self.year, self.month.map(u16::from), self.day.map(u16::from), self.weekday.map(u16::from)];
        parts.into_iter().flatten().next().map_or(Decimal::ZERO, Decimal::from)
    }
}
