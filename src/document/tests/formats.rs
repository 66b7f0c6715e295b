//! HTML, Markdown and JSON Lines.

use super::*;

#[test]
fn reads_a_web_page_without_its_navigation() {
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
fn uses_the_headings_of_markdown() {
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
fn keeps_a_code_span_with_line_breaks_in_one_region() {
    // Found by fuzzing: a vertical tab in a code span split a text whose characters share one range.
    let fuzzed = [0x20, 0x60, 0x63, 0x0A, 0x0B, 0x88, 0xCA, 0x60, 0xEF, 0xBC];
    for page in [&fuzzed[..], "`甲\n\u{B}乙` 丙".as_bytes()] {
        let document = parse(page, InputFormat::Markdown, &Limits::default()).expect("a page");
        let regions = &document.regions;
        assert!(regions.windows(2).all(|pair| pair[0].span.end <= pair[1].span.start), "{regions:?}");
        assert_eq!(rebuild(&document, page), page);
    }
}

#[test]
fn reads_pages_and_articles_from_json_lines() {
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
