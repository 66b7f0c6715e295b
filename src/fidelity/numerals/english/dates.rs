//! Reads the dates and times of day of an English text.
//!
//! Called by the reader at each token. Reads four digits without a unit as a year; `compare` also accepts them as a
//! number.

use rust_decimal::Decimal;

use super::{EnglishReader, number::scan};
use crate::fidelity::numerals::{
    quantity::{Clock, Date, MONTHS, Quantity, QuantityKind, WEEKDAYS},
    units::{self, Unit},
};

/// Returns the month that a lower-case word names, from 1, including `may` and `march`.
pub(super) fn month(word: &str) -> Option<u8> {
    let whole = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(word));
    let short = || {
        (word.len() == 3 || word == "sept")
            .then(|| {
                MONTHS.iter().position(|name| name[..word.len().min(name.len())].eq_ignore_ascii_case(word))
            })
            .flatten()
    };
    whole.or_else(short).map(|n| n as u8 + 1)
}

fn weekday(word: &str) -> Option<u8> {
    let is_it = |day: &&str, word: &str| day.eq_ignore_ascii_case(word);
    let named = |day: &&str| is_it(day, word) || word.strip_suffix('s').is_some_and(|word| is_it(day, word));
    WEEKDAYS.iter().position(named).map(|n| n as u8 + 1)
}

/// Reads the date or time of day at a token, and returns the index of the next token.
pub(super) fn read(reader: &EnglishReader, at: usize) -> Option<(Quantity, usize)> {
    let capital = reader.tokens.get(at)?.capital;
    if let Some(weekday) = weekday(reader.word(at)).filter(|_| capital) {
        return dated(reader, at, at + 1, Date { weekday: Some(weekday), ..Date::default() }, None);
    }
    if capital && month(reader.word(at)).is_some() {
        return month_first(reader, at);
    }
    let token = &reader.tokens[at];
    token.value?;
    numeric_date(reader, at)
        .or_else(|| clock(reader, at))
        .or_else(|| day_first(reader, at))
        .or_else(|| decade(reader, at))
        .or_else(|| year(reader, at))
}

fn dated(
    reader: &EnglishReader,
    at: usize,
    next: usize,
    date: Date,
    upper: Option<Decimal>,
) -> Option<(Quantity, usize)> {
    let mut quantity =
        Quantity::new(reader.start(at)..reader.end(next), date.value(), QuantityKind::Date(date));
    quantity.upper = upper;
    Some((quantity, next))
}

/// Reads a day of the month in digits, with or without `th`.
fn day(reader: &EnglishReader, at: usize) -> Option<(u8, usize)> {
    let token = reader.tokens.get(at).filter(|t| t.plain && t.text.len() <= 2)?;
    let value = token.text.parse().ok().filter(|day| (1..=31).contains(day))?;
    let suffix = reader.glued(at + 1) && matches!(reader.word(at + 1), "th" | "st" | "nd" | "rd");
    Some((value, at + 1 + usize::from(suffix)))
}

fn year_at(reader: &EnglishReader, at: usize) -> Option<u16> {
    let token = reader.tokens.get(at).filter(|t| t.plain && t.text.len() == 4)?;
    token.text.parse().ok().filter(|year| (1000..3000).contains(year))
}

/// Reads the year after a day or month: `, 2017`, `2017`, `of 2017`.
fn year_after(reader: &EnglishReader, next: usize) -> (Option<u16>, usize) {
    let year = if matches!(reader.word(next), "," | "of") { next + 1 } else { next };
    match year_at(reader, year).filter(|_| scan(reader.tokens, year).is_none_or(|n| n.year)) {
        Some(value) => (Some(value), year + 1),
        None => (None, next),
    }
}

/// Reads a date that begins with the month: `January 9`, `Jan. 9, 2017`, `January 2017`, `Dec. 3-5`, `May` unless it is
/// a verb.
fn month_first(reader: &EnglishReader, at: usize) -> Option<(Quantity, usize)> {
    let word = reader.word(at);
    let month = month(word)?;
    let mut next = at + 1;
    if reader.word(next) == "." && reader.glued(next) && (word.len() == 3 || word == "sept") {
        next += 1;
    }
    let mut date = Date { month: Some(month), ..Date::default() };
    let mut upper = None;
    let scaled = scan(reader.tokens, next).is_some_and(|n| n.scale > Decimal::ONE);
    if let Some((day_value, after)) = day(reader, next).filter(|_| !scaled) {
        date.day = Some(day_value);
        next = after;
        if matches!(reader.word(next), "-" | "–" | "to" | "—")
            && let Some((last, after)) = day(reader, next + 1).filter(|(last, _)| *last > day_value)
            && scan(reader.tokens, next + 1).is_none_or(|n| n.scale == Decimal::ONE)
        {
            upper = Some(Decimal::from(last));
            next = after;
        }
    }
    let (year, after) = year_after(reader, next);
    date.year = year;
    next = after;
    let before = at.checked_sub(1).map_or("", |before| reader.word(before));
    let introduced = matches!(
        before,
        "in" | "on"
            | "of"
            | "by"
            | "since"
            | "until"
            | "till"
            | "next"
            | "last"
            | "this"
            | "late"
            | "early"
            | "mid"
            | "to"
            | "from"
            | "and"
            | "between"
            | "through"
            | "during"
            | "before"
            | "after"
            | "around"
            | "for"
            | "-"
            | "–"
    );
    // `May` and `March` can be verbs at the start of a sentence, `Mar` and `Jan` can be names.
    let certain = !matches!(word, "may" | "march" | "mar" | "jan" | "jun" | "dec" | "sep" | "august");
    if !certain && date.day.is_none() && date.year.is_none() && !introduced {
        return None;
    }
    dated(reader, at, next, date, upper)
}

/// Reads a date that begins with the day: `9 January 2017`, `the 9th of January`, `3-5 December`.
fn day_first(reader: &EnglishReader, at: usize) -> Option<(Quantity, usize)> {
    let (first, mut next) = day(reader, at)?;
    let mut upper = None;
    if matches!(reader.word(next), "-" | "–" | "to")
        && let Some((last, after)) = day(reader, next + 1).filter(|(last, _)| *last > first)
    {
        upper = Some(Decimal::from(last));
        next = after;
    }
    if reader.word(next) == "of" {
        next += 1;
    }
    let capital = reader.tokens.get(next).is_some_and(|t| t.capital && !t.glued);
    let month = month(reader.word(next)).filter(|_| capital)?;
    next += 1;
    if reader.word(next) == "." && year_at(reader, next + 1).is_some() {
        next += 1;
    }
    let (year, next) = year_after(reader, next);
    let date = Date { year, month: Some(month), day: Some(first), weekday: None };
    dated(reader, at, next, date, upper)
}

/// Reads a date in digits: `2025-12-06`, `12/6/2025`.
fn numeric_date(reader: &EnglishReader, at: usize) -> Option<(Quantity, usize)> {
    let sign = reader.word(at + 1);
    if !matches!(sign, "-" | "/") || reader.word(at + 3) != sign || !(1..5).all(|n| reader.glued(at + n)) {
        return None;
    }
    let part = |at: usize| reader.tokens.get(at).filter(|t| t.plain).and_then(|t| t.text.parse::<u16>().ok());
    let (first, second, third) = (part(at)?, part(at + 2)?, part(at + 4)?);
    let (year, month, day) = if first >= 1000 { (first, second, third) } else { (third, first, second) };
    let month = u8::try_from(month).ok().filter(|m| (1..=12).contains(m))?;
    let day = u8::try_from(day).ok().filter(|d| (1..=31).contains(d))?;
    let date = Date { year: Some(year), month: Some(month), day: Some(day), weekday: None };
    dated(reader, at, at + 5, date, None)
}

/// Reads a decade: `1980s`, `the 90s`, `1990's`.
fn decade(reader: &EnglishReader, at: usize) -> Option<(Quantity, usize)> {
    let token = reader
        .tokens
        .get(at)
        .filter(|t| t.plain && matches!(t.text.len(), 2 | 4) && t.text.ends_with('0'))?;
    let apostrophe = usize::from(matches!(reader.word(at + 1), "'" | "’") && reader.glued(at + 1));
    let s = at + 1 + apostrophe;
    if reader.word(s) != "s" || !reader.glued(s) {
        return None;
    }
    let date = Date { year: Some(token.text.parse().ok()?), ..Date::default() };
    dated(reader, at, s + 1, date, None)
}

/// Reads a year or a range of years, that is four digits without a unit: `2017`, `2014-2015`, `2014-15`.
fn year(reader: &EnglishReader, at: usize) -> Option<(Quantity, usize)> {
    let year = year_at(reader, at).filter(|year| (1300..2200).contains(year))?;
    let number = scan(reader.tokens, at).filter(|n| n.year)?;
    let start = reader.start(at);
    let before = reader.text[..start].trim_end();
    if units::english_sign(before).is_some() {
        return None;
    }
    let rest = reader.text.get(reader.start(number.next)..)?;
    let window: String = rest.chars().take(32).collect::<String>().to_lowercase();
    let counted = units::english_unit(&window).is_some_and(|(unit, _)| !matches!(unit, Unit::Quarter))
        || units::english_currency(&window).is_some()
        || window.starts_with('%')
        || window.starts_with("percent");
    if counted && (reader.glued(number.next) || !window.starts_with("anniversary")) {
        return None;
    }
    let date = Date { year: Some(year), ..Date::default() };
    if matches!(reader.word(at + 1), "-" | "–" | "/" | "—" | "to") {
        let last = reader.tokens.get(at + 2).filter(|t| t.plain);
        let upper = last.and_then(|t| match t.text.len() {
            4 => t.text.parse::<u16>().ok(),
            2 if reader.glued(at + 2) && reader.word(at + 1) != "to" => {
                Some(year / 100 * 100 + t.text.parse::<u16>().ok()?)
            }
            _ => None,
        });
        if let Some(upper) = upper.filter(|u| *u > year && *u < 2200) {
            return dated(reader, at, at + 3, date, Some(Decimal::from(upper)));
        }
    }
    dated(reader, at, at + 1, date, None)
}

/// Reads a time of day: `11:29`, `3 p.m.`, `8:30 am`.
fn clock(reader: &EnglishReader, at: usize) -> Option<(Quantity, usize)> {
    let token = reader.tokens.get(at).filter(|t| t.plain && t.text.len() <= 2)?;
    let hour: u8 = token.text.parse().ok().filter(|h| *h <= 24)?;
    let mut next = at + 1;
    let mut minute = None;
    if reader.word(next) == ":" && reader.glued(next) && reader.glued(next + 1) {
        let minutes = reader.tokens.get(next + 1).filter(|t| t.plain && t.text.len() == 2)?;
        minute = Some(minutes.text.parse().ok().filter(|m: &u8| *m < 60)?);
        next += 2;
    }
    let half = match (reader.word(next), reader.word(next + 1), reader.word(next + 2)) {
        ("am" | "pm", _, _) => next + 1,
        ("a" | "p", ".", "m") => {
            next + 3 + usize::from(reader.word(next + 3) == "." && reader.glued(next + 3))
        }
        ("o", "'" | "’", "clock") => next + 3,
        _ => next,
    };
    if minute.is_none() && half == next {
        return None;
    }
    let clock = Clock { hour, minute: minute.unwrap_or(0) };
    let quantity =
        Quantity::new(reader.start(at)..reader.end(half), Decimal::from(hour), QuantityKind::Clock(clock));
    Some((quantity, half))
}
