//! Reads English quantities that are written in words: five-year plans, fractions, `doubled`, `tens of thousands`, `a
//! year`.
//!
//! Called by the reader at each token.

use rust_decimal::Decimal;

use super::{
    EnglishReader, dates,
    number::{self, scan},
};
use crate::fidelity::numerals::{
    quantity::{Quantity, QuantityKind},
    units,
};

impl EnglishReader<'_> {
    /// Reads a five-year plan: `15th Five-Year Plan`.
    pub(super) fn plan(&self, at: usize) -> Option<(Quantity, usize)> {
        let number = scan(self.tokens, at)?;
        let suffix = usize::from(matches!(self.word(number.next), "th" | "st" | "nd" | "rd"));
        let mut next = number.next + suffix;
        for word in ["five", "-", "year", "plan"] {
            if self.word(next) == word {
                next += 1;
            } else if word != "-" {
                return None;
            }
        }
        if suffix == 0 && !number.ordinal {
            return None;
        }
        Some((Quantity::new(self.start(at)..self.end(next), number.value, QuantityKind::FiveYearPlan), next))
    }

    /// Reads a multiple: `doubled`, `twice`, `threefold`.
    pub(super) fn times_word(&self, at: usize) -> Option<(Quantity, usize)> {
        let value = match self.word(at) {
            "doubled" | "doubling" | "double" | "doubles" | "twice" | "twofold" => 2,
            "tripled" | "tripling" | "triple" | "triples" | "threefold" | "thrice" => 3,
            "quadrupled" | "quadrupling" | "quadruple" | "fourfold" => 4,
            "quintupled" | "fivefold" => 5,
            "tenfold" => 10,
            _ => return None,
        };
        let mut quantity =
            Quantity::new(self.start(at)..self.end(at + 1), Decimal::from(value), QuantityKind::Times);
        quantity.required = false;
        Some((quantity, at + 1))
    }

    /// Reads an order of magnitude: `thousands`, `tens of thousands`, `several million`.
    pub(super) fn magnitude(&self, at: usize) -> Option<(Quantity, usize)> {
        let plural =
            |at: usize| self.word(at).strip_suffix('s').and_then(|word| number::scale_word(word, false));
        let (value, next) = match (self.word(at), self.word(at + 1)) {
            ("tens", "of") => (Decimal::TEN.checked_mul(plural(at + 2)?)?, at + 3),
            ("hundreds", "of") if plural(at + 2).is_some() => {
                (Decimal::ONE_HUNDRED.checked_mul(plural(at + 2)?)?, at + 3)
            }
            ("several" | "few" | "many", _) => (number::scale_word(self.word(at + 1), false)?, at + 2),
            ("couple", "of") => (number::scale_word(self.word(at + 2), false)?, at + 3),
            _ => (plural(at)?, at + 1),
        };
        let mut quantity = Quantity::new(self.start(at)..self.end(next), value, QuantityKind::Magnitude);
        quantity.required = value >= Decimal::ONE_THOUSAND;
        Some((quantity, next))
    }

    /// Reads a fraction: `half`, `two-thirds`, `a quarter`, `one in five`, `1/3`.
    pub(super) fn fraction(&self, at: usize) -> Option<(Quantity, usize)> {
        let (numerator, denominator, next, required) = self.fraction_parts(at)?;
        let value = Decimal::from(numerator).checked_div(Decimal::from(denominator))?;
        let kind = QuantityKind::Fraction(numerator, denominator);
        let mut quantity = Quantity::new(self.start(at)..self.end(next), value, kind);
        quantity.required = required;
        Some((quantity, next))
    }

    /// Returns numerator, denominator, the next token, and `true` if the other text must contain the fraction.
    fn fraction_parts(&self, at: usize) -> Option<(u32, u32, usize, bool)> {
        let part = |word: &str| match word {
            "half" | "halves" => Some(2),
            "quarter" | "quarters" => Some(4),
            _ => number::ordinal_word(word.strip_suffix('s').unwrap_or(word)).filter(|d| *d > 2),
        };
        let word = self.word(at);
        if word == "half" && scan(self.tokens, at).is_none() {
            return Some((1, 2, at + 1, false));
        }
        if matches!(word, "a" | "an") {
            let denominator = part(self.word(at + 1))?;
            return Some((1, denominator, at + 2, false));
        }
        let number = scan(self.tokens, at).filter(|n| n.scale == Decimal::ONE && !n.ordinal)?;
        let numerator =
            u32::try_from(number.value).ok().filter(|n| number.value.fract().is_zero() && *n > 0)?;
        let next = number.next;
        // `one in three`, `seven out of ten`
        let count = match (self.word(next), self.word(next + 1), self.word(next + 2)) {
            ("in", "every", _) => Some(next + 2),
            ("out", "of", "every") => Some(next + 3),
            ("out", "of", _) => Some(next + 2),
            ("in", _, _) if number.spelled => Some(next + 1),
            _ => None,
        };
        if let Some(of) = count.and_then(|at| scan(self.tokens, at)) {
            let denominator = u32::try_from(of.value).ok()?;
            let small = of.scale == Decimal::ONE && !of.year && !of.ordinal;
            let number_in_month = dates::month(self.word(of.next)).is_some();
            if small
                && denominator > numerator
                && !number_in_month
                && (of.spelled || denominator <= 100)
                && denominator > 1
            {
                return Some((numerator, denominator, of.next, false));
            }
        }
        if self.word(next) == "/" && self.glued(next) && self.glued(next + 1) && !number.spelled {
            let token = self.tokens.get(next + 1).filter(|t| t.plain)?;
            let denominator = token.text.parse().ok().filter(|d| *d > numerator && *d <= 100)?;
            return (self.word(next + 2) != "/").then_some((numerator, denominator, next + 2, true));
        }
        let hyphen = usize::from(self.word(next) == "-");
        let word = self.word(next + hyphen);
        let denominator = part(word)?;
        let named = word.ends_with('s') || (numerator == 1 && word != "second");
        // `three quarters` can also be quarters of a year; `compare` accepts both.
        (named && numerator < 100 && number.spelled).then_some((
            numerator,
            denominator,
            next + hyphen + 1,
            numerator > 1,
        ))
    }

    /// Reads a single unit of time, which the source can write as a number: `a year`, `an hour`, `per day`.
    pub(super) fn one_unit(&self, at: usize) -> Option<(Quantity, usize)> {
        if !matches!(self.word(at), "a" | "an" | "per" | "each" | "every") {
            return None;
        }
        let (unit, length) = units::english_unit(self.word(at + 1)).filter(|(unit, _)| unit.is_time())?;
        if length != self.word(at + 1).len() {
            return None;
        }
        let mut quantity = Quantity::new(self.start(at)..self.end(at + 2), Decimal::ONE, QuantityKind::Count);
        quantity.unit = Some(unit);
        quantity.required = false;
        Some((quantity, at + 2))
    }
}
