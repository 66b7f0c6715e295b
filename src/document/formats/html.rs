//! Reads web pages: the article of the page, without navigation, as lines with hints for `segment`.
//!
//! `dom_smoothie`, a port of Mozilla's Readability, chooses what belongs to the article. It keeps no positions, so the
//! page is cut into lines here, its choice is cut into lines in the same way, and the lines that are in both stay.

use std::collections::HashSet;
use std::ops::Range;

use super::builder::{CleanTextBuilder, SourceText, TextFragment, hint_of_level};
use crate::document::blocks::line::MarkupHint;
use crate::document::decode::normalize::CleanText;

/// The library is made for pages that a person reads, and takes more than linear time for others: one that is larger,
/// nests deeper, or has more entities is read as it is, without asking what in it is the article.
const MAX_PAGE_BYTES: usize = 4 << 20;
const MAX_DEPTH: usize = 200;
const MAX_ENTITIES: usize = 20_000;

/// A line of the page as a browser shows it.
#[derive(Debug, Default)]
struct HtmlLine {
    pieces: Vec<TextFragment>,
    /// What it says, without white space.
    key: String,
    tag: LineElement,
}

/// What kind of element a line is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum LineElement {
    #[default]
    Text,
    Heading(u8),
    Item,
    Caption,
}

/// The clean text of a web page and what its markup says about the lines.
pub(crate) fn read(input: &SourceText<'_>) -> (CleanText, Vec<(Range<usize>, MarkupHint)>) {
    let (rows, depth) = rows(input.text);
    let kept = match article(input.text, depth) {
        Some(article) => keep(&rows, &article),
        None => vec![true; rows.len()],
    };
    let levels = rows.iter().zip(&kept).filter_map(|(row, kept)| match row.tag {
        LineElement::Heading(level) if *kept => Some(level),
        _ => None,
    });
    let highest = levels.min().unwrap_or(0);
    let mut writer = CleanTextBuilder::new(input, 0);
    for (row, _) in rows.iter().zip(&kept).filter(|(_, kept)| **kept) {
        let hint = match row.tag {
            LineElement::Heading(level) => hint_of_level(level, highest),
            LineElement::Caption => MarkupHint::Caption,
            LineElement::Item => MarkupHint::Item,
            LineElement::Text => MarkupHint::Whole,
        };
        writer.line(&row.pieces, Some(hint));
    }
    writer.finish(input.text.len())
}

/// The lines of what the library takes for the article.
fn article(page: &str, depth: usize) -> Option<HashSet<String>> {
    let entities = page.bytes().filter(|byte| *byte == b'&').count();
    if page.len() > MAX_PAGE_BYTES || depth > MAX_DEPTH || entities > MAX_ENTITIES {
        return None;
    }
    let config = dom_smoothie::Config { char_threshold: 100, disable_json_ld: true, ..Default::default() };
    let mut readability = dom_smoothie::Readability::new(page, None, Some(config)).ok()?;
    let article = readability.parse().ok()?;
    let keys: HashSet<String> = rows(&article.content).0.into_iter().map(|row| row.key).collect();
    (!keys.is_empty()).then_some(keys)
}

/// Which lines stay: those of the article, and the headings that stand right over it.
fn keep(rows: &[HtmlLine], article: &HashSet<String>) -> Vec<bool> {
    let mut kept: Vec<bool> = rows.iter().map(|row| article.contains(&row.key)).collect();
    // The library takes the title out of the text. It stands over the first line that stays, with its kicker, its
    // subtitle and perhaps a line of date and source between.
    let Some(first) = kept.iter().position(|kept| *kept) else {
        return vec![true; rows.len()];
    };
    let over = first.saturating_sub(8)..first;
    for at in over.rev() {
        if matches!(rows[at].tag, LineElement::Heading(1..=4)) {
            kept[at] = true;
        }
    }
    kept
}

/// Elements whose text nobody sees, or that is no text of the page.
const HIDDEN: &[&str] = &[
    "script", "style", "title", "template", "noscript", "svg", "select", "textarea", "button", "iframe",
    "head",
];

/// Elements within a line.
#[rustfmt::skip]
const INLINE: &[&str] = &[
    "a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "img",
    "ins", "kbd", "label", "mark", "q", "rb", "rp", "rt", "ruby", "s", "samp", "small", "span", "strike",
    "strong", "sub", "sup", "time", "tt", "u", "var", "wbr",
];

/// Cuts a page into lines as a browser does, and tells how deep its elements nest.
fn rows(page: &str) -> (Vec<HtmlLine>, usize) {
    let mut cutter = LineCutter::default();
    let mut tags = TagScanner::of(page);
    let mut at = 0;
    while let Some(open) = page[at..].find('<').map(|open| at + open) {
        cutter.text(page, at..open);
        at = match tags.at(open) {
            Some(tag)
                if !tag.closing
                    && HIDDEN.contains(&tag.name.as_str())
                    && !page[open..tag.end].ends_with("/>") =>
            {
                tags.after_closing(tag)
            }
            Some(tag) => {
                cutter.tag(&tag.name, tag.closing);
                tag.end
            }
            // A sign that means "less than".
            None => {
                cutter.text(page, open..open + 1);
                open + 1
            }
        };
    }
    cutter.text(page, at..page.len());
    cutter.end_row();
    (cutter.rows, cutter.deepest)
}

/// A tag, comment or declaration of a page.
struct HtmlTag {
    /// In lower case; `!` for what is no tag.
    name: String,
    closing: bool,
    /// The first byte after it.
    end: usize,
}

/// Finds the ends of tags. What was looked for in vain once is not looked for again, so that a page of nothing but
/// openings takes no more than linear time.
struct TagScanner<'a> {
    page: &'a str,
    /// The last `>`; no tag begins after it.
    last_end: usize,
    /// How many tags ended in an open quotation; such a page has no quotations to be trusted.
    broken: usize,
    /// Hidden elements that are never closed from some point on, and comments likewise.
    unclosed: HashSet<String>,
}

/// How many tags may end in an open quotation.
const MAX_BROKEN: usize = 16;

impl<'a> TagScanner<'a> {
    fn of(page: &'a str) -> Self {
        Self { page, last_end: page.rfind('>').unwrap_or(0), broken: 0, unclosed: HashSet::new() }
    }

    /// The tag that begins with the `<` at byte `open`.
    fn at(&mut self, open: usize) -> Option<HtmlTag> {
        let rest = &self.page[open..];
        let other =
            |length: usize| Some(HtmlTag { name: "!".to_string(), closing: false, end: open + length });
        if let Some(comment) = rest.strip_prefix("<!--") {
            if !self.unclosed.contains("!--") {
                if let Some(end) = comment.find("-->") {
                    return other(4 + end + 3);
                }
                self.unclosed.insert("!--".to_string());
            }
            return None;
        }
        if open >= self.last_end {
            return None;
        }
        if rest[1..].starts_with(['!', '?']) {
            return other(rest.find('>')? + 1);
        }
        let closing = rest[1..].starts_with('/');
        let name_at = if closing { 2 } else { 1 };
        if !rest[name_at..].starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let name_end =
            name_at + rest[name_at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != ':')?;
        let end = name_end + self.end_of(&rest[name_end..])?;
        Some(HtmlTag { name: rest[name_at..name_end].to_ascii_lowercase(), closing, end: open + end })
    }

    /// The length of the rest of a tag, with its `>`.
    fn end_of(&mut self, attributes: &str) -> Option<usize> {
        if self.broken > MAX_BROKEN {
            return attributes.find('>').map(|end| end + 1);
        }
        let mut quote = None;
        for (at, byte) in attributes.bytes().enumerate() {
            match (quote, byte) {
                (None, b'>') => return Some(at + 1),
                (None, b'"' | b'\'') => quote = Some(byte),
                (Some(open), byte) if byte == open => quote = None,
                _ => {}
            }
        }
        self.broken += 1;
        None
    }

    /// The first byte after the end tag of a hidden element. One that is never closed hides nothing.
    fn after_closing(&mut self, tag: HtmlTag) -> usize {
        if self.unclosed.contains(&tag.name) {
            return tag.end;
        }
        for (open, _) in self.page[tag.end..].match_indices("</") {
            let rest = &self.page[tag.end + open + 2..];
            if rest
                .as_bytes()
                .get(..tag.name.len())
                .is_some_and(|name| name.eq_ignore_ascii_case(tag.name.as_bytes()))
            {
                return rest.find('>').map_or(self.page.len(), |end| tag.end + open + 2 + end + 1);
            }
        }
        let end = tag.end;
        self.unclosed.insert(tag.name);
        end
    }
}

/// Collects the lines of a page.
#[derive(Default)]
struct LineCutter {
    rows: Vec<HtmlLine>,
    row: HtmlLine,
    tag: LineElement,
    depth: usize,
    deepest: usize,
    /// White space of the input that has not been written yet.
    space: Option<Range<usize>>,
    last: Option<char>,
}

impl LineCutter {
    fn tag(&mut self, name: &str, closing: bool) {
        if name == "!" || INLINE.contains(&name) {
            return;
        }
        self.end_row();
        if closing {
            self.depth = self.depth.saturating_sub(1);
        } else if !matches!(name, "br" | "hr" | "img" | "input" | "meta" | "link" | "source" | "p" | "li") {
            self.depth += 1;
            self.deepest = self.deepest.max(self.depth);
        }
        self.tag = match name {
            _ if closing => LineElement::Text,
            "br" | "p" if self.tag != LineElement::Text => self.tag,
            "figcaption" | "caption" => LineElement::Caption,
            "li" | "td" | "th" => LineElement::Item,
            _ => match name.strip_prefix('h').and_then(|level| level.parse().ok()) {
                Some(level @ 1..=6) => LineElement::Heading(level),
                _ => LineElement::Text,
            },
        };
    }

    /// Adds the text at `range`, with entities read and white space folded.
    fn text(&mut self, page: &str, range: Range<usize>) {
        let mut at = range.start;
        while at < range.end {
            let rest = &page[at..range.end];
            let Some(character) = rest.chars().next() else { break };
            let (read, length) = match character {
                '&' => entity(rest).unwrap_or(('&', 1)),
                other => (other, other.len_utf8()),
            };
            let here = at..at + length;
            at = here.end;
            if read.is_whitespace() {
                self.space.get_or_insert(here.clone()).end = here.end;
                continue;
            }
            self.write_space(read);
            self.row.key.push(read);
            self.last = Some(read);
            let verbatim = length == read.len_utf8() && character == read;
            match self.row.pieces.last_mut() {
                Some(TextFragment::Verbatim(last)) if verbatim && last.end == here.start => {
                    last.end = here.end
                }
                _ if verbatim => self.row.pieces.push(TextFragment::Verbatim(here)),
                _ => self.row.pieces.push(TextFragment::Spelled(read, here)),
            }
        }
    }

    /// Writes the space before `next`, unless it is a line break of the input between two Chinese characters.
    fn write_space(&mut self, next: char) {
        let (Some(space), Some(last)) = (self.space.take(), self.last) else {
            return;
        };
        let wide = |c: char| u32::from(c) > 0x2E80;
        let folded = space.len() == 1 || space.len() == 2;
        if !(wide(last) && wide(next) && folded && self.row.pieces.is_empty()) {
            self.row.pieces.push(TextFragment::Spelled(' ', space));
        }
    }

    fn end_row(&mut self) {
        let mut row = std::mem::take(&mut self.row);
        (self.space, self.last) = (None, None);
        if !row.key.is_empty() {
            row.tag = self.tag;
            self.rows.push(row);
        }
    }
}

/// The character that an entity stands for, and the length of the entity.
fn entity(rest: &str) -> Option<(char, usize)> {
    #[rustfmt::skip]
    const NAMES: &[(&str, char)] = &[
        ("nbsp", '\u{A0}'), ("ensp", '\u{2002}'), ("emsp", '\u{2003}'), ("thinsp", '\u{2009}'), ("amp", '&'),
        ("lt", '<'), ("gt", '>'), ("quot", '"'), ("apos", '\''), ("ldquo", '“'), ("rdquo", '”'),
        ("lsquo", '‘'), ("rsquo", '’'), ("mdash", '—'), ("ndash", '–'), ("hellip", '…'), ("middot", '·'),
        ("bull", '•'), ("times", '×'), ("divide", '÷'), ("deg", '°'), ("plusmn", '±'), ("permil", '‰'),
        ("yen", '¥'), ("euro", '€'), ("pound", '£'), ("copy", '©'), ("reg", '®'), ("trade", '™'),
        ("sect", '§'), ("laquo", '«'), ("raquo", '»'), ("shy", '\u{AD}'), ("zwnj", '\u{200C}'),
        ("zwj", '\u{200D}'), ("uarr", '↑'), ("darr", '↓'), ("larr", '←'), ("rarr", '→'), ("frac12", '½'),
        ("sup2", '²'), ("sup3", '³'),
    ];
    let window = &rest.as_bytes()[..rest.len().min(12)];
    let end = window.iter().position(|byte| *byte == b';')?;
    let name = rest.get(1..end)?;
    let character = match name.strip_prefix('#') {
        Some(number) => {
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
        None => NAMES.iter().find(|(known, _)| *known == name)?.1,
    };
    Some((character, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(page: &str) -> Vec<(String, LineElement)> {
        rows(page).0.into_iter().map(|row| (row.key, row.tag)).collect()
    }

    #[test]
    fn a_page_is_cut_as_a_browser_shows_it() {
        let page = "<!doctype html><head><title>站名</title></head><body><h1>题 目</h1><!-- <p>无 --><script>if (a < b) {}</script>\
                    <p>一&ldquo;二&rdquo;<b>三</b>&nbsp;3 &lt; 5<br>四<figcaption>图为桥。</figcaption> 1 < 2";
        let expected = [
            ("题目", LineElement::Heading(1)),
            ("一“二”三3<5", LineElement::Text),
            ("四", LineElement::Text),
            ("图为桥。", LineElement::Caption),
            ("1<2", LineElement::Text),
        ];
        assert_eq!(seen(page), expected.map(|(text, tag)| (text.to_string(), tag)));
    }

    #[test]
    fn broken_markup_is_text_or_nothing() {
        for page in [
            "<",
            "<p",
            "<p title=\"",
            "</",
            "<!--",
            "&",
            "&#xFFFFFFFF;",
            "&#55296;",
            "<script>",
            "<svg>甲",
            "a<b",
            "<一>",
        ] {
            rows(page);
        }
        assert_eq!(seen("<script>甲乙"), [("甲乙".to_string(), LineElement::Text)]);
    }
}
