//! Reads the dates and times of day of a Chinese text.
//!
//! Called by the reader at numerals and at words for weekdays. Reads a year without 年 as a number; `compare` also
//! accepts it as a year.

use rust_decimal::Decimal;

use super::{
    Parsed,
    number::{self, ChineseNumber},
};
use crate::fidelity::numerals::{
    quantity::{Clock, Date, Quantity, QuantityKind},
    units::Unit,
};

const DASHES: &[&str] = &["——", "—", "–", "-", "－", "~", "～", "至", "到"];

/// Reads the date or time that begins with the numeral at `at`.
pub(super) fn read(text: &str, at: usize) -> Option<Parsed> {
    let number = number::scan(text, at).filter(|n| !n.more && n.scale == Decimal::ONE)?;
    if number.vague {
        return None;
    }
    century(text, at, &number)
        .or_else(|| numeric_date(text, at))
        .or_else(|| clock(text, at, &number))
        .or_else(|| ranged(text, at, &number))
        .or_else(|| date(text, at, &number).and_then(|(date, end)| dated(at..end, date, None)))
}

/// Reads a weekday: 周五, 星期五, 礼拜五, but not the 周一 of 一周一次.
pub(super) fn weekday(text: &str, at: usize) -> Option<Parsed> {
    let word = ["周", "星期", "礼拜"].into_iter().find(|word| text[at..].starts_with(word))?;
    let mut chars = text[at + word.len()..].chars();
    let day = chars.next()?;
    let weekday = match day {
        '日' | '天' => 7,
        _ => "一二三四五六".chars().position(|c| c == day)? as u8 + 1,
    };
    let before = text[..at].chars().next_back();
    let counted = before.is_some_and(|c| number::begins(c) || "每个几四全数".contains(c));
    let next = chars.next();
    if counted || next.is_some_and(|c| "次个年期名家岁来均内边".contains(c) || number::begins(c)) {
        return None;
    }
    let date = Date { weekday: Some(weekday), ..Date::default() };
    dated(at..at + word.len() + day.len_utf8(), date, None)
}

fn dated(span: std::ops::Range<usize>, date: Date, upper: Option<Decimal>) -> Option<Parsed> {
    let mut quantity = Quantity::new(span, date.value(), QuantityKind::Date(date));
    quantity.upper = upper;
    Parsed::some(quantity)
}

fn skip_spaces(text: &str, at: usize) -> usize {
    at + text[at..].len() - text[at..].trim_start_matches([' ', '\u{a0}']).len()
}

fn plain(number: &ChineseNumber) -> bool {
    !number.headless && !number.value.is_sign_negative() && number.value.fract().is_zero() && !number.more
}

fn small(number: &ChineseNumber, most: u8) -> Option<u8> {
    let value = u8::try_from(number.value).ok().filter(|_| plain(number))?;
    (1..=most).contains(&value).then_some(value)
}

/// Returns the year that a number before 年 names: four digits from 1000 to 2999.
fn year(number: &ChineseNumber) -> Option<u16> {
    let value = u16::try_from(number.value).ok()?;
    (number.plain_digits == 4 && (1000..3000).contains(&value)).then_some(value)
}

/// Reads a date that begins with any of its parts: `2025年12月3日`, `12月3日`, `3日`. Returns its end in bytes.
fn date(text: &str, at: usize, first: &ChineseNumber) -> Option<(Date, usize)> {
    let mut date = Date::default();
    let mut number = *first;
    let mut end = at;
    let mut here = skip_spaces(text, number.end);
    if text[here..].starts_with('年') {
        date.year = Some(year(&number)?);
        end = here + '年'.len_utf8();
        let next = skip_spaces(text, end);
        let Some(found) = number::scan(text, next).filter(plain) else { return Some((date, end)) };
        number = found;
        here = skip_spaces(text, number.end);
    }
    if text[here..].starts_with('月') && !text[here..].starts_with("月球") {
        let Some(month) = small(&number, 12) else { return date.year.map(|_| (date, end)) };
        date.month = Some(month);
        end = here + '月'.len_utf8();
        if text[end..].starts_with('份') {
            end += '份'.len_utf8();
        }
        let next = skip_spaces(text, end);
        let Some(found) = number::scan(text, next).filter(plain) else { return Some((date, end)) };
        number = found;
        here = skip_spaces(text, number.end);
    }
    let rest = &text[here..];
    let day = rest.starts_with('日') || (rest.starts_with('号') && (number.digits || date.month.is_some()));
    let other = ["日元", "日圆", "日均", "日本", "日游", "号线", "号楼", "号文", "号院", "号机", "号店"];
    if day
        && !other.iter().any(|word| rest.starts_with(word))
        && let Some(value) = small(&number, 31).filter(|_| number.digits || date.month.is_some())
    {
        date.day = Some(value);
        end = here + 3;
    }
    (end > at).then_some((date, end))
}

/// Reads a range of dates whose first end has no unit: `2026—2030年`, `1-5月份`, `3至5日`, `12月3—5日`.
fn ranged(text: &str, at: usize, first: &ChineseNumber) -> Option<Parsed> {
    // The year and month before the first end of the range, if any.
    let mut head = Date::default();
    let mut number = *first;
    if let Some((found, end)) = date(text, at, first) {
        let next = skip_spaces(text, end);
        number = number::scan(text, next).filter(|n| plain(n) && n.scale == Decimal::ONE)?;
        head = found;
    }
    let dash = DASHES.iter().find(|dash| text[number.end..].starts_with(**dash))?;
    let upper_at = number.end + dash.len();
    let season = year(&number).is_some();
    let upper = number::scan(text, upper_at)
        .filter(|n| plain(n) && (n.value > number.value || (season && n.plain_digits == 2)))?;
    let rest = &text[skip_spaces(text, upper.end)..];
    // `1995-96赛季`, `2014-2015赛季`
    if let Some(year) =
        year(&number).filter(|_| ["赛季", "财年", "学年", "年度"].iter().any(|w| rest.starts_with(w)))
    {
        let short = upper.plain_digits == 2;
        let last = if short { Decimal::from(year / 100 * 100) + upper.value } else { upper.value };
        let date = Date { year: Some(year), ..head };
        return dated(at..upper.end, date, Some(last));
    }
    let none = head == Date::default();
    let (date, sign) = if rest.starts_with('年') && none {
        (Date { year: Some(year(&number)?), ..head }, '年')
    } else if rest.starts_with('月') && head.month.is_none() {
        (Date { month: Some(small(&number, 12)?), ..head }, '月')
    } else if rest.starts_with(['日', '号']) && !rest.starts_with("日元") && head.day.is_none() {
        (Date { day: Some(small(&number, 31)?), ..head }, '日')
    } else {
        return None;
    };
    if upper.value <= number.value
        || upper.value > Decimal::from(3000)
        || (sign == '月' && upper.value > Decimal::from(12))
    {
        return None;
    }
    let mut end = skip_spaces(text, upper.end) + 3;
    if sign == '月' && text[end..].starts_with('份') {
        end += '份'.len_utf8();
    }
    dated(at..end, date, Some(upper.value))
}

/// Reads a century or decade: `19世纪`, `20世纪60年代`, `90年代`.
fn century(text: &str, at: usize, number: &ChineseNumber) -> Option<Parsed> {
    let here = skip_spaces(text, number.end);
    if text[here..].starts_with("世纪") {
        let century = small(number, 30)?;
        let end = here + "世纪".len();
        let next = skip_spaces(text, end);
        let decade = number::scan(text, next).and_then(|n| Some((small(&n, 90)?, skip_spaces(text, n.end))));
        if let Some((tens, after)) = decade.filter(|(_, after)| text[*after..].starts_with("年代")) {
            let year = u16::from(century - 1) * 100 + u16::from(tens);
            let date = Date { year: Some(year), ..Date::default() };
            return dated(at..after + "年代".len(), date, None);
        }
        let mut quantity = Quantity::new(at..end, Decimal::from(century), QuantityKind::Ordinal);
        quantity.unit = Some(Unit::Century);
        return Parsed::some(quantity);
    }
    // The generation of the 90后.
    let born = number.digits
        && number.plain_digits == 2
        && text[here..].starts_with('后')
        && (number.value % Decimal::TEN).is_zero();
    if born && !["后来", "后续", "后期", "后面"].iter().any(|word| text[here..].starts_with(word)) {
        let date = Date { year: Some(u16::try_from(number.value).ok()?), ..Date::default() };
        let mut quantity = Quantity::new(at..here + '后'.len_utf8(), number.value, QuantityKind::Date(date));
        quantity.required = false;
        return Parsed::some(quantity);
    }
    if text[here..].starts_with("年代") {
        let year = u16::try_from(number.value).ok()?;
        let date = Date { year: Some(year), ..Date::default() };
        return dated(at..here + "年代".len(), date, None);
    }
    None
}

/// Reads a date in digits: `2025-12-06`, `2025/12/6`, `2025.12.06`.
fn numeric_date(text: &str, at: usize) -> Option<Parsed> {
    // `number::scan` would read `2025.12` as a decimal.
    let end = text[at..]
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '-' | '/' | '.')))
        .map_or(text.len(), |n| at + n);
    let token = text[at..end].trim_end_matches(['-', '/', '.']);
    let sign = token.chars().find(|c| !c.is_ascii_digit())?;
    let parts: Vec<&str> = token.split(sign).collect();
    let [year, month, day] = parts[..] else { return None };
    if year.len() != 4 || month.is_empty() || month.len() > 2 || day.is_empty() || day.len() > 2 {
        return None;
    }
    let date = Date {
        year: Some(year.parse().ok()?),
        month: Some(month.parse().ok().filter(|m| (1..=12).contains(m))?),
        day: Some(day.parse().ok().filter(|d| (1..=31).contains(d))?),
        weekday: None,
    };
    dated(at..at + token.len(), date, None)
}

/// Reads a time of day: `14时30分`, `11 点 29 分`, `11:29`, `9时`.
fn clock(text: &str, at: usize, number: &ChineseNumber) -> Option<Parsed> {
    let hour = u8::try_from(number.value).ok().filter(|h| *h <= 24 && plain(number))?;
    let here = skip_spaces(text, number.end);
    let rest = &text[here..];
    let clock_at = |minute: u8, end: usize| {
        let mut quantity =
            Quantity::new(at..end, Decimal::from(hour), QuantityKind::Clock(Clock { hour, minute }));
        quantity.required = number.digits;
        Parsed::some(quantity)
    };
    if let Some(minutes) = rest.strip_prefix([':', '：']).filter(|_| number.digits) {
        let digits = minutes.chars().take_while(|c| number::digit(*c).is_some()).count();
        let sign = rest.len() - minutes.len();
        let minute = number::scan(text, here + sign).filter(|n| digits == 2 && n.scale == Decimal::ONE)?;
        let minute = u8::try_from(minute.value).ok().filter(|m| *m < 60)?;
        let end = here + sign + minutes.chars().take(2).map(char::len_utf8).sum::<usize>();
        return clock_at(minute, end);
    }
    let sign = ["时", "点钟", "点"].into_iter().find(|sign| rest.starts_with(sign))?;
    let after = here + sign.len();
    let next = skip_spaces(text, after);
    let minute = number::scan(text, next)
        .filter(plain)
        .and_then(|n| Some((u8::try_from(n.value).ok().filter(|m| *m < 60)?, skip_spaces(text, n.end))));
    if let Some((minute, end)) = minute.filter(|(_, end)| text[*end..].starts_with('分')) {
        return clock_at(minute, end + '分'.len_utf8());
    }
    if text[after..].starts_with('半') {
        return clock_at(30, after + '半'.len_utf8());
    }
    // 3点 can mean three points. It is a time of day only after one of these words.
    let introductions =
        ["上午", "下午", "晚上", "凌晨", "早上", "中午", "晚", "早", "清晨", "傍晚", "深夜", "日", "当天"];
    let before = text[..at].trim_end_matches(' ');
    if text[after..].starts_with(['代', '期', '速', '间', '长', '尚', '空', '机'])
        || (sign != "时" && !introductions.iter().any(|word| before.ends_with(word)))
        || (!number.digits && number.value <= Decimal::ONE)
    {
        return None;
    }
    clock_at(0, after)
}
