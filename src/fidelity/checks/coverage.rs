//! Compares the length of a translation, its sentences and its list items with those of the source.

/// The minimum number of Chinese characters for which the length is measured; a headline can lose half of its words.
const MIN_CHARS: f64 = 20.0;
/// The minimum and maximum number of English characters per Chinese character. In a thousand sentences translated by
/// people, the ratio ranges from 1.55 to 6.75, with a median of 3.
const MIN_RATIO: f64 = 1.5;
const MAX_RATIO: f64 = 7.0;

/// The size of a translation relative to its source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::fidelity) struct Coverage {
    /// Characters of the translation, excluding white space, per Chinese character of the source.
    pub length_ratio: f64,
    /// The number of sentences of the source and of the translation.
    pub sentences: (usize, usize),
    /// The number of numbered list items of the source and of the translation.
    pub list_items: (usize, usize),
    /// The source is long enough for the ratio to be meaningful.
    pub measurable: bool,
}

impl Coverage {
    /// Returns `true` if the translation is so short that part of the source must be missing.
    pub(in crate::fidelity) fn too_short(&self) -> bool {
        self.measurable && self.length_ratio < MIN_RATIO
            || self.sentences.0 >= 3
                && self.length_ratio < 1.6 * MIN_RATIO
                && 2 * self.sentences.1 < self.sentences.0
    }

    /// Returns `true` if the translation is so long that something must have been added.
    pub(in crate::fidelity) fn too_long(&self) -> bool {
        self.measurable && self.length_ratio > MAX_RATIO
    }

    /// Returns the number of list items that the translation lacks.
    pub(in crate::fidelity) fn items_lost(&self) -> usize {
        let (source, output) = self.list_items;
        if source >= 2 { source.saturating_sub(output) } else { 0 }
    }
}

/// Measures an English translation relative to its Chinese source.
pub(in crate::fidelity) fn coverage(source: &str, translation: &str) -> Coverage {
    let wide = source.chars().filter(|c| c.is_alphanumeric() && !c.is_ascii()).count() as f64;
    let letters = translation.chars().filter(|c| !c.is_whitespace()).count() as f64;
    let ratio = if wide > 0.0 { letters / wide } else { MIN_RATIO };
    Coverage {
        length_ratio: ratio,
        sentences: (count_sentences(source), count_sentences(translation)),
        list_items: (count_list_items(source), count_list_items(translation)),
        measurable: wide >= MIN_CHARS,
    }
}

/// Counts sentences. A full stop counts only at the end of a word of several letters.
fn count_sentences(text: &str) -> usize {
    let chars: Vec<char> = text.chars().collect();
    let mut count = 0;
    for (at, c) in chars.iter().enumerate() {
        let is_end = match c {
            '。' | '！' | '？' => true,
            '.' | '!' | '?' => {
                chars.get(at + 1).is_none_or(|c| c.is_whitespace() || matches!(c, '"' | '”' | ')' | '’'))
                    && at >= 2
                    && chars[at - 1].is_alphanumeric()
                    && chars[at - 2].is_alphanumeric()
            }
            _ => false,
        };
        count += usize::from(is_end && !matches!(chars.get(at + 1), Some('。' | '！' | '？' | '!' | '?')));
    }
    count
}

/// Counts the list items that are numbered in order from one in the same style: `1.`, `（1）`, `(一)`, `①`.
fn count_list_items(text: &str) -> usize {
    let styles: [fn(usize) -> Vec<String>; 4] = [
        |n| vec![format!("{n}. "), format!("{n}."), format!("{n}、"), format!("{n}．")],
        |n| vec![format!("（{n}）"), format!("({n})"), format!("{n})")],
        |n| {
            let word = ["", "一", "二", "三", "四", "五", "六", "七", "八", "九", "十"]
                .get(n)
                .copied()
                .unwrap_or("\u{0}");
            vec![format!("（{word}）"), format!("({word})"), format!("({n})"), format!("（{n}）")]
        },
        |n| {
            ["", "①", "②", "③", "④", "⑤", "⑥", "⑦", "⑧", "⑨", "⑩"]
                .get(n)
                .map(|m| vec![(*m).to_owned()])
                .unwrap_or_default()
        },
    ];
    styles
        .iter()
        .map(|markers| {
            let mut count = 0;
            let mut rest = text;
            while let Some((at, length)) =
                markers(count + 1).iter().filter_map(|m| Some((find_marker(rest, m)?, m.len()))).min()
            {
                rest = &rest[at + length..];
                count += 1;
            }
            count
        })
        .max()
        .unwrap_or(0)
}

/// Finds a list marker at the beginning of an item, not within a number or word.
fn find_marker(text: &str, marker: &str) -> Option<usize> {
    text.match_indices(marker).map(|(at, _)| at).find(|at| {
        let before = text[..*at].chars().next_back();
        let after = text[at + marker.len()..].chars().next();
        let begins = before
            .is_none_or(|c| matches!(c, '\n' | '。' | '：' | ':' | '；' | ';' | '.' | ' ' | '，' | ','));
        let number = marker.ends_with('.') && after.is_some_and(|c| c.is_ascii_digit());
        (begins || marker.starts_with(['（', '(', '①', '②', '③', '④', '⑤', '⑥', '⑦', '⑧', '⑨', '⑩']))
            && !number
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_translations_with_dropped_and_added_parts() {
        let source =
            "各地因地制宜发展新质生产力。传统产业正在加快转型升级。新兴产业不断壮大。未来产业加快布局。";
        let complete = "Localities are developing new quality productive forces. Traditional industries are upgrading \
                     faster. Emerging industries keep growing. Future industries are being laid out.";
        assert!(!coverage(source, complete).too_short() && !coverage(source, complete).too_long());
        assert!(coverage(source, "Localities are developing new quality productive forces.").too_short());
        assert!(coverage(source, &complete.repeat(3)).too_long());
        assert_eq!(coverage(source, complete).sentences, (4, 4));
    }

    #[test]
    fn counts_list_items() {
        let source = "任务有三：（一）稳增长；（二）促改革；（三）惠民生。";
        assert_eq!(coverage(source, "Three tasks: (1) growth; (2) reform; (3) welfare.").items_lost(), 0);
        assert_eq!(coverage(source, "Three tasks: (1) growth; (2) reform.").items_lost(), 1);
        assert_eq!(coverage("增长1.5万，2.3亿", "15,000 and 230 million").list_items, (0, 0));
    }
}
