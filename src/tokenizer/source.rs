//! The vocabulary of an encoder-decoder: a source goes in as it is, without a conversation around it.
//!
//! Called by [`super::Tokenizer`]. Marian splits sources by one vocabulary of SentencePiece and knows pieces by ids of its
//! own, in a file beside it; of T5 the numbers of the pieces are the ids.

use std::collections::HashMap;

use tokenizers::{
    AddedToken, DecoderWrapper,
    decoders::{byte_fallback::ByteFallback, fuse::Fuse, sequence::Sequence, strip::Strip},
    models::wordlevel::WordLevel,
    normalizers::replace::Replace,
};

use super::{
    TokenizerError, library,
    sentence_piece::{SPACE, SentencePiece},
};

/// How sources become token ids.
pub(super) struct Source {
    pieces: SentencePiece,
    ids: HashMap<String, u32>,
    unknown: u32,
    /// Before every source.
    prefix: Vec<u32>,
    /// After every source.
    end: u32,
}

impl Source {
    /// Puts the parts together: the pieces, their ids, and what stands before and after a source.
    pub(super) fn new(
        pieces: SentencePiece,
        ids: HashMap<String, u32>,
        prefix: &str,
        end: u32,
    ) -> Result<Self, TokenizerError> {
        let unknown = ids.get("<unk>").ok_or_else(|| TokenizerError::MissingToken("<unk>".to_owned()))?;
        let mut source = Self { pieces, unknown: *unknown, ids, prefix: Vec::new(), end };
        // A marker such as <2en> is one token, which no text of a page can write.
        source.prefix = match source.ids.get(prefix.trim()) {
            Some(id) => vec![*id],
            None => source.encode(prefix)?,
        };
        Ok(source)
    }

    /// The ids of a text alone.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let pieces = self.pieces.split(text, |piece| self.ids.contains_key(piece))?;
        Ok(pieces.iter().map(|piece| self.ids.get(piece).copied().unwrap_or(self.unknown)).collect())
    }

    /// The ids of a source, with what stands before and after it.
    pub(super) fn source(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut tokens = self.prefix.clone();
        tokens.extend(self.encode(text)?);
        tokens.push(self.end);
        Ok(tokens)
    }

    /// What turns ids of answers into text.
    pub(super) fn decoder(&self, special: &[&str]) -> Result<tokenizers::Tokenizer, TokenizerError> {
        let words = self.ids.iter().map(|(piece, id)| (piece.clone(), *id)).collect();
        let words =
            WordLevel::builder().vocab(words).unk_token("<unk>".to_owned()).build().map_err(library)?;
        let mut tokenizer = tokenizers::Tokenizer::new(words);
        let spaces = Replace::new(SPACE.to_string(), " ").map_err(library)?;
        let steps: Vec<DecoderWrapper> =
            vec![spaces.into(), ByteFallback::new().into(), Fuse::new().into(), Strip::new(' ', 1, 0).into()];
        let special = special.iter().filter(|token| self.ids.contains_key(**token));
        tokenizer.add_special_tokens(special.map(|token| AddedToken::from(*token, true))).map_err(library)?;
        tokenizer.with_decoder(Some(Sequence::new(steps)));
        Ok(tokenizer)
    }
}
