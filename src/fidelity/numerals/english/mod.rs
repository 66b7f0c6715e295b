//! Reads the quantities of an English text.
//!
//! Walks through the tokens once. At each token that can begin a quantity, `dates` and `words` try their forms; then
//! `number` reads a number, and this file adds its currency sign, unit and range. Called by `compare`.

mod dates;
mod number;
mod words;

use rust_decimal::Decimal;

use self::number::{EnglishNumber, EnglishToken, scan};
use super::{
    quantity::{Approx, Quantity, QuantityKind},
    units::{self, Currency, Unit},
};

/// Returns the quantities of an English text, in order and without overlaps.
///
/// ```
/// use yizhai::fidelity::numerals::{Currency, QuantityKind, read_en};
///
/// let found = read_en("Revenue reached 55.74 billion yuan on Dec. 3, half a million more.");
/// let values: Vec<String> = found.iter().map(|q| q.value.to_string()).collect();
/// assert_eq!(values, ["55740000000", "12", "500000"]);
/// assert_eq!(found[0].kind, QuantityKind::Money(Currency::Yuan));
/// ```
pub fn read_en(text: &str) -> Vec<Quantity> {
    let tokens = number::tokens(text);
    let reader = EnglishReader { text, tokens: &tokens };
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = match reader.read(at) {
            Some((quantity, next)) => {
                found.extend(quantity);
                next.max(at + 1)
            }
            None => at + 1,
        };
    }
    found
}

/// The tokens of a text. The readers take the index of a token and return the index of the token that follows.
struct EnglishReader<'a> {
    text: &'a str,
    tokens: &'a [EnglishToken],
}

impl EnglishReader<'_> {
    /// Returns a token in lower case; empty after the last one.
    fn word(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }

    /// Returns the start of a token, in bytes.
    fn start(&self, at: usize) -> usize {
        self.tokens.get(at).map_or(self.text.len(), |token| token.span.start)
    }

    /// Returns the end of the token before `next`, in bytes.
    fn end(&self, next: usize) -> usize {
        next.checked_sub(1).and_then(|last| self.tokens.get(last)).map_or(0, |token| token.span.end)
    }

    /// Returns `true` if no space separates a token from the one before it.
    fn glued(&self, at: usize) -> bool {
        self.tokens.get(at).is_some_and(|token| token.glued)
    }

    /// Reads the quantity at a token. Returns no quantity, only the next token, after a name with digits in it.
    fn read(&self, at: usize) -> Option<(Option<Quantity>, usize)> {
        if let Some(next) = self.identifier(at) {
            return Some((self.group(at, next), next));
        }
        if let Some((quantity, next)) = dates::read(self, at)
            .or_else(|| self.plan(at))
            .or_else(|| self.times_word(at))
            .or_else(|| self.magnitude(at))
            .or_else(|| self.fraction(at))
            .or_else(|| self.one_unit(at))
        {
            return Some((Some(quantity), next));
        }
        let number = scan(self.tokens, at)?;
        let (quantity, next) = self.measured(at, &number)?;
        let (quantity, next) = self.range(at, &number, &quantity, next).unwrap_or((quantity, next));
        Some((Some(self.approximate(quantity)), next))
    }

    /// Skips a name with digits, that is letters that touch the digits after them: `T5`, `COVID-19`.
    fn identifier(&self, at: usize) -> Option<usize> {
        let token = &self.tokens[at];
        if token.value.is_some() || !token.text.starts_with(char::is_alphabetic) {
            return None;
        }
        let digits = |at: usize| self.tokens.get(at).is_some_and(|t| t.glued && t.value.is_some());
        let hyphen = self.word(at + 1) == "-" && self.glued(at + 1) && token.capital;
        let first = if hyphen { at + 2 } else { at + 1 };
        if !digits(first) || units::english_sign(&token.text).is_some() {
            return None;
        }
        // `Q3` is a quarter.
        if token.text == "q" && self.tokens[first].plain && self.tokens[first].text.len() == 1 {
            return None;
        }
        let mut next = first + 1;
        while self
            .tokens
            .get(next)
            .is_some_and(|t| t.glued && t.text.starts_with(|c: char| c.is_alphanumeric()))
        {
            next += 1;
        }
        Some(next)
    }

    /// Reads the number in a name with a single letter, which the source can write as a quantity: `G20` is 二十国集团.
    fn group(&self, at: usize, next: usize) -> Option<Quantity> {
        let letter = self.tokens[at].text.chars().count() == 1;
        let value = self.tokens.get(at + 1).filter(|token| letter && token.plain && next == at + 2)?.value?;
        let mut quantity = Quantity::new(self.start(at)..self.end(next), value, QuantityKind::Count);
        quantity.required = false;
        Some(quantity)
    }

    /// Adds the currency sign before a number and the unit after it.
    fn measured(&self, at: usize, number: &EnglishNumber) -> Option<(Quantity, usize)> {
        let mut start = self.start(at);
        let mut next = number.next;
        let mut quantity = Quantity::new(start..self.end(next), number.value, QuantityKind::Count);
        // `a thousand words` is a figure of speech.
        let figurative = matches!(self.word(at), "a" | "an");
        quantity.required = !number.spelled || (number.value > Decimal::TEN && !figurative);
        if number.ordinal || (self.glued(next) && matches!(self.word(next), "th" | "st" | "nd" | "rd")) {
            next += usize::from(!number.ordinal);
            quantity.kind = QuantityKind::Ordinal;
            quantity.unit = match self.word(next) {
                "century" | "centuries" => Some(Unit::Century),
                "quarter" => Some(Unit::Quarter),
                _ => None,
            };
            next += usize::from(quantity.unit.is_some());
            quantity.span = start..self.end(next);
            return Some((quantity, next));
        }
        let sign = self.sign_before(start);
        if let Some((currency, length)) = sign {
            start -= length;
            quantity.kind = QuantityKind::Money(currency);
            // `£10m`, `$5 b`, `RMB 3 k`
            let short = match self.word(next) {
                "m" => Some(1_000_000),
                "b" => Some(1_000_000_000),
                "k" => Some(1_000),
                "t" => Some(1_000_000_000_000_u64),
                _ => None,
            };
            if let Some(scale) = short.filter(|_| self.glued(next) && number.scale == Decimal::ONE) {
                quantity.value = quantity.value.checked_mul(Decimal::from(scale))?.normalize();
                next += 1;
            }
        }
        quantity.required |= sign.is_some();
        if let Some((kind, unit, end)) = self.unit_after(next, sign.map(|s| s.0)) {
            quantity.kind = kind;
            quantity.unit = unit;
            quantity.span.end = end;
            quantity.required |=
                number.value > Decimal::TWO && unit.is_some_and(|u| u != Unit::Second) && !number.spelled;
            next = self.tokens.partition_point(|token| token.span.start < end);
        } else if self.glued(next) && self.word(next).starts_with(char::is_alphabetic) && !number.spelled {
            // In `5G`, `4K` and `90s`, the letters belong to the number.
            if self.word(next) == "k"
                && number.scale == Decimal::ONE
                && number.value < Decimal::ONE_THOUSAND
                && sign.is_some()
            {
                quantity.value = quantity.value.checked_mul(Decimal::ONE_THOUSAND)?;
            }
            // `4x4` is not a count.
            quantity.required &= !matches!(self.word(next), "x");
            next += 1;
        }
        quantity.span = start..quantity.span.end.max(self.end(next));
        Some((quantity, next))
    }

    /// Returns the currency sign before a number that begins at byte `start`, and its length including a space.
    fn sign_before(&self, start: usize) -> Option<(Currency, usize)> {
        let before = &self.text[..start];
        let trimmed = before.trim_end_matches(' ');
        let (currency, length) = units::english_sign(trimmed)?;
        let spaces = before.len() - trimmed.len();
        (spaces <= 1).then_some((currency, length + spaces))
    }

    /// Reads the unit at token `next`, after a number. Returns the kind and unit that it gives the number, and its end
    /// in bytes.
    fn unit_after(&self, next: usize, sign: Option<Currency>) -> Option<(QuantityKind, Option<Unit>, usize)> {
        let mut at = next;
        if matches!(self.word(at), "-" | "‑") && self.glued(at) && self.glued(at + 1) {
            at += 1;
        }
        let start = self.start(at);
        let rest = self.text.get(start..)?;
        let window: String = rest.chars().take(32).collect();
        let lower = window.to_lowercase();
        if lower.len() != window.len() {
            return None;
        }
        for name in ["percentage points", "percentage point", "percent", "per cent", "pct", "%", "％"] {
            if lower.starts_with(name) {
                return Some((QuantityKind::Percent, None, start + name.len()));
            }
        }
        if matches!(self.word(at), "times" | "fold") {
            return Some((QuantityKind::Times, None, self.end(at + 1)));
        }
        if let Some(currency) = sign {
            return Some((QuantityKind::Money(currency), None, self.end(next)));
        }
        if let Some((currency, length)) = units::english_currency(&lower) {
            return Some((QuantityKind::Money(currency), None, start + length));
        }
        let (unit, length) = units::english_unit(&lower)?;
        // A single letter is a unit only if it touches the number, except for meters: `100m`, `5 m`, but not `5 l`.
        if length == 1 && !(self.glued(next) || unit == Unit::Meter) {
            return None;
        }
        Some((QuantityKind::Count, Some(unit), start + length))
    }

    /// Reads the upper end of a range: `3 to 5 million`, `6-7 million`, `between 30,000 and 50,000`, `6% to 7%`.
    fn range(
        &self,
        at: usize,
        number: &EnglishNumber,
        lower: &Quantity,
        next: usize,
    ) -> Option<(Quantity, usize)> {
        let between =
            at > 0 && (self.word(at - 1) == "between" || (at > 1 && self.word(at - 2) == "between"));
        let mut upper_at = match self.word(next) {
            "-" | "–" | "—" | "~" | "to" | "or" => next + 1,
            "and" if between => next + 1,
            _ => return None,
        };
        // `$6-$7 million`
        while self
            .tokens
            .get(upper_at)
            .is_some_and(|t| matches!(t.text.as_str(), "$" | "£" | "€" | "¥" | "us" | "rmb" | "us$"))
        {
            upper_at += 1;
        }
        if self.word(next) == "or" && !number.spelled && number.scale != Decimal::ONE {
            return None;
        }
        let second = scan(self.tokens, upper_at).filter(|n| !n.ordinal)?;
        if dates::read(self, upper_at).is_some_and(|(q, _)| !second.year || q.upper.is_some()) {
            return None;
        }
        let (mut upper, end) = self.measured(upper_at, &second)?;
        let mut value = lower.value;
        if number.scale == Decimal::ONE
            && second.scale > Decimal::ONE
            && value < upper.value.checked_div(second.scale)?
        {
            value = value.checked_mul(second.scale)?;
        }
        let same = lower.kind == upper.kind
            || lower.kind == QuantityKind::Count
            || upper.kind == QuantityKind::Count;
        if value >= upper.value
            || !same
            || lower.kind == QuantityKind::Ordinal
            || upper.kind == QuantityKind::Ordinal
        {
            return None;
        }
        if lower.unit.is_some() && lower.unit != upper.unit {
            return None;
        }
        if upper.kind == QuantityKind::Count {
            upper.kind = lower.kind;
        }
        upper.upper = Some(upper.value);
        upper.value = value;
        // `twenty or thirty` has no exact value.
        upper.required = (upper.required || lower.required) && !(number.spelled && self.word(next) == "or");
        upper.span.start = lower.span.start;
        Some((upper, end))
    }

    /// Adds the exactness that the words before a quantity state.
    fn approximate(&self, mut quantity: Quantity) -> Quantity {
        let before = units::tail(self.text[..quantity.span.start].trim_end(), 20).to_lowercase();
        let ends = |words: &[&str]| words.iter().any(|word| before.ends_with(word));
        quantity.approx =
            if ends(&["more than", "over", "exceeding", "at least", "above", "exceeded", "surpassed"]) {
                Approx::MoreThan
            } else if ends(&[
                "nearly",
                "almost",
                "close to",
                "less than",
                "under",
                "below",
                "fewer than",
                "up to",
                "at most",
            ]) {
                Approx::LessThan
            } else if ends(&["about", "around", "some", "approximately", "roughly", "an estimated", "or so"])
            {
                Approx::About
            } else {
                Approx::Exact
            };
        quantity
    }
}
