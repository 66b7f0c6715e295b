//! Quantities of a Chinese text.
//!
//! Goes through the text once; at every place where a number can begin, `zh_number` reads the number, `zh_dates` and
//! this file look at what stands around it. Called by `compare`, `settle` and everyone who wants values.

use rust_decimal::Decimal;

use super::{
    units::{self, Currency, Unit},
    value::{Approx, Date, Kind, Quantity},
    zh_dates,
    zh_number::{self, Number},
};

/// Counting words: a numeral before one of them counts something.
const CLASSIFIERS: &[&str] = &[
    "个", "名", "人", "位", "家", "项", "次", "件", "只", "条", "台", "辆", "架", "艘", "枚", "座", "栋",
    "幢", "间", "套", "户", "口", "头", "匹", "棵", "株", "亩", "篇", "部", "本", "册", "份", "张", "幅",
    "支", "批", "期", "届", "轮", "场", "场次", "笔", "宗", "起", "例", "种", "类", "级", "层", "站", "所",
    "处", "组", "对", "双", "倍", "集", "款", "列", "班", "趟", "路", "队", "点", "分", "秒", "度", "岁",
    "年", "天", "月", "日", "周", "小时", "分钟", "国", "省", "市", "县", "区", "镇", "乡", "村", "大", "强",
    "方", "代", "步", "阶段", "成", "号", "人次", "标箱", "周年", "万", "亿", "元",
];

/// Places and things that begin with a numeral and go on with what could be a counting word.
const NAMES: &[&str] = &[
    "五台山",
    "九寨沟",
    "三国演义",
    "三国志",
    "五大连池",
    "三位一体",
    "一家人",
    "一口气",
    "一点儿",
    "四方面军",
    "八路军",
    "三人行",
    "百家争鸣",
    "千家万户",
    "万家灯火",
    "五项原则",
    "二人转",
    "三轮车",
    "三人制",
    "十项全能",
    "三级跳",
    "四处",
    "十分",
    "百分百",
];

/// Days that are known by their numerals, with month and day.
const DAYS: &[(&str, u8, u8)] = &[
    ("九一八", 9, 18),
    ("七七事变", 7, 7),
    ("五四运动", 5, 4),
    ("五四青年", 5, 4),
    ("“五四”", 5, 4),
    ("五一", 5, 1),
    ("“五一”", 5, 1),
    ("“六一”", 6, 1),
    ("六一儿童", 6, 1),
    ("“七一”", 7, 1),
    ("“八一”", 8, 1),
    ("八一建军", 8, 1),
    ("“十一”", 10, 1),
    ("十一国庆", 10, 1),
    ("十一黄金周", 10, 1),
    ("“三八”", 3, 8),
    ("三八妇女", 3, 8),
    ("一二·九", 12, 9),
    ("双11", 11, 11),
    ("双12", 12, 12),
    ("双十一", 11, 11),
    ("双十二", 12, 12),
    ("双１１", 11, 11),
    ("双１２", 12, 12),
];

/// Words before a number that say how exact it is.
const ABOUT: &[&str] = &["约", "大约", "约为", "约有", "大概", "左右", "将近约"];
const OVER: &[&str] = &["超", "超过", "逾", "突破", "高于", "至少", "不少于", "不低于", "超出", "多于"];
const UNDER: &[&str] = &["近", "将近", "接近", "不足", "不到", "低于", "少于", "不超过", "至多", "最多"];

/// What may stand between the ends of a range.
const RANGE: &[&str] = &["——", "—", "–", "-", "－", "~", "～", "∼", "至", "到", "−", "‑"];

/// The quantities of a Chinese text, in order; their spans do not overlap.
///
/// ```
/// use yizhai::fidelity::numerals::{Kind, read_zh};
///
/// let found = read_zh("前9个月营收557.4亿元，同比增长14.8%。");
/// let values: Vec<String> = found.iter().map(|q| q.value.to_string()).collect();
/// assert_eq!(values, ["9", "55740000000", "14.8"]);
/// assert_eq!(found[2].kind, Kind::Percent);
/// ```
pub fn read_zh(text: &str) -> Vec<Quantity> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if c.is_ascii_alphabetic() {
            at = skip_identifier(text, at);
            continue;
        }
        let next = match read_at(text, at) {
            Some(Read { quantity: Some(quantity), end }) => {
                found.push(quantity);
                end
            }
            Some(Read { quantity: None, end }) => end,
            None => at + c.len_utf8(),
        };
        at = next.max(at + c.len_utf8());
    }
    found
}

/// What stands at a place: a quantity, or something with a numeral in it that is none; and where it ends.
pub(super) struct Read {
    pub quantity: Option<Quantity>,
    pub end: usize,
}

impl Read {
    pub(super) fn some(quantity: Quantity) -> Option<Self> {
        let end = quantity.span.end;
        Some(Self { quantity: Some(quantity), end })
    }
}

/// Skips a name of letters and digits (`T5`, `G60`, `COVID-19`, `CO2`). A currency code is no such name.
fn skip_identifier(text: &str, at: usize) -> usize {
    let letters = text[at..].find(|c: char| !c.is_ascii_alphabetic()).map_or(text.len(), |n| at + n);
    let code = text[at..letters].to_ascii_lowercase();
    if units::english_sign(&code).is_some() {
        return letters;
    }
    let rest = &text[letters..];
    let joined = rest.strip_prefix('-').filter(|r| r.starts_with(|c: char| c.is_ascii_digit()));
    let joined = joined.filter(|_| text[at..].starts_with(|c: char| c.is_ascii_uppercase()));
    if !rest.starts_with(|c: char| c.is_ascii_digit()) && joined.is_none() {
        return letters;
    }
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '/');
    text[letters..].find(|c: char| !name(c)).map_or(text.len(), |n| letters + n)
}

pub(super) fn read_at(text: &str, at: usize) -> Option<Read> {
    let rest = &text[at..];
    let first = rest.chars().next()?;
    match first {
        '百' | '千' => {
            for (prefix, per_mille) in [("百分之", false), ("千分之", true)] {
                if let Some(read) = rest
                    .starts_with(prefix)
                    .then(|| percent_of(text, at, at + prefix.len(), per_mille))
                    .flatten()
                {
                    return Some(read);
                }
            }
        }
        '第' => return ordinal(text, at),
        '翻' => return doubled(text, at),
        '半' | '过' | '大' => return half(text, at),
        '周' | '星' | '礼' => return zh_dates::weekday(text, at),
        '“' | '双' => {
            if let Some(read) = named(text, at) {
                return Some(read);
            }
        }
        _ => {}
    }
    if !zh_number::begins(first) {
        return None;
    }
    if let Some(name) = NAMES.iter().find(|name| rest.starts_with(**name)) {
        return Some(Read { quantity: None, end: at + name.len() });
    }
    if let Some(read) = named(text, at).or_else(|| zh_dates::read(text, at)) {
        return Some(read);
    }
    let number = zh_number::scan(text, at)?;
    if number.vague {
        // 几 and 数 before the number belong to it.
        let start = text[..at].strip_suffix(['几', '数']).map_or(at, str::len);
        let mut quantity = Quantity::new(start..number.end, number.value, Kind::Magnitude);
        quantity.firm = false;
        let large = number.value >= Decimal::ONE_THOUSAND && !number.digits;
        return Some(Read { quantity: large.then_some(quantity), end: number.end });
    }
    let mut quantity = measured(text, at, &number);
    if let Some(range) = range(text, at, &number, quantity.as_ref()) {
        return Read::some(range);
    }
    if let Some(quantity) = &mut quantity {
        approximate(text, quantity, &number);
    }
    let end = quantity.as_ref().map_or(number.end, |q| q.span.end);
    Some(Read { quantity, end })
}

/// The five-year plans, and days that are known by their number.
fn named(text: &str, at: usize) -> Option<Read> {
    let rest = &text[at..];
    let quoted = rest.strip_prefix('“').unwrap_or(rest);
    let open = rest.len() - quoted.len();
    if let Some((name, month, day)) = DAYS.iter().find(|(name, ..)| rest.starts_with(name)) {
        let date = Date { month: Some(*month), day: Some(*day), ..Date::default() };
        let mut quantity = Quantity::new(at..at + name.len(), Decimal::from(*month), Kind::Date(date));
        quantity.firm = false;
        return Read::some(quantity);
    }
    let run: Vec<char> = quoted.chars().take(4).collect();
    let before = text[..at].chars().next_back();
    let (plan, chars) = match run[..] {
        ['十', tens @ ('一' | '二' | '三' | '四' | '五' | '六' | '七'), '五', ..] => {
            (10 + "一二三四五六七".chars().position(|c| c == tens)? as u32 + 1, 3)
        }
        ['十', '五', '”', ..] if open > 0 => (10, 2),
        [one, '五', '”', ..] if open > 0 => {
            (1 + "一二三四五六七八九".chars().position(|c| c == one)? as u32, 2)
        }
        _ => return None,
    };
    if open == 0 && before.is_some_and(zh_number::begins) {
        return None;
    }
    let start = at + open;
    let span = start..start + 3 * chars;
    Read::some(Quantity::new(span, Decimal::from(plan), Kind::FiveYearPlan))
}

/// 百分之三, 千分之五, and their ranges.
fn percent_of(text: &str, at: usize, number_at: usize, per_mille: bool) -> Option<Read> {
    let number = zh_number::scan(text, number_at).filter(|n| !n.vague)?;
    let value = if per_mille { number.value / Decimal::TEN } else { number.value };
    let mut quantity = Quantity::new(at..number.end, value, Kind::Percent);
    approximate(text, &mut quantity, &number);
    Read::some(quantity)
}

/// 第50万辆, 第三季度, 第十五个五年规划.
fn ordinal(text: &str, at: usize) -> Option<Read> {
    let number_at = at + '第'.len_utf8();
    let spaces = text[number_at..].len() - text[number_at..].trim_start_matches(' ').len();
    // 第二多 is the second most: its 多 is no part of the number.
    let number = zh_number::scan(text, number_at + spaces).filter(|n| !n.vague)?;
    let number = Number { end: number.bare_end, ..number };
    let rest = &text[number.end..];
    if rest.starts_with("个五年规划") || rest.starts_with("个五年计划") {
        let span = at..number.end + "个五年规划".len();
        return Read::some(Quantity::new(span, number.value, Kind::FiveYearPlan));
    }
    let mut quantity = Quantity::new(at..number.end, number.value, Kind::Ordinal);
    // 第一时间, 第三方, 第一产业: a word more often than a place.
    quantity.firm = number.digits || number.value > Decimal::TEN;
    if rest.starts_with("季度") {
        quantity.unit = Some(Unit::Quarter);
        quantity.firm = true;
    }
    Read::some(quantity)
}

/// 翻番, 翻一番, 翻了两番, 翻倍, 翻了一倍.
fn doubled(text: &str, at: usize) -> Option<Read> {
    let after = at + '翻'.len_utf8();
    let le = if text[after..].starts_with('了') { after + '了'.len_utf8() } else { after };
    let (doublings, end) = if text[le..].starts_with(['番', '倍']) {
        (1, le + 3)
    } else {
        let number = zh_number::scan(text, le)?;
        let rest = &text[number.end..];
        if rest.starts_with('番') && number.value <= Decimal::TEN {
            (u32::try_from(number.value).ok()?, number.end + 3)
        } else if rest.starts_with('倍') {
            return Read::some(Quantity::new(at..number.end + 3, number.value + Decimal::ONE, Kind::Times));
        } else {
            return None;
        }
    };
    Read::some(Quantity::new(at..end, Decimal::from(2_u64.checked_pow(doublings)?), Kind::Times))
}

/// 半数, 过半, 大半, 半年: a half, said so vaguely that a translation need not hold it.
fn half(text: &str, at: usize) -> Option<Read> {
    for (word, value, unit) in [
        ("半年", 6, Unit::Month),
        ("半个月", 15, Unit::Day),
        ("半小时", 30, Unit::Minute),
        ("半个小时", 30, Unit::Minute),
    ] {
        if text[at..].starts_with(word) {
            let mut quantity = Quantity::new(at..at + word.len(), Decimal::from(value), Kind::Count);
            quantity.unit = Some(unit);
            quantity.firm = false;
            return Read::some(quantity);
        }
    }
    let word = ["半数", "过半", "大半", "半"].into_iter().find(|word| text[at..].starts_with(word))?;
    let mut quantity = Quantity::new(at..at + word.len(), Decimal::new(5, 1), Kind::Fraction(1, 2));
    quantity.firm = false;
    Read::some(quantity)
}

/// A number with what stands behind it. None when numerals make a word and no quantity.
fn measured(text: &str, at: usize, number: &Number) -> Option<Quantity> {
    let span = |end: usize| at..end;
    let spaces = text[number.end..].len() - text[number.end..].trim_start_matches(' ').len();
    let gap = number.end + spaces;
    let rest = &text[gap..];
    // 百万人次, 千万美元, 万亿市值 have a value; 万辆 and 百年 hardly.
    let head = text[at..].chars().next().map_or(0, char::len_utf8);
    let whole_scale = number.headless
        && number.bare_end > at + head
        && number.value >= Decimal::from(1_000_000)
        && (CLASSIFIERS.iter().any(|word| rest.starts_with(word)) || units::chinese_currency(rest).is_some());
    let firm = number.digits
        || whole_scale
        || (!number.headless && (number.value > Decimal::TEN || number.scale > Decimal::ONE));
    if let Some(denominator) = rest.strip_prefix("分之") {
        return fraction(text, at, number, text.len() - denominator.len());
    }
    for (sign, per_mille) in [
        ("个百分点", false),
        ("个多百分点", false),
        ("百分点", false),
        ("%", false),
        ("％", false),
        ("‰", true),
    ] {
        if rest.starts_with(sign) {
            let value = if per_mille { number.value / Decimal::TEN } else { number.value };
            return Some(Quantity::new(span(gap + sign.len()), value, Kind::Percent));
        }
    }
    if let Some(quantity) = tenths(text, at, number, gap) {
        return Some(quantity);
    }
    for (times, half) in [("倍半", true), ("倍", false), ("多倍", false), ("余倍", false)] {
        if rest.starts_with(times) {
            let value = if half { number.value + Decimal::new(5, 1) } else { number.value };
            let mut quantity = Quantity::new(span(gap + times.len()), value, Kind::Times);
            quantity.firm = !number.headless;
            return Some(quantity);
        }
    }
    if let Some(quantity) = slashed(text, at, number) {
        return Some(quantity);
    }
    if rest.starts_with("比") || rest.starts_with("∶") {
        // 3比1: both are counted by themselves.
    } else if let Some((currency, length)) = units::chinese_currency(rest).filter(|_| is_money(rest)) {
        // 人民币 before the amount and 元 behind it name one currency.
        let named =
            text[..at].strip_suffix("人民币").filter(|_| currency == Currency::Yuan).map_or(at, str::len);
        let mut quantity = Quantity::new(named..gap + length, number.value, Kind::Money(currency));
        quantity.firm = firm || (!number.headless && number.value > Decimal::ONE);
        return Some(quantity);
    }
    if let Some((currency, length)) = units::english_sign(&text[..at].to_ascii_lowercase_tail()) {
        return Some(Quantity::new(at - length..number.end, number.value, Kind::Money(currency)));
    }
    // 3个半小时, 一个半月
    for (word, unit) in [("个半小时", Unit::Hour), ("个半月", Unit::Month), ("个半钟头", Unit::Hour)]
    {
        if rest.starts_with(word) {
            let value = number.value.checked_add(Decimal::new(5, 1))?;
            let mut quantity = Quantity::new(span(gap + word.len()), value, Kind::Count);
            quantity.unit = Some(unit);
            return Some(quantity);
        }
    }
    if let Some((unit, length)) = units::chinese_unit(rest).filter(|(unit, _)| is_unit(*unit, rest, number)) {
        let mut quantity = Quantity::new(span(gap + length), number.value, Kind::Count);
        quantity.unit = Some(unit);
        quantity.firm = firm || (!number.headless && number.value > Decimal::TWO);
        // 两年半, but not the 半 of 三天半夜.
        let behind = &rest[length..];
        if unit.is_time() && behind.starts_with('半') && !behind.starts_with("半夜") && !number.more {
            quantity.value = number.value.checked_add(Decimal::new(5, 1))?;
            quantity.span.end += '半'.len_utf8();
        }
        return Some(quantity);
    }
    if rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let mut quantity = Quantity::new(span(number.end), number.value, Kind::Count);
        if let Some((unit, length)) = units::english_unit(rest) {
            quantity.unit = Some(unit);
            quantity.span.end = gap + length;
        } else if spaces == 0 && number.digits {
            quantity.span.end = gap + letters;
        }
        return number.digits.then_some(quantity);
    }
    // 十分 is `very`, 四处 `everywhere`, 十大 and 三大 count.
    let word = !number.digits
        && [("十", "分"), ("四", "处"), ("一", "点"), ("万", "分"), ("百", "分")]
            .iter()
            .any(|(own, next)| &text[at..number.end] == *own && rest.starts_with(next));
    let counted = !word && CLASSIFIERS.iter().any(|word| rest.starts_with(word));
    if !number.digits && !counted && ((number.headless && !firm) || number.value < Decimal::from(100)) {
        return None;
    }
    let mut quantity = Quantity::new(span(number.end), number.value, Kind::Count);
    // 伊尔-76: the number of a type, which is part of a name.
    let firm = firm && !(number.plain_digits > 0 && joined_name(text, at) && !counted);
    quantity.firm = firm || (counted && !number.headless && number.value > Decimal::TWO);
    Some(quantity)
}

/// Whether a hyphen ties the number to a Chinese name before it.
fn joined_name(text: &str, at: usize) -> bool {
    text[..at].strip_suffix('-').is_some_and(|name| {
        name.ends_with(|c: char| {
            c.is_alphabetic() && !c.is_ascii() && !zh_number::begins(c) && !"年月日号时点".contains(c)
        })
    })
}

/// `1/5`: two small numbers in digits that are no date.
fn slashed(text: &str, at: usize, number: &Number) -> Option<Quantity> {
    let denominator_at = text.len() - text[number.end..].strip_prefix('/')?.len();
    let starts = text[denominator_at..].starts_with(|c: char| c.is_ascii_digit());
    let second = zh_number::scan(text, denominator_at).filter(|n| starts && n.plain_digits > 0)?;
    let (n, d) = (u32::try_from(number.value).ok()?, u32::try_from(second.value).ok()?);
    if number.plain_digits == 0
        || n == 0
        || n >= d
        || d > 100
        || text[second.end..].starts_with(['/', '月', '日'])
    {
        return None;
    }
    let value = Decimal::from(n).checked_div(Decimal::from(d))?;
    Some(Quantity::new(at..second.bare_end, value, Kind::Fraction(n, d)))
}

/// Whether 元 or 块 stands for money here and does not begin another word.
fn is_money(rest: &str) -> bool {
    ![
        "元旦", "元素", "元件", "元首", "块地", "块土", "块石", "块田", "元化", "元一", "块屏", "块板",
        "块钢", "块电",
    ]
    .iter()
    .any(|word| rest.starts_with(word))
}

/// Whether the name of a unit is meant as one: 方 and 里 are more often something else.
fn is_unit(unit: Unit, rest: &str, number: &Number) -> bool {
    match unit {
        Unit::CubicMetre if rest.starts_with('方') => {
            number.scale >= Decimal::from(10_000) && !rest.starts_with("方面") && !rest.starts_with("方案")
        }
        Unit::Year => !rest.starts_with("年级") && !rest.starts_with("年代"),
        Unit::Metre => !rest.starts_with("米饭"),
        Unit::Litre => !["升级", "升至", "升到", "升高"].iter().any(|word| rest.starts_with(word)),
        Unit::Week => !rest.starts_with("周边") && !rest.starts_with("周围"),
        Unit::Day => !["天然", "天津", "天文"].iter().any(|word| rest.starts_with(word)),
        _ => true,
    }
}

/// 近七成, 3成半.
fn tenths(text: &str, at: usize, number: &Number, gap: usize) -> Option<Quantity> {
    let after = text[gap..].strip_prefix('成')?;
    if number.value > Decimal::TEN
        || number.more && number.digits
        || after.starts_with(|c: char| "立为员功都本果绩长交就熟群份套型".contains(c))
    {
        return None;
    }
    let mut value = number.value * Decimal::TEN;
    let mut end = gap + '成'.len_utf8();
    if after.starts_with('半') {
        value += Decimal::from(5);
        end += '半'.len_utf8();
    } else if let Some(more) = after.chars().next().filter(|c| matches!(c, '多' | '余')) {
        end += more.len_utf8();
    }
    let mut quantity = Quantity::new(at..end, value, Kind::Percent);
    quantity.firm = number.value > Decimal::ONE;
    if after.starts_with(['多', '余']) {
        quantity.approx = Approx::MoreThan;
    }
    Some(quantity)
}

fn fraction(text: &str, at: usize, number: &Number, numerator_at: usize) -> Option<Quantity> {
    let numerator = zh_number::scan(text, numerator_at).filter(|n| !n.vague)?;
    let (n, d) = (u32::try_from(numerator.value).ok()?, u32::try_from(number.value).ok()?);
    let value = Decimal::from(n).checked_div(Decimal::from(d))?;
    Some(Quantity::new(at..numerator.end, value, Kind::Fraction(n, d)))
}

/// A number, a dash and a second number with the unit of both: 3万至5万, 100—200, 6%到7%, 600-700万卢布.
fn range(text: &str, at: usize, number: &Number, lower: Option<&Quantity>) -> Option<Quantity> {
    let (lower_end, own) = match lower {
        Some(q) if q.span.end > number.end => (q.span.end, Some(q)),
        _ => (number.end, None),
    };
    let dash = RANGE.iter().find(|dash| text[lower_end..].starts_with(**dash))?;
    let upper_at = lower_end + dash.len();
    if !text[upper_at..].starts_with(zh_number::begins) {
        return None;
    }
    let second = zh_number::scan(text, upper_at).filter(|n| !n.vague && n.digits == number.digits)?;
    let mut upper = zh_dates::read(text, upper_at).is_none().then(|| measured(text, upper_at, &second))??;
    let mut value = number.value;
    if number.scale == Decimal::ONE
        && second.scale > Decimal::ONE
        && own.is_none()
        && value < second.value / second.scale
    {
        value = value.checked_mul(second.scale)?;
    }
    if let Some(own) = own {
        value = own.value;
        if own.kind != upper.kind || own.unit != upper.unit {
            return None;
        }
    }
    if value >= upper.value || upper.upper.is_some() {
        return None;
    }
    approximate(text, &mut upper, &second);
    upper.upper = Some(upper.value);
    upper.value = value;
    upper.span.start = at;
    upper.firm = true;
    Some(upper)
}

/// Sets how exact the text says the quantity is, and takes a 多 or 余 behind its unit into its span.
fn approximate(text: &str, quantity: &mut Quantity, number: &Number) {
    let before = text[..quantity.span.start].trim_end_matches(' ');
    let after = &text[quantity.span.end..];
    let counting = CLASSIFIERS.iter().filter(|word| after.starts_with(**word)).map(|word| word.len()).max();
    let behind = &after[counting.unwrap_or(0)..];
    let said = |word: &str| after.starts_with(word) || behind.starts_with(word);
    if let Some(more) = after.chars().next().filter(|c| matches!(c, '多' | '余'))
        && quantity.unit.is_some()
    {
        quantity.span.end += more.len_utf8();
        quantity.approx = Approx::MoreThan;
    } else if number.more || said("以上") || OVER.iter().any(|word| before.ends_with(word)) {
        quantity.approx = Approx::MoreThan;
    } else if UNDER.iter().any(|word| before.ends_with(word)) {
        quantity.approx = Approx::LessThan;
    } else if said("左右") || ABOUT.iter().any(|word| before.ends_with(word)) {
        quantity.approx = Approx::About;
    }
}

/// The end of a text in lower case, long enough for a currency's sign.
trait Tail {
    fn to_ascii_lowercase_tail(&self) -> String;
}

impl Tail for str {
    fn to_ascii_lowercase_tail(&self) -> String {
        let mut start = self.len().saturating_sub(12);
        while !self.is_char_boundary(start) {
            start += 1;
        }
        self[start..].to_ascii_lowercase()
    }
}
