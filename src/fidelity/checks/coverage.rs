//! Whether a translation is as long as its source, and has as many items and sentences.

/// A source with fewer Chinese characters is not measured: a headline may lose half its words.
const LEAST_CHARS: f64 = 20.0;
/// English characters for one Chinese: below the first something was dropped, above the second added. Of a thousand
/// sentences translated by people the shortest has 1.55 and the longest 6.75, the median 3.
const LEAST_RATIO: f64 = 1.5;
const MOST_RATIO: f64 = 7.0;

/// How much of a source a translation can hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::fidelity) struct Coverage {
    /// Characters of the translation, white space not counted, for each Chinese character of the source.
    pub length_ratio: f64,
    /// Sentences of the source and of the translation.
    pub sentences: (usize, usize),
    /// Items of lists (`1.`, `（二）`, `-` at the beginning of a line or behind a colon or semicolon) in both.
    pub list_items: (usize, usize),
    /// The source is long enough for the ratio to say something.
    pub measurable: bool,
}

impl Coverage {
    /// So short that something was dropped.
    pub(in crate::fidelity) fn too_short(&self) -> bool {
        self.measurable && self.length_ratio < LEAST_RATIO
            || self.sentences.0 >= 3
                && self.length_ratio < 1.6 * LEAST_RATIO
                && 2 * self.sentences.1 < self.sentences.0
    }

    /// So long that something was added.
    pub(in crate::fidelity) fn too_long(&self) -> bool {
        self.measurable && self.length_ratio > MOST_RATIO
    }

    /// How many items of a list were lost.
    pub(in crate::fidelity) fn items_lost(&self) -> usize {
        let (source, output) = self.list_items;
        if source >= 2 { source.saturating_sub(output) } else { 0 }
    }
}

/// Measures how much of a Chinese source an English translation can hold.
///
/// ```
/// use yizhai::fidelity::coverage;
///
/// let source = "加快场景培育和开放，打造新技术新产品的试验场、新兴产业发展的加速器。";
/// assert!(coverage(source, "Faster.").too_short());
/// ```
pub(in crate::fidelity) fn coverage(source: &str, translation: &str) -> Coverage {
    let wide = source.chars().filter(|c| c.is_alphanumeric() && !c.is_ascii()).count() as f64;
    let letters = translation.chars().filter(|c| !c.is_whitespace()).count() as f64;
    let ratio = if wide > 0.0 { letters / wide } else { LEAST_RATIO };
    Coverage {
        length_ratio: ratio,
        sentences: (sentences(source), sentences(translation)),
        list_items: (list_items(source), list_items(translation)),
        measurable: wide >= LEAST_CHARS,
    }
}

/// Ends of sentences; a point counts only before a space or the end, and not behind a single letter.
fn sentences(text: &str) -> usize {
    let chars: Vec<char> = text.chars().collect();
    let mut count = 0;
    for (at, c) in chars.iter().enumerate() {
        let ends = match c {
            '。' | '！' | '？' => true,
            '.' | '!' | '?' => {
                chars.get(at + 1).is_none_or(|c| c.is_whitespace() || matches!(c, '"' | '”' | ')' | '’'))
                    && at >= 2
                    && chars[at - 1].is_alphanumeric()
                    && chars[at - 2].is_alphanumeric()
            }
            _ => false,
        };
        count += usize::from(ends && !matches!(chars.get(at + 1), Some('。' | '！' | '？' | '!' | '?')));
    }
    count
}

/// Items that are numbered in order from one on: `1.`, `（1）`, `(一)`, `一是`, `第一，`, `First,`.
fn list_items(text: &str) -> usize {
    let marks: [fn(usize) -> Vec<String>; 4] = [
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
    marks
        .iter()
        .map(|mark| {
            let mut count = 0;
            let mut rest = text;
            while let Some((at, length)) =
                mark(count + 1).iter().filter_map(|m| Some((find_item(rest, m)?, m.len()))).min()
            {
                rest = &rest[at + length..];
                count += 1;
            }
            count
        })
        .max()
        .unwrap_or(0)
}

/// Where a mark stands at the beginning of an item: not within a number or word.
fn find_item(text: &str, mark: &str) -> Option<usize> {
    text.match_indices(mark).map(|(at, _)| at).find(|at| {
        let before = text[..*at].chars().next_back();
        let after = text[at + mark.len()..].chars().next();
        let begins = before
            .is_none_or(|c| matches!(c, '\n' | '。' | '：' | ':' | '；' | ';' | '.' | ' ' | '，' | ','));
        let number = mark.ends_with('.') && after.is_some_and(|c| c.is_ascii_digit());
        (begins || mark.starts_with(['（', '(', '①', '②', '③', '④', '⑤', '⑥', '⑦', '⑧', '⑨', '⑩'])) && !number
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_parts_show_in_the_measures() {
        let source =
            "各地因地制宜发展新质生产力。传统产业正在加快转型升级。新兴产业不断壮大。未来产业加快布局。";
        let whole = "Localities are developing new quality productive forces. Traditional industries are upgrading \
                     faster. Emerging industries keep growing. Future industries are being laid out.";
        assert!(!coverage(source, whole).too_short() && !coverage(source, whole).too_long());
        assert!(coverage(source, "Localities are developing new quality productive forces.").too_short());
        assert!(coverage(source, &whole.repeat(3)).too_long());
        assert_eq!(coverage(source, whole).sentences, (4, 4));
    }

    #[test]
    fn items_of_a_list_are_counted() {
        let source = "任务有三：（一）稳增长；（二）促改革；（三）惠民生。";
        assert_eq!(coverage(source, "Three tasks: (1) growth; (2) reform; (3) welfare.").items_lost(), 0);
        assert_eq!(coverage(source, "Three tasks: (1) growth; (2) reform.").items_lost(), 1);
        assert_eq!(coverage("增长1.5万，2.3亿", "15,000 and 230 million").list_items, (0, 0));
    }
}
