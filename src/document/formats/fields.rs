//! Reads the fields of a JSON object in a record and reports errors by their names.
//!
//! `record` defines which fields there are. Errors give the path of a field in the record, such as
//! `"sections[1].heading"`.

use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::record::RecordError;

/// The fields that `yizhai segment` writes and that do not describe the text.
const IGNORED: [&str; 3] = ["encoding", "others", "spans"];

/// A JSON string and its spelling in the input.
#[derive(Debug)]
pub struct JsonString<'a> {
    /// The string.
    pub text: String,
    /// The JSON of the string, with its quotation marks and escapes. It is a slice of the parsed line.
    pub(super) json: &'a str,
}

impl<'a> JsonString<'a> {
    /// Reads a JSON string; returns `None` for any other value.
    pub(super) fn read(json: &'a RawValue) -> Option<Self> {
        let text = serde_json::from_str(json.get()).ok()?;
        Some(Self { text, json: json.get() })
    }
}

/// The fields of a JSON object in their order, with the JSON of their values.
pub(super) struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

impl<'a> Fields<'a> {
    /// Returns the fields as those of the object at `path`, which is empty or ends in a dot: `articles[0].`
    pub(super) fn within(self, path: String) -> PathFields<'a> {
        PathFields { path, fields: self.0 }
    }
}

/// The fields of an object that have not been read yet, and the path of the object for error messages.
pub(super) struct PathFields<'a> {
    path: String,
    fields: Vec<(String, &'a RawValue)>,
}

impl<'a> PathFields<'a> {
    /// Returns an error for a field that is not `known` or appears twice, and drops ignored fields and `null`s.
    pub(super) fn check_names(&mut self, known: &[&str]) -> Result<(), RecordError> {
        for (at, (name, _)) in self.fields.iter().enumerate() {
            if !known.contains(&name.as_str()) && !IGNORED.contains(&name.as_str()) {
                let name = self.quoted(name);
                return Err(RecordError(format!("unknown field {name}; known fields are {}", quoted(known))));
            }
            if self.fields[..at].iter().any(|(earlier, _)| earlier == name) {
                return Err(RecordError(format!("{} appears twice", self.quoted(name))));
            }
        }
        self.fields.retain(|(name, json)| json.get() != "null" && !IGNORED.contains(&name.as_str()));
        Ok(())
    }

    /// Removes and returns the field `name`.
    pub(super) fn take<'n>(&mut self, name: &'n str) -> Option<(&'n str, &'a RawValue)> {
        let at = self.fields.iter().position(|(field, _)| field == name)?;
        Some((name, self.fields.remove(at).1))
    }

    /// Removes and returns one of the fields `names`. More than one of them is an error.
    pub(super) fn take_one_of<'n>(
        &mut self,
        names: &[&'n str],
    ) -> Result<Option<(&'n str, &'a RawValue)>, RecordError> {
        let mut found: Vec<_> = names.iter().filter_map(|name| self.take(name)).collect();
        match found.as_slice() {
            [] | [_] => Ok(found.pop()),
            several => {
                let names: Vec<&str> = several.iter().map(|(name, _)| *name).collect();
                Err(RecordError(format!("expected only one of {}", self.all_quoted(&names))))
            }
        }
    }

    /// Removes one of the fields `names` and returns its string.
    pub(super) fn take_string(&mut self, names: &[&str]) -> Result<Option<JsonString<'a>>, RecordError> {
        self.take_one_of(names)?.map(|(name, json)| self.string(name, json)).transpose()
    }

    /// Returns an error if any field is left beside `body`.
    pub(super) fn check_empty(&self, body: &str) -> Result<(), RecordError> {
        match self.fields.first() {
            None => Ok(()),
            Some((name, _)) => Err(RecordError(format!(
                "{} cannot be combined with {}: it describes an article, whose body is in \"paragraphs\" or \"sections\"",
                self.quoted(name),
                self.quoted(body),
            ))),
        }
    }

    pub(super) fn string(&self, name: &str, json: &'a RawValue) -> Result<JsonString<'a>, RecordError> {
        JsonString::read(json)
            .ok_or_else(|| RecordError(format!("{} must be a valid string", self.quoted(name))))
    }

    pub(super) fn strings(&self, name: &str, json: &'a RawValue) -> Result<Vec<JsonString<'a>>, RecordError> {
        let list: Option<Vec<&'a RawValue>> = serde_json::from_str(json.get()).ok();
        list.and_then(|list| list.into_iter().map(JsonString::read).collect())
            .ok_or_else(|| RecordError(format!("{} must be a list of valid strings", self.quoted(name))))
    }

    pub(super) fn objects(&self, name: &str, json: &'a RawValue) -> Result<Vec<PathFields<'a>>, RecordError> {
        let list: Vec<Fields<'a>> = serde_json::from_str(json.get())
            .map_err(|_| RecordError(format!("{} must be a list of objects", self.quoted(name))))?;
        let path = |index: usize| format!("{}{name}[{index}].", self.path);
        Ok(list.into_iter().enumerate().map(|(index, fields)| fields.within(path(index))).collect())
    }

    /// Returns `name` with its path, in quotation marks.
    pub(super) fn quoted(&self, name: &str) -> String {
        format!("\"{}{name}\"", self.path)
    }

    fn all_quoted(&self, names: &[&str]) -> String {
        let names: Vec<String> = names.iter().map(|name| format!("{}{name}", self.path)).collect();
        quoted(&names)
    }
}

/// Lists names in quotation marks: `"text", "lines" and "paragraphs"`.
pub(super) fn quoted(names: &[impl AsRef<str>]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{}\"", name.as_ref())).collect();
    match names.as_slice() {
        [names @ .., last] if !names.is_empty() => format!("{} and {last}", names.join(", ")),
        names => names.concat(),
    }
}

/// Converts a syntax error. The line number of serde_json is always 1, so only the column is reported.
pub(super) fn invalid_json(error: &serde_json::Error) -> RecordError {
    let message = error.to_string();
    let reason = message.split(" at line ").next().unwrap_or_default();
    RecordError(format!("invalid JSON at column {}: {reason}", error.column()))
}
