//! Encodes the sources of an encoder-decoder, which come without a conversation around them.
//!
//! Called by [`super::Tokenizer`]. Marian maps the pieces of a SentencePiece vocabulary to ids with a separate file;
//! for T5, the indices of the pieces are the ids.

use std::collections::HashMap;

use tokenizers::{
    AddedToken, DecoderWrapper,
    decoders::{byte_fallback::ByteFallback, fuse::Fuse, sequence::Sequence, strip::Strip},
    models::wordlevel::WordLevel,
    normalizers::replace::Replace,
};

use super::{
    TokenizerError, library_error,
    sentence_piece::{SPACE, SentencePiece},
};

/// Converts sources to token ids.
pub(super) struct SourceEncoder {
    pieces: SentencePiece,
    ids: HashMap<String, u32>,
    unknown: u32,
    /// Precedes every source.
    prefix: Vec<u32>,
    /// Follows every source.
    end: u32,
}

impl SourceEncoder {
    /// Creates an encoder from the pieces, their ids, and the prefix and end token of sources.
    pub(super) fn new(
        pieces: SentencePiece,
        ids: HashMap<String, u32>,
        prefix: &str,
        end: u32,
    ) -> Result<Self, TokenizerError> {
        let unknown = ids.get("<unk>").ok_or_else(|| TokenizerError::MissingToken("<unk>".to_owned()))?;
        let mut source = Self { pieces, unknown: *unknown, ids, prefix: Vec::new(), end };
        // A marker such as <2en> is one token, which no page text can produce.
        source.prefix = match source.ids.get(prefix.trim()) {
            Some(id) => vec![*id],
            None => source.encode(prefix)?,
        };
        Ok(source)
    }

    /// Encodes a text on its own.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let pieces = self.pieces.split(text, |piece| self.ids.contains_key(piece))?;
        Ok(pieces.iter().map(|piece| self.ids.get(piece).copied().unwrap_or(self.unknown)).collect())
    }

    /// Encodes a source with its prefix and end token.
    pub(super) fn encode_source(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut tokens = self.prefix.clone();
        tokens.extend(self.encode(text)?);
        tokens.push(self.end);
        Ok(tokens)
    }

    /// Returns a tokenizer that decodes completions.
    pub(super) fn decoder(&self, special: &[&str]) -> Result<tokenizers::Tokenizer, TokenizerError> {
        let words = self.ids.iter().map(|(piece, id)| (piece.clone(), *id)).collect();
        let words =
            WordLevel::builder().vocab(words).unk_token("<unk>".to_owned()).build().map_err(library_error)?;
        let mut tokenizer = tokenizers::Tokenizer::new(words);
        let spaces = Replace::new(SPACE.to_string(), " ").map_err(library_error)?;
        let steps: Vec<DecoderWrapper> =
            vec![spaces.into(), ByteFallback::new().into(), Fuse::new().into(), Strip::new(' ', 1, 0).into()];
        let special = special.iter().filter(|token| self.ids.contains_key(**token));
        tokenizer
            .add_special_tokens(special.map(|token| AddedToken::from(*token, true)))
            .map_err(library_error)?;
        tokenizer.with_decoder(Some(Sequence::new(steps)));
        Ok(tokenizer)
    }
}
