//! Detects chatter: greetings, announcements, notes and apologies that a model writes about its task.

/// Lower-case beginnings of sentences in which a model comments on itself or on its task.
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

/// Beginnings of such sentences in Chinese.
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

/// Beginnings of `ENGLISH`, and the Chinese words that justify them: if the source contains one, the sentence is a
/// translation and not chatter.
const JUSTIFIED_BY: &[(&str, &[&str])] = &[
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

/// Returns the byte range of the first sentence in which an output comments on itself or on its task. A sentence that
/// the source justifies does not count.
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

/// Returns the length of the first sentence in bytes, including its punctuation.
fn sentence_length(text: &str) -> usize {
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        let end = at + c.len_utf8();
        let next_is_space = text[end..].chars().next().is_none_or(char::is_whitespace);
        let is_end = matches!(c, '\n' | '。' | '！' | '？' | '：')
            || (matches!(c, '.' | '!' | '?' | ':') && next_is_space && !previous.is_uppercase());
        if is_end {
            return end;
        }
        previous = c;
    }
    text.len()
}

/// Returns `true` if a sentence begins like chatter and the source does not justify it.
fn begins_chatter(source: &str, sentence: &str) -> bool {
    let lower: String = sentence.chars().take(48).collect::<String>().to_lowercase().replace('’', "'");
    if let Some(begin) = ENGLISH.iter().find(|begin| lower.starts_with(**begin)) {
        return !JUSTIFIED_BY
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
    fn finds_chatter_anywhere_in_the_output() {
        for output in [
            "Sure, here is the translation: The rocket flew.",
            "The rocket flew. Note: the original text is unclear.",
            "The rocket flew.\n\n(Note: this is a rough translation.)",
            "I'm sorry, but I cannot help with that.",
            "**Translation:** The rocket flew.",
            "English: The rocket flew.",
            // The model repeats an instruction of the prompt.
            "The text must contain: 991.",
            "以下是摘要：火箭升空。",
            "摘要：火箭升空。",
            "火箭升空。（字数：5）",
        ] {
            assert!(chatter("火箭升空。", output).is_some(), "{output}");
        }
        assert_eq!(chatter("火箭升空。", "Here is the translation: The rocket flew."), Some(0..24));
    }

    #[test]
    fn accepts_sentences_that_the_source_justifies() {
        for (source, output) in [
            ("火箭升空。", "The rocket flew. It landed at 3 p.m. on the U.S. coast."),
            ("“对不起，”他说。", "\"Sorry,\" he said."),
            ("当然，这不容易。", "Of course, this is not easy."),
            ("总结：成绩很大。", "总结：成绩很大。"),
            ("注：数据来自统计局。", "Note: the data are from the bureau."),
            ("", ""),
        ] {
            assert_eq!(chatter(source, output), None, "{output}");
        }
    }
}
