//! Which tokens write Chinese.

use tokenizers::Tokenizer;

/// The least first byte of a character of three bytes from U+3000 on, where CJK punctuation begins. Han, kana, Hangul,
/// full-width forms and all characters of four bytes follow it; Latin, Greek, Cyrillic and the quotation marks, dashes
/// and currency signs of English come before.
const FIRST_CJK_BYTE: u8 = 0xe3;

/// For every token id, whether none of its bytes begins a character from U+3000 on. A token may hold just a part of a
/// character's bytes; the first one decides, because no such character can be written without it.
pub(super) fn without_chinese(tokenizer: &Tokenizer) -> Vec<bool> {
    let size = tokenizer.get_vocab_size(true);
    let is_free = |id: usize| {
        let token = u32::try_from(id).ok().and_then(|id| tokenizer.id_to_token(id));
        token.is_some_and(|token| token.chars().all(|c| byte(c).is_none_or(|byte| byte < FIRST_CJK_BYTE)))
    };
    (0..size).map(is_free).collect()
}

/// The byte that a character of a byte-level vocabulary stands for, as GPT-2 laid it down: printable Latin-1 characters
/// stand for themselves, and the rest, in order, for U+0100 and on. `None` for other characters, which only markers hold.
fn byte(c: char) -> Option<u8> {
    let is_plain = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match u32::from(c) {
        code @ 0..=0xff => u8::try_from(code).ok().filter(|byte| is_plain(*byte)),
        code => {
            (0..=0xff).filter(|byte| !is_plain(*byte)).nth(usize::try_from(code).ok()?.checked_sub(0x100)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        let found: Vec<u8> = (0..0x200).filter_map(char::from_u32).filter_map(byte).collect();
        let mut sorted = found.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..=0xff).collect::<Vec<u8>>());
        assert_eq!((byte('a'), byte('\u{120}'), byte('中')), (Some(b'a'), Some(b' '), None));
    }
}
