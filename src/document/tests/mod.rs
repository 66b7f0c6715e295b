//! Black-box tests of the module: whole pages with their expected structure, encodings, and invalid input.

mod formats;
mod properties;

use super::*;

/// Copies the regions of `document` and the white space between them out of `original`.
fn rebuild(document: &Document, original: &[u8]) -> Vec<u8> {
    let mut page = Vec::with_capacity(original.len());
    let mut at = 0;
    for region in &document.regions {
        page.extend_from_slice(original.get(at..region.span.start).unwrap_or_default());
        page.extend_from_slice(original.get(region.span.range()).unwrap_or_default());
        at = region.span.end.max(at);
    }
    page.extend_from_slice(original.get(at..).unwrap_or_default());
    page
}

fn page(bytes: &[u8]) -> Document {
    parse(bytes, InputFormat::Text, &Limits::default()).expect("a good page")
}

/// Asserts that regions do not overlap and that only white space lies between them.
fn assert_covered(document: &Document, original: &[u8], decode: impl Fn(&[u8]) -> String) {
    let mut at = 0;
    let mut ends: Vec<(usize, usize)> =
        document.regions.iter().map(|region| (region.span.start, region.span.end)).collect();
    ends.push((original.len(), original.len()));
    for (start, end) in ends {
        assert!(at <= start && start <= end, "regions overlap at {start}: {:?}", document.regions);
        let between = decode(&original[at..start]);
        assert!(between.trim().is_empty(), "not in any region: {between:?}");
        at = end;
    }
    assert_eq!(rebuild(document, original), original);
}

fn utf8(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns every text of a document.
fn texts(document: &Document) -> Vec<&Text> {
    let mut all: Vec<&Text> = document.notes.iter().map(|note| &note.text).collect();
    for article in &document.articles {
        let single =
            [&article.kicker, &article.headline, &article.subtitle, &article.dateline, &article.byline];
        all.extend(single.into_iter().flatten());
        all.extend(&article.captions);
        all.extend(article.notes.iter().map(|note| &note.text));
        for section in &article.sections {
            all.extend(section.heading.iter().chain(&section.paragraphs));
        }
    }
    all
}

#[test]
fn segments_a_real_page_as_an_editor_would() {
    let original = include_bytes!("../../../tests/data/people-daily-2025-12-06.txt");
    let expected = include_str!("../../../tests/data/people-daily-2025-12-06.expected.json");
    let expected: serde_json::Value = serde_json::from_str(expected).expect("JSON");
    let document = page(original);
    assert_covered(&document, original, utf8);
    let plain = |text: &str| text.replace(char::is_whitespace, "");
    let string = |value: &serde_json::Value| value.as_str().map(plain);
    let strings = |value: &serde_json::Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(string).collect()
    };
    let element = |text: &Option<Text>| text.as_ref().map(|text| plain(&text.text));
    let texts = |texts: &[Text]| -> Vec<String> { texts.iter().map(|text| plain(&text.text)).collect() };
    let articles = expected["articles"].as_array().expect("articles");
    assert_eq!(document.articles.len(), articles.len());
    for (article, expected) in document.articles.iter().zip(articles) {
        for (key, found) in [
            ("headline", &article.headline),
            ("subtitle", &article.subtitle),
            ("kicker", &article.kicker),
            ("dateline", &article.dateline),
            ("byline", &article.byline),
        ] {
            assert_eq!(element(found), string(&expected[key]), "{key}");
        }
        assert_eq!(expected["continued"], article.continued);
        assert_eq!(texts(&article.captions), strings(&expected["captions"]));
        let sections = expected["sections"].as_array().expect("sections");
        assert_eq!(article.sections.len(), sections.len());
        for (section, expected) in article.sections.iter().zip(sections) {
            assert_eq!(element(&section.heading), string(&expected["heading"]));
            assert_eq!(texts(&section.paragraphs), strings(&expected["paragraphs"]));
        }
    }
}

/// Summarizes a document in a form that is easy to write by hand: titles in full, and the first characters of paragraphs.
fn outline(document: &Document) -> String {
    let mut lines = Vec::new();
    for article in &document.articles {
        let titled = [
            ("#", &article.headline),
            ("K", &article.kicker),
            ("S", &article.subtitle),
            ("D", &article.dateline),
            ("B", &article.byline),
        ];
        lines
            .extend(titled.iter().filter_map(|(mark, text)| Some(format!("{mark} {}", text.as_ref()?.text))));
        let start = |text: &Text| text.text.chars().take(8).collect::<String>();
        lines.extend(article.captions.iter().map(|caption| format!("C {}", start(caption))));
        lines.extend(article.continued.then(|| "continued".to_string()));
        for section in &article.sections {
            lines.extend(section.heading.iter().map(|heading| format!("## {}", heading.text)));
            lines.extend(section.paragraphs.iter().map(|paragraph| format!("- {}", start(paragraph))));
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn segments_pages_of_many_kinds() {
    macro_rules! page_and_outline {
        ($($name:literal),*) => {
            [$((
                $name,
                include_str!(concat!("../../../tests/data/document/", $name, ".txt")),
                include_str!(concat!("../../../tests/data/document/", $name, ".outline")),
            )),*]
        };
    }
    let pages = page_and_outline!(
        "briefs",
        "feature",
        "front-page",
        "archive",
        "traditional",
        "late-and-side-by-side"
    );
    for (name, text, expected) in pages {
        let document = page(text.as_bytes());
        assert_covered(&document, text.as_bytes(), utf8);
        assert_eq!(outline(&document), expected.replace('\u{3000}', " "), "{name}");
    }
}

/// The file contains short pages, each with `@@@@ name` above it and `====` and its outline below.
#[test]
fn segments_constructed_pages() {
    let all = include_str!("../../../tests/data/document/constructed.pages");
    let mut count = 0;
    for part in all.split("@@@@ ").skip(1) {
        let (name, rest) = part.split_once('\n').expect("a name");
        let (text, expected) = rest.split_once("====\n").expect("a page and its outline");
        let document = page(text.as_bytes());
        assert_covered(&document, text.as_bytes(), utf8);
        assert_eq!(outline(&document), expected, "{name}");
        count += 1;
    }
    assert!(count >= 40, "{count} pages");
}

#[test]
fn spans_are_byte_ranges_in_every_encoding() {
    let text =
        "  市图书馆开馆 \r\n\r\n　　本报讯 市图书馆昨天开馆，藏书８０万册。\r\n　　读者说：“真好！”\r\n";
    let utf16 = |unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    let gb = encoding_rs::GB18030.encode(text).0.into_owned();
    for (bytes, encoding) in [
        (text.as_bytes().to_vec(), encoding_rs::UTF_8),
        (gb, encoding_rs::GB18030),
        (utf16(u16::to_le_bytes), encoding_rs::UTF_16LE),
        (utf16(u16::to_be_bytes), encoding_rs::UTF_16BE),
    ] {
        let decode = |bytes: &[u8]| encoding.decode_without_bom_handling(bytes).0.into_owned();
        let document = page(&bytes);
        assert_eq!(document.encoding, encoding.name());
        assert_covered(&document, &bytes, decode);
        let article = &document.articles[0];
        let headline = article.headline.as_ref().expect("a headline");
        assert_eq!(decode(&bytes[headline.spans[0].range()]), "市图书馆开馆");
        let dateline = article.dateline.as_ref().expect("a dateline");
        assert_eq!(decode(&bytes[dateline.spans[0].range()]), "本报讯");
        let paragraph = &article.sections[0].paragraphs[0];
        assert_eq!(paragraph.text, "本报讯 市图书馆昨天开馆，藏书80万册。");
        assert_eq!(decode(&bytes[paragraph.spans[0].range()]), "本报讯 市图书馆昨天开馆，藏书８０万册。");
    }
}

#[test]
fn reads_each_line_as_a_section() {
    let document =
        parse("一句话。\n\n 题目\n（完）".as_bytes(), InputFormat::Lines, &Limits::default()).expect("lines");
    let article = &document.articles[0];
    let sections: Vec<Vec<&str>> = article
        .sections
        .iter()
        .map(|section| section.paragraphs.iter().map(|text| text.text.as_str()).collect())
        .collect();
    assert_eq!(sections, [vec!["一句话。"], vec![], vec!["题目"], vec!["（完）"]]);
    assert!(article.headline.is_none());
}

#[test]
fn rejects_invalid_input_with_a_reason() {
    let error = |bytes: &[u8]| {
        parse(bytes, InputFormat::Auto, &Limits { max_bytes: 100 }).expect_err("invalid").to_string()
    };
    assert_eq!(error(b""), "the page is empty: give some text to segment");
    assert_eq!(error(" \n　\u{200B}\0".as_bytes()), "the page is empty: give some text to segment");
    assert_eq!(
        error(&[b'a'; 101]),
        "the page has 101 bytes and the limit is 100: split it into pages or raise the limit"
    );
    assert_eq!(
        error(b"\xE4\xB8\xAD\xE5\x9B\xBD\xFF"),
        "byte 6 is not valid UTF-8: repair the file or convert it to UTF-8"
    );
}

#[test]
fn reads_a_page_without_a_headline_as_one_section() {
    let document = page("今天下雨，明天不下雨。\n后天会有大风。".as_bytes());
    assert_eq!((document.articles.len(), document.articles[0].sections.len()), (1, 1));
    assert!(document.articles[0].headline.is_none());
}

#[test]
fn segments_hostile_pages_in_linear_time() {
    let inputs = [
        "一".repeat(1 << 19),
        "一\n".repeat(100_000),
        "。，！？".repeat(1 << 15),
        "（".repeat(1 << 16),
        "（\n".repeat(1 << 15),
        "题目甲乙\n".repeat(1 << 15),
        "题目甲乙\n正文没有句号但是足够长的一段话\n".repeat(1 << 12),
        "新华社电\n".repeat(1 << 14),
        "电".repeat(1 << 17),
        "\0".repeat(1 << 15) + "甲",
        "----\n".repeat(1 << 14),
        "题目甲乙\n新华社北京1月1日电 正文。\n新华社北京1月1日电 正文。\n".repeat(1 << 11),
        "\u{FEFF}".repeat(1 << 13) + "甲",
    ];
    for input in inputs {
        let started = std::time::Instant::now();
        let document = page(input.as_bytes());
        assert!(!document.articles.is_empty());
        assert_eq!(rebuild(&document, input.as_bytes()), input.as_bytes());
        let seconds = started.elapsed().as_secs_f32();
        assert!(seconds < 10.0, "{seconds} s for {:?}…", input.chars().take(12).collect::<String>());
    }
}
