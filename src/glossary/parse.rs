//! Glossary files: a term a line.

use super::Term;

/// What is wrong with a glossary file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}, line {line}: {reason}; a term is written `Chinese<TAB>English`")]
pub struct GlossaryError {
    /// The file.
    pub name: String,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The terms of a file, in order.
pub(super) fn terms(name: &str, text: &str) -> Result<Vec<Term>, GlossaryError> {
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|(index, line)| {
            let wrong = |reason| GlossaryError { name: name.to_owned(), line: index + 1, reason };
            let (source, rest) = line.split_once('\t').ok_or_else(|| wrong("there is no tab"))?;
            let term = Term::new(source, rest.split('\t').next().unwrap_or_default());
            match () {
                () if term.source.is_empty() => Err(wrong("the Chinese is missing")),
                () if term.target.is_empty() => Err(wrong("the English is missing")),
                () => Ok(term),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_blank_lines_notes_and_a_byte_order_mark_are_no_terms() {
        let text = "\u{feff}# a comment\n\n新质生产力\tnew quality productive forces\tplan report 2026\n欧盟\tthe EU|EU\r\n";
        let read = terms("a.tsv", text).unwrap();
        assert_eq!(
            read,
            [
                Term::new("新质生产力", "new quality productive forces"),
                Term { source: "欧盟".into(), target: "the EU".into(), accepted: vec!["EU".into()] }
            ]
        );
    }

    #[test]
    fn a_line_that_is_no_term_is_named() {
        for (text, reason) in [
            ("甲\tA\n乙 B", "there is no tab"),
            ("甲\tA\n\tB", "the Chinese is missing"),
            ("甲\tA\n乙\t | x", "the English is missing"),
        ] {
            let error = terms("b.tsv", text).unwrap_err();
            assert_eq!((error.line, error.reason), (2, reason));
            assert!(error.to_string().starts_with("b.tsv, line 2: "), "{error}");
        }
    }
}
