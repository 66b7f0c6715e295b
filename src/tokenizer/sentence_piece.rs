//! SentencePiece unigram vocabularies: splits a text into the most likely sequence of pieces.
//!
//! Parses a SentencePiece model file (a protobuf), normalizes a text by its rules, and leaves the search for the pieces
//! to the `tokenizers` library. Called by [`super::Tokenizer`]; independent of a model's token ids.

use prost::Message;
use tokenizers::models::unigram::Unigram;

use super::TokenizerError;

/// The character that represents a space.
pub(super) const SPACE: char = '▁';
/// Maximum length of the text that a normalization rule replaces, in bytes.
const LONGEST_RULE: usize = 64;

/// The fields of `sentencepiece.ModelProto` that are used here.
#[derive(Message)]
struct Proto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<PieceProto>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<TrainerProto>,
    #[prost(message, optional, tag = "3")]
    normalizer: Option<NormalizerProto>,
}

#[derive(Message)]
struct PieceProto {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Message)]
struct TrainerProto {
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
}

#[derive(Message)]
struct NormalizerProto {
    #[prost(bytes = "vec", optional, tag = "2")]
    charsmap: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3")]
    add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    remove_extra_whitespaces: Option<bool>,
}

/// The kind of a piece: `ModelProto.SentencePiece.Type`.
mod kind {
    pub(super) const NORMAL: i32 = 1;
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const BYTE: i32 = 6;
}

/// `TrainerSpec.ModelType`.
const UNIGRAM: i32 = 1;

/// A vocabulary with its normalization rules.
pub(super) struct SentencePiece {
    /// All pieces, in the order of the file.
    pieces: Vec<String>,
    /// The ordinary pieces, without markers such as `</s>`.
    unigram: Unigram,
    rules: NormalizationRules,
    has_bytes: bool,
    leading_space: bool,
    single_spaces: bool,
}

impl SentencePiece {
    /// Parses a model file; `name` appears in error messages.
    ///
    /// # Errors
    /// If the file is malformed, or its vocabulary is not of the unigram type.
    pub(super) fn parse(name: &str, bytes: &[u8]) -> Result<Self, TokenizerError> {
        let invalid = |detail: String| TokenizerError::SentencePiece { file: name.to_owned(), detail };
        let Proto { pieces, trainer, normalizer } =
            Proto::decode(bytes).map_err(|error| invalid(error.to_string()))?;
        let model_type = trainer.and_then(|trainer| trainer.model_type).unwrap_or(UNIGRAM);
        if model_type != UNIGRAM {
            return Err(invalid(format!("trainer_spec.model_type is {model_type}; supported: 1, unigram")));
        }
        let of_kind = |wanted| pieces.iter().filter(move |p| p.kind.unwrap_or(kind::NORMAL) == wanted);
        let text = |piece: &PieceProto| piece.piece.clone().unwrap_or_default();
        let unknown = of_kind(kind::UNKNOWN)
            .next()
            .ok_or_else(|| invalid("pieces: no piece has the type UNKNOWN".to_owned()))?;
        // The unknown piece comes first and takes no part in the search.
        let ordinary = of_kind(kind::NORMAL).filter(|piece| !text(piece).is_empty());
        let scored = ordinary.map(|piece| (text(piece), f64::from(piece.score.unwrap_or_default())));
        let scored: Vec<_> = std::iter::once((text(unknown), 0.0)).chain(scored).collect();
        if scored.iter().any(|(_, score)| !score.is_finite()) {
            return Err(invalid("pieces: a score is not finite".to_owned()));
        }
        let unigram = Unigram::from(scored, Some(0), false).map_err(|error| invalid(error.to_string()))?;
        let normalizer = normalizer.unwrap_or_default();
        Ok(Self {
            has_bytes: of_kind(kind::BYTE).next().is_some(),
            pieces: pieces.iter().map(text).collect(),
            unigram,
            rules: NormalizationRules::parse(&normalizer.charsmap.unwrap_or_default()).ok_or_else(|| {
                invalid("normalizer_spec.precompiled_charsmap is truncated or not UTF-8".to_owned())
            })?,
            leading_space: normalizer.add_dummy_prefix.unwrap_or(true),
            single_spaces: normalizer.remove_extra_whitespaces.unwrap_or(true),
        })
    }

    /// Returns all pieces, in the order of the file.
    pub(super) fn pieces(&self) -> &[String] {
        &self.pieces
    }

    /// Splits a text into pieces. A run of characters outside the vocabulary is returned unchanged, or as bytes such as
    /// `<0xE4>` if the vocabulary has them.
    ///
    /// # Errors
    /// If the tokenizer library fails.
    pub(super) fn split(
        &self,
        text: &str,
        is_piece: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, TokenizerError> {
        let normalized = self.normalize(text);
        let pieces = self.unigram.encode(&normalized).map_err(super::library_error)?;
        if !self.has_bytes {
            return Ok(pieces);
        }
        let as_bytes = |piece: String| match is_piece(&piece) {
            true => vec![piece],
            false => piece.bytes().map(|byte| format!("<0x{byte:02X}>")).collect(),
        };
        Ok(pieces.into_iter().flat_map(as_bytes).collect())
    }

    /// Applies the normalization rules of the file and replaces spaces with `▁`.
    fn normalize(&self, text: &str) -> String {
        let mut normalized = String::with_capacity(text.len() + 8);
        let mut rest = text;
        let mut after_space = true;
        while let Some(first) = rest.chars().next() {
            let (len, replacement) =
                self.rules.longest_match(rest).unwrap_or((first.len_utf8(), &rest[..first.len_utf8()]));
            for c in replacement.chars() {
                match c {
                    ' ' if after_space && self.single_spaces => {}
                    ' ' => normalized.push(SPACE),
                    c => normalized.push(c),
                }
                after_space = c == ' ';
            }
            rest = &rest[len..];
        }
        if self.single_spaces {
            normalized.truncate(normalized.trim_end_matches(SPACE).len());
        }
        if self.leading_space && !normalized.is_empty() {
            normalized.insert(0, SPACE);
        }
        normalized
    }
}

/// The normalization rules: a trie of bytes in an array (darts-clone), followed by the replacements.
///
/// Format: the size of the trie in bytes, its units, then NUL-terminated texts; all numbers are little-endian.
struct NormalizationRules {
    units: Vec<u32>,
    texts: String,
}

impl NormalizationRules {
    /// Parses the rules; returns `None` if they are truncated or the replacements are not UTF-8.
    fn parse(charsmap: &[u8]) -> Option<Self> {
        if charsmap.is_empty() {
            return Some(Self { units: Vec::new(), texts: String::new() });
        }
        let (size, rest) = charsmap.split_first_chunk::<4>()?;
        let (units, texts) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*size)).ok()?)?;
        let units = units.as_chunks::<4>().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        Some(Self { units, texts: String::from_utf8(texts.to_vec()).ok()? })
    }

    /// Returns the number of bytes at the start of a text that the longest matching rule replaces, and the replacement.
    /// A unit that points beyond the array ends the search, because the file is not trusted.
    fn longest_match(&self, text: &str) -> Option<(usize, &str)> {
        let offset = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
        let mut at = offset(*self.units.first()?);
        let mut found = None;
        for (index, &byte) in text.as_bytes().iter().take(LONGEST_RULE).enumerate() {
            at ^= usize::from(byte);
            let Some(&unit) = self.units.get(at) else { break };
            if unit & (1 << 31 | 0xff) != u32::from(byte) {
                break;
            }
            at ^= offset(unit);
            let has_leaf = (unit >> 8) & 1 == 1;
            if let (true, Some(leaf)) = (has_leaf, self.units.get(at)) {
                found = Some((index + 1, (leaf & !(1 << 31)) as usize));
            }
        }
        let (len, start) = found?;
        let replacement = self.texts.get(start..)?.split('\0').next()?;
        text.is_char_boundary(len).then_some((len, replacement))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(change: impl FnOnce(&mut Proto)) -> Vec<u8> {
        let piece = |text: &str, score, kind| PieceProto {
            piece: Some(text.to_owned()),
            score: Some(score),
            kind: Some(kind),
        };
        let pieces = vec![
            piece("<unk>", 0.0, kind::UNKNOWN),
            piece("</s>", 0.0, 3),
            piece("▁", -2.0, kind::NORMAL),
            piece("▁ab", -3.0, kind::NORMAL),
            piece("a", -4.0, kind::NORMAL),
            piece("b", -4.0, kind::NORMAL),
        ];
        let normalizer =
            NormalizerProto { charsmap: None, add_dummy_prefix: None, remove_extra_whitespaces: None };
        let mut proto = Proto {
            pieces,
            trainer: Some(TrainerProto { model_type: Some(1) }),
            normalizer: Some(normalizer),
        };
        change(&mut proto);
        proto.encode_to_vec()
    }

    fn split(bytes: &[u8], text: &str) -> Vec<String> {
        let vocabulary = SentencePiece::parse("x.spm", bytes).unwrap();
        vocabulary.split(text, |piece| vocabulary.pieces().iter().any(|known| known == piece)).unwrap()
    }

    #[test]
    fn splits_a_text_into_its_most_likely_pieces_and_never_into_markers() {
        let bytes = file(|_| {});
        assert_eq!(split(&bytes, " ab  ba "), ["▁ab", "▁", "b", "a"]);
        assert_eq!(split(&bytes, "</s>"), ["▁", "</s>"], "text that looks like a marker is unknown text");
        assert!(split(&bytes, "  ").is_empty());
        let bytes = file(|proto| {
            proto.pieces.push(PieceProto {
                piece: Some("<0xE4>".into()),
                score: None,
                kind: Some(kind::BYTE),
            });
        });
        assert_eq!(split(&bytes, "中a"), ["▁", "<0xE4>", "<0xB8>", "<0xAD>", "a"]);
    }

    #[test]
    fn errors_name_the_field() {
        let error = |bytes: &[u8]| SentencePiece::parse("x.spm", bytes).err().unwrap().to_string();
        assert!(error(b"\xff\xff\xff").contains("x.spm"));
        let bpe = file(|proto| proto.trainer = Some(TrainerProto { model_type: Some(2) }));
        assert!(error(&bpe).contains("trainer_spec.model_type is 2"));
        assert!(error(&file(|proto| proto.pieces.clear())).contains("no piece has the type UNKNOWN"));
        let nan = file(|proto| proto.pieces[4].score = Some(f32::NAN));
        assert!(error(&nan).contains("a score is not finite"));
        let truncated =
            file(|proto| proto.normalizer.as_mut().unwrap().charsmap = Some(vec![200, 0, 0, 0, 1]));
        assert!(error(&truncated).contains("normalizer_spec.precompiled_charsmap"));
    }

    #[test]
    fn tolerates_malicious_rules() {
        for units in [vec![u32::MAX; 3], vec![0; 300], vec![1 << 10, 0x161, 7]] {
            let rules = NormalizationRules { units, texts: "x".to_owned() };
            for text in ["a", "中文", "\0"] {
                if let Some((len, _)) = rules.longest_match(text) {
                    assert!(text.is_char_boundary(len));
                }
            }
        }
    }
}
