//! Reads JSONL inputs line by line and converts every record into a message.
//!
//! A file of any size takes no more memory than its longest permitted line. What a record may contain is defined by
//! [`Record`], which the server uses as well.

use std::io::{self, BufRead, BufReader, Read};

use crate::{
    document::{self, Record, RecordContent},
    pb,
};

/// The lines of a JSONL input, without blank ones.
pub(super) struct RecordLines<R> {
    reader: BufReader<R>,
    /// The number of lines read so far.
    count: u64,
    max_bytes: u64,
    failed: bool,
}

/// A line that is not blank.
pub(super) struct RecordLine {
    /// The line number, starting at 1.
    pub(super) number: u64,
    /// The length in bytes, including the line break.
    pub(super) bytes: u64,
    /// The decoded line, or the reason why it cannot be read.
    pub(super) text: anyhow::Result<String>,
}

impl<R: Read> RecordLines<R> {
    /// Creates an iterator over the lines of `reader`. A line of more than `max_bytes` bytes is an error and is skipped
    /// without being held in memory.
    pub(super) fn new(reader: R, max_bytes: usize) -> Self {
        Self { reader: BufReader::new(reader), count: 0, max_bytes: max_bytes as u64, failed: false }
    }

    fn read(&mut self) -> io::Result<Option<RecordLine>> {
        loop {
            let mut line = Vec::new();
            let mut bytes = (&mut self.reader).take(self.max_bytes + 1).read_until(b'\n', &mut line)? as u64;
            if bytes == 0 {
                return Ok(None);
            }
            self.count += 1;
            let is_complete = line.ends_with(b"\n") || bytes <= self.max_bytes;
            if !is_complete {
                bytes += self.reader.skip_until(b'\n')? as u64;
                let limit = self.max_bytes;
                let text = Err(anyhow::anyhow!("the line has {bytes} bytes; the limit is {limit}"));
                return Ok(Some(RecordLine { number: self.count, bytes, text }));
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            // JSON must be UTF-8, but files in other encodings exist.
            let text = match String::from_utf8(line) {
                Ok(text) => Ok(text),
                Err(error) => document::decode_text(error.as_bytes()).map_err(anyhow::Error::from),
            };
            return Ok(Some(RecordLine { number: self.count, bytes, text }));
        }
    }
}

impl<R: Read> Iterator for RecordLines<R> {
    type Item = RecordLine;

    fn next(&mut self) -> Option<RecordLine> {
        if self.failed {
            return None;
        }
        self.read().unwrap_or_else(|error| {
            // Reading on after an I/O error would fail forever.
            self.failed = true;
            Some(RecordLine { number: self.count + 1, bytes: 0, text: Err(error.into()) })
        })
    }
}

/// Returns the number of lines that are not blank.
pub(super) fn count(reader: impl Read) -> io::Result<u64> {
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    let (mut count, mut has_text) = (0, false);
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(count + u64::from(has_text));
        }
        for byte in buffer {
            if *byte == b'\n' {
                count += u64::from(std::mem::take(&mut has_text));
            } else {
                has_text |= !byte.is_ascii_whitespace();
            }
        }
        let length = buffer.len();
        reader.consume(length);
    }
}

/// Parses a record into its id and the message to send.
pub(super) fn parse(line: &str) -> anyhow::Result<(Option<serde_json::Value>, pb::Input)> {
    use pb::input::Source;
    let Record { id, content } = Record::parse(line)?;
    let input = match content {
        RecordContent::Page(strings) => {
            let lines: Vec<String> = strings.into_iter().map(|string| string.text).collect();
            pb::Input {
                source: Some(Source::PageText(lines.join("\n"))),
                page_format: pb::PageFormat::Text.into(),
            }
        }
        RecordContent::Articles(mut articles) if articles.len() == 1 => {
            let article =
                articles.remove(0).map(|_, string| pb::Text { text: string.text, spans: Vec::new() });
            let section = |section: document::RecordSection<pb::Text>| pb::Section {
                heading: section.heading,
                paragraphs: section.paragraphs,
            };
            let article = pb::Article {
                headline: article.headline,
                subtitle: article.subtitle,
                kicker: article.kicker,
                dateline: article.dateline,
                byline: article.byline,
                captions: article.captions,
                continued: article.continued,
                sections: article.sections.into_iter().map(section).collect(),
                ..pb::Article::default()
            };
            pb::Input { source: Some(Source::Article(article)), page_format: 0 }
        }
        // The API takes one article at a time. Several are sent as the record they are, which the server can read.
        RecordContent::Articles(_) => {
            pb::Input { source: Some(Source::PageText(line.to_owned())), page_format: 0 }
        }
    };
    Ok((id, input))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(line: &str) -> pb::input::Source {
        parse(line).unwrap().1.source.unwrap()
    }

    #[test]
    fn sends_pages_as_text() {
        for line in [r#"{"id": 7, "text": "题\n文。"}"#, r#"{"lines": ["题", "文。"]}"#] {
            assert_eq!(source(line), pb::input::Source::PageText("题\n文。".to_owned()));
        }
    }

    #[test]
    fn keeps_titles_contents_and_captions() {
        assert_eq!(
            source(r#"{"title": "题", "content": "文。"}"#),
            pb::input::Source::PageText("题\n文。".to_owned())
        );
        let line = r#"{"title": "题", "captions": ["图为桥。"], "continued": true, "paragraphs": ["文。"]}"#;
        let pb::input::Source::Article(article) = source(line) else { panic!("{line} is not an article") };
        assert_eq!(article.headline.unwrap().text, "题");
        assert_eq!(article.captions[0].text, "图为桥。");
        assert!(article.continued);
    }

    #[test]
    fn sends_an_article_in_parts_as_an_article() {
        for line in [
            r#"{"headline": "题", "paragraphs": ["文。"]}"#,
            r#"{"headline": "题", "sections": [{"paragraphs": ["文。"]}]}"#,
            r#"{"articles": [{"headline": "题", "paragraphs": ["文。"]}]}"#,
        ] {
            let pb::input::Source::Article(article) = source(line) else {
                panic!("{line} is not an article")
            };
            assert_eq!(article.headline.unwrap().text, "题");
            assert_eq!(article.sections[0].paragraphs[0].text, "文。");
        }
    }

    #[test]
    fn sends_several_articles_as_a_record_that_the_server_reads() {
        let line =
            r#"{"id": 1, "articles": [{"paragraphs": ["一。"]}, {"title": "题", "paragraphs": ["二。"]}]}"#;
        let pb::input::Source::PageText(text) = source(line) else { panic!("{line} is not sent as text") };
        let limits = document::Limits::default();
        let document = document::parse_text(&text, document::InputFormat::Auto, &limits).unwrap();
        assert_eq!(document.articles.len(), 2);
        assert_eq!(document.articles[1].headline.as_ref().unwrap().text, "题");
    }

    #[test]
    fn rejects_an_unknown_field() {
        let error = parse(r#"{"text": "a", "url": "b"}"#).unwrap_err().to_string();
        assert!(error.starts_with("unknown field \"url\""), "{error}");
        assert!(parse("[1]").is_err() && parse("text").is_err());
    }

    #[test]
    fn reports_overlong_and_undecodable_lines_and_reads_the_others() {
        let long = [b'0'; 29 + 5];
        // The fourth line is GB18030.
        let parts: [&[u8]; 5] = [
            b"{\"text\": 1}\n\n",
            &long,
            b"\n",
            b"\xd0\xc2\xbb\xaa\xc9\xe7\xb1\xb1\xbe\xa9\xb5\xe7\xa3\xac\xbb\xf0\xbc\xfd\xb7\xa2\xc9\xe4\xc8\xeb\xb9\xec\xa1\xa3\n",
            b"\xff\xff\xff",
        ];
        let text = parts.concat();
        let lines: Vec<RecordLine> = RecordLines::new(&text[..], 29).collect();
        let found: Vec<(u64, Option<&str>)> =
            lines.iter().map(|line| (line.number, line.text.as_deref().ok())).collect();
        let expected =
            [(1, Some("{\"text\": 1}\n")), (3, None), (4, Some("新华社北京电，火箭发射入轨。\n")), (5, None)];
        assert_eq!(found, expected);
        assert_eq!(count(&text[..]).unwrap(), lines.len() as u64);
        let bytes: u64 = lines.iter().map(|line| line.bytes).sum();
        assert_eq!(bytes, text.len() as u64 - 1, "all but the blank line");
    }
}
