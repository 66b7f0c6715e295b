//! Decides whether a Latin word can be the sound of a part of a Chinese text.
//!
//! Names are related by pinyin (林伯强, Lin Boqiang), which is exact, or by transcription (马克龙, Macron), which roughly
//! preserves the consonants and uses only a few hundred characters. Used by `invented` and `renderings`.

use std::{collections::HashSet, ops::Range, sync::LazyLock};

use pinyin::ToPinyinMulti;

use super::consonants::{
    Consonant, MatchExtent, chinese_consonants, distance, latin_consonants, max_distance, plain_letters,
};

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

/// The sounds of a Chinese text.
pub(super) struct SourceSounds {
    /// The readings of each character without tones; empty for characters other than Han, which separate names.
    readings: Vec<Vec<String>>,
    /// The consonants of each run of transcribing characters.
    transcriptions: Vec<Vec<Consonant>>,
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
        let mut matches: Vec<(f32, Range<usize>)> = Vec::new();
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
        let nearest = |a: &(f32, Range<usize>), b: &(f32, Range<usize>)| {
            a.0.total_cmp(&b.0).then(b.1.len().cmp(&a.1.len()))
        };
        matches.sort_by(nearest);
        let (_, best) = matches.first()?;
        let name = &self.text[best.clone()];
        let is_other = |span: &Range<usize>| {
            let other = &self.text[span.clone()];
            !name.contains(other)
                && !other.contains(name)
                && (span.end <= best.start || span.start >= best.end)
        };
        matches.iter().all(|(_, span)| !is_other(span)).then_some(name)
    }
}

fn readings_of(c: char) -> Vec<String> {
    let Some(multi) = c.to_pinyin_multi() else { return Vec::new() };
    let mut all: Vec<String> = multi.into_iter().map(|p| p.plain().replace('ü', "u")).collect();
    all.dedup();
    all
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
