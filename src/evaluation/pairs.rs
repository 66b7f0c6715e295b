//! The pairs of an evaluation: sources with their reference translations.

use super::ReferenceName;

/// A source sentence and its reference translation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationPair {
    /// The Chinese.
    pub source: String,
    /// The English.
    pub reference: String,
    /// The names in the source, if the file lists them.
    pub names: Vec<ReferenceName>,
}

/// An invalid line in a file of pairs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name}, line {line}: {reason}; expected `source<TAB>reference`, optionally followed by `<TAB>names` as JSON"
)]
pub struct PairsError {
    /// The name of the file.
    pub name: String,
    /// The line number, starting at 1.
    pub line: usize,
    /// The reason why the line is invalid.
    pub reason: String,
}

/// Parses a file with one pair per line: the source, the reference, and optionally the names of the source, separated by
/// tabs. Blank lines are skipped.
///
/// Names are a JSON list of `["Chinese", ["English form", …]]`.
///
/// # Errors
/// [`PairsError`] for the first invalid line, or if there are no pairs.
pub fn parse_pairs(name: &str, text: &str) -> Result<Vec<EvaluationPair>, PairsError> {
    let error = |line, reason| PairsError { name: name.to_owned(), line, reason };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut pairs = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let missing = |what: &str| error(number, format!("missing {what}"));
        let mut columns = line.split('\t').map(str::trim);
        let source = columns.next().filter(|source| !source.is_empty()).ok_or_else(|| missing("source"))?;
        let reference =
            columns.next().filter(|reference| !reference.is_empty()).ok_or_else(|| missing("reference"))?;
        let names = match columns.next().filter(|names| !names.is_empty()) {
            Some(names) => serde_json::from_str(names)
                .map_err(|json| error(number, format!("the names are not valid: {json}")))?,
            None => Vec::new(),
        };
        if columns.next().is_some() {
            return Err(error(number, "more than three columns".to_owned()));
        }
        pairs.push(EvaluationPair { source: source.to_owned(), reference: reference.to_owned(), names });
    }
    match pairs.is_empty() {
        true => Err(error(1, "the file has no pairs".to_owned())),
        false => Ok(pairs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_pairs_with_and_without_names() {
        let text =
            "\u{feff}你好。\tHello.\r\n\n东德\tEast Germany\t[[\"东德\", [\"East Germany\", \"GDR\"]]]\n";
        let pairs = parse_pairs("a.tsv", text).unwrap();
        assert_eq!((pairs.len(), pairs[0].reference.as_str()), (2, "Hello."));
        assert_eq!(pairs[1].names[0].1, ["East Germany", "GDR"]);
    }

    #[test]
    fn reports_the_line_that_is_not_a_pair() {
        for (text, reason) in [
            ("甲\tA\n乙", "line 2: missing reference"),
            ("甲\tA\n\tB", "line 2: missing source"),
            ("甲\tA\tB", "line 1: the names are not valid"),
            ("甲\tA\t[]\tB", "line 1: more than three columns"),
            ("\n", "line 1: the file has no pairs"),
        ] {
            let error = parse_pairs("a.tsv", text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
