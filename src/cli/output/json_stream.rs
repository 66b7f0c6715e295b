//! JSON that is written value by value, so that the beginning is out before the end is known.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Writes nested JSON incrementally. `F` decides between compact and pretty-printed JSON.
#[derive(Debug, Clone)]
pub(super) struct JsonStream<F> {
    formatter: F,
    /// The open objects and arrays, innermost last.
    open: Vec<Container>,
}

#[derive(Debug, Clone, Copy)]
struct Container {
    is_object: bool,
    is_empty: bool,
}

impl<F: Formatter + Clone> JsonStream<F> {
    pub(super) fn new(formatter: F) -> Self {
        Self { formatter, open: Vec::new() }
    }

    /// Returns the formatter with the current indentation.
    pub(super) fn formatter(&self) -> F {
        self.formatter.clone()
    }

    pub(super) fn begin_object(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.begin_value(out)?;
        self.formatter.begin_object(&mut *out)?;
        self.open.push(Container { is_object: true, is_empty: true });
        Ok(())
    }

    pub(super) fn begin_array(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.begin_value(out)?;
        self.formatter.begin_array(&mut *out)?;
        self.open.push(Container { is_object: false, is_empty: true });
        Ok(())
    }

    /// Ends the innermost object or array.
    pub(super) fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match self.open.pop() {
            Some(Container { is_object: true, .. }) => self.formatter.end_object(&mut *out)?,
            Some(_) => self.formatter.end_array(&mut *out)?,
            None => return Ok(()),
        }
        self.end_value(out)
    }

    /// Writes a key of the current object; its value must follow.
    pub(super) fn key(&mut self, out: &mut dyn Write, key: &str) -> io::Result<()> {
        let is_first = self.open.last_mut().is_none_or(|object| std::mem::take(&mut object.is_empty));
        self.formatter.begin_object_key(&mut *out, is_first)?;
        self.serialize(out, key)?;
        self.formatter.end_object_key(&mut *out)?;
        self.formatter.begin_object_value(&mut *out)
    }

    pub(super) fn value(&mut self, out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
        self.begin_value(out)?;
        self.serialize(out, value)?;
        self.end_value(out)
    }

    /// Writes the fields of an object into the current object.
    pub(super) fn fields(
        &mut self,
        out: &mut dyn Write,
        fields: &serde_json::Map<String, serde_json::Value>,
    ) -> io::Result<()> {
        for (key, value) in fields {
            self.key(out, key)?;
            self.value(out, value)?;
        }
        Ok(())
    }

    /// Writes what precedes a value: in an array, the separator. In an object, `key` has written it.
    pub(super) fn begin_value(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match self.open.last_mut() {
            Some(Container { is_object: false, is_empty }) => {
                let is_first = std::mem::take(is_empty);
                self.formatter.begin_array_value(out, is_first)
            }
            _ => Ok(()),
        }
    }

    /// Writes what follows a value.
    pub(super) fn end_value(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match self.open.last() {
            Some(Container { is_object: true, .. }) => self.formatter.end_object_value(out),
            Some(_) => self.formatter.end_array_value(out),
            None => Ok(()),
        }
    }

    fn serialize(&self, out: &mut dyn Write, value: &(impl Serialize + ?Sized)) -> io::Result<()> {
        Ok(value.serialize(&mut Serializer::with_formatter(out, self.formatter.clone()))?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{
        json,
        ser::{CompactFormatter, PrettyFormatter},
    };

    use super::*;

    fn write(mut stream: JsonStream<impl Formatter + Clone>) -> String {
        let out = &mut Vec::new();
        stream.begin_array(out).unwrap();
        stream.value(out, &json!({ "a": [1, 2] })).unwrap();
        stream.begin_object(out).unwrap();
        stream.key(out, "k\n").unwrap();
        stream.begin_array(out).unwrap();
        stream.end(out).unwrap();
        stream.key(out, "n").unwrap();
        stream.value(out, &7).unwrap();
        stream.end(out).unwrap();
        stream.end(out).unwrap();
        String::from_utf8(out.clone()).unwrap()
    }

    #[test]
    fn writes_what_serde_json_writes() {
        let value = json!([{ "a": [1, 2] }, { "k\n": [], "n": 7 }]);
        assert_eq!(write(JsonStream::new(CompactFormatter)), value.to_string());
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        assert_eq!(write(JsonStream::new(PrettyFormatter::new())), pretty);
    }
}
