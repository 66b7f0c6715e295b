//! The names of Chinese reporters in Pinyin: surname first, the given name in one word.

use pinyin::ToPinyin as _;

/// Surnames of two characters.
const DOUBLE: [&str; 12] =
    ["欧阳", "司马", "上官", "诸葛", "司徒", "东方", "皇甫", "尉迟", "公孙", "令狐", "慕容", "夏侯"];

/// Surnames that are read otherwise than the character usually is.
const SURNAMES: [(char, &str); 14] = [
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

/// A list of names, `吉宁 宋晨`, as `Ji Ning and Song Chen`; `None` when one of them is no Chinese name.
pub(super) fn names(list: &str) -> Option<String> {
    let names: Vec<String> = list
        .split(|c: char| c.is_whitespace() || c == '、')
        .filter(|name| !name.is_empty())
        .map(name)
        .collect::<Option<_>>()?;
    match &names[..] {
        [] => None,
        [only] => Some(only.clone()),
        [first @ .., last] => Some(format!("{} and {last}", first.join(", "))),
    }
}

fn name(name: &str) -> Option<String> {
    let length = name.chars().count();
    let surname_chars = usize::from(length > 2 && DOUBLE.iter().any(|double| name.starts_with(double))) + 1;
    if !(2..=4).contains(&length) {
        return None;
    }
    let first = name.chars().next()?;
    let syllables: Vec<&str> =
        name.chars().map(|c| c.to_pinyin().map(|p| p.plain())).collect::<Option<_>>()?;
    let (surname, given) = syllables.split_at(surname_chars);
    let surname = match SURNAMES.iter().find(|(c, _)| *c == first && surname_chars == 1) {
        Some((_, reading)) => (*reading).to_owned(),
        None => capitalised(&surname.concat()),
    };
    // ü is written u after j, q, x and y, and v by nobody but keyboards: the standard for names is yu.
    Some(format!("{surname} {}", joined(given)).replace('ü', "yu"))
}

/// A given name in one word; an apostrophe where a syllable begins with a vowel.
fn joined(syllables: &[&str]) -> String {
    let mut word = String::new();
    for syllable in syllables {
        if !word.is_empty() && syllable.starts_with(['a', 'e', 'o']) {
            word.push('’');
        }
        word.push_str(syllable);
    }
    capitalised(&word)
}

fn capitalised(word: &str) -> String {
    let mut characters = word.chars();
    characters
        .next()
        .map_or(String::new(), |first| first.to_uppercase().collect::<String>() + characters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_the_wire_services_do() {
        assert_eq!(names("吉宁 宋晨").as_deref(), Some("Ji Ning and Song Chen"));
        assert_eq!(names("王植樾、吴昊、康锦谦").as_deref(), Some("Wang Zhiyue, Wu Hao and Kang Jinqian"));
        assert_eq!(names("欧阳天安").as_deref(), Some("Ouyang Tian’an"));
        assert_eq!(names("单小吕").as_deref(), Some("Shan Xiaolyu"));
        for none in ["", "Smith", "某", "穆罕默德·阿里"] {
            assert_eq!(names(none), None, "{none}");
        }
    }
}
