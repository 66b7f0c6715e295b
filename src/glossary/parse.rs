//! Parses glossary files. Called by the parent module only; the format is described there.

use super::Term;

/// An invalid line in a glossary file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}, line {line}: {reason}; expected `Chinese<TAB>English`")]
pub struct GlossaryError {
    /// The name of the file.
    pub name: String,
    /// The line number, starting at 1.
    pub line: usize,
    /// The reason why the line is invalid.
    pub reason: &'static str,
}

/// Parses the terms of a file, in order.
pub(super) fn terms(name: &str, text: &str) -> Result<Vec<Term>, GlossaryError> {
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|(index, line)| {
            let error = |reason| GlossaryError { name: name.to_owned(), line: index + 1, reason };
            let (source, rest) = line.split_once('\t').ok_or_else(|| error("missing tab"))?;
            let term = Term::new(source, rest.split('\t').next().unwrap_or_default());
            match () {
                () if term.source.is_empty() => Err(error("missing Chinese")),
                () if term.target.is_empty() => Err(error("missing English")),
                () => Ok(term),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_comments_blank_lines_notes_and_a_byte_order_mark() {
        let text = "\u{feff}# a comment\n\n新质生产力\tnew quality productive forces\tplan report 2026\n欧盟\tthe EU|EU\r\n";
        let parsed = terms("a.tsv", text).unwrap();
        assert_eq!(
            parsed,
            [
                Term::new("新质生产力", "new quality productive forces"),
                Term { source: "欧盟".into(), target: "the EU".into(), accepted: vec!["EU".into()] }
            ]
        );
    }

    #[test]
    fn reports_the_line_that_is_not_a_term() {
        for (text, reason) in [
            ("甲\tA\n乙 B", "missing tab"),
            ("甲\tA\n\tB", "missing Chinese"),
            ("甲\tA\n乙\t | x", "missing English"),
        ] {
            let error = terms("b.tsv", text).unwrap_err();
            assert_eq!((error.line, error.reason), (2, reason));
            assert!(error.to_string().starts_with("b.tsv, line 2: "), "{error}");
        }
    }
}
