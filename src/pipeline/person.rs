//! Renders the names of Chinese reporters in Pinyin: surname first, the given name as one word.
//!
//! Called by `dateline` for bylines.

use pinyin::ToPinyin as _;

/// Surnames of two characters.
const DOUBLE_SURNAMES: [&str; 12] =
    ["欧阳", "司马", "上官", "诸葛", "司徒", "东方", "皇甫", "尉迟", "公孙", "令狐", "慕容", "夏侯"];

/// Surnames whose reading differs from the character's usual one.
const SURNAME_READINGS: [(char, &str); 14] = [
    ('单', "Shan"),
    ('曾', "Zeng"),
    ('解', "Xie"),
    ('仇', "Qiu"),
    ('区', "Ou"),
    ('查', "Zha"),
    ('盖', "Ge"),
    ('任', "Ren"),
    ('朴', "Piao"),
    ('尉', "Wei"),
    ('翟', "Zhai"),
    ('纪', "Ji"),
    ('覃', "Qin"),
    ('缪', "Miao"),
];

/// Renders a list of names: `吉宁 宋晨` becomes `Ji Ning and Song Chen`. `None` if one of them is not a Chinese name.
pub(super) fn names(list: &str) -> Option<String> {
    let names: Vec<String> = list
        .split(|c: char| c.is_whitespace() || c == '、')
        .filter(|name| !name.is_empty())
        .map(full_name)
        .collect::<Option<_>>()?;
    match &names[..] {
        [] => None,
        [only] => Some(only.clone()),
        [first @ .., last] => Some(format!("{} and {last}", first.join(", "))),
    }
}

fn full_name(name: &str) -> Option<String> {
    let length = name.chars().count();
    let surname_chars =
        usize::from(length > 2 && DOUBLE_SURNAMES.iter().any(|double| name.starts_with(double))) + 1;
    if !(2..=4).contains(&length) {
        return None;
    }
    let first = name.chars().next()?;
    let syllables: Vec<&str> =
        name.chars().map(|c| c.to_pinyin().map(|p| p.plain())).collect::<Option<_>>()?;
    let (surname, given) = syllables.split_at(surname_chars);
    let surname = match SURNAME_READINGS.iter().find(|(c, _)| *c == first && surname_chars == 1) {
        Some((_, reading)) => (*reading).to_owned(),
        None => capitalized(&surname.concat()),
    };
    // The standard for names writes ü as yu (the crate already gives u after j, q, x and y).
    Some(format!("{surname} {}", given_name(given)).replace('ü', "yu"))
}

/// Joins the syllables of a given name, with an apostrophe before one that begins with a vowel.
fn given_name(syllables: &[&str]) -> String {
    let mut word = String::new();
    for syllable in syllables {
        if !word.is_empty() && syllable.starts_with(['a', 'e', 'o']) {
            word.push('’');
        }
        word.push_str(syllable);
    }
    capitalized(&word)
}

fn capitalized(word: &str) -> String {
    let mut characters = word.chars();
    characters
        .next()
        .map_or(String::new(), |first| first.to_uppercase().collect::<String>() + characters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_names_as_wire_services_do() {
        assert_eq!(names("吉宁 宋晨").as_deref(), Some("Ji Ning and Song Chen"));
        assert_eq!(names("王植樾、吴昊、康锦谦").as_deref(), Some("Wang Zhiyue, Wu Hao and Kang Jinqian"));
        assert_eq!(names("欧阳天安").as_deref(), Some("Ouyang Tian’an"));
        assert_eq!(names("单小吕").as_deref(), Some("Shan Xiaolyu"));
        for none in ["", "Smith", "某", "穆罕默德·阿里"] {
            assert_eq!(names(none), None, "{none}");
        }
    }
}
