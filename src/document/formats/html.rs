//! Reads web pages: the article of a page, without navigation, as lines with hints for `assemble`.
//!
//! `dom_smoothie`, a port of Mozilla's Readability, extracts the article but keeps no positions. So the page and the
//! extracted article are both split into lines range, and the lines of the page that occur in the article are kept.

use std::collections::HashSet;
use std::ops::Range;

use super::builder::{CleanTextBuilder, SourceText, TextFragment, hint_of_level};
use crate::document::blocks::line::MarkupHint;
use crate::document::decode::normalize::CleanText;

/// The limits for extracting the article, which takes more than linear time on unusual pages. A page that is larger,
/// nests more deeply or has more entities is read in full.
const MAX_PAGE_BYTES: usize = 4 << 20;
const MAX_DEPTH: usize = 200;
const MAX_ENTITIES: usize = 20_000;

/// A line of the page as a browser displays it.
#[derive(Debug, Default)]
struct HtmlLine {
    fragments: Vec<TextFragment>,
    /// The text without white space, by which lines are compared.
    key: String,
    element: LineElement,
}

/// The element that contains a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum LineElement {
    #[default]
    Text,
    Heading(u8),
    Item,
    Caption,
}

/// Returns the clean text of a web page and hints about its lines.
pub(super) fn read(source: &SourceText<'_>) -> (CleanText, Vec<(Range<usize>, MarkupHint)>) {
    let (lines, depth) = lines(source.text);
    let kept = match extract_article(source.text, depth) {
        Some(article) => kept_lines(&lines, &article),
        None => vec![true; lines.len()],
    };
    let levels = lines.iter().zip(&kept).filter_map(|(line, kept)| match line.element {
        LineElement::Heading(level) if *kept => Some(level),
        _ => None,
    });
    let highest = levels.min().unwrap_or(0);
    let mut builder = CleanTextBuilder::new(source, 0);
    for (line, _) in lines.iter().zip(&kept).filter(|(_, kept)| **kept) {
        let hint = match line.element {
            LineElement::Heading(level) => hint_of_level(level, highest),
            LineElement::Caption => MarkupHint::Caption,
            LineElement::Item => MarkupHint::ListItem,
            LineElement::Text => MarkupHint::Paragraph,
        };
        builder.line(&line.fragments, Some(hint));
    }
    builder.finish(source.text.len())
}

/// Returns the keys of the lines that belong to the article of the page.
fn extract_article(page: &str, depth: usize) -> Option<HashSet<String>> {
    let entities = page.bytes().filter(|byte| *byte == b'&').count();
    if page.len() > MAX_PAGE_BYTES || depth > MAX_DEPTH || entities > MAX_ENTITIES {
        return None;
    }
    let config = dom_smoothie::Config { char_threshold: 100, disable_json_ld: true, ..Default::default() };
    let mut readability = dom_smoothie::Readability::new(page, None, Some(config)).ok()?;
    let article = readability.parse().ok()?;
    let keys: HashSet<String> = lines(&article.content).0.into_iter().map(|line| line.key).collect();
    (!keys.is_empty()).then_some(keys)
}

/// Returns for each line whether to keep it: the lines of the article and the headings right above it are kept.
fn kept_lines(lines: &[HtmlLine], article: &HashSet<String>) -> Vec<bool> {
    let mut kept: Vec<bool> = lines.iter().map(|line| article.contains(&line.key)).collect();
    // The extracted article lacks its title, which is above the first kept line together with its kicker and subtitle
    // and perhaps a line with the date and the source.
    let Some(first) = kept.iter().position(|kept| *kept) else {
        return vec![true; lines.len()];
    };
    for at in first.saturating_sub(8)..first {
        if matches!(lines[at].element, LineElement::Heading(1..=4)) {
            kept[at] = true;
        }
    }
    kept
}

/// Elements whose text is not displayed, or is not text of the page.
const HIDDEN: &[&str] = &[
    "script", "style", "title", "template", "noscript", "svg", "select", "textarea", "button", "iframe",
    "head",
];

/// Elements that do not start a new line.
#[rustfmt::skip]
const INLINE: &[&str] = &[
    "a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "img",
    "ins", "kbd", "label", "mark", "q", "rb", "rp", "rt", "ruby", "s", "samp", "small", "span", "strike",
    "strong", "sub", "sup", "time", "tt", "u", "var", "wbr",
];

/// Splits a page into lines as a browser displays it, and returns them with the nesting depth of the elements.
fn lines(page: &str) -> (Vec<HtmlLine>, usize) {
    let mut cutter = LineCutter::default();
    let mut tags = TagScanner::new(page);
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
            // A literal less-than sign.
            None => {
                cutter.text(page, open..open + 1);
                open + 1
            }
        };
    }
    cutter.text(page, at..page.len());
    cutter.end_line();
    (cutter.lines, cutter.max_depth)
}

/// A tag, comment or declaration of a page.
struct HtmlTag {
    /// The name in lower case, or `!` for a comment or declaration.
    name: String,
    closing: bool,
    /// The first byte after it.
    end: usize,
}

/// Finds the ends of tags in linear time: a search that failed once is not repeated.
struct TagScanner<'a> {
    page: &'a str,
    /// The last `>`; no tag begins after it.
    last_end: usize,
    /// The number of tags with an unclosed quotation mark.
    unclosed_quotes: usize,
    /// The names of hidden elements, and `!--` for comments, whose closing tag was searched for in vain.
    unclosed: HashSet<String>,
}

/// If more tags than this have an unclosed quotation mark, quotation marks in tags are ignored.
const MAX_UNCLOSED_QUOTES: usize = 16;

impl<'a> TagScanner<'a> {
    fn new(page: &'a str) -> Self {
        Self { page, last_end: page.rfind('>').unwrap_or(0), unclosed_quotes: 0, unclosed: HashSet::new() }
    }

    /// Returns the tag that begins with the `<` at byte `open`.
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

    /// Returns the length of the rest of a tag, including its `>`.
    fn end_of(&mut self, attributes: &str) -> Option<usize> {
        if self.unclosed_quotes > MAX_UNCLOSED_QUOTES {
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
        self.unclosed_quotes += 1;
        None
    }

    /// Returns the position after the closing tag of a hidden element. An element that is never closed hides nothing.
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

/// Collects the lines of a page from its tags and texts.
#[derive(Default)]
struct LineCutter {
    lines: Vec<HtmlLine>,
    line: HtmlLine,
    element: LineElement,
    depth: usize,
    max_depth: usize,
    /// White space that was read but not added to the line yet.
    space: Option<Range<usize>>,
    last: Option<char>,
}

impl LineCutter {
    fn tag(&mut self, name: &str, closing: bool) {
        if name == "!" || INLINE.contains(&name) {
            return;
        }
        self.end_line();
        if closing {
            self.depth = self.depth.saturating_sub(1);
        } else if !matches!(name, "br" | "hr" | "img" | "input" | "meta" | "link" | "source" | "p" | "li") {
            self.depth += 1;
            self.max_depth = self.max_depth.max(self.depth);
        }
        self.element = match name {
            _ if closing => LineElement::Text,
            "br" | "p" if self.element != LineElement::Text => self.element,
            "figcaption" | "caption" => LineElement::Caption,
            "li" | "td" | "th" => LineElement::Item,
            _ => match name.strip_prefix('h').and_then(|level| level.parse().ok()) {
                Some(level @ 1..=6) => LineElement::Heading(level),
                _ => LineElement::Text,
            },
        };
    }

    /// Adds the text at `range`, replacing entities and collapsing white space.
    fn text(&mut self, page: &str, range: Range<usize>) {
        let mut at = range.start;
        while at < range.end {
            let rest = &page[at..range.end];
            let Some(character) = rest.chars().next() else { break };
            let (read, length) = match character {
                '&' => entity(rest).unwrap_or(('&', 1)),
                other => (other, other.len_utf8()),
            };
            let range = at..at + length;
            at = range.end;
            if read.is_whitespace() {
                self.space.get_or_insert(range.clone()).end = range.end;
                continue;
            }
            self.push_space(read);
            self.line.key.push(read);
            self.last = Some(read);
            let verbatim = length == read.len_utf8() && character == read;
            match self.line.fragments.last_mut() {
                Some(TextFragment::Verbatim(last)) if verbatim && last.end == range.start => {
                    last.end = range.end
                }
                _ if verbatim => self.line.fragments.push(TextFragment::Verbatim(range)),
                _ => self.line.fragments.push(TextFragment::Escaped(read, range)),
            }
        }
    }

    /// Adds the pending space before `next`, unless it is a line break between two Chinese characters.
    fn push_space(&mut self, next: char) {
        let (Some(space), Some(last)) = (self.space.take(), self.last) else {
            return;
        };
        let wide = |c: char| u32::from(c) > 0x2E80;
        let short = space.len() == 1 || space.len() == 2;
        if !(wide(last) && wide(next) && short && self.line.fragments.is_empty()) {
            self.line.fragments.push(TextFragment::Escaped(' ', space));
        }
    }

    fn end_line(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        (self.space, self.last) = (None, None);
        if !line.key.is_empty() {
            line.element = self.element;
            self.lines.push(line);
        }
    }
}

/// Returns the character that the entity at the start of `rest` represents, and the length of the entity.
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

    fn split(page: &str) -> Vec<(String, LineElement)> {
        lines(page).0.into_iter().map(|line| (line.key, line.element)).collect()
    }

    #[test]
    fn splits_a_page_into_lines_as_a_browser_displays_it() {
        let page = "<!doctype html><head><title>站名</title></head><body><h1>题 目</h1><!-- <p>无 --><script>if (a < b) {}</script>\
                    <p>一&ldquo;二&rdquo;<b>三</b>&nbsp;3 &lt; 5<br>四<figcaption>图为桥。</figcaption> 1 < 2";
        let expected = [
            ("题目", LineElement::Heading(1)),
            ("一“二”三3<5", LineElement::Text),
            ("四", LineElement::Text),
            ("图为桥。", LineElement::Caption),
            ("1<2", LineElement::Text),
        ];
        assert_eq!(split(page), expected.map(|(text, tag)| (text.to_string(), tag)));
    }

    #[test]
    fn survives_malformed_markup() {
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
            lines(page);
        }
        assert_eq!(split("<script>甲乙"), [("甲乙".to_string(), LineElement::Text)]);
    }
}
