//! Reads a number in Chinese numerals.
//!
//! Called by `number`, and by the reader for pairs of neighboring numerals.

use rust_decimal::Decimal;

use super::number::{ChineseNumber, large_scale, more_than, numeral, scale, small_scale};

pub(super) fn scan_numerals(text: &str, at: usize) -> Option<ChineseNumber> {
    let mut end = at;
    let mut run: Vec<char> = Vec::new();
    for c in text[at..].chars() {
        let rest = &text[end + c.len_utf8()..];
        let of_unit = c == '千' && rest.starts_with(['米', '克', '瓦', '伏', '卡', '帕', '赫']);
        // 百分之 begins another number, and 百分点 ends this one.
        let of_percent = c == '百' && rest.starts_with('分');
        if of_percent || (of_unit && !run.is_empty()) {
            break;
        }
        if numeral(c).is_none() && small_scale(c).is_none() && large_scale(c).is_none() {
            break;
        }
        run.push(c);
        end += c.len_utf8();
    }
    // On their own, 陆, 伍 and the like are surnames.
    if run.is_empty() || (run.len() == 1 && "壹贰叁肆伍陆柒捌玖拾佰仟".contains(run[0])) {
        return None;
    }
    let mut number = ChineseNumber {
        value: Decimal::ZERO,
        end,
        bare_end: end,
        digits: false,
        scale: Decimal::ONE,
        more: false,
        plain_digits: 0,
        vague: false,
        headless: numeral(run[0]).is_none() && !matches!(run[0], '十' | '拾'),
    };
    let before = text[..at].chars().next_back();
    if before.is_some_and(|c| "几数".contains(c)) {
        number.vague = true;
        number.value = value_of(&run).unwrap_or_default();
        return Some(number);
    }
    if run.len() > 1 && run.iter().all(|c| numeral(*c).is_some()) {
        // 二〇二五 and 一九四九 are read digit by digit; 七八 (seven or eight) has no exact value.
        number.plain_digits = run.len();
        number.vague = run.len() < 4 && !run.contains(&'〇') && !run.contains(&'○');
        let digits: String =
            run.iter().filter_map(|c| numeral(*c)).filter_map(|v| char::from_digit(v, 10)).collect();
        number.value = digits.parse().ok()?;
        return Some(number);
    }
    match value_of(&run) {
        Some(value) => number.value = value,
        None => number.vague = true,
    }
    if text[end..].starts_with('几') {
        // The scale after 十几亿 gives the order of magnitude.
        let after = end + '几'.len_utf8();
        let (factor, scale_end) = scale(text, after);
        number.vague = true;
        number.end = scale_end;
        number.value = number.value.checked_mul(factor)?;
        return Some(number);
    }
    if let Some((value, decimal_end)) = spoken_decimals(text, end, number.value) {
        number.value = value;
        number.end = decimal_end;
        let (factor, scale_end) = scale(text, decimal_end);
        number.value = number.value.checked_mul(factor)?.normalize();
        number.end = scale_end;
        number.bare_end = scale_end;
    }
    let (more, after) = more_than(text, number.end);
    if more {
        number.more = true;
        number.end = after;
        // The scale continues after the 多 of 三千多万.
        let (factor, scale_end) = scale(text, after);
        if scale_end > after {
            number.value = number.value.checked_mul(factor)?;
            number.end = scale_end;
            number.bare_end = scale_end;
        }
    }
    Some(number)
}

/// Reads the decimals of 三点五, unless it is a time of day. Returns the whole value and its end.
fn spoken_decimals(text: &str, at: usize, whole: Decimal) -> Option<(Decimal, usize)> {
    let rest = text[at..].strip_prefix('点')?;
    let decimals: String =
        rest.chars().map_while(numeral).filter_map(|value| char::from_digit(value, 10)).collect();
    let length = 3 * decimals.len();
    let after = rest.get(length..)?;
    if decimals.is_empty() || after.starts_with(['十', '分', '钟', '刻']) {
        return None;
    }
    Some((format!("{whole}.{decimals}").parse().ok()?, at + '点'.len_utf8() + length))
}

/// Returns the two values of neighboring numerals: 二三十 is 20 to 30, 十五六 is 15 to 16, 七八千 is 7,000 to 8,000.
pub(super) fn neighbors(numerals: &str) -> Option<(Decimal, Decimal)> {
    let run: Vec<char> = numerals.chars().collect();
    let follows = |pair: &[char]| match (numeral(pair[0]), numeral(pair[1])) {
        (Some(a), Some(b)) => a > 0 && b == a + 1,
        _ => false,
    };
    let first = run.windows(2).position(follows)?;
    let without = |at: usize| value_of(&[&run[..at], &run[at + 1..]].concat());
    without(first + 1).zip(without(first)).filter(|(lower, upper)| lower < upper)
}

/// Returns the value of numerals with scales between them (两千三百, 十二, 三亿五千万, 一万零八), or `None` if they form no
/// number.
fn value_of(run: &[char]) -> Option<Decimal> {
    let mut total = Decimal::ZERO;
    // The part below the next large scale, and a numeral whose scale has not been read yet.
    let mut part = 0_u64;
    let mut pending: Option<u64> = None;
    let mut last_small = u64::MAX;
    for (index, c) in run.iter().enumerate() {
        if let Some(value) = numeral(*c) {
            if pending.is_some_and(|w| w != 0) {
                return None;
            }
            pending = Some(u64::from(value));
        } else if let Some(scale) = small_scale(*c).map(u64::from) {
            if scale >= last_small {
                return None;
            }
            let times = match pending.take() {
                Some(0) | None if index == 0 || scale == 10 || part == 0 => 1,
                Some(times) if times > 0 => times,
                _ => return None,
            };
            part += times * scale;
            last_small = scale;
        } else {
            let scale = Decimal::from(large_scale(*c)?);
            part += pending.take().unwrap_or(0);
            if part == 0 && total.is_zero() {
                part = 1;
            }
            let amount = Decimal::from(part);
            // The second scale of 万亿 multiplies everything before it.
            total = if part == 0 || (total < scale && !total.is_zero()) {
                total.checked_add(amount)?.checked_mul(scale)?
            } else {
                total.checked_add(amount.checked_mul(scale)?)?
            };
            part = 0;
            last_small = u64::MAX;
        }
    }
    // 两千三 is 2,300.
    let last = pending.unwrap_or(0);
    let colloquial = run.len() >= 3
        && last > 0
        && last_small != u64::MAX
        && last_small > 10
        && small_scale(run[run.len() - 2]).is_some();
    part += if colloquial { last * last_small / 10 } else { last };
    total.checked_add(Decimal::from(part))
}
