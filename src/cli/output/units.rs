//! Numbers and durations in a human-readable form.

/// Formats `1234567` as `1,234,567`.
pub(in crate::cli) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = {
        let first = digits.len() % 3;
        let (head, rest) = digits.split_at(first);
        let tail = rest.as_bytes().chunks(3).filter_map(|group| std::str::from_utf8(group).ok());
        (!head.is_empty()).then_some(head).into_iter().chain(tail).collect()
    };
    groups.join(",")
}

/// Formats a duration in its two largest units.
pub(in crate::cli) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600.. => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_digits_and_picks_units() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([3.2, 75.0, 7384.0].map(duration), ["3 s", "1 min 15 s", "2 h 3 min"]);
    }
}
