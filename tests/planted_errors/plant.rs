//! Plants errors into good English translations.
//!
//! Finds the positions without the readers under test, so that it also changes numbers that they overlook.

/// The error that was planted into a translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PlantedError {
    ChangedDigit,
    WrongMagnitude,
    DroppedNumber,
    DroppedDate,
    SwappedUnit,
    AddedNumber,
    AddedName,
}

const SCALES: [&str; 4] = ["thousand", "million", "billion", "trillion"];
const MONTHS: [&str; 12] = [
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
const UNITS: [(&str, &str); 18] = [
    ("yuan", "dollars"),
    ("RMB", "US$"),
    ("US$", "RMB"),
    ("£", "€"),
    ("€", "£"),
    (" euros", " yen"),
    (" yen", " euros"),
    ("dollars", "yuan"),
    ("tons", "kilograms"),
    ("tonnes", "grams"),
    ("kilometers", "meters"),
    ("kilometres", "metres"),
    (" km", " cm"),
    ("hours", "days"),
    ("minutes", "hours"),
    ("months", "days"),
    ("square meters", "square kilometers"),
    (" percent", " yuan"),
];
const NUMBERS: [&str; 6] = [
    " on January 1, 2023",
    " in 2019",
    ", up 7.3 percent,",
    " for 47 people",
    " worth 2.6 billion yuan",
    " by 315",
];
const NAMES: [&str; 12] = [
    ", Reuters reported,",
    " (CNN)",
    ", according to John Miller,",
    " in Texas",
    " with Microsoft",
    " by Blue Origin",
    " in Nairobi",
    ", Professor Anderson said,",
    " at Harvard University",
    " and Wang Xiaoming",
    " from Goldman Sachs",
    " in Shenzhen",
];

/// Returns copies of a good translation with one planted error each.
pub(crate) fn plant_errors(english: &str) -> Vec<(PlantedError, String)> {
    let mut all = Vec::new();
    for (start, end) in digit_runs(english) {
        let run = &english[start..end];
        let replace = |new: &str| format!("{}{new}{}", &english[..start], &english[end..]);
        for at in [0, run.len() - 1] {
            let digit = run.as_bytes()[at] - b'0';
            let mut changed = run.to_owned();
            changed.replace_range(at..=at, &((digit + 3) % 9 + 1).to_string());
            if changed != run {
                all.push((PlantedError::ChangedDigit, replace(&changed)));
            }
        }
        if let Some((short, _)) = run.rsplit_once(',') {
            all.push((PlantedError::WrongMagnitude, replace(&format!("{run}0").replace(',', ""))));
            all.push((PlantedError::WrongMagnitude, replace(short)));
        }
        if !in_date(english, start, end) {
            all.push((PlantedError::DroppedNumber, drop_number(english, start, end)));
        }
    }
    for (index, scale) in SCALES.iter().enumerate() {
        for (at, _) in english.match_indices(scale) {
            let other = SCALES[(index + 1) % 4];
            let planted = format!("{}{other}{}", &english[..at], &english[at + scale.len()..]);
            all.push((PlantedError::WrongMagnitude, planted));
        }
    }
    all.extend(dropped_dates(english).into_iter().map(|text| (PlantedError::DroppedDate, text)));
    for (unit, other) in UNITS {
        for (at, _) in english.match_indices(unit) {
            if counts_something(english, at, unit) {
                let planted = format!("{}{other}{}", &english[..at], &english[at + unit.len()..]);
                all.push((PlantedError::SwappedUnit, planted));
            }
        }
    }
    for (index, addition) in NUMBERS.iter().enumerate() {
        all.push((PlantedError::AddedNumber, insert(english, addition, index)));
    }
    for (index, addition) in NAMES.iter().enumerate() {
        if !english.contains(addition.trim_matches([' ', ',', '(', ')'])) {
            all.push((PlantedError::AddedName, insert(english, addition, index)));
        }
    }
    all
}

/// Returns the ranges of numbers in digits, with commas and decimals, that are not part of a name (`T5`, `CO2`, `m2`).
fn digit_runs(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut runs = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len()
            && (bytes[at].is_ascii_digit()
                || (matches!(bytes[at], b',' | b'.') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)))
        {
            at += 1;
        }
        let before = text[..start].trim_end_matches('-');
        let word: String = before.chars().rev().take_while(char::is_ascii_alphanumeric).collect();
        let code = ["BMR", "YPJ", "WRK", "BUR", "PBG"].contains(&word.as_str());
        let glued = word.chars().next().is_some_and(char::is_alphabetic);
        // The reference has a stray space in `2. 4 trillion`.
        if (!glued || code) && !text[..start].ends_with(". ") {
            runs.push((start, at));
        }
    }
    runs
}

/// Returns `true` if digits belong to a date: they are next to a month, or a year themselves.
fn in_date(text: &str, start: usize, end: usize) -> bool {
    let before = text[..start].trim_end_matches([' ', ',', '.']);
    let after = text[end..].trim_start_matches([' ', ',']);
    let year = end - start == 4 && (text[start..].starts_with("19") || text[start..].starts_with("20"));
    year || MONTHS.iter().any(|month| before.ends_with(month) || after.starts_with(month))
}

/// Removes a number with its currency sign, scale and unit.
fn drop_number(text: &str, start: usize, end: usize) -> String {
    let mut from = start;
    for sign in ["US$", "RMB", "JPY", "KRW", "RUB", "GBP", "HK$", "$", "£", "€"] {
        if let Some(before) = text[..from].trim_end().strip_suffix(sign) {
            from = before.len();
            break;
        }
    }
    let mut to = end;
    let suffixes = [
        " hundred",
        " thousand",
        " million",
        " billion",
        " trillion",
        "bn",
        "m ",
        "%",
        " percent",
        " per cent",
        " yuan",
        " euros",
        " US dollars",
        " dollars",
        " yen",
        "th",
        "st",
        "nd",
        "rd",
    ];
    while let Some(word) = suffixes.iter().find(|word| text[to..].starts_with(**word)) {
        to += word.trim_end().len();
    }
    format!("{}{}", &text[..from], &text[to..])
}

/// Returns copies of the text that each lack one date or year.
fn dropped_dates(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    for month in MONTHS {
        for (at, _) in text.match_indices(month) {
            let mut to = at + month.len();
            let is_date = |c: char| c.is_ascii_digit() || matches!(c, ' ' | ',');
            to += text[to..].find(|c| !is_date(c)).unwrap_or(text.len() - to);
            let from = text[..at].trim_end_matches(' ').trim_end_matches("In").trim_end_matches("On");
            if text[..at].trim_end().ends_with("Decem") {
                continue;
            }
            let from = from.trim_end_matches(" in").trim_end_matches(" on").len();
            all.push(format!("{} {}", &text[..from], text[to..].trim_start()));
        }
    }
    for (at, _) in text.match_indices("n 20").chain(text.match_indices("n 19")) {
        let year = at + 2..at + 6;
        let four = text.get(year.clone()).is_some_and(|y| y.bytes().all(|b| b.is_ascii_digit()));
        let ends = !text[year.end.min(text.len())..].starts_with(|c: char| {
            c.is_ascii_digit()
                || matches!(c, ',' | '-') && text[year.end + 1..].starts_with(|c: char| c.is_ascii_digit())
        });
        let count = text.matches(text.get(year.clone()).unwrap_or("none")).count();
        if four && ends && at > 0 && text[..at].ends_with(['i', 'I']) && count == 1 {
            all.push(format!("{}{}", &text[..at - 1], text[year.end..].trim_start_matches([' ', ','])));
        }
    }
    all
}

/// Returns `true` if a unit belongs to a number next to it in digits or with a scale word.
fn counts_something(text: &str, at: usize, unit: &str) -> bool {
    let before = text[..at].trim_end_matches([' ', '-']);
    let after = text[at + unit.len()..].trim_start();
    if matches!(unit, "RMB" | "US$" | "£" | "€") {
        return after.starts_with(|c: char| c.is_ascii_digit());
    }
    let word: String = before.chars().rev().take_while(char::is_ascii_alphanumeric).collect();
    let word: String = word.chars().rev().collect();
    let starts = unit.starts_with(' ') || text[..at].ends_with([' ', '-']);
    starts && (word.ends_with(|c: char| c.is_ascii_digit()) || SCALES.contains(&word.as_str()))
}

/// Inserts an addition in the middle, three quarters into the text or at the end, depending on `index`.
fn insert(text: &str, addition: &str, index: usize) -> String {
    let end = text.trim_end_matches(['.', '"', '”', ';', '!', '?']).len();
    let spaces: Vec<usize> = text[..end].match_indices(' ').map(|(at, _)| at).collect();
    let at = match index % 3 {
        0 if !spaces.is_empty() => spaces[spaces.len() / 2],
        1 if spaces.len() > 3 => spaces[spaces.len() * 3 / 4],
        _ => end,
    };
    format!("{}{addition}{}", &text[..at], &text[at..])
}
