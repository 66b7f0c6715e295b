//! The quantity: an exact value with its kind, its unit and its span.
//!
//! Filled by `chinese` and `english`, compared by `compare`, rendered by `render`. Reads no text itself.

use std::ops::Range;

use rust_decimal::Decimal;

use super::units::{Currency, Unit};

/// A quantity of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity {
    /// The bytes of the text that it was read from, including the unit of measure but not a classifier (`35亿元` with
    /// the 元, `3.5万多家` without the 家).
    pub span: Range<usize>,
    /// The value: `35亿` is 3,500,000,000; `14.8%` is 14.8; `三分之一` is a third with 28 digits. The value of a date
    /// is its largest part.
    pub value: Decimal,
    /// The upper end of a range, of the same kind and unit. The upper end of a range of dates is a value of its
    /// smallest part.
    pub upper: Option<Decimal>,
    /// The kind of quantity.
    pub kind: QuantityKind,
    /// The unit of measure, if there is a known one.
    pub unit: Option<Unit>,
    /// The exactness that the text states.
    pub approx: Approx,
    /// The other text must contain it too. False for `一个`, `两国`, `今年` and `百年`, which are rendered without a
    /// number as often as with one, and for the English `one`, `first` and `half`.
    pub required: bool,
}

/// The kind of a quantity, with data of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QuantityKind {
    /// A number of things or of units.
    Count,
    /// Percent and percentage points: 14.8 is 14.8 %.
    Percent,
    /// A part of a whole: numerator and denominator.
    Fraction(u32, u32),
    /// A multiple: 2.5倍, `twice`.
    Times,
    /// A position in a sequence: 第50万辆, the 19th century, the third quarter.
    Ordinal,
    /// An amount of money.
    Money(Currency),
    /// A day, month, year, decade or day of the week.
    Date(Date),
    /// A time of day.
    Clock(Clock),
    /// An order of magnitude: 1,000 for 数千 and `thousands`, 10,000 for `tens of thousands`.
    Magnitude,
    /// A five-year plan: 15 is the plan for 2026 to 2030.
    FiveYearPlan,
}

/// The parts of a date that the text names, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Date {
    /// The year, such as 2025; for a decade, its first year.
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
    /// 0 to 24 as written; 3 can be in the morning or in the afternoon.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
}

/// The exactness that a text states for a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Approx {
    /// No qualification.
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
    /// Creates a required, exact quantity without a unit.
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

    /// Returns the part of `text`, which it was read from, that the quantity covers; empty if the span does not fit.
    pub fn text<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.span.clone()).unwrap_or_default()
    }
}

/// The English names of the months.
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
    /// Returns the largest part, which is the value of the quantity.
    pub(super) fn value(self) -> Decimal {
        let parts =
            [self.year, self.month.map(u16::from), self.day.map(u16::from), self.weekday.map(u16::from)];
        parts.into_iter().flatten().next().map_or(Decimal::ZERO, Decimal::from)
    }
}
