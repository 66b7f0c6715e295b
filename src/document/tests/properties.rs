//! Properties that hold for every input.

use proptest::prelude::*;

use super::*;

/// Generates pages of typical and untypical fragments.
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
    fn regions_cover_every_page(text in fragments(), format in prop::sample::select(FORMATS.to_vec())) {
        if let Ok(document) = parse(text.as_bytes(), format, &Limits::default()) {
            // A line break followed by NUL may be detected as UTF-16.
            if document.encoding == "UTF-8" {
                assert_covered(&document, text.as_bytes(), utf8);
            }
            for element in texts(&document) {
                prop_assert!(!element.spans.is_empty());
                prop_assert!(!element.text.contains('\n'));
            }
        }
    }

    #[test]
    fn regions_cover_pages_in_gb18030(text in fragments()) {
        let bytes = encoding_rs::GB18030.encode(&text).0.into_owned();
        let decode = |bytes: &[u8]| encoding_rs::GB18030.decode_without_bom_handling(bytes).0.into_owned();
        let document = parse(&bytes, InputFormat::Text, &Limits::default());
        if let Some(document) = document.ok().filter(|document| document.encoding == "gb18030") {
            assert_covered(&document, &bytes, decode);
        }
    }

    #[test]
    fn sentences_add_up_to_the_paragraph(text in fragments()) {
        let sentences: Vec<&str> = sentences(&text).into_iter().map(|range| &text[range]).collect();
        prop_assert_eq!(sentences.concat(), text.as_str());
        let fits = |sentence: &&str| !sentence.is_empty() && sentence.chars().count() <= MAX_SENTENCE_CHARS;
        prop_assert!(sentences.iter().all(fits));
    }

    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), format in prop::sample::select(FORMATS.to_vec())) {
        if let Ok(document) = parse(&bytes, format, &Limits::default()) {
            prop_assert_eq!(rebuild(&document, &bytes), bytes);
        }
    }
}
