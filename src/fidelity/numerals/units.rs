//! Units of measure and currencies: their names in both languages, and the factors between units.
//!
//! Used by `chinese` and `english` (names), `compare` (factors) and `render`.

use rust_decimal::Decimal;

/// The dimension of a unit; only units of the same dimension can be converted into each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Dimension {
    Length,
    Area,
    Volume,
    Mass,
    Data,
    Energy,
    Power,
    Time,
    Temperature,
    Frequency,
    Barrels,
    Nano,
}

macro_rules! units {
    ($($(#[doc = $doc:literal])* $name:ident $dimension:ident $factor:literal $zh:literal / $en:literal;)*) => {
        /// A unit of measure.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Unit { $($(#[doc = $doc])* $name,)* }

        /// For each unit: its dimension, its factor to millionths of the dimension's base unit, its Chinese names and
        /// its English names. The first name is the one to write.
        const UNITS: &[(Unit, Dimension, i128, &str, &str)] =
            &[$((Unit::$name, Dimension::$dimension, $factor, $zh, $en),)*];
    };
}

units! {
    /// Millimeter.
    Millimeter Length 1_000 "毫米" / "millimeters|millimeter|millimetres|millimetre|mm";
    /// Centimeter.
    Centimeter Length 10_000 "厘米|公分" / "centimeters|centimeter|centimetres|centimetre|cm";
    /// Meter.
    Meter Length 1_000_000 "米" / "meters|meter|metres|metre|m";
    /// Kilometer.
    Kilometer Length 1_000_000_000 "公里|千米" / "kilometers|kilometer|kilometres|kilometre|km|kms";
    /// Li, half a kilometer.
    Li Length 500_000_000 "里地|华里" / "li";
    /// Mile.
    Mile Length 1_609_344_000 "英里" / "miles|mile|mi";
    /// Nautical mile.
    NauticalMile Length 1_852_000_000 "海里" / "nautical miles|nautical mile";
    /// Foot.
    Foot Length 304_800 "英尺" / "feet|foot|ft";
    /// Inch.
    Inch Length 25_400 "英寸" / "inches|inch";
    /// Nanometer.
    Nanometer Nano 1 "纳米" / "nanometers|nanometer|nanometres|nanometre|nm";
    /// Square meter.
    SquareMeter Area 1_000_000 "平方米|平米|㎡|m2|m²" / "square meters|square meter|square metres|square metre|sq meters|sq m|sqm|m2|m²|㎡";
    /// Square kilometer.
    SquareKilometer Area 1_000_000_000_000 "平方公里|平方千米|km2|km²" / "square kilometers|square kilometer|square kilometres|square kilometre|sq km|km2|km²";
    /// Square centimeter.
    SquareCentimeter Area 100 "平方厘米" / "square centimeters|square centimeter|square centimetres|square centimetre|sq cm|cm2|cm²";
    /// Mu, a fifteenth of a hectare.
    Mu Area 666_666_667 "亩" / "mu";
    /// Hectare.
    Hectare Area 10_000_000_000 "公顷" / "hectares|hectare|ha";
    /// Acre.
    Acre Area 4_046_856_422 "英亩" / "acres|acre";
    /// Square mile.
    SquareMile Area 2_589_988_110_336 "平方英里" / "square miles|square mile|sq mi";
    /// Square foot.
    SquareFoot Area 92_903 "平方英尺" / "square feet|square foot|sq ft";
    /// Cubic meter.
    CubicMeter Volume 1_000_000 "立方米|立方|方|m3|m³" / "cubic meters|cubic meter|cubic metres|cubic metre|cu m|m3|m³";
    /// Liter.
    Liter Volume 1_000 "升|公升" / "liters|liter|litres|litre|l";
    /// Milliliter.
    Milliliter Volume 1 "毫升" / "milliliters|milliliter|millilitres|millilitre|ml";
    /// Metric ton.
    Ton Mass 1_000_000_000 "吨|公吨" / "tons|ton|tonnes|tonne|metric tons|metric ton|metric tonnes";
    /// Kilogram.
    Kilogram Mass 1_000_000 "公斤|千克" / "kilograms|kilogram|kg|kgs|kilos|kilo";
    /// Gram.
    Gram Mass 1_000 "克" / "grams|gram|grammes";
    /// Milligram.
    Milligram Mass 1 "毫克" / "milligrams|milligram|mg";
    /// Jin, half a kilogram.
    Jin Mass 500_000 "斤|市斤" / "jin|catties|catty";
    /// Pound, as a weight.
    Pound Mass 453_592 "磅" / "lbs|lb";
    /// Barrel.
    Barrel Barrels 1_000_000 "桶" / "barrels|barrel|bpd";
    /// Terabyte.
    Terabyte Data 1_000_000_000_000_000_000 "TB" / "terabytes|terabyte|tb";
    /// Gigabyte.
    Gigabyte Data 1_000_000_000_000_000 "GB" / "gigabytes|gigabyte|gb";
    /// Megabyte.
    Megabyte Data 1_000_000_000_000 "MB" / "megabytes|megabyte|mb";
    /// Petabyte.
    Petabyte Data 1_000_000_000_000_000_000_000 "PB" / "petabytes|petabyte|pb";
    /// Kilowatt-hour.
    KilowattHour Energy 1_000_000 "千瓦时|度电|kWh" / "kilowatt-hours|kilowatt-hour|kilowatt hours|kilowatt hour|kwh";
    /// Watt.
    Watt Power 1_000_000 "瓦" / "watts|watt";
    /// Kilowatt.
    Kilowatt Power 1_000_000_000 "千瓦|kW" / "kilowatts|kilowatt|kw";
    /// Megawatt.
    Megawatt Power 1_000_000_000_000 "兆瓦|MW" / "megawatts|megawatt|mw";
    /// Gigawatt.
    Gigawatt Power 1_000_000_000_000_000 "吉瓦|GW" / "gigawatts|gigawatt|gw";
    /// Second.
    Second Time 1_000_000 "秒钟|秒" / "seconds|second|secs|sec";
    /// Minute.
    Minute Time 60_000_000 "分钟" / "minutes|minute|mins|min";
    /// Hour.
    Hour Time 3_600_000_000 "个小时|小时|个钟头" / "hours|hour|hrs|hr";
    /// Day.
    Day Time 86_400_000_000 "个工作日|个交易日|天|昼夜" / "days|day|working days|business days";
    /// Week.
    Week Time 604_800_000_000 "个星期|星期|周" / "weeks|week";
    /// Month, a twelfth of a year.
    Month Time 2_629_800_000_000 "个多月|个月" / "months|month";
    /// Quarter of a year.
    Quarter Time 7_889_400_000_000 "个季度|季度" / "quarters|quarter";
    /// Year.
    Year Time 31_557_600_000_000 "周年|年|载|岁" / "years|year|yrs|yr|years old|anniversary";
    /// Decade.
    Decade Time 315_576_000_000_000 "个十年" / "decades|decade";
    /// Century.
    Century Time 3_155_760_000_000_000 "个世纪|世纪" / "centuries|century";
    /// Degree Celsius.
    Celsius Temperature 1_000_000 "摄氏度|℃|°C" / "degrees celsius|degree celsius|celsius|℃|°c";
    /// Hertz.
    Hertz Frequency 1_000_000 "赫兹|赫" / "hertz|hz";
}

macro_rules! currencies {
    ($($(#[doc = $doc:literal])* $name:ident $zh:literal / $before:literal / $after:literal;)*) => {
        /// A currency.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Currency { $($(#[doc = $doc])* $name,)* }

        /// For each currency: its Chinese names, its English signs before an amount, its English names after an amount.
        const CURRENCIES: &[(Currency, &str, &str, &str)] =
            &[$((Currency::$name, $zh, $before, $after),)*];
    };
}

currencies! {
    /// The renminbi yuan; a 元 without a qualifier means this one.
    Yuan "元人民币|元|块钱|块|人民币" / "rmb|cny|¥|yuan|cn¥" / "yuan|rmb|renminbi|chinese yuan|cny";
    /// The United States dollar.
    UsDollar "美元|美金" / "us$|usd|$|u.s.$" / "U.S. dollars|us dollars|us dollar|u.s. dollar|american dollars|dollars|dollar|usd|u.s.dollars";
    /// The euro.
    Euro "欧元" / "€|eur|euro" / "euros|euro|eur";
    /// The pound sterling.
    Pound "英镑" / "£|gbp|stg" / "pounds|pound|pounds sterling|british pounds|gbp|quid";
    /// The Japanese yen, which shares the sign `¥` with the yuan.
    Yen "日元|日圆" / "jpy|jp¥" / "yen|japanese yen|jpy";
    /// The South Korean won.
    Won "韩元|韩圆" / "krw|₩" / "won|korean won|south korean won|krw";
    /// The ruble.
    Ruble "卢布" / "rub|₽" / "rubles|ruble|roubles|rouble|russian rubles|rub";
    /// The Hong Kong dollar.
    HongKongDollar "港元|港币" / "hk$|hkd" / "Hong Kong dollars|hong kong dollar|hk dollars|hkd";
    /// The New Taiwan dollar.
    TaiwanDollar "新台币|台币" / "nt$|twd" / "New Taiwan dollars|nt dollars|twd";
    /// The Australian dollar.
    AustralianDollar "澳元" / "a$|aud|au$" / "Australian dollars|australian dollar|aud";
    /// The Canadian dollar.
    CanadianDollar "加元" / "c$|cad|ca$" / "Canadian dollars|canadian dollar|cad";
    /// The Singapore dollar.
    SingaporeDollar "新加坡元|新元" / "s$|sgd" / "Singapore dollars|singapore dollar|sgd";
    /// The New Zealand dollar.
    NewZealandDollar "新西兰元|纽元" / "nz$|nzd" / "New Zealand dollars|new zealand dollar|nzd";
    /// The Swiss franc.
    Franc "瑞士法郎|法郎" / "chf" / "Swiss francs|francs|swiss franc|franc|chf";
    /// The Indian rupee.
    Rupee "卢比" / "inr|₹|rs" / "rupees|rupee|indian rupees|inr";
}

impl Unit {
    fn row(self) -> &'static (Unit, Dimension, i128, &'static str, &'static str) {
        // The table has the order of the enum.
        &UNITS[self as usize]
    }

    pub(super) fn dimension(self) -> Dimension {
        self.row().1
    }

    /// Returns `true` for a unit of time.
    pub(super) fn is_time(self) -> bool {
        self.dimension() == Dimension::Time
    }

    /// Returns the factor to millionths of the dimension's base unit.
    pub(super) fn factor(self) -> Decimal {
        Decimal::from_i128_with_scale(self.row().2, 0)
    }

    /// Returns the English name in the plural.
    pub fn english(self) -> &'static str {
        first(self.row().4)
    }

    /// Returns the English name in the singular.
    pub fn english_singular(self) -> &'static str {
        match self {
            Self::Foot => "foot",
            Self::Inch => "inch",
            Self::Century => "century",
            Self::Celsius => "degree Celsius",
            Self::SquareFoot => "square foot",
            Self::Hertz => "hertz",
            other => other.english().strip_suffix('s').unwrap_or(other.english()),
        }
    }

    /// Returns the Chinese name.
    pub fn chinese(self) -> &'static str {
        first(self.row().3)
    }
}

impl Currency {
    fn row(self) -> &'static (Currency, &'static str, &'static str, &'static str) {
        &CURRENCIES[self as usize]
    }

    /// Returns the English name in the plural.
    pub fn english(self) -> &'static str {
        first(self.row().3)
    }

    /// Returns the English name in the singular.
    pub fn english_singular(self) -> &'static str {
        match self {
            // Singular and plural are the same.
            Self::Yuan | Self::Yen | Self::Won => self.english(),
            other => other.english().strip_suffix('s').unwrap_or(other.english()),
        }
    }

    /// Returns the Chinese name.
    pub fn chinese(self) -> &'static str {
        match self {
            Self::Yuan => "元",
            other => first(other.row().1),
        }
    }
}

/// Returns the unit whose Chinese name begins the text, and the length of the name in bytes. The longest name wins.
pub(super) fn chinese_unit(text: &str) -> Option<(Unit, usize)> {
    longest(UNITS.iter().map(|row| (row.0, row.3)), |name| text.starts_with(name))
}

/// Returns the currency whose Chinese name begins the text, and the length of the name in bytes.
pub(super) fn chinese_currency(text: &str) -> Option<(Currency, usize)> {
    longest(CURRENCIES.iter().map(|row| (row.0, row.1)), |name| text.starts_with(name))
}

/// Returns the unit whose English name begins the lower-case text as whole words, and the length of the name in bytes.
pub(super) fn english_unit(lower: &str) -> Option<(Unit, usize)> {
    longest(UNITS.iter().map(|row| (row.0, row.4)), |name| starts_with_word(lower, name))
}

/// Returns the currency whose English name begins the lower-case text as whole words, and the length of the name in
/// bytes.
pub(super) fn english_currency(lower: &str) -> Option<(Currency, usize)> {
    longest(CURRENCIES.iter().map(|row| (row.0, row.3)), |name| starts_with_word(lower, name))
}

/// Returns the longest end of a text that has at most `max_bytes` bytes and begins on a character boundary.
pub(super) fn tail(text: &str, max_bytes: usize) -> &str {
    let mut start = text.len().saturating_sub(max_bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

/// Returns the currency whose English sign or code ends the text in any case, and the length of the sign in bytes.
pub(super) fn english_sign(text: &str) -> Option<(Currency, usize)> {
    let lower = tail(text, 12).to_ascii_lowercase();
    longest(CURRENCIES.iter().map(|row| (row.0, row.2)), |sign| {
        let Some(before) = lower.strip_suffix(sign) else { return false };
        // A code or a sign with letters must begin a word: `us$` does not end with the plain `$`.
        !sign.starts_with(|c: char| c.is_ascii_alphabetic())
            || !before.ends_with(|c: char| c.is_alphanumeric())
    })
}

fn first(names: &'static str) -> &'static str {
    names.split('|').next().unwrap_or(names)
}

fn starts_with_word(text: &str, name: &str) -> bool {
    text.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name))
        && !text[name.len()..].starts_with(|c: char| c.is_alphanumeric())
}

fn longest<T: Copy>(
    rows: impl Iterator<Item = (T, &'static str)>,
    matches: impl Fn(&str) -> bool,
) -> Option<(T, usize)> {
    let mut best: Option<(T, usize)> = None;
    for (item, names) in rows {
        for name in names.split('|') {
            if best.as_ref().is_none_or(|(_, length)| name.len() > *length) && matches(name) {
                best = Some((item, name.len()));
            }
        }
    }
    best
}
