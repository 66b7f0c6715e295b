//! Tables of texts with the quantities that are read from them, compared and rewritten.

use rust_decimal::Decimal;

use super::{
    Approx, Currency, Quantity, QuantityKind, QuantityRewrite, Unit, compare, read_en, read_zh,
    rewrite::replacements, rewrite_quantities,
};

/// Describes a quantity: text, value or range, kind, unit, and `soft` if it is not required.
fn describe(text: &str, quantity: &Quantity) -> String {
    let value = match quantity.upper {
        Some(upper) => format!("{}..{upper}", quantity.value),
        None => quantity.value.to_string(),
    };
    let kind = match quantity.kind {
        QuantityKind::Count => String::new(),
        QuantityKind::Money(currency) => format!(" {currency:?}"),
        QuantityKind::Date(date) => {
            let part = |n: Option<u16>| n.map_or("-".to_owned(), |n| n.to_string());
            let small = |n: Option<u8>| part(n.map(u16::from));
            format!(
                " date {} {} {} {}",
                part(date.year),
                small(date.month),
                small(date.day),
                small(date.weekday)
            )
        }
        QuantityKind::Clock(clock) => format!(" clock {}:{:02}", clock.hour, clock.minute),
        QuantityKind::Fraction(n, d) => format!(" {n}/{d}"),
        other => format!(" {other:?}"),
    };
    let unit = quantity.unit.map_or(String::new(), |unit| format!(" {unit:?}"));
    format!("{}={value}{kind}{unit}{}", quantity.text(text), if quantity.required { "" } else { " soft" })
}

fn zh(text: &str) -> Vec<String> {
    read_zh(text).iter().map(|quantity| describe(text, quantity)).collect()
}

fn en(text: &str) -> Vec<String> {
    read_en(text).iter().map(|quantity| describe(text, quantity)).collect()
}

#[test]
fn reads_chinese_quantities_with_value_kind_and_unit() {
    for (text, expected) in [
        ("营收557.4亿元，增长14.8%", &["557.4亿元=55740000000 Yuan", "14.8%=14.8 Percent"][..]),
        ("约2.3万亿元人民币", &["2.3万亿元人民币=2300000000000 Yuan"]),
        ("合计人民币3300余万元", &["人民币3300余万元=33000000 Yuan"]),
        ("１３．２１万亿美元", &["１３．２１万亿美元=13210000000000 UsDollar"]),
        ("建成3.5万多家", &["3.5万多=35000"]),
        ("第50万辆", &["第50万=500000 Ordinal"]),
        ("全球第二多", &["第二=2 Ordinal soft"]),
        ("百分之三点五", &["百分之三点五=3.5 Percent"]),
        ("提高3个百分点", &["3个百分点=3 Percent"]),
        ("近七成来自两个州", &["七成=70 Percent", "两=2 soft"]),
        ("三成半", &["三成半=35 Percent"]),
        ("三分之二", &["三分之二=0.6666666666666666666666666667 2/3"]),
        ("1/5英寸", &["1/5=0.2 1/5"]),
        ("增长2.5倍，翻了一番，翻两番", &["2.5倍=2.5 Times", "翻了一番=2 Times", "翻两番=4 Times"]),
        ("3万至5万人", &["3万至5万=30000..50000"]),
        ("600-700万卢布", &["600-700万卢布=6000000..7000000 Ruble"]),
        ("1亿~1.5亿吨", &["1亿~1.5亿吨=100000000..150000000 Ton"]),
        ("6%到7%", &["6%到7%=6..7 Percent"]),
        ("二〇二五年十二月三日", &["二〇二五年十二月三日=2025 date 2025 12 3 -"]),
        ("2025年12月", &["2025年12月=2025 date 2025 12 - -"]),
        ("2008 年 11 月 26 日", &["2008 年 11 月 26 日=2008 date 2008 11 26 -"]),
        ("12月3—5日", &["12月3—5日=12..5 date - 12 3 -"]),
        ("2026—2030年", &["2026—2030年=2026..2030 date 2026 - - -"]),
        ("1-5月份", &["1-5月份=1..5 date - 1 - -"]),
        ("2025-12-06", &["2025-12-06=2025 date 2025 12 6 -"]),
        ("周五，上周一", &["周五=5 date - - - 5", "周一=1 date - - - 1"]),
        ("每周一次，一周五天", &["一=1 soft", "一周=1 Week soft", "五天=5 Day"]),
        ("20世纪60年代，19世纪", &["20世纪60年代=1960 date 1960 - - -", "19世纪=19 Ordinal Century"]),
        (
            "14时30分，下午3点，11:29",
            &["14时30分=14 clock 14:30", "3点=3 clock 3:00", "11:29=11 clock 11:29"],
        ),
        ("提出3点建议", &["3=3"]),
        ("前9个月，过去三十年", &["9个月=9 Month", "三十年=30 Year"]),
        ("“十五五”时期，第十五个五年规划", &["十五五=15 FiveYearPlan", "第十五个五年规划=15 FiveYearPlan"]),
        (
            "18万亩，500斤，120公里，72TB，3千瓦时",
            &[
                "18万亩=180000 Mu",
                "500斤=500 Jin",
                "120公里=120 Kilometer",
                "72TB=72 Terabyte",
                "3千瓦时=3 KilowattHour",
            ],
        ),
        ("两千三百人，三亿五千万", &["两千三百=2300", "三亿五千万=350000000"]),
        ("百万人次，万亿元，百年", &["百万=1000000", "万亿元=1000000000000 Yuan", "百年=100 Year soft"]),
        ("数十亿美元", &["数十亿=1000000000 Magnitude soft"]),
    ] {
        assert_eq!(zh(text), expected, "{text}");
    }
}

#[test]
fn requires_no_quantity_for_chinese_words_with_numerals() {
    for text in [
        "统一思想",
        "万一下雨",
        "三明市",
        "九寨沟",
        "一带一路",
        "十分重要",
        "千方百计",
        "四川成都",
        "陆克文",
        "五台山",
        "三农工作",
        "万里长城",
        "七嘴八舌",
        "CO2和T5航站楼、G60走廊",
        "几百、十几、七八个",
        "百姓",
    ] {
        let required: Vec<_> = read_zh(text).into_iter().filter(|quantity| quantity.required).collect();
        assert_eq!(required, [], "{text}");
    }
}

#[test]
fn reads_english_quantities_with_value_kind_and_unit() {
    for (text, expected) in [
        (
            "55.74 billion yuan, up 14.8 percent",
            &["55.74 billion yuan=55740000000 Yuan", "14.8 percent=14.8 Percent"][..],
        ),
        (
            "RMB121.8 billion, US$ 65.1 billion, £1.35bn",
            &[
                "RMB121.8 billion=121800000000 Yuan",
                "US$ 65.1 billion=65100000000 UsDollar",
                "£1.35bn=1350000000 Pound",
            ],
        ),
        ("half a million people", &["half a million=500000"]),
        (
            "twenty-three, a dozen, one hundred and five",
            &["twenty-three=23", "a dozen=12 soft", "one hundred and five=105"],
        ),
        ("3 to 5 million, 6-7 percent", &["3 to 5 million=3000000..5000000", "6-7 percent=6..7 Percent"]),
        ("between 30,000 and 50,000", &["30,000 and 50,000=30000..50000"]),
        (
            "two-thirds, a quarter, one in five",
            &[
                "two-thirds=0.6666666666666666666666666667 2/3",
                "a quarter=0.25 1/4 soft",
                "one in five=0.2 1/5 soft",
            ],
        ),
        ("doubled, 2.5 times", &["doubled=2 Times soft", "2.5 times=2.5 Times"]),
        (
            "the 500,000th car, the third quarter",
            &["500,000th=500000 Ordinal", "third quarter=3 Ordinal Quarter soft"],
        ),
        (
            "Dec. 3, 2025; 9 January 2017",
            &["Dec. 3, 2025=2025 date 2025 12 3 -", "9 January 2017=2017 date 2017 1 9 -"],
        ),
        (
            "Sept. 3-5, in May, on Friday",
            &["Sept. 3-5=9..5 date - 9 3 -", "May=5 date - 5 - -", "Friday=5 date - - - 5"],
        ),
        ("It may march on", &[]),
        (
            "in 2017, the 1980s, 2014-15",
            &[
                "2017=2017 date 2017 - - -",
                "1980s=1980 date 1980 - - -",
                "2014-15=2014..2015 date 2014 - - -",
            ],
        ),
        ("2000 people", &["2000=2000 date 2000 - - -"]),
        ("2,000 people", &["2,000=2000"]),
        ("3 p.m., 11:29", &["3 p.m.=3 clock 3:00", "11:29=11 clock 11:29"]),
        ("the 15th Five-Year Plan", &["15th Five-Year Plan=15 FiveYearPlan"]),
        (
            "nine months, 20 square kilometers, 1.5 kWh",
            &[
                "nine months=9 Month soft",
                "20 square kilometers=20 SquareKilometer",
                "1.5 kWh=1.5 KilowattHour",
            ],
        ),
        (
            "tens of thousands, several million",
            &["tens of thousands=10000 Magnitude", "several million=1000000 Magnitude"],
        ),
        ("T5, COVID-19, CO2, Zhuque-3", &["T5=5 soft"]),
        ("the 21st century", &["21st century=21 Ordinal Century"]),
    ] {
        assert_eq!(en(text), expected, "{text}");
    }
}

#[test]
fn reads_the_stated_exactness() {
    for (text, approx) in [
        ("约10%", Approx::About),
        ("100人左右", Approx::About),
        ("超1600亿元", Approx::MoreThan),
        ("2400余个", Approx::MoreThan),
        ("30%以上", Approx::MoreThan),
        ("近20份", Approx::LessThan),
        ("20份", Approx::Exact),
    ] {
        assert_eq!(read_zh(text)[0].approx, approx, "{text}");
    }
    assert_eq!(read_en("more than 30 firms")[0].approx, Approx::MoreThan);
    assert_eq!(read_en("nearly 70 percent")[0].approx, Approx::LessThan);
}

#[test]
fn accepts_right_renderings() {
    for (chinese, english) in [
        ("投资35亿元", "an investment of 3.5 billion yuan"),
        ("投资35亿元", "an investment of RMB3,500 million"),
        ("9月3日", "on Sept. 3"),
        ("9月3日", "on the 3rd of September"),
        ("近七成枪支", "nearly 70 percent of the guns"),
        ("近一半", "nearly 50 percent"),
        ("三分之二", "67 percent"),
        ("增长2倍", "grew by 200 percent"),
        ("翻了一番", "doubled"),
        ("3万亩", "2,000 hectares"),
        ("500斤", "250 kilograms"),
        ("90公斤", "90kg"),
        ("20年来", "for two decades"),
        ("3名宇航员", "three astronauts"),
        ("第50万辆", "its 500,000th car"),
        ("今年前9个月", "the first nine months"),
        ("1-5月份", "the first five months"),
        ("1-5月份", "January to May"),
        ("第三季度", "the third quarter"),
        ("“十五五”时期", "the 15th Five-Year Plan period (2026-2030)"),
        ("下午3点", "at 3 p.m."),
        ("下午3点", "at 15:00"),
        ("200磅", "200 pounds"),
        ("20世纪60年代", "in the 1960s"),
        ("数千年", "thousands of years"),
        ("3.5万多家企业", "more than 35,000 firms"),
        ("2017年1月至10月", "from January to October 2017"),
        ("上世纪90年代", "in the 1990s"),
        ("90后青年", "young people born in the 1990s"),
        ("二十国集团", "the G20"),
        ("中央一号文件", "the No. 1 central document"),
        ("两年半", "2.5 years"),
        ("3个半小时", "three and a half hours"),
        ("半年", "6 months"),
        ("九一八事变", "the September 18 Incident"),
        ("“五一”假期", "the May 1 holiday"),
        ("2026年1—2月", "January to February 2026"),
        ("双11", "the 11.11 shopping festival"),
    ] {
        let report = compare(chinese, english);
        assert_eq!((report.missing, report.unexpected), (vec![], vec![]), "{chinese} / {english}");
    }
}

#[test]
fn reports_wrong_renderings() {
    for (chinese, english) in [
        ("投资35亿元", "an investment of 35 billion yuan"),
        ("投资35亿元", "an investment of 3.5 billion dollars"),
        ("投资35亿元", "a large investment"),
        ("12月3日", "December"),
        ("12月3日", "on Nov. 3"),
        ("增长14.8%", "grew 14.6 percent"),
        ("16万吨", "160,000 kilograms"),
        ("近七成", "nearly 60 percent"),
        ("三分之二", "one third"),
        ("去年", "in 2015"),
        ("3亿", "30 million"),
        ("第50万辆", "its 50,000th car"),
        ("数千人", "millions of people"),
        ("3万亩", "30,000 hectares"),
        ("“十五五”时期", "the 14th Five-Year Plan"),
        ("周五", "on Monday"),
    ] {
        let report = compare(chinese, english);
        assert!(report.missing.len() + report.unexpected.len() > 0, "{chinese} / {english}");
    }
}

#[test]
fn reports_a_currency_that_the_source_never_names() {
    assert_eq!(compare("超过200亿元，破1000亿", "over RMB20 billion, past RMB100 billion").unexpected, []);
    assert_eq!(
        compare("超过200亿元，破1000亿", "over RMB20 billion, past US$100 billion").unexpected.len(),
        1
    );
}

#[test]
fn rewrites_what_a_small_model_cannot_convert() {
    for (chinese, rewritten) in [
        ("巴哈马、牙买加等6个加勒比国家", "巴哈马、牙买加等 six 加勒比国家"),
        ("能源、农业等十个领域，6个国家", "能源、农业等 ten 领域，6个国家"),
        ("合肥等26个城市等6吨", "合肥等26个城市等6吨"),
        ("总投资35亿元。", "总投资 3.5 billion yuan。"),
        ("第50万辆汽车", "500,000th 辆汽车"),
        ("建成3.5万多家", "建成 more than 35,000 家"),
        ("1.2亿人", "120 million 人"),
        ("2.3万亿", "2.3 trillion"),
        ("2929.31万股", "29.2931 million 股"),
        ("3万至5万人", "30,000 to 50,000 人"),
        ("1万美元", "10,000 U.S. dollars"),
        ("百分之三", "3 percent"),
        ("近七成", "近 70 percent"),
        ("三分之一的人", "one-third 的人"),
        ("690余名", "more than 690 名"),
        ("展望“十五五”，", "展望 15th Five-Year Plan，"),
        ("合计人民币3300余万元", "合计 more than 33 million yuan"),
        ("增长14.8%，60个，12月3日", "增长14.8%，60个，Dec. 3"),
        ("一个国家两种制度，百年未有", "一个国家两种制度，百年未有"),
    ] {
        assert_eq!(rewrite_quantities(chinese, QuantityRewrite::default()), rewritten, "{chinese}");
    }
    for (chinese, rewritten) in [
        ("12月3日，发射入轨", "Dec. 3，发射入轨"),
        ("于2025年3月27日启动", "于 March 27, 2025 启动"),
        ("前9个月，第三季度", "first nine months，third quarter"),
        ("面积32891平方米，售价8元", "面积 32,891 square meters，售价 8 yuan"),
        ("缩短至1.64小时，2年内，3天", "缩短至1.64小时，2年内，3天"),
        ("18万亩", "180,000 mu"),
        ("5日上午，2025年", "the 5th 上午，2025年"),
        ("11月，Chang’e-6 月球样品", "November，Chang’e-6 月球样品"),
    ] {
        assert_eq!(rewrite_quantities(chinese, QuantityRewrite::ALL), rewritten, "{chinese}");
    }
}

#[test]
fn replacements_have_the_span_of_the_quantity_and_its_english() {
    let source = "前9个月，营收557.4亿元，第50万辆";
    let found: Vec<_> = replacements(source, QuantityRewrite::default())
        .into_iter()
        .map(|replacement| (&source[replacement.span], replacement.english))
        .collect();
    let expected = [("557.4亿元", "55.74 billion yuan"), ("第50万", "500,000th")];
    assert_eq!(found, expected.map(|(chinese, english)| (chinese, english.to_owned())));
}

#[test]
fn rewritten_quantities_match_their_source() {
    for source in [
        "总投资35亿元",
        "第50万辆",
        "3.5万多家",
        "600-700万卢布",
        "近七成",
        "三分之二",
        "第三季度",
        "12月3日",
    ] {
        let rewritten = rewrite_quantities(source, QuantityRewrite::ALL);
        let report = compare(source, &rewritten);
        assert_eq!((report.missing, report.unexpected), (vec![], vec![]), "{source} / {rewritten}");
    }
}

#[test]
fn names_units_and_currencies() {
    assert_eq!((Unit::Foot.english_singular(), Unit::Mu.chinese()), ("foot", "亩"));
    assert_eq!((Currency::UsDollar.english(), Currency::Yuan.chinese()), ("U.S. dollars", "元"));
    assert_eq!(super::number(Decimal::new(12345678901, 1)), "1,234,567,890.1");
}

#[test]
fn a_vague_number_does_not_overlap_the_quantity_before_it() {
    let spans: Vec<_> = read_zh("半数万亿").into_iter().map(|quantity| quantity.span).collect();
    assert_eq!(spans, [0..6, 6..12]);
    let spans: Vec<_> = read_zh("数万亿").into_iter().map(|quantity| quantity.span).collect();
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0], 0..9);
}

#[test]
fn accepts_a_range_or_a_magnitude_for_two_neighboring_numerals() {
    for (zh, en) in [
        ("每隔二三十分钟醒来一次", "waking up every 20 to 30 minutes"),
        ("来了七八千人", "7,000 to 8,000 people came"),
        ("来了七八千人", "thousands of people came"),
        ("来了七八个人", "7 or 8 people came"),
        ("孩子十五六岁", "The child is 15 or 16 years old."),
    ] {
        let report = compare(zh, en);
        assert!(report.missing.is_empty() && report.unexpected.is_empty(), "{zh} {en} {report:?}");
    }
    assert_eq!(compare("每隔二三十分钟醒来一次", "waking up every 40 minutes").unexpected.len(), 1);
}
