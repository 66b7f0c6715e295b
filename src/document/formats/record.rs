//! The vocabulary of JSON Lines, for the server and for the command line.
//!
//! Every line is a record: a JSON object, or a string, which is short for an object with only `text`. Blank lines are
//! skipped. A field that is `null` counts as absent.
//!
//! | field | value | meaning |
//! |---|---|---|
//! | `id` | any value | identifies the record; the command line copies it to the result |
//! | `text`, `content` or `body` | string | a page in plain text, which is segmented into articles |
//! | `lines` | list of strings | a page in plain text, line by line |
//! | `paragraphs` | list of strings | the body of an article without section headings |
//! | `sections` | list of objects | the body of an article: each section has `paragraphs` and an optional `heading` |
//! | `articles` | list of objects | several articles, each with the fields of an article |
//! | `headline` or `title` | string | the title of the article; of a page, its first line |
//! | `kicker`, `subtitle`, `dateline`, `byline` | string | further elements of the article |
//! | `captions` | list of strings | the captions of its pictures |
//! | `continued` | `true` or `false` | `true` if the article began on another page |
//! | `encoding`, `others`, `spans` | any value | ignored, so that the output of `yizhai segment --format jsonl` can be read |
//!
//! A record has exactly one of `text` (`content`, `body`), `lines`, `paragraphs`, `sections` and `articles`. A page has
//! no other fields than `id` and its title, and with `articles` only `id` is allowed. An unknown field, a field that
//! appears twice, a value of the wrong type and a combination that is not allowed are errors that name the field.

use serde_json::Value;
use serde_json::value::RawValue;

use super::fields::{Fields, JsonString, PathFields, invalid_json, quoted};
use crate::document::ElementRole;

const TEXT: [&str; 3] = ["text", "content", "body"];
const LINES: &str = "lines";
const PARAGRAPHS: &str = "paragraphs";
const SECTIONS: &str = "sections";
const ARTICLES: &str = "articles";
const HEADLINE: [&str; 2] = ["headline", "title"];
/// The fields that an article has besides its headline and its body.
const ARTICLE_FIELDS: [&str; 6] = ["kicker", "subtitle", "dateline", "byline", "captions", "continued"];

/// A line of JSON Lines.
#[derive(Debug)]
pub struct Record<'a> {
    /// The caller's identifier.
    pub id: Option<Value>,
    /// The text of the record.
    pub content: RecordContent<'a>,
}

/// The text of a [`Record`].
#[derive(Debug)]
pub enum RecordContent<'a> {
    /// The strings that make up a page when joined by line breaks: its title, if given, and its text or lines.
    Page(Vec<JsonString<'a>>),
    /// Articles whose elements are known.
    Articles(Vec<RecordArticle<JsonString<'a>>>),
}

/// An article of a [`Record`]; `T` is the type of its texts.
#[derive(Debug)]
pub struct RecordArticle<T> {
    /// The title.
    pub headline: Option<T>,
    /// The line above the headline, or the name of the column.
    pub kicker: Option<T>,
    /// The line under the headline.
    pub subtitle: Option<T>,
    /// Agency, place and date.
    pub dateline: Option<T>,
    /// The authors.
    pub byline: Option<T>,
    /// `true` if the article began on another page.
    pub continued: bool,
    /// The captions of its pictures.
    pub captions: Vec<T>,
    /// The body.
    pub sections: Vec<RecordSection<T>>,
}

/// A section of a [`RecordArticle`].
#[derive(Debug)]
pub struct RecordSection<T> {
    /// The title of the section.
    pub heading: Option<T>,
    /// The body text.
    pub paragraphs: Vec<T>,
}

/// The reason why a line is not a valid [`Record`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RecordError(pub(super) String);

impl<'a> Record<'a> {
    /// Parses a line.
    ///
    /// # Errors
    ///
    /// Returns an error if the line is not valid JSON or does not follow the vocabulary.
    pub fn parse(line: &'a str) -> Result<Self, RecordError> {
        let line = line.trim_start_matches('\u{FEFF}').trim();
        if line.starts_with('"') {
            let text = serde_json::from_str(line).map_err(|error| invalid_json(&error))?;
            return Ok(Self {
                id: None,
                content: RecordContent::Page(vec![JsonString { text, json: line }]),
            });
        }
        if !line.starts_with('{') {
            return Err(RecordError("expected a JSON object or a JSON string".to_owned()));
        }
        let fields: Fields<'a> = serde_json::from_str(line).map_err(|error| invalid_json(&error))?;
        let mut fields = fields.within(String::new());
        let bodies = [&TEXT[..], &[LINES, PARAGRAPHS, SECTIONS, ARTICLES]].concat();
        fields.check_names(&[&["id"][..], &bodies, &HEADLINE, &ARTICLE_FIELDS].concat())?;
        let id = fields.take("id").map(|(_, json)| serde_json::from_str(json.get()));
        let id = id.transpose().map_err(|error| invalid_json(&error))?;
        let content = match fields.take_one_of(&bodies)? {
            None => {
                return Err(RecordError(format!(
                    "expected one of {}",
                    quoted(&["text", LINES, PARAGRAPHS, SECTIONS, ARTICLES])
                )));
            }
            Some((name, json)) if TEXT.contains(&name) => {
                let title = fields.take_string(&HEADLINE)?;
                fields.check_empty(name)?;
                let text = fields.string(name, json)?;
                RecordContent::Page(title.into_iter().chain([text]).collect())
            }
            Some((LINES, json)) => {
                let title = fields.take_string(&HEADLINE)?;
                fields.check_empty(LINES)?;
                let lines = fields.strings(LINES, json)?;
                RecordContent::Page(title.into_iter().chain(lines).collect())
            }
            Some((ARTICLES, json)) => {
                fields.check_empty(ARTICLES)?;
                let articles = fields.objects(ARTICLES, json)?.into_iter().map(RecordArticle::read);
                RecordContent::Articles(articles.collect::<Result<_, _>>()?)
            }
            Some((name, json)) => {
                RecordContent::Articles(vec![RecordArticle::read_with(fields, name, json)?])
            }
        };
        Ok(Self { id, content })
    }
}

impl<T> RecordArticle<T> {
    /// Converts every text of the article. `convert` receives its role.
    pub fn map<U>(self, mut convert: impl FnMut(ElementRole, T) -> U) -> RecordArticle<U> {
        let mut all = |role, texts: Vec<T>| texts.into_iter().map(|text| convert(role, text)).collect();
        let captions = all(ElementRole::Caption, self.captions);
        let mut one = |role, text: Option<T>| text.map(|text| convert(role, text));
        RecordArticle {
            headline: one(ElementRole::Headline, self.headline),
            kicker: one(ElementRole::Kicker, self.kicker),
            subtitle: one(ElementRole::Subtitle, self.subtitle),
            dateline: one(ElementRole::Dateline, self.dateline),
            byline: one(ElementRole::Byline, self.byline),
            continued: self.continued,
            captions,
            sections: self
                .sections
                .into_iter()
                .map(|section| RecordSection {
                    heading: section.heading.map(|text| convert(ElementRole::Heading, text)),
                    paragraphs: section
                        .paragraphs
                        .into_iter()
                        .map(|text| convert(ElementRole::Paragraph, text))
                        .collect(),
                })
                .collect(),
        }
    }
}

impl<'a> RecordArticle<JsonString<'a>> {
    /// Reads an element of `articles`.
    fn read(mut fields: PathFields<'a>) -> Result<Self, RecordError> {
        fields.check_names(&[&[PARAGRAPHS, SECTIONS][..], &HEADLINE, &ARTICLE_FIELDS].concat())?;
        match fields.take_one_of(&[PARAGRAPHS, SECTIONS])? {
            Some((name, json)) => Self::read_with(fields, name, json),
            None => Err(RecordError(format!(
                "expected one of {} and {}",
                fields.quoted(PARAGRAPHS),
                fields.quoted(SECTIONS)
            ))),
        }
    }

    /// Reads an article whose body is the field `name`, which is `paragraphs` or `sections`.
    fn read_with(mut fields: PathFields<'a>, name: &str, json: &'a RawValue) -> Result<Self, RecordError> {
        let sections = if name == PARAGRAPHS {
            vec![RecordSection { heading: None, paragraphs: fields.strings(name, json)? }]
        } else {
            fields.objects(name, json)?.into_iter().map(RecordSection::read).collect::<Result<_, _>>()?
        };
        let continued = match fields.take("continued") {
            None => false,
            Some((name, json)) => serde_json::from_str(json.get())
                .map_err(|_| RecordError(format!("{} must be true or false", fields.quoted(name))))?,
        };
        let captions = match fields.take("captions") {
            None => Vec::new(),
            Some((name, json)) => fields.strings(name, json)?,
        };
        Ok(Self {
            headline: fields.take_string(&HEADLINE)?,
            kicker: fields.take_string(&["kicker"])?,
            subtitle: fields.take_string(&["subtitle"])?,
            dateline: fields.take_string(&["dateline"])?,
            byline: fields.take_string(&["byline"])?,
            continued,
            captions,
            sections,
        })
    }
}

impl<'a> RecordSection<JsonString<'a>> {
    fn read(mut fields: PathFields<'a>) -> Result<Self, RecordError> {
        fields.check_names(&["heading", PARAGRAPHS])?;
        let heading = fields.take_string(&["heading"])?;
        let paragraphs = match fields.take(PARAGRAPHS) {
            None => Vec::new(),
            Some((name, json)) => fields.strings(name, json)?,
        };
        Ok(Self { heading, paragraphs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of the page in `line`, joined by line breaks.
    fn page(line: &str) -> String {
        match Record::parse(line).expect(line).content {
            RecordContent::Page(strings) => {
                strings.into_iter().map(|string| string.text).collect::<Vec<_>>().join("\n")
            }
            RecordContent::Articles(articles) => panic!("{line}: {articles:?}"),
        }
    }

    fn articles(line: &str) -> Vec<RecordArticle<String>> {
        match Record::parse(line).expect(line).content {
            RecordContent::Page(page) => panic!("{line}: {page:?}"),
            RecordContent::Articles(articles) => {
                articles.into_iter().map(|article| article.map(|_, string| string.text)).collect()
            }
        }
    }

    fn error(line: &str) -> String {
        Record::parse(line).expect_err(line).to_string()
    }

    #[test]
    fn reads_pages_in_every_spelling() {
        for line in [
            r#"{"text": "题\n文。"}"#,
            r#"{"content": "题\n文。"}"#,
            r#"{"body": "题\n文。"}"#,
            r#""题\n文。""#,
            r#"{"lines": ["题", "文。"]}"#,
            r#"{"headline": "题", "text": "文。"}"#,
            r#"{"title": "题", "content": "文。"}"#,
            r#"{"content": "文。", "title": "题"}"#,
            r#"{"title": "题", "lines": ["文。"]}"#,
            "\u{FEFF} {\"text\": \"题\\n文。\", \"paragraphs\": null}\r\n",
        ] {
            assert_eq!(page(line), "题\n文。", "{line}");
        }
    }

    #[test]
    fn reads_the_id() {
        assert_eq!(
            Record::parse(r#"{"id": [7], "text": ""}"#).expect("valid").id,
            Some(serde_json::json!([7]))
        );
        assert_eq!(Record::parse(r#"{"id": null, "text": ""}"#).expect("valid").id, None);
    }

    #[test]
    fn reads_every_field_of_an_article() {
        let found = articles(
            r#"{"title": "题", "kicker": "肩", "subtitle": "副", "dateline": "电", "byline": "记者",
                "captions": ["图"], "continued": true, "sections": [{"paragraphs": ["一。"]},
                {"heading": "小", "paragraphs": ["二。"]}, {"heading": null}]}"#,
        );
        let [article] = found.as_slice() else { panic!("{found:?}") };
        let elements =
            [&article.headline, &article.kicker, &article.subtitle, &article.dateline, &article.byline];
        assert_eq!(elements.map(|text| text.as_deref().expect("a text")), ["题", "肩", "副", "电", "记者"]);
        assert!(article.continued && article.captions == ["图"]);
        let sections: Vec<_> = article
            .sections
            .iter()
            .map(|section| (section.heading.as_deref(), section.paragraphs.concat()))
            .collect();
        assert_eq!(sections, [(None, "一。".into()), (Some("小"), "二。".into()), (None, String::new())]);
        assert_eq!(articles(r#"{"headline": "题", "paragraphs": ["一。"]}"#)[0].sections.len(), 1);
    }

    #[test]
    fn reads_the_output_of_segment() {
        let found = articles(
            r#"{"id": 1, "articles": [{"headline": "题", "subtitle": null, "continued": false, "captions": [],
                "sections": [{"heading": null, "paragraphs": ["文。"], "spans": {"heading": null}}], "others": [],
                "spans": {"headline": [{"start": 0, "end": 3}]}}, {"paragraphs": []}], "others": [],
                "encoding": "UTF-8"}"#,
        );
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].sections[0].paragraphs, ["文。"]);
    }

    #[test]
    fn rejects_unknown_and_repeated_fields_by_name() {
        assert_eq!(
            error(r#"{"text": "a", "url": "b"}"#),
            "unknown field \"url\"; known fields are \"id\", \"text\", \"content\", \"body\", \"lines\", \
             \"paragraphs\", \"sections\", \"articles\", \"headline\", \"title\", \"kicker\", \"subtitle\", \
             \"dateline\", \"byline\", \"captions\" and \"continued\""
        );
        assert_eq!(
            error(r#"{"sections": [{}, {"title": "a"}]}"#),
            "unknown field \"sections[1].title\"; known fields are \"heading\" and \"paragraphs\""
        );
        assert!(error(r#"{"articles": [{"id": 1}]}"#).starts_with("unknown field \"articles[0].id\""));
        assert_eq!(error(r#"{"text": "a", "text": "b"}"#), "\"text\" appears twice");
    }

    #[test]
    fn rejects_ambiguous_combinations_and_names_the_fields() {
        for (line, message) in [
            (
                r#"{"id": 1}"#,
                "expected one of \"text\", \"lines\", \"paragraphs\", \"sections\" and \"articles\"",
            ),
            (r#"{"text": "a", "content": "b"}"#, "expected only one of \"text\" and \"content\""),
            (r#"{"text": "a", "paragraphs": ["b"]}"#, "expected only one of \"text\" and \"paragraphs\""),
            (r#"{"sections": [], "paragraphs": []}"#, "expected only one of \"paragraphs\" and \"sections\""),
            (
                r#"{"headline": "a", "title": "b", "text": "c"}"#,
                "expected only one of \"headline\" and \"title\"",
            ),
            (
                r#"{"content": "a", "byline": "b"}"#,
                "\"byline\" cannot be combined with \"content\": it describes an article, whose body is in \
                 \"paragraphs\" or \"sections\"",
            ),
            (
                r#"{"lines": [], "captions": []}"#,
                "\"captions\" cannot be combined with \"lines\": it describes an article, whose body is in \
                 \"paragraphs\" or \"sections\"",
            ),
            (
                r#"{"articles": [{"paragraphs": [], "sections": []}]}"#,
                "expected only one of \"articles[0].paragraphs\" and \"articles[0].sections\"",
            ),
            (
                r#"{"articles": [{}]}"#,
                "expected one of \"articles[0].paragraphs\" and \"articles[0].sections\"",
            ),
        ] {
            assert_eq!(error(line), message, "{line}");
        }
    }

    #[test]
    fn rejects_values_of_the_wrong_type() {
        for (line, message) in [
            (r#"{"text": 1}"#, "\"text\" must be a valid string"),
            (r#"{"text": "\ud800"}"#, "\"text\" must be a valid string"),
            (r#"{"lines": "a"}"#, "\"lines\" must be a list of valid strings"),
            (
                r#"{"sections": [{"paragraphs": [null]}]}"#,
                "\"sections[0].paragraphs\" must be a list of valid strings",
            ),
            (r#"{"sections": ["a"]}"#, "\"sections\" must be a list of objects"),
            (r#"{"paragraphs": [], "continued": 1}"#, "\"continued\" must be true or false"),
            ("[1]", "expected a JSON object or a JSON string"),
            ("text", "expected a JSON object or a JSON string"),
            (r#"{"text": }"#, "invalid JSON at column 10: expected value"),
        ] {
            assert_eq!(error(line), message, "{line}");
        }
    }
}
