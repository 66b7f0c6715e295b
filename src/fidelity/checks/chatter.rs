//! What a model says about its work instead of doing it: greetings, announcements, notes, apologies.

/// Beginnings of sentences, in lower case, in which a model speaks of itself or of its task.
const ENGLISH: &[&str] = &[
    "here is the",
    "here's the",
    "here is a",
    "here's a",
    "here is your",
    "sure,",
    "sure!",
    "sure.",
    "certainly",
    "of course,",
    "of course!",
    "the translation is",
    "the translation of",
    "the english translation",
    "translation:",
    "english translation:",
    "translated text:",
    "english:",
    "note:",
    "note that the",
    "please note",
    "(note:",
    "notes:",
    "explanation:",
    "i'm sorry",
    "i am sorry",
    "sorry,",
    "i apologize",
    "i cannot help",
    "i cannot translate",
    "i cannot provide",
    "i can't help",
    "i can't translate",
    "i'm unable to",
    "as an ai",
    "as a language model",
    "let me know",
    "i hope this",
    "this translation",
    "the above translation",
    "the text translates",
    "the sentence translates",
    "the original text",
    "the provided text",
    "summary:",
    "in summary:",
    "the given text",
    "the text must contain",
    "the text must include",
    "the translation must",
    "the chinese text",
    "original:",
    "source:",
    "output:",
    "answer:",
    "human:",
    "user:",
    "assistant:",
    "<|im_",
    "```",
];

/// The same in Chinese.
const CHINESE: &[&str] = &[
    "以下是",
    "下面是",
    "好的，",
    "好的。",
    "好的！",
    "当然，",
    "当然可以",
    "摘要：",
    "摘要:",
    "总结：",
    "总结:",
    "概括：",
    "翻译：",
    "译文：",
    "注：",
    "注意：",
    "注释：",
    "说明：",
    "解释：",
    "根据您",
    "根据你提供",
    "根据提供的",
    "抱歉",
    "对不起",
    "很抱歉",
    "作为一个AI",
    "作为人工智能",
    "我无法",
    "希望对您",
    "希望对你",
    "如需",
    "如果您",
    "原文：",
    "答案：",
    "回答：",
    "这段文字",
    "本段文字",
    "这篇文章主要",
    "字数：",
    "（字数",
    "(字数",
    "<|im_",
    "```",
];

/// Words in a source that stand for a beginning of the table, which then is no chatter.
const IN_SOURCE: &[(&str, &[&str])] = &[
    ("note", &["注", "备注", "提示"]),
    ("please note", &["请注意", "注意"]),
    ("sorry", &["抱歉", "对不起", "遗憾"]),
    ("i'm sorry", &["抱歉", "对不起", "遗憾"]),
    ("i am sorry", &["抱歉", "对不起", "遗憾"]),
    ("i apologize", &["抱歉", "道歉", "致歉"]),
    ("i cannot", &["不能", "无法", "没法", "不可"]),
    ("i can't", &["不能", "无法", "没法", "不会", "不可"]),
    ("i'm unable", &["不能", "无法"]),
    ("source", &["来源", "源"]),
    ("answer", &["答"]),
    ("explanation", &["解释", "说明"]),
    ("summary", &["总结", "摘要", "概要"]),
    ("of course", &["当然"]),
    ("certainly", &["当然", "肯定", "一定", "必然"]),
    ("sure", &["当然", "肯定", "一定", "好"]),
    ("here is", &["这是", "这里", "以下", "下面", "这就是"]),
    ("here's", &["这是", "这里", "以下", "下面", "这就是"]),
    ("the translation", &["翻译", "译"]),
    ("the text must", &["必须", "须", "应"]),
    ("translation", &["翻译", "译"]),
    ("this translation", &["翻译", "译"]),
    ("english", &["英语", "英文"]),
    ("the english", &["英语", "英文"]),
    ("the original", &["原文", "原"]),
    ("let me know", &["告诉我"]),
    ("i hope this", &["希望"]),
    ("original", &["原"]),
];

/// The sentence in which an output speaks about itself, as its byte range; None for an output that only does its work.
/// What the source itself says is no chatter.
///
/// ```
/// use yizhai::fidelity::chatter;
///
/// let output = "Here is the translation: The rocket was launched.";
/// assert_eq!(chatter("火箭发射。", output), Some(0..24));
/// assert_eq!(chatter("火箭发射。", "The rocket was launched."), None);
/// assert_eq!(chatter("注：数据来自统计局。", "Note: the data are from the bureau."), None);
/// ```
pub(in crate::fidelity) fn chatter(source: &str, output: &str) -> Option<std::ops::Range<usize>> {
    let mut start = 0;
    loop {
        let line = &output[start..];
        let skip = line
            .find(|c: char| !(c.is_whitespace() || matches!(c, '*' | '#' | '"' | '“' | '>')))
            .unwrap_or(line.len());
        let sentence = start + skip;
        let length = sentence_length(&output[sentence..]);
        if begins_chatter(source, &output[sentence..sentence + length]) {
            return Some(sentence..sentence + length);
        }
        start = sentence + length;
        if start >= output.len() {
            return None;
        }
    }
}

/// The length of the sentence that begins a text, with its end.
fn sentence_length(text: &str) -> usize {
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        let end = at + c.len_utf8();
        let next_is_space = text[end..].chars().next().is_none_or(char::is_whitespace);
        let ends = matches!(c, '\n' | '。' | '！' | '？' | '：')
            || (matches!(c, '.' | '!' | '?' | ':') && next_is_space && !previous.is_uppercase());
        if ends {
            return end;
        }
        previous = c;
    }
    text.len()
}

fn begins_chatter(source: &str, sentence: &str) -> bool {
    let lower: String = sentence.chars().take(48).collect::<String>().to_lowercase().replace('’', "'");
    if let Some(begin) = ENGLISH.iter().find(|begin| lower.starts_with(**begin)) {
        // A label or a word alone is chatter wherever it stands; what can be a sentence of the source may be one.
        return !IN_SOURCE
            .iter()
            .any(|(word, chinese)| begin.starts_with(word) && chinese.iter().any(|c| source.contains(c)))
            && !source.to_lowercase().contains(begin);
    }
    CHINESE.iter().any(|begin| sentence.starts_with(begin) && !source.contains(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chatter_is_found_wherever_it_stands() {
        for output in [
            "Sure, here is the translation: The rocket flew.",
            "The rocket flew. Note: the original text is unclear.",
            "The rocket flew.\n\n(Note: this is a rough translation.)",
            "I'm sorry, but I cannot help with that.",
            "**Translation:** The rocket flew.",
            "English: The rocket flew.",
            // What the model was asked for, in place of the answer.
            "The text must contain: 991.",
            "以下是摘要：火箭升空。",
            "摘要：火箭升空。",
            "火箭升空。（字数：5）",
        ] {
            assert!(chatter("火箭升空。", output).is_some(), "{output}");
        }
    }

    #[test]
    fn what_the_source_says_is_no_chatter() {
        for (source, output) in [
            ("火箭升空。", "The rocket flew. It landed at 3 p.m. on the U.S. coast."),
            ("“对不起，”他说。", "\"Sorry,\" he said."),
            ("当然，这不容易。", "Of course, this is not easy."),
            ("总结：成绩很大。", "总结：成绩很大。"),
            ("", ""),
        ] {
            assert_eq!(chatter(source, output), None, "{output}");
        }
    }
}
