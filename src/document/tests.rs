//! The module from outside: whole pages, hostile inputs, and properties that hold for every input.

use proptest::prelude::*;

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

/// Tiles follow each other without overlap, and nothing but white space is between them.
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

/// Every text of a document.
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
fn the_real_page_is_taken_apart_as_an_editor_would() {
    let original = include_bytes!("../../tests/data/people-daily-2025-12-06.txt");
    let expected = include_str!("../../tests/data/people-daily-2025-12-06.expected.json");
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

/// A document in a form that is short enough to write by hand: titles in full, paragraphs by their first characters.
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
fn pages_of_many_kinds() {
    macro_rules! page_and_outline {
        ($($name:literal),*) => {
            [$((
                $name,
                include_str!(concat!("../../tests/data/document/", $name, ".txt")),
                include_str!(concat!("../../tests/data/document/", $name, ".outline")),
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

/// Short pages in one file, each after `@@@@ name` and before `====` and its outline.
#[test]
fn constructed_pages() {
    let all = include_str!("../../tests/data/document/constructed.pages");
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
fn spans_lead_to_the_bytes_of_every_encoding() {
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
fn each_line_is_a_section_when_asked() {
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
fn bad_input_is_refused_with_a_reason() {
    let error = |bytes: &[u8]| {
        parse(bytes, InputFormat::Auto, &Limits { max_bytes: 100 }).expect_err("bad").to_string()
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
fn a_page_without_headline_is_one_article_with_one_section() {
    let document = page("今天下雨，明天不下雨。\n后天会有大风。".as_bytes());
    assert_eq!((document.articles.len(), document.articles[0].sections.len()), (1, 1));
    assert!(document.articles[0].headline.is_none());
}

#[test]
fn hostile_pages_are_taken_apart_in_linear_time() {
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

#[test]
fn a_web_page_is_read_without_its_navigation() {
    let html = "<html><head><title>三座水库开工--某某日报</title></head><body><ul><li><a href='/'>首页</a></li></ul>\
        <h3>水利观察</h3><h1>三座水库同日开工</h1><h2>——来自工地的报告</h2><div><p>　　本报北京3月4日电&nbsp;（记者王民）今天上午，\
        全市三座水库同时开工建设，总投资达到十二亿元，建成后可以灌溉农田五万亩。</p><figure><img src=a.jpg><figcaption>施工现场\
        </figcaption></figure><p><strong>群众盼望已久</strong></p><p>“盼了好多年，终于开工了。”村民李强说，过去遇到干旱年份，\
        庄稼常常颗粒无收，大家只能靠天吃饭。</p></div><footer>版权所有 某某日报社 <a href=b>联系我们</a></footer></body></html>";
    let document = parse(html.as_bytes(), InputFormat::Auto, &Limits::default()).expect("a good page");
    assert_covered(&document, html.as_bytes(), utf8);
    assert_eq!(document.articles.len(), 1);
    let article = &document.articles[0];
    let text = |text: &Option<Text>| text.as_ref().map(|text| text.text.clone()).unwrap_or_default();
    assert_eq!(text(&article.kicker), "水利观察");
    assert_eq!(text(&article.headline), "三座水库同日开工");
    assert_eq!(text(&article.subtitle), "——来自工地的报告");
    assert_eq!(text(&article.dateline), "本报北京3月4日电");
    assert_eq!(article.captions[0].text, "施工现场");
    assert_eq!(text(&article.sections[1].heading), "群众盼望已久");
    assert!(texts(&document).iter().all(|text| !text.text.contains("首页") && !text.text.contains("版权")));
}

#[test]
fn markdown_says_what_is_a_heading() {
    let markdown = "---\ndate: 1\n---\n# 三座水库开工\n\n今天，三座水库**同时**开\n工。\n\n## 群众盼望\n\n- 第一座\n- 第二座\n\n![工地](a.jpg)\n";
    let document = parse(markdown.as_bytes(), InputFormat::Auto, &Limits::default()).expect("a good page");
    assert_covered(&document, markdown.as_bytes(), utf8);
    let article = &document.articles[0];
    assert_eq!(article.headline.as_ref().map(|text| text.text.as_str()), Some("三座水库开工"));
    assert_eq!(article.sections[0].paragraphs[0].text, "今天，三座水库同时开工。");
    assert_eq!(article.sections[1].heading.as_ref().map(|text| text.text.as_str()), Some("群众盼望"));
    assert_eq!(article.sections[1].paragraphs.len(), 2);
    assert_eq!(article.captions[0].text, "工地");
}

#[test]
fn a_code_span_that_a_line_break_parts_has_one_place() {
    // Found by mutation: the vertical tab in the code span parted a text whose characters have one place together.
    let found = [0x20, 0x60, 0x63, 0x0A, 0x0B, 0x88, 0xCA, 0x60, 0xEF, 0xBC];
    for page in [&found[..], "`甲\n\u{B}乙` 丙".as_bytes()] {
        let document = parse(page, InputFormat::Markdown, &Limits::default()).expect("a page");
        let regions = &document.regions;
        assert!(regions.windows(2).all(|pair| pair[0].span.end <= pair[1].span.start), "{regions:?}");
        assert_eq!(rebuild(&document, page), page);
    }
}

#[test]
fn json_lines_hold_pages_and_articles() {
    let input = concat!(
        r#"{"text":"水库开工\n今天，三座水库开工，\u201c真好\u201d。"}"#,
        "\n\n",
        r#"{"headline":"桥通车","sections":[{"heading":null,"paragraphs":["大桥今天通车。"]},{"heading":"夜景","paragraphs":["很美。"]}]}"#,
        "\n",
        r#"{"lines":["麦收开始","今天，麦收开始。"]}"#,
        "\n",
        r#"{"id":3}"#,
    );
    let error = parse(input.as_bytes(), InputFormat::JsonLines, &Limits::default()).expect_err("no text");
    assert!(matches!(error, DocumentError::InvalidRecord { line: 5, .. }), "{error}");
    let valid = &input[..input.rfind('\n').expect("lines")];
    let document = parse(valid.as_bytes(), InputFormat::Auto, &Limits::default()).expect("three records");
    assert_covered(&document, valid.as_bytes(), utf8);
    assert_eq!(document.articles.len(), 3);
    for article in &document.articles {
        let headline = article.headline.as_ref().expect("a headline");
        assert_eq!(&valid[headline.spans[0].range()], headline.text);
    }
    let paragraph = &document.articles[0].sections[0].paragraphs[0];
    assert_eq!(paragraph.text, "今天，三座水库开工，“真好”。");
    assert_eq!(&valid[paragraph.spans[0].range()], r"今天，三座水库开工，\u201c真好\u201d。");
    assert_eq!(document.articles[1].sections.len(), 2);
}

#[test]
fn reads_the_title_of_a_json_page_first_wherever_it_is() {
    for input in [
        r#"{"title":"水库开工","content":"今天，三座水库同时开工，总投资十二亿元。"}"#,
        r#"{"content":"今天，三座水库同时开工，总投资十二亿元。","title":"水库开工"}"#,
    ] {
        let document = parse(input.as_bytes(), InputFormat::Auto, &Limits::default()).expect("a record");
        assert_covered(&document, input.as_bytes(), utf8);
        let headline = document.articles[0].headline.as_ref().expect("a headline");
        assert_eq!(headline.text, "水库开工", "{input}");
        assert_eq!(&input[headline.spans[0].range()], headline.text);
    }
}

#[test]
fn covers_json_lines_with_a_byte_order_mark_and_blank_lines() {
    let input = "\u{FEFF}\n{\"text\":\"今天开工。\"}\n\n{\"paragraphs\":[\"明天\\n开工。\"]}\n";
    let document = parse(input.as_bytes(), InputFormat::JsonLines, &Limits::default()).expect("two records");
    assert_covered(&document, input.as_bytes(), utf8);
    assert_eq!(document.articles[1].sections[0].paragraphs[0].text, "明天 开工。");
}

/// Pieces that pages are made of, and some that they are not.
fn fragments() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "\n",
        "\r\n",
        "\n\n",
        "　　",
        " ",
        "\u{C}",
        "\u{200B}",
        "\0",
        "水库开工",
        "三座水库今天开工。",
        "今天，三座水库同时开工，总投资达到",
        "（上接第一版）",
        "（下转第二版）",
        "新华社北京12月6日电",
        "（记者 王民 李强）",
        "本报记者 王民",
        "图为工地。",
        "（记者王民摄）",
        "国际观察",
        "——一线见闻",
        "责编：王民",
        "第3版",
        "……",
        "“",
        "”",
        "（",
        "）",
        "一、",
        "第一，",
        "问：",
        "？",
        "：",
        "电",
        "版",
        "专栏：",
        "摄",
        "abc",
        "３",
        "# ",
        "<p>",
        "</p>",
        "&amp;",
        "<b",
        "-->",
        "{\"text\":\"",
        "\"}",
        "\\u4e00",
    ]);
    prop::collection::vec(prop_oneof![8 => known.prop_map(str::to_string), 1 => any::<String>()], 0..60)
        .prop_map(|parts| parts.concat())
}

const FORMATS: [InputFormat; 5] =
    [InputFormat::Auto, InputFormat::Text, InputFormat::Html, InputFormat::Markdown, InputFormat::Lines];

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tiles_cover_every_page(text in fragments(), format in prop::sample::select(FORMATS.to_vec())) {
        if let Ok(document) = parse(text.as_bytes(), format, &Limits::default()) {
            // A line break and a NUL may be taken for a line break in UTF-16.
            if document.encoding == "utf-8" {
                assert_covered(&document, text.as_bytes(), utf8);
            }
            for element in texts(&document) {
                prop_assert!(!element.spans.is_empty());
                prop_assert!(!element.text.contains('\n'));
            }
        }
    }

    #[test]
    fn tiles_cover_pages_in_gb18030(text in fragments()) {
        let bytes = encoding_rs::GB18030.encode(&text).0.into_owned();
        let decode = |bytes: &[u8]| encoding_rs::GB18030.decode_without_bom_handling(bytes).0.into_owned();
        let document = parse(&bytes, InputFormat::Text, &Limits::default());
        if let Some(document) = document.ok().filter(|document| document.encoding == "gb18030") {
            assert_covered(&document, &bytes, decode);
        }
    }

    #[test]
    fn sentences_are_the_paragraph(text in fragments()) {
        let found = sentences(&text);
        let pieces: Vec<&str> = found.iter().map(|range| &text[range.clone()]).collect();
        prop_assert_eq!(pieces.concat(), text.as_str());
        prop_assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.chars().count() <= MAX_SENTENCE_CHARS));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), format in prop::sample::select(FORMATS.to_vec())) {
        if let Ok(document) = parse(&bytes, format, &Limits::default()) {
            prop_assert_eq!(rebuild(&document, &bytes), bytes);
        }
    }
}
