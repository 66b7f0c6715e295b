//! Lexicon files: one entry per line, `Chinese<TAB>English<TAB>other forms<TAB>kind<TAB>source`.

use super::{Entry, EntryKind};

/// An error in a lexicon file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}, line {line}: {reason}")]
pub struct LexiconError {
    /// The file.
    pub name: String,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// Parses the entries of a file, in order.
pub(super) fn entries(name: &str, text: &str) -> Result<Vec<Entry>, LexiconError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(index, line)| {
            entry(line).map_err(|reason| LexiconError { name: name.to_owned(), line: index + 1, reason })
        })
        .collect()
}

fn entry(line: &str) -> Result<Entry, String> {
    let mut fields = line.split('\t');
    let mut field = |what: &str| fields.next().ok_or_else(|| format!("the {what} is missing"));
    let (source, target, accepted, kind) =
        (field("Chinese")?, field("English")?, field("other forms")?, field("kind")?);
    if source.is_empty() || target.is_empty() {
        return Err("the Chinese or the English is empty".to_owned());
    }
    let accepted = accepted.split('|').filter(|form| !form.is_empty()).map(str::to_owned).collect();
    Ok(Entry { source: source.to_owned(), target: target.to_owned(), accepted, kind: kind.parse()? })
}

impl std::str::FromStr for EntryKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "place" => Self::Place,
            "person" => Self::Person,
            "organization" => Self::Organization,
            "work" => Self::Work,
            "term" => Self::Term,
            "name" => Self::Name,
            _ => {
                return Err(format!(
                    "`{text}` is not a kind: use place, person, organization, work, term or name"
                ));
            }
        })
    }
}
