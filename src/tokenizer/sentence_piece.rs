//! The unigram vocabulary of SentencePiece: a text becomes the pieces that are likeliest together.
//!
//! Reads the file that SentencePiece writes (a protobuf), normalizes a text by the rules in it, and leaves the search for
//! the pieces to the `tokenizers` library. Called by [`super::Tokenizer`]; knows no ids of a model.

use prost::Message;
use tokenizers::models::unigram::Unigram;

use super::TokenizerError;

/// What SentencePiece writes for a space.
pub(super) const SPACE: char = '▁';
/// The longest piece of text that a rule of normalization replaces, in bytes.
const LONGEST_RULE: usize = 64;

/// `sentencepiece.ModelProto`, as far as it is needed.
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

/// What a piece is for: `ModelProto.SentencePiece.Type`.
mod kind {
    pub(super) const NORMAL: i32 = 1;
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const BYTE: i32 = 6;
}

/// `TrainerSpec.ModelType`.
const UNIGRAM: i32 = 1;

/// A vocabulary with its rules of normalization.
pub(super) struct SentencePiece {
    /// All pieces, by their numbers in the file.
    pieces: Vec<String>,
    /// The ordinary pieces; what is no text of a page, such as `</s>`, is none of them.
    unigram: Unigram,
    rules: Rules,
    has_bytes: bool,
    leading_space: bool,
    single_spaces: bool,
}

impl SentencePiece {
    /// Reads a file; `name` stands in errors.
    ///
    /// # Errors
    /// When it is no such file, or of another kind of vocabulary.
    pub(super) fn read(name: &str, bytes: &[u8]) -> Result<Self, TokenizerError> {
        let wrong = |detail: String| TokenizerError::SentencePiece { file: name.to_owned(), detail };
        let Proto { pieces, trainer, normalizer } =
            Proto::decode(bytes).map_err(|error| wrong(error.to_string()))?;
        let model_type = trainer.and_then(|trainer| trainer.model_type).unwrap_or(UNIGRAM);
        if model_type != UNIGRAM {
            return Err(wrong(format!("trainer_spec.model_type is {model_type}; known: 1, unigram")));
        }
        let of_kind = |wanted| pieces.iter().filter(move |p| p.kind.unwrap_or(kind::NORMAL) == wanted);
        let text = |piece: &PieceProto| piece.piece.clone().unwrap_or_default();
        let unknown =
            of_kind(kind::UNKNOWN).next().ok_or_else(|| wrong("pieces: none is unknown".to_owned()))?;
        // What is unknown stands first and takes no part in the search.
        let ordinary = of_kind(kind::NORMAL).filter(|piece| !text(piece).is_empty());
        let scored = ordinary.map(|piece| (text(piece), f64::from(piece.score.unwrap_or_default())));
        let scored: Vec<_> = std::iter::once((text(unknown), 0.0)).chain(scored).collect();
        if scored.iter().any(|(_, score)| !score.is_finite()) {
            return Err(wrong("pieces: a score is no number".to_owned()));
        }
        let unigram = Unigram::from(scored, Some(0), false).map_err(|error| wrong(error.to_string()))?;
        let normalizer = normalizer.unwrap_or_default();
        Ok(Self {
            has_bytes: of_kind(kind::BYTE).next().is_some(),
            pieces: pieces.iter().map(text).collect(),
            unigram,
            rules: Rules::read(&normalizer.charsmap.unwrap_or_default())
                .ok_or_else(|| wrong("normalizer_spec.precompiled_charsmap is cut short".to_owned()))?,
            leading_space: normalizer.add_dummy_prefix.unwrap_or(true),
            single_spaces: normalizer.remove_extra_whitespaces.unwrap_or(true),
        })
    }

    /// All pieces, by their numbers in the file.
    pub(super) fn pieces(&self) -> &[String] {
        &self.pieces
    }

    /// The pieces of a text. What is no piece comes as it stands, neighbours together, or in bytes such as `<0xE4>` where
    /// the vocabulary has these.
    ///
    /// # Errors
    /// When the library fails.
    pub(super) fn split(
        &self,
        text: &str,
        is_piece: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, TokenizerError> {
        let normal = self.normalize(text);
        let pieces = self.unigram.encode(&normal).map_err(super::library)?;
        if !self.has_bytes {
            return Ok(pieces);
        }
        let in_bytes = |piece: String| match is_piece(&piece) {
            true => vec![piece],
            false => piece.bytes().map(|byte| format!("<0x{byte:02X}>")).collect(),
        };
        Ok(pieces.into_iter().flat_map(in_bytes).collect())
    }

    /// A text by the rules of the file, with `▁` for its spaces.
    fn normalize(&self, text: &str) -> String {
        let mut normal = String::with_capacity(text.len() + 8);
        let mut rest = text;
        let mut after_space = true;
        while let Some(first) = rest.chars().next() {
            let (len, new) =
                self.rules.longest(rest).unwrap_or((first.len_utf8(), &rest[..first.len_utf8()]));
            for c in new.chars() {
                match c {
                    ' ' if after_space && self.single_spaces => {}
                    ' ' => normal.push(SPACE),
                    c => normal.push(c),
                }
                after_space = c == ' ';
            }
            rest = &rest[len..];
        }
        if self.single_spaces {
            normal.truncate(normal.trim_end_matches(SPACE).len());
        }
        if self.leading_space && !normal.is_empty() {
            normal.insert(0, SPACE);
        }
        normal
    }
}

/// What is replaced by what, as a trie of bytes in an array (darts-clone) and the replacements behind it.
///
/// The format: the size of the trie in bytes, its units, then texts that end with a zero; all numbers little-endian.
struct Rules {
    units: Vec<u32>,
    texts: String,
}

impl Rules {
    /// `None` when the bytes are fewer than they say, or the texts are none.
    fn read(charsmap: &[u8]) -> Option<Self> {
        if charsmap.is_empty() {
            return Some(Self { units: Vec::new(), texts: String::new() });
        }
        let (size, rest) = charsmap.split_first_chunk::<4>()?;
        let (units, texts) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*size)).ok()?)?;
        let units = units.as_chunks::<4>().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        Some(Self { units, texts: String::from_utf8(texts.to_vec()).ok()? })
    }

    /// How many bytes at the beginning of a text the longest rule replaces, and by what. A unit that points beyond the
    /// array ends the search: the file is not trusted.
    fn longest(&self, text: &str) -> Option<(usize, &str)> {
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
        let new = self.texts.get(start..)?.split('\0').next()?;
        text.is_char_boundary(len).then_some((len, new))
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
        let vocabulary = SentencePiece::read("x.spm", bytes).unwrap();
        vocabulary.split(text, |piece| vocabulary.pieces().iter().any(|known| known == piece)).unwrap()
    }

    #[test]
    fn a_text_becomes_its_likeliest_pieces_and_markers_are_none() {
        let bytes = file(|_| {});
        assert_eq!(split(&bytes, " ab  ba "), ["▁ab", "▁", "b", "a"]);
        assert_eq!(split(&bytes, "</s>"), ["▁", "</s>"], "unknown text that happens to look like a marker");
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
    fn a_file_that_is_wrong_is_told_by_its_field() {
        let error = |bytes: &[u8]| SentencePiece::read("x.spm", bytes).err().unwrap().to_string();
        assert!(error(b"\xff\xff\xff").contains("x.spm"));
        let bpe = file(|proto| proto.trainer = Some(TrainerProto { model_type: Some(2) }));
        assert!(error(&bpe).contains("trainer_spec.model_type is 2"));
        assert!(error(&file(|proto| proto.pieces.clear())).contains("none is unknown"));
        let nan = file(|proto| proto.pieces[4].score = Some(f32::NAN));
        assert!(error(&nan).contains("a score is no number"));
        let cut = file(|proto| proto.normalizer.as_mut().unwrap().charsmap = Some(vec![200, 0, 0, 0, 1]));
        assert!(error(&cut).contains("normalizer_spec.precompiled_charsmap"));
    }

    #[test]
    fn hostile_rules_replace_nothing() {
        for units in [vec![u32::MAX; 3], vec![0; 300], vec![1 << 10, 0x161, 7]] {
            let rules = Rules { units, texts: "x".to_owned() };
            for text in ["a", "中文", "\0"] {
                if let Some((len, _)) = rules.longest(text) {
                    assert!(text.is_char_boundary(len));
                }
            }
        }
    }
}
