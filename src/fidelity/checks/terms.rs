//! Terms that must stand in an output.

use std::ops::Range;

/// A term of the source and the forms of its rendering of which one must stand in the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequiredTerm<'a> {
    /// As it stands in the source.
    pub source: &'a str,
    /// The form that was asked for.
    pub target: &'a str,
    /// Other forms that are right as well.
    pub accepted: &'a [String],
}

impl RequiredTerm<'_> {
    /// Whether one of the forms stands in `output`, whatever its case, its quotation marks and hyphens, and with or
    /// without the article that it begins with.
    pub fn stands_in(&self, output: &str) -> bool {
        let output = plain(output);
        self.forms().map(plain).any(|form| output.contains(form.strip_prefix("the ").unwrap_or(&form)))
    }

    /// Whether these bytes of the source lie within an occurrence of the term.
    pub(super) fn holds_source(&self, source: &str, span: &Range<usize>) -> bool {
        holds(source, self.source, span)
    }

    /// Whether these bytes of the output lie within one of the forms.
    pub(super) fn holds_output(&self, output: &str, span: &Range<usize>) -> bool {
        self.forms().any(|form| holds(output, form, span))
    }

    /// All forms that are right.
    pub(super) fn forms(&self) -> impl Iterator<Item = &str> {
        self.accepted.iter().map(String::as_str).chain([self.target])
    }
}

fn holds(text: &str, part: &str, span: &Range<usize>) -> bool {
    text.match_indices(part).any(|(at, part)| at <= span.start && span.end <= at + part.len())
}

/// Lower case, one kind of each mark, single spaces.
fn plain(text: &str) -> String {
    let mark = |c: char| match c {
        '‘' | '’' => '\'',
        '“' | '”' => '"',
        '-' | '‑' | '–' => ' ',
        c => c,
    };
    let plain: String = text.chars().map(mark).flat_map(char::to_lowercase).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_marks_and_the_article_do_not_matter_and_any_accepted_form_will_do() {
        let accepted = ["WTO".to_owned()];
        let term = |target| RequiredTerm { source: "世贸组织", target, accepted: &accepted };
        assert!(term("the World Trade Organization").stands_in("At World  trade organization talks"));
        assert!(term("the World Trade Organization").stands_in("WTO talks"));
        assert!(!term("the World Trade Organization").stands_in("World Trade talks"));
        let term = |target| RequiredTerm { source: "", target, accepted: &[] };
        assert!(term("People’s Daily").stands_in("the People's Daily"));
        assert!(term("high-quality development").stands_in("High quality development"));
    }
}
