//! Which tokens write Chinese.

use tokenizers::{ModelWrapper, Tokenizer};

/// The least first byte of a character of three bytes from U+3000 on, where CJK punctuation begins. Han, kana, Hangul,
/// full-width forms and all characters of four bytes follow it; Latin, Greek, Cyrillic and the quotation marks, dashes
/// and currency signs of English come before.
const FIRST_CJK_BYTE: u8 = 0xe3;

/// For every token id, whether none of its bytes begins a character from U+3000 on. A token may hold just a part of a
/// character's bytes; the first one decides, because no such character can be written without it.
pub(super) fn without_chinese(tokenizer: &Tokenizer) -> Vec<bool> {
    let size = tokenizer.get_vocab_size(true);
    // SentencePiece writes text as text, and bytes where a character is no piece; the others write all in bytes.
    let is_sentence_piece = match tokenizer.get_model() {
        ModelWrapper::BPE(bpe) => bpe.byte_fallback,
        ModelWrapper::WordLevel(_) => true,
        _ => false,
    };
    let is_free = |token: String| match is_sentence_piece {
        true => byte_piece(&token).map_or_else(|| token.bytes().all(is_no_cjk), is_no_cjk),
        false => token.chars().filter_map(byte).all(is_no_cjk),
    };
    let token = |id: usize| u32::try_from(id).ok().and_then(|id| tokenizer.id_to_token(id));
    (0..size).map(|id| token(id).is_some_and(is_free)).collect()
}

fn is_no_cjk(byte: u8) -> bool {
    byte < FIRST_CJK_BYTE
}

/// The byte that a piece like `<0xE4>` of SentencePiece stands for.
fn byte_piece(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok()
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
    use tokenizers::models::bpe::{BPE, Vocab};

    use super::*;

    #[test]
    fn a_piece_of_sentence_piece_is_text_or_a_byte() {
        let tokens = ["a", "▁news", "中", "▁中", "é", "。", "<0xE4>", "<0x41>", "<0xZZ>"];
        let vocab = (0u32..).zip(tokens).map(|(id, token)| (token.to_owned(), id));
        let bpe = BPE::builder().vocab_and_merges(vocab.collect::<Vocab>(), Vec::new()).byte_fallback(true);
        let tokenizer = Tokenizer::new(bpe.build().expect("a vocabulary"));
        let free = without_chinese(&tokenizer);
        assert_eq!(free, [true, true, false, false, true, false, false, true, true]);
    }

    #[test]
    fn every_byte_has_one_character() {
        let found: Vec<u8> = (0..0x200).filter_map(char::from_u32).filter_map(byte).collect();
        let mut sorted = found.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..=0xff).collect::<Vec<u8>>());
        assert_eq!((byte('a'), byte('\u{120}'), byte('中')), (Some(b'a'), Some(b' '), None));
    }
}
