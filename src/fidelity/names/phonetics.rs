//! Decides whether a Latin word can be the sound of a part of a Chinese text.
//!
//! Names are related by pinyin (林伯强, Lin Boqiang), which is exact, or by transcription (马克龙, Macron), which roughly
//! preserves the consonants and uses only a few hundred characters. Used by `invented` and `renderings`.

use std::{collections::HashSet, sync::LazyLock};

use pinyin::ToPinyinMulti;

/// The characters used to transcribe foreign names, after the tables of the Xinhua News Agency.
const TRANSCRIBING: &str = "阿埃艾爱昂安盎敖奥澳巴芭拜班邦包保堡鲍贝本比彼毕边宾滨波玻伯勃博布卜采蔡策查察昌彻茨慈次楚达大代黛戴丹当道德登邓狄迪底第\
    蒂丁定东栋杜度敦顿多厄恩尔法凡范方菲斐费芬丰冯佛夫弗福富伏盖甘冈高哥戈格葛根贡古瓜圭果哈海汉翰杭豪赫黑亨洪侯胡华怀惠霍基吉季济加嘉佳\
    贾简江姜杰捷金津久居卡凯坎康考柯科可克肯孔库夸奎昆阔拉腊来莱赖兰朗劳乐勒雷蕾累黎里理丽利莉立廉良列烈林琳霖龄留刘柳龙卢鲁路露吕略伦罗\
    洛马玛麦迈曼芒毛茂梅门蒙孟米密蜜明摩莫墨默姆木穆拿那纳娜奈南内嫩能尼妮年涅宁牛纽农努诺欧帕派潘庞佩彭皮匹平珀普浦奇齐契恰强乔切钦琴青\
    琼丘屈热仁日荣茹儒瑞若撒萨塞赛三桑瑟森沙莎山尚绍舍申圣施石什史士市舒朔斯丝思松苏索所塔台泰坦汤唐陶特腾提天廷通图土托脱瓦万旺威维伟韦\
    魏温文翁沃乌武伍西希锡悉席夏香肖谢辛欣新兴雄休修许逊雅亚扬杨瑶耶叶伊依易因英尤于约赞泽扎詹占章珍芝智治朱祖佐丕锐骚娅帝蓬隆滕佤璐绮缇干刻罕白地都吾婆弥缅匈葡俄戛涛孜杉梭柏汀毗渥琪硅萝萄辽邱郎酋铎阮鲜弘贺仑遮晤喜";

static TRANSCRIBING_SET: LazyLock<HashSet<char>> = LazyLock::new(|| TRANSCRIBING.chars().collect());

/// The most common Chinese surnames, which cover four in five people.
const SURNAMES: &[&str] = &[
    "Wang", "Li", "Zhang", "Liu", "Chen", "Yang", "Huang", "Zhao", "Wu", "Zhou", "Xu", "Sun", "Ma", "Zhu",
    "Hu", "Guo", "He", "Gao", "Lin", "Luo", "Zheng", "Liang", "Xie", "Song", "Tang", "Han", "Feng", "Yu",
    "Dong", "Xiao", "Cheng", "Cao", "Yuan", "Deng", "Fu", "Shen", "Zeng", "Peng", "Lu", "Su", "Jiang", "Cai",
    "Jia", "Ding", "Wei", "Xue", "Ye", "Yan", "Pan", "Du", "Dai", "Xia", "Zhong", "Tian", "Ren", "Fan",
    "Fang", "Shi", "Yao", "Tan", "Liao", "Zou", "Xiong", "Jin", "Hao", "Kong", "Bai", "Cui", "Kang", "Mao",
    "Qiu", "Qin", "Gu", "Hou", "Shao", "Meng", "Long", "Wan", "Duan", "Lei", "Qian",
];

/// The maximum distance between a name and its transcription, for each consonant after the first.
const MAX_DISTANCE_PER_CONSONANT: f32 = 0.3;

/// The sounds of a Chinese text.
pub(super) struct SourceSounds {
    /// The readings of each character without tones; empty for characters other than Han, which separate names.
    readings: Vec<Vec<String>>,
    /// The consonants of each run of transcribing characters.
    transcriptions: Vec<Vec<Consonant>>,
}

/// The consonants that transcriptions distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consonant {
    P,
    T,
    K,
    F,
    H,
    S,
    M,
    N,
    L,
    /// The y of 约翰 and the j of John.
    Y,
}

impl SourceSounds {
    pub(super) fn of(text: &str) -> Self {
        let mut readings = Vec::new();
        let mut transcriptions = Vec::new();
        let mut run: Vec<Consonant> = Vec::new();
        let mut length = 0;
        for c in text.chars() {
            let own = readings_of(c);
            if TRANSCRIBING_SET.contains(&c) {
                length += 1;
                run.extend(own.first().map(|reading| chinese_consonants(reading)).unwrap_or_default());
            } else if !matches!(c, '·' | '-' | '•' | '・' | '－' | ' ') {
                if length > 1 {
                    transcriptions.push(std::mem::take(&mut run));
                }
                run.clear();
                length = 0;
            }
            readings.push(own);
        }
        if length > 1 {
            transcriptions.push(run);
        }
        Self { readings, transcriptions }
    }

    /// Returns `true` if the text explains a lower-case word.
    pub(super) fn explain(&self, word: &str) -> bool {
        let plain = plain_letters(word);
        self.explain_as_pinyin(&plain) || self.explain_as_transcription(&plain)
    }

    /// Returns `true` if the text explains a first name and a surname in lower case: both together, or one of them if
    /// it is too long for a coincidence.
    pub(super) fn explain_full_name(&self, first: &str, last: &str) -> bool {
        const MIN_CONSONANTS: usize = 4;
        let long = |word: &str| latin_consonants(word).len() >= MIN_CONSONANTS && self.explain(word);
        self.explain(&format!("{first}{last}")) || long(first) || long(last)
    }

    /// Returns `true` if a lower-case word consists of two or more pinyin syllables, as most Chinese given names do.
    pub(super) fn is_pinyin(word: &str) -> bool {
        word.len() >= 4 && is_syllables(word, 0)
    }

    /// Returns `true` if a capitalized word is one of the most common Chinese surnames.
    pub(super) fn is_surname(word: &str) -> bool {
        SURNAMES.contains(&word)
    }

    fn explain_as_pinyin(&self, word: &str) -> bool {
        (0..self.readings.len()).any(|at| self.spells(at, word))
    }

    /// Returns `true` if the word is the pinyin of whole characters that begin with the one at `at`.
    fn spells(&self, at: usize, word: &str) -> bool {
        word.is_empty()
            || self.readings.get(at).is_some_and(|readings| {
                readings
                    .iter()
                    .any(|r| word.strip_prefix(r.as_str()).is_some_and(|rest| self.spells(at + 1, rest)))
            })
    }

    fn explain_as_transcription(&self, word: &str) -> bool {
        // 哥白尼 transcribes Copernicus without the Latin ending.
        let latin =
            ["us", "ius"].iter().filter_map(|ending| word.strip_suffix(ending)).find(|stem| stem.len() >= 4);
        if latin.is_some_and(|stem| self.explain_as_transcription(stem)) {
            return true;
        }
        let name = latin_consonants(word);
        if name.is_empty() {
            // A name without consonants cannot be checked.
            return true;
        }
        let most = max_distance(&name);
        self.transcriptions.iter().any(|run| distance(&name, run, MatchExtent::AnyPart) <= most)
    }
}

/// Returns `true` if the rest of a word is pinyin and the word has at least two syllables, including the `count`
/// before.
fn is_syllables(word: &str, count: usize) -> bool {
    const INITIALS: &[&str] = &[
        "zh", "ch", "sh", "b", "p", "m", "f", "d", "t", "n", "l", "g", "k", "h", "j", "q", "x", "r", "z",
        "c", "s", "y", "w",
    ];
    const FINALS: &[&str] = &[
        "iang", "iong", "uang", "ang", "eng", "ian", "iao", "ing", "ong", "uai", "uan", "ai", "an", "ao",
        "ei", "en", "er", "ia", "ie", "in", "iu", "ou", "ua", "ue", "ui", "un", "uo", "a", "e", "i", "o",
        "u",
    ];
    if word.is_empty() {
        return count >= 2;
    }
    INITIALS.iter().filter_map(|initial| word.strip_prefix(initial)).any(|rest| {
        FINALS.iter().filter_map(|end| rest.strip_prefix(end)).any(|rest| is_syllables(rest, count + 1))
    })
}

/// The parts of a Chinese text that can be transcribed names.
pub(super) struct TranscribedNames<'t> {
    text: &'t str,
    stretches: Vec<TranscribedRun>,
}

/// A run of transcribing characters.
struct TranscribedRun {
    /// The position of each character in the text, in bytes, and its consonants.
    chars: Vec<(usize, Vec<Consonant>)>,
    /// The end of the run, in bytes.
    end: usize,
}

/// The maximum number of characters in a transcribed name.
const MAX_NAME_CHARS: usize = 8;

impl<'t> TranscribedNames<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let mut stretches = Vec::new();
        let mut chars = Vec::new();
        for (at, c) in text.char_indices().chain([(text.len(), '\n')]) {
            if TRANSCRIBING_SET.contains(&c) {
                let sounds =
                    readings_of(c).first().map(|reading| chinese_consonants(reading)).unwrap_or_default();
                chars.push((at, sounds));
            } else if chars.len() > 1 {
                stretches.push(TranscribedRun { chars: std::mem::take(&mut chars), end: at });
            } else {
                chars.clear();
            }
        }
        Self { text, stretches }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    /// Returns the part of the text that transcribes a lower-case word as a whole, or `None` if there is none or
    /// several different parts match.
    pub(super) fn only_match(&self, word: &str) -> Option<&'t str> {
        let name = latin_consonants(&plain_letters(word));
        // Shorter names match too much by chance.
        if name.len() < 2 {
            return None;
        }
        let most = max_distance(&name);
        let mut matches: Vec<(f32, std::ops::Range<usize>)> = Vec::new();
        for TranscribedRun { chars, end } in &self.stretches {
            for first in 0..chars.len() {
                for last in first + 1..chars.len().min(first + MAX_NAME_CHARS) {
                    let sounds: Vec<Consonant> =
                        chars[first..=last].iter().flat_map(|(_, sounds)| sounds).copied().collect();
                    let off = distance(&name, &sounds, MatchExtent::All);
                    if off <= most {
                        let end = chars.get(last + 1).map_or(*end, |(at, _)| *at);
                        matches.push((off, chars[first].0..end));
                    }
                }
            }
        }
        // Of equally close matches, the longest is best, because it includes the characters of vowels.
        let nearest = |a: &(f32, std::ops::Range<usize>), b: &(f32, std::ops::Range<usize>)| {
            a.0.total_cmp(&b.0).then(b.1.len().cmp(&a.1.len()))
        };
        matches.sort_by(nearest);
        let (_, best) = matches.first()?;
        let name = &self.text[best.clone()];
        let is_other = |place: &std::ops::Range<usize>| {
            let other = &self.text[place.clone()];
            !name.contains(other)
                && !other.contains(name)
                && (place.end <= best.start || place.start >= best.end)
        };
        matches.iter().all(|(_, place)| !is_other(place)).then_some(name)
    }
}

/// Returns `true` if two lower-case words can be renderings of one name.
pub(super) fn are_alike(a: &str, b: &str) -> bool {
    let (a, b) = (latin_consonants(&plain_letters(a)), latin_consonants(&plain_letters(b)));
    let longer = if a.len() >= b.len() { &a } else { &b };
    distance(&a, &b, MatchExtent::All) <= max_distance(longer)
}

/// Returns the maximum distance of a transcription from its name.
fn max_distance(name: &[Consonant]) -> f32 {
    MAX_DISTANCE_PER_CONSONANT * name.len().saturating_sub(1) as f32 + f32::EPSILON
}

/// Removes accents and everything that is not a letter from a lower-case word.
fn plain_letters(word: &str) -> String {
    word.chars().filter_map(unaccented).collect()
}

fn readings_of(c: char) -> Vec<String> {
    let Some(multi) = c.to_pinyin_multi() else { return Vec::new() };
    let mut all: Vec<String> = multi.into_iter().map(|p| p.plain().replace('ü', "u")).collect();
    all.dedup();
    all
}

/// Returns a Latin letter without its accent, or `None` for any other character.
fn unaccented(c: char) -> Option<char> {
    Some(match c {
        'a'..='z' => c,
        'à'..='å' | 'ā' | 'ă' => 'a',
        'ç' | 'č' | 'ć' => 'c',
        'è'..='ë' | 'ē' | 'ė' => 'e',
        'ì'..='ï' | 'ī' | 'ı' => 'i',
        'ñ' => 'n',
        'ò'..='ö' | 'ø' | 'ō' => 'o',
        'ù'..='ü' | 'ū' => 'u',
        'š' | 'ş' => 's',
        'ž' => 'z',
        'ğ' => 'g',
        _ => return None,
    })
}

fn chinese_consonants(reading: &str) -> Vec<Consonant> {
    use Consonant::{F, H, K, L, M, N, P, S, T, Y};
    let mut sounds = Vec::new();
    match reading.as_bytes().first() {
        Some(b'b' | b'p') => sounds.push(P),
        Some(b'd' | b't') => sounds.push(T),
        Some(b'g' | b'k') => sounds.push(K),
        Some(b'h') => sounds.push(H),
        Some(b'f' | b'w') => sounds.push(F),
        Some(b'm') => sounds.push(M),
        Some(b'n') => sounds.push(N),
        Some(b'l' | b'r') => sounds.push(L),
        Some(b'j' | b'q' | b'x' | b'z' | b'c' | b's') => sounds.push(S),
        Some(b'y') => sounds.push(Y),
        _ => {}
    }
    if reading == "er" {
        sounds.push(L);
    } else if reading.len() > 1 && (reading.ends_with('n') || reading.ends_with("ng")) {
        sounds.push(N);
    }
    sounds
}

fn latin_consonants(word: &str) -> Vec<Consonant> {
    use Consonant::{F, H, K, L, M, N, P, S, T, Y};
    let bytes = word.as_bytes();
    let mut sounds: Vec<Consonant> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let next = bytes.get(at + 1).copied();
        let (sound, length) = match (bytes[at], next) {
            (b'p', Some(b'h')) => (Some(F), 2),
            (b'c', Some(b'k')) | (b'k' | b'g', Some(b'h')) => (Some(K), 2),
            (b'c' | b's', Some(b'h'))
            | (b't', Some(b's' | b'z'))
            | (b'c', Some(b'e' | b'i' | b'y' | b'z')) => (Some(S), 2),
            (b's', Some(b'c')) if bytes.get(at + 2) == Some(&b'h') => (Some(S), 3),
            (b'd', Some(b't')) => (Some(T), 2),
            (b'd', Some(b'g' | b'j')) => (Some(S), 2),
            (b't', Some(b'h')) => (Some(T), 2),
            (b'w', Some(b'r' | b'h')) => (Some(if next == Some(b'r') { L } else { F }), 2),
            (b'k', Some(b'n')) => (Some(N), 2),
            // Silent after a vowel: Heathrow, Sarah.
            (b'w' | b'h', after) if at > 0 && is_vowel(bytes[at - 1]) && !after.is_some_and(is_vowel) => {
                (None, 1)
            }
            (b'b' | b'p', _) => (Some(P), 1),
            (b'd' | b't', _) => (Some(T), 1),
            (b'g' | b'k' | b'q' | b'c' | b'x', _) => (Some(K), 1),
            (b'f' | b'v' | b'w', _) => (Some(F), 1),
            (b'h', _) => (Some(H), 1),
            (b's' | b'z', _) => (Some(S), 1),
            (b'j', _) => (Some(Y), 1),
            (b'm', _) => (Some(M), 1),
            (b'n', _) => (Some(N), 1),
            (b'l' | b'r', _) => (Some(L), 1),
            _ => (None, 1),
        };
        if let Some(sound) = sound {
            // A double letter is one consonant.
            let doubled = at > 0 && bytes[at - 1] == bytes[at] && sounds.last() == Some(&sound);
            if !doubled {
                sounds.push(sound);
            }
            if bytes[at] == b'x' {
                sounds.push(S);
            }
        }
        at += length;
    }
    sounds
}

fn is_vowel(letter: u8) -> bool {
    matches!(letter, b'a' | b'e' | b'i' | b'o' | b'u' | b'y')
}

/// The part of a transcription that a name has to match.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MatchExtent {
    AnyPart,
    All,
}

/// Returns the edit distance between a name and a transcription, or the closest part of it.
fn distance(name: &[Consonant], run: &[Consonant], extent: MatchExtent) -> f32 {
    use Consonant::{F, H, K, L, M, N, P, S, T, Y};
    let swap = |a: Consonant, b: Consonant| match (a, b) {
        (a, b) if a == b => 0.0,
        (M, N) | (N, M) => 0.3,
        (S, K) | (K, S) | (H, K) | (K, H) | (S, T) | (T, S) | (H, S) | (S, H) => 0.4,
        (F, H) | (H, F) | (F, P) | (P, F) => 0.4,
        (N, L) | (L, N) => 0.7,
        (Y, S) | (S, Y) => 0.1,
        (Y, H) | (H, Y) => 0.3,
        _ => 1.0,
    };
    // The costs of a consonant without a character, and of a character without a consonant in the name.
    let drop = |a: Consonant| match a {
        L | H => 0.35,
        Y => 0.5,
        N | T | F | K => 0.6,
        _ => 1.0,
    };
    let fill = |b: Consonant| match b {
        Y => 0.1,
        L | H | N => 0.35,
        F | S | T | K => 0.5,
        _ => 0.9,
    };
    // row[j] is the minimum cost of the name so far against a part of the run that ends before j.
    let mut row = vec![0.0_f32; run.len() + 1];
    if extent == MatchExtent::All {
        for (j, other) in run.iter().enumerate() {
            row[j + 1] = row[j] + fill(*other);
        }
    }
    for sound in name {
        let mut diagonal = row[0];
        row[0] += drop(*sound);
        for (j, other) in run.iter().enumerate() {
            let best =
                (diagonal + swap(*sound, *other)).min(row[j + 1] + drop(*sound)).min(row[j] + fill(*other));
            diagonal = row[j + 1];
            row[j + 1] = best;
        }
    }
    match extent {
        MatchExtent::All => row.last().copied().unwrap_or_default(),
        MatchExtent::AnyPart => row.into_iter().fold(f32::INFINITY, f32::min),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explains_names_by_pinyin_and_transcription() {
        for (chinese, name) in [
            ("林伯强接受采访", "boqiang"),
            ("重庆", "chongqing"),
            ("法国总统马克龙5日", "macron"),
            ("约翰·林赛-波兰说", "lindsay"),
            ("在弗吉尼亚州", "virginia"),
            ("蒙彼利埃市", "montpellier"),
            ("安德森教授", "anderson"),
            ("迈克尔·施密特", "schmidt"),
            ("海梅·塔马约", "tamayo"),
        ] {
            assert!(SourceSounds::of(chinese).explain(name), "{name}");
        }
    }

    #[test]
    fn does_not_explain_other_names() {
        for (chinese, name) in [
            ("法国总统马克龙5日", "anderson"),
            ("我国建成3.5万多家基础级智能工厂", "nairobi"),
            ("林伯强接受采访", "xiaoming"),
            ("华为员工共18万", "miller"),
        ] {
            assert!(!SourceSounds::of(chinese).explain(name), "{name}");
        }
    }
}
