//! Detects the tokens that contain Chinese. Called by [`super::Tokenizer`].

use tokenizers::{ModelWrapper, Tokenizer};

/// The UTF-8 lead byte of U+3000, where CJK punctuation starts. Han, kana, Hangul, full-width forms and all four-byte
/// characters have this lead byte or a larger one; Latin, Greek, Cyrillic and the quotation marks, dashes and currency
/// signs of English have a smaller one.
const FIRST_CJK_BYTE: u8 = 0xe3;

/// Returns, for every token id, `true` if none of its bytes is the lead byte of a character from U+3000 on. A token may
/// hold only some bytes of a character; the lead byte decides, because no such character can be written without it.
pub(super) fn tokens_without_chinese(tokenizer: &Tokenizer) -> Vec<bool> {
    let size = tokenizer.get_vocab_size(true);
    // SentencePiece tokens are text, or a byte of a character outside its vocabulary; all other tokens are bytes.
    let is_sentence_piece = match tokenizer.get_model() {
        ModelWrapper::BPE(bpe) => bpe.byte_fallback,
        ModelWrapper::WordLevel(_) => true,
        _ => false,
    };
    let is_without = |token: String| match is_sentence_piece {
        true => byte_piece(&token).map_or_else(|| token.bytes().all(is_below_cjk), is_below_cjk),
        false => token.chars().filter_map(byte_level_byte).all(is_below_cjk),
    };
    let token = |id: usize| u32::try_from(id).ok().and_then(|id| tokenizer.id_to_token(id));
    (0..size).map(|id| token(id).is_some_and(is_without)).collect()
}

fn is_below_cjk(byte: u8) -> bool {
    byte < FIRST_CJK_BYTE
}

/// Returns the byte of a SentencePiece token such as `<0xE4>`.
fn byte_piece(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok()
}

/// Returns the byte that a character of a byte-level vocabulary represents. As in GPT-2, printable Latin-1 characters
/// represent themselves, and the characters from U+0100 on represent the remaining bytes in order. Returns `None` for
/// other characters, which occur in markers only.
fn byte_level_byte(c: char) -> Option<u8> {
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
    fn sentence_piece_tokens_are_text_or_bytes() {
        let tokens = ["a", "▁news", "中", "▁中", "é", "。", "<0xE4>", "<0x41>", "<0xZZ>"];
        let vocab = (0u32..).zip(tokens).map(|(id, token)| (token.to_owned(), id));
        let bpe = BPE::builder().vocab_and_merges(vocab.collect::<Vocab>(), Vec::new()).byte_fallback(true);
        let tokenizer = Tokenizer::new(bpe.build().expect("a vocabulary"));
        let found = tokens_without_chinese(&tokenizer);
        assert_eq!(found, [true, true, false, false, true, false, false, true, true]);
    }

    #[test]
    fn every_byte_has_exactly_one_character() {
        let found: Vec<u8> = (0..0x200).filter_map(char::from_u32).filter_map(byte_level_byte).collect();
        let mut sorted = found.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..=0xff).collect::<Vec<u8>>());
        assert_eq!(
            (byte_level_byte('a'), byte_level_byte('\u{120}'), byte_level_byte('中')),
            (Some(b'a'), Some(b' '), None)
        );
    }
}
