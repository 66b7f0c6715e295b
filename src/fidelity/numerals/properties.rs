//! Properties of the readers: written quantities are read back, and any text can be read.

use proptest::prelude::*;
use rust_decimal::Decimal;

use super::{
    Quantity, QuantityKind, QuantityRewrite, compare, number, read_en, read_zh, rewrite::replacements,
    rewrite_quantities,
};

/// Generates text that mixes numbers, scales, units and other characters.
fn texts() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[0-9０-９]{1,12}",
        "[零〇一二两三四五六七八九十百千万亿]{1,10}",
        "[.,．，·%％‰/:：—~～-]",
        "[多余来几数上近约第前双翻半]",
        "[元年月日时点分成倍个人吨亩斤周岁番]",
        "(百分之|分之|十五五|世纪|年代|季度|美元|平方米|公里|万亿|TB|RMB|US\\$| |“|”)",
        "(million|billion|thousand|hundred|half a |twenty-|third|th|Dec\\.|May|percent|yuan|to|and| |p\\.m\\.)",
        "\\PC",
    ];
    prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}

fn assert_spans(text: &str, quantities: &[Quantity]) -> Result<(), TestCaseError> {
    let mut at = 0;
    for quantity in quantities {
        let span = quantity.span.clone();
        prop_assert!(
            at <= span.start && span.start < span.end && span.end <= text.len(),
            "{text:?} {span:?}"
        );
        prop_assert!(text.is_char_boundary(span.start) && text.is_char_boundary(span.end));
        prop_assert!(quantity.upper.is_none_or(|_| !quantity.text(text).is_empty()));
        at = span.end;
    }
    Ok(())
}

/// Writes a number in Chinese numerals.
fn numerals(mut value: u64) -> String {
    const DIGITS: [&str; 10] = ["零", "一", "二", "三", "四", "五", "六", "七", "八", "九"];
    fn below_ten_thousand(value: u64, lead: bool) -> String {
        let mut out = String::new();
        let mut gap = lead;
        for (unit, name) in [(1000, "千"), (100, "百"), (10, "十"), (1, "")] {
            let digit = value / unit % 10;
            if digit == 0 {
                gap = gap || !out.is_empty();
                continue;
            }
            if gap && (!out.is_empty() || lead) {
                out.push('零');
            }
            gap = false;
            out.push_str(DIGITS[digit as usize]);
            out.push_str(name);
        }
        out
    }
    let mut out = String::new();
    for (unit, name) in [(100_000_000, "亿"), (10_000, "万"), (1, "")] {
        let part = value / unit;
        value %= unit;
        if part > 0 {
            let lead = !out.is_empty() && part < 1000;
            out.push_str(&below_ten_thousand(part, lead));
            out.push_str(name);
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn reads_any_text_with_spans_on_character_boundaries(text in texts()) {
        assert_spans(&text, &read_zh(&text))?;
        assert_spans(&text, &read_en(&text))?;
        let report = compare(&text, &text);
        prop_assert_eq!(report.kept + report.missing.len(), report.expected.len());
    }

    #[test]
    fn rewriting_changes_only_the_replaced_spans_and_spaces(text in texts()) {
        let mut expected = text.clone();
        for replacement in replacements(&text, QuantityRewrite::ALL).into_iter().rev() {
            expected.replace_range(replacement.span, &replacement.english);
        }
        let without_spaces = |text: &str| text.replace(' ', "");
        let rewritten = rewrite_quantities(&text, QuantityRewrite::ALL);
        prop_assert_eq!(without_spaces(&rewritten), without_spaces(&expected));
    }

    #[test]
    fn reads_back_values_written_in_either_language(units in 1_u64..1_000_000_000, scale in 0_u32..4) {
        let value = Decimal::new(i64::try_from(units).unwrap(), scale);
        for (factor, name) in [(1_u64, ""), (10_000, "万"), (100_000_000, "亿"), (1_000_000_000_000, "万亿")] {
            let expected = value * Decimal::from(factor);
            let chinese = format!("共{value}{name}元。");
            let read = read_zh(&chinese);
            prop_assert_eq!(read.len(), 1, "{}", chinese);
            prop_assert_eq!(read[0].value, expected, "{}", chinese);
            prop_assert_eq!(read[0].text(&chinese).to_owned(), format!("{value}{name}元"));
            let english = format!("a total of {} yuan.", number(expected));
            let read = read_en(&english);
            prop_assert_eq!(read.len(), 1, "{}", english);
            prop_assert_eq!(read[0].value, expected, "{}", english);
            let report = compare(&chinese, &english);
            prop_assert!(report.missing.is_empty() && report.unexpected.is_empty(), "{} {}", chinese, english);
        }
    }

    #[test]
    fn reads_back_chinese_numerals(value in 11_u64..1_000_000_000_000) {
        let text = format!("{}人", numerals(value));
        let read = read_zh(&text);
        prop_assert_eq!(read.len(), 1, "{}", text);
        prop_assert_eq!(read[0].value, Decimal::from(value), "{}", text);
        prop_assert_eq!(read[0].kind, QuantityKind::Count);
    }

    #[test]
    fn reports_a_different_value(units in 1_u64..1_000_000, other in 1_u64..1_000_000) {
        prop_assume!(units != other);
        let chinese = format!("增加{units}万吨");
        let english = format!("increased by {} tons", number(Decimal::from(other) * Decimal::from(10_000)));
        prop_assert_eq!(compare(&chinese, &english).missing.len(), 1);
    }

    #[test]
    fn reads_back_dates(year in 1900_u16..2100, month in 1_u8..=12, day in 1_u8..=28) {
        let chinese = format!("{year}年{month}月{day}日");
        let quantity = &read_zh(&chinese)[0];
        let english = super::english(quantity);
        let report = compare(&chinese, &english);
        prop_assert!(report.missing.is_empty() && report.unexpected.is_empty(), "{} {}", chinese, english);
    }
}
