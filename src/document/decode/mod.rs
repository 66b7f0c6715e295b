//! Detects the encoding of a page and decodes it strictly.
//!
//! [`parse`](super::parse) calls [`decode`] first. Chinese news is published in UTF-8, UTF-16, GB18030 (which includes
//! GBK and GB2312) and Big5, so only these are tried. An invalid byte is an error that names its position; no character
//! is ever replaced.

pub(crate) mod normalize;

use std::borrow::Cow;

use encoding_rs::{BIG5, DecoderResult, Encoding, GB18030, UTF_8, UTF_16BE, UTF_16LE};

use crate::document::DocumentError;

/// The number of bytes that are examined to guess an encoding. The guess is then checked on the whole page.
const SAMPLE_BYTES: usize = 1 << 18;

/// The number of bytes that the slower detector examines, starting at the first byte that is not ASCII.
const DETECTOR_BYTES: usize = 1 << 13;

/// A decoded page, before normalization.
#[derive(Debug)]
pub(crate) struct DecodedText<'a> {
    /// The text without its byte order mark.
    pub(crate) text: Cow<'a, str>,
    /// The encoding of the page.
    pub(crate) encoding: &'static Encoding,
    /// The length of the byte order mark in bytes.
    pub(crate) bom_len: usize,
}

/// Decodes `bytes` in the encoding that fits them.
pub(crate) fn decode(bytes: &[u8]) -> Result<DecodedText<'_>, DocumentError> {
    if let Some((encoding, bom_len)) = Encoding::for_bom(bytes) {
        return decode_strictly(bytes, encoding, bom_len);
    }
    if let Some(encoding) = detect_utf16(bytes) {
        return decode_strictly(bytes, encoding, 0);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(DecodedText { text: Cow::Borrowed(text), encoding: UTF_8, bom_len: 0 }),
        Err(error) if is_damaged_utf8(bytes) => {
            Err(DocumentError::Undecodable { offset: error.valid_up_to(), encoding: UTF_8.name() })
        }
        Err(_) => decode_legacy(bytes),
    }
}

/// Decodes GB18030 or Big5: first the one that chardetng considers likelier, then the other.
fn decode_legacy(bytes: &[u8]) -> Result<DecodedText<'_>, DocumentError> {
    let mut detector = chardetng::EncodingDetector::new(chardetng::Iso2022JpDetection::Deny);
    let start = bytes.iter().position(|byte| !byte.is_ascii()).unwrap_or(0);
    detector.feed(&bytes[start..bytes.len().min(start + DETECTOR_BYTES)], false);
    let likelier = detector.guess(None, chardetng::Utf8Detection::Deny);
    let (first, second) = if likelier == BIG5 { (BIG5, GB18030) } else { (GB18030, BIG5) };
    decode_strictly(bytes, first, 0).or_else(|error| decode_strictly(bytes, second, 0).map_err(|_| error))
}

/// Decodes all of `bytes` after the byte order mark, or returns the position of the first invalid byte.
fn decode_strictly<'a>(
    bytes: &'a [u8],
    encoding: &'static Encoding,
    bom_len: usize,
) -> Result<DecodedText<'a>, DocumentError> {
    let body = &bytes[bom_len..];
    let undecodable =
        |offset: usize| DocumentError::Undecodable { offset: bom_len + offset, encoding: encoding.name() };
    let text = if encoding == UTF_8 {
        let text = std::str::from_utf8(body).map_err(|error| undecodable(error.valid_up_to()))?;
        Cow::Borrowed(text)
    } else {
        let mut decoder = encoding.new_decoder_without_bom_handling();
        let capacity = decoder.max_utf8_buffer_length_without_replacement(body.len());
        let mut text = String::with_capacity(capacity.unwrap_or(body.len()));
        match decoder.decode_to_string_without_replacement(body, &mut text, true) {
            (DecoderResult::InputEmpty, _) => Cow::Owned(text),
            // `read` includes the malformed bytes and up to three bytes after them.
            (DecoderResult::Malformed(malformed, after), read) => {
                return Err(undecodable(read.saturating_sub(usize::from(malformed) + usize::from(after))));
            }
            (DecoderResult::OutputFull, read) => return Err(undecodable(read)),
        }
    };
    Ok(DecodedText { text, encoding, bom_len })
}

/// Returns `true` if `bytes` are UTF-8 with some invalid bytes rather than another encoding. Text in GB18030 or Big5
/// hardly ever contains well-formed multi-byte UTF-8, so there the invalid sequences far outnumber the valid ones.
fn is_damaged_utf8(bytes: &[u8]) -> bool {
    let (mut valid, mut invalid) = (0usize, 0usize);
    for chunk in bytes[..bytes.len().min(SAMPLE_BYTES)].utf8_chunks() {
        valid += chunk.valid().bytes().filter(|byte| *byte >= 0xE0).count();
        invalid += usize::from(!chunk.invalid().is_empty());
    }
    valid > invalid
}

/// Detects UTF-16 without a byte order mark: in one of the two byte orders, nearly every code unit is ASCII, Chinese or
/// Chinese punctuation. Text in GB18030, Big5 or UTF-8 is far from that when read as UTF-16.
fn detect_utf16(bytes: &[u8]) -> Option<&'static Encoding> {
    let sample = &bytes[..bytes.len().min(SAMPLE_BYTES) & !1];
    if sample.is_empty() || !bytes.len().is_multiple_of(2) {
        return None;
    }
    // ASCII and short UTF-8 may look like Chinese when read as UTF-16. Real UTF-16 contains zero bytes (line breaks,
    // digits, ASCII) or is invalid UTF-8.
    if !sample.contains(&0) && std::str::from_utf8(bytes).is_ok() {
        return None;
    }
    let likely = |unit: u16| {
        matches!(unit, 0x09 | 0x0A | 0x0D | 0x20..=0x7E | 0x2010..=0x2030 | 0x3000..=0x301F | 0x4E00..=0x9FFF
            | 0xFF01..=0xFF5E)
    };
    let share = |read: fn([u8; 2]) -> u16| {
        sample.chunks_exact(2).filter(|pair| likely(read([pair[0], pair[1]]))).count() * 2
    };
    let (little, big) = (share(u16::from_le_bytes), share(u16::from_be_bytes));
    let (best, encoding) = if little >= big { (little, UTF_16LE) } else { (big, UTF_16BE) };
    (best * 20 >= sample.len() * 19).then_some(encoding)
}

/// Returns the number of bytes that encode `character` at the start of `rest`, which must be valid in `encoding`.
pub(crate) fn original_width(encoding: &'static Encoding, rest: &[u8], character: char) -> usize {
    if encoding == UTF_8 {
        character.len_utf8()
    } else if encoding == UTF_16LE || encoding == UTF_16BE {
        2 * character.len_utf16()
    } else {
        match rest {
            [0..=0x80, ..] => 1,
            [_, 0x30..=0x39, ..] if encoding == GB18030 => 4,
            _ => 2,
        }
    }
}

/// Returns `true` if `character` is the second of the two characters that a single Big5 code decodes to, such as Ê̄. The
/// bytes are attributed to the first one, so the second has a width of zero.
pub(crate) fn is_big5_second(encoding: &'static Encoding, character: char) -> bool {
    encoding == BIG5 && matches!(character, '\u{304}' | '\u{30C}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str, encoding: &'static Encoding) -> Vec<u8> {
        encoding.encode(text).0.into_owned()
    }

    fn utf16(text: &str, big_endian: bool) -> Vec<u8> {
        let bytes = |unit: u16| if big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() };
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn detects_each_encoding() {
        let simplified = "本报讯 昨天，全市的中小学开学了。\n新学期里，孩子们多了两节体育课。";
        let traditional = "本報訊 昨天，全市的中小學開學了。\n新學期裡，孩子們多了兩節體育課。";
        let cases = [
            (simplified.as_bytes().to_vec(), "UTF-8", simplified),
            (encoded(simplified, GB18030), "gb18030", simplified),
            (encoded(traditional, BIG5), "Big5", traditional),
            (utf16(simplified, false), "UTF-16LE", simplified),
            (utf16(simplified, true), "UTF-16BE", simplified),
            ([b"\xFF\xFE".to_vec(), utf16(simplified, false)].concat(), "UTF-16LE", simplified),
            ([b"\xEF\xBB\xBF".to_vec(), simplified.into()].concat(), "UTF-8", simplified),
            (b"plain ASCII of even length".to_vec(), "UTF-8", "plain ASCII of even length"),
        ];
        for (bytes, name, text) in cases {
            let decoded = decode(&bytes).expect(name);
            assert_eq!((decoded.encoding.name(), decoded.text.as_ref()), (name, text));
        }
    }

    #[test]
    fn names_the_position_of_the_first_invalid_byte() {
        let offset = |bytes: &[u8]| match decode(bytes) {
            Err(DocumentError::Undecodable { offset, encoding }) => (offset, encoding),
            other => panic!("{other:?}"),
        };
        let mut damaged = "全市的中小学开学了".as_bytes().to_vec();
        damaged[9] = 0xFF;
        assert_eq!(offset(&damaged), (9, "UTF-8"));
        let mut truncated = encoded("全市的中小学开学了", GB18030);
        truncated.pop();
        assert_eq!(offset(&truncated), (16, "gb18030"));
        let lone_surrogate = [b"\xFF\xFE".to_vec(), vec![0x2D, 0x4E, 0x00, 0xD8, 0x2D, 0x4E]].concat();
        assert_eq!(offset(&lone_surrogate), (4, "UTF-16LE"));
        assert_eq!(offset(b"\xEF\xBB\xBFab\xC3("), (5, "UTF-8"));
    }
}
