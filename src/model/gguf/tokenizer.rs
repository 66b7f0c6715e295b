//! Builds the tokenizer embedded in a GGUF file with the `tokenizers` library.
//!
//! `tokenizer.ggml.model` selects one of two types. `gpt2` is byte-level BPE with a list of merges (Qwen, SmolLM2,
//! Llama 3); `tokenizer.ggml.pre` names its rule for splitting a text into words. `llama` is SentencePiece BPE (Gemma,
//! Llama 2); the scores of its pieces define the order of merges, and unknown characters become bytes. Called by
//! [`GgufFile::tokenizer`]; independent of chat formats.

use std::borrow::Cow;

use tokenizers::{
    AddedToken, SplitDelimiterBehavior, Tokenizer,
    decoders::{
        DecoderWrapper, byte_fallback::ByteFallback, byte_level::ByteLevel as ByteLevelDecoder, fuse::Fuse,
        sequence::Sequence as Decoders, strip::Strip,
    },
    models::bpe::{BPE, Vocab},
    normalizers::{
        NormalizerWrapper, prepend::Prepend, replace::Replace, unicode::NFC, utils::Sequence as Normalizers,
    },
    pre_tokenizers::{
        PreTokenizerWrapper,
        byte_level::ByteLevel,
        digits::Digits,
        sequence::Sequence as PreTokenizers,
        split::{Split, SplitPattern},
    },
    processors::template::TemplateProcessing,
};

use super::GgufFile;
use crate::model::ModelError;

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";
const BOS: &str = "tokenizer.ggml.bos_token_id";

/// The character that represents a space in SentencePiece.
const SPACE: &str = "▁";

/// The word patterns of Qwen and Llama 3, which differ in digits; from their `tokenizer.json`.
const QWEN2_WORDS: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3_WORDS: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Token types: `llama_token_type` of ggml.
mod token_type {
    pub(super) const NORMAL: f64 = 1.0;
    pub(super) const UNKNOWN: f64 = 2.0;
    pub(super) const CONTROL: f64 = 3.0;
    pub(super) const USER_DEFINED: f64 = 4.0;
    pub(super) const UNUSED: f64 = 5.0;
}

/// Builds the tokenizer. If the file specifies a BOS token, it precedes every text that is encoded with special tokens.
pub(super) fn tokenizer(file: &GgufFile) -> Result<Tokenizer, ModelError> {
    let vocabulary = Vocabulary::read(file)?;
    let mut tokenizer = match file.string("tokenizer.ggml.model")? {
        "gpt2" => vocabulary.byte_level(file)?,
        "llama" => vocabulary.sentence_piece(file)?,
        other => {
            let detail = format!("unknown tokenizer type `{other}`; supported: gpt2, llama");
            return Err(file.unsupported(detail));
        }
    };
    if let Some(bos) = vocabulary.bos_token(file)? {
        let processor = TemplateProcessing::builder()
            .try_single(vec![bos.0.clone(), "$0".to_owned()])
            .map(|builder| builder.special_tokens(vec![bos]).build());
        match processor {
            Ok(Ok(processor)) => tokenizer.with_post_processor(Some(processor)),
            Ok(Err(error)) => return Err(file.corrupt(format!("metadata {BOS}: {error}"))),
            Err(error) => return Err(file.corrupt(format!("metadata {BOS}: {error}"))),
        };
    }
    Ok(tokenizer)
}

/// The tokens of a file, indexed by id.
struct Vocabulary<'a> {
    tokens: Vec<Cow<'a, str>>,
    /// One type per token.
    types: Vec<f64>,
}

impl<'a> Vocabulary<'a> {
    fn read(file: &'a GgufFile) -> Result<Self, ModelError> {
        let tokens = file.strings(TOKENS)?;
        let types =
            if file.has(TYPES) { file.numbers(TYPES)? } else { vec![token_type::NORMAL; tokens.len()] };
        if types.len() != tokens.len() {
            let detail = format!("metadata {TYPES} has {} elements for {} tokens", types.len(), tokens.len());
            return Err(file.corrupt(detail));
        }
        Ok(Self { tokens, types })
    }

    fn ids(&self) -> Vocab {
        (0u32..).zip(&self.tokens).map(|(id, token)| (token.to_string(), id)).collect()
    }

    fn of_type(&self, wanted: &'a [f64]) -> impl Iterator<Item = &str> {
        let tokens = self.tokens.iter().zip(&self.types);
        tokens.filter(|(_, t)| wanted.contains(t)).map(|(token, _)| token.as_ref()).filter(|t| !t.is_empty())
    }

    /// Returns the BOS token and its id, if the file specifies one.
    fn bos_token(&self, file: &GgufFile) -> Result<Option<(String, u32)>, ModelError> {
        let is_default = file.string("tokenizer.ggml.model")? == "llama"
            || file.string("tokenizer.ggml.pre").is_ok_and(is_llama3);
        if !file.bool("tokenizer.ggml.add_bos_token").unwrap_or(is_default) {
            return Ok(None);
        }
        let Some(id) = file.token_id(BOS) else {
            return Err(file.corrupt(format!("metadata {BOS} is not a token id")));
        };
        match self.tokens.get(id as usize) {
            Some(token) => Ok(Some((token.to_string(), id))),
            None => {
                Err(file
                    .corrupt(format!("metadata {BOS} is {id}, but there are {} tokens", self.tokens.len())))
            }
        }
    }

    /// Builds a byte-level BPE tokenizer.
    fn byte_level(&self, file: &GgufFile) -> Result<Tokenizer, ModelError> {
        let pre = file.string("tokenizer.ggml.pre")?;
        let (normalizer, splitter) = word_splitter(pre).ok_or_else(|| {
            file.unsupported(format!(
                "unknown pre-tokenizer `{pre}`; supported: qwen2, llama-bpe, smollm, gpt-2"
            ))
        })?;
        let mut merges = Vec::new();
        for merge in file.strings(MERGES)? {
            let Some((left, right)) = merge.split_once(' ') else {
                return Err(
                    file.corrupt(format!("metadata {MERGES} contains `{merge}`, which is not a pair"))
                );
            };
            merges.push((left.to_owned(), right.to_owned()));
        }
        let bpe = BPE::builder().vocab_and_merges(self.ids(), merges).ignore_merges(is_llama3(pre));
        let mut tokenizer = Tokenizer::new(bpe.build().map_err(|e| library_error(file, &e))?);
        tokenizer
            .with_normalizer(normalizer)
            .map_err(|e| library_error(file, &e))?
            .with_pre_tokenizer(Some(splitter))
            .with_decoder(Some(ByteLevelDecoder::new(false, false, false)));
        // All special tokens are omitted from decoded text and never produced by encoding.
        let special = self.of_type(&[
            token_type::UNKNOWN,
            token_type::CONTROL,
            token_type::USER_DEFINED,
            token_type::UNUSED,
        ]);
        add(file, &mut tokenizer, special.map(|token| AddedToken::from(token, true)))?;
        Ok(tokenizer)
    }

    /// Builds a SentencePiece BPE tokenizer.
    fn sentence_piece(&self, file: &GgufFile) -> Result<Tokenizer, ModelError> {
        let vocab = self.ids();
        let unknown = file.token_id("tokenizer.ggml.unknown_token_id").unwrap_or(0);
        let unknown = self.tokens.get(unknown as usize).map(ToString::to_string).unwrap_or_default();
        let merges = self.merges_by_score(file, &vocab)?;
        let bpe = BPE::builder()
            .vocab_and_merges(vocab, merges)
            .unk_token(unknown)
            .fuse_unk(true)
            .byte_fallback(true)
            .build()
            .map_err(|e| library_error(file, &e))?;
        let leading_space = file.bool("tokenizer.ggml.add_space_prefix").unwrap_or(true);
        let replace = |from: &str, to: &str| Replace::new(from, to).map_err(|e| library_error(file, &e));
        let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
        let mut decoders: Vec<DecoderWrapper> =
            vec![replace(SPACE, " ")?.into(), ByteFallback::new().into(), Fuse::new().into()];
        if leading_space {
            normalizers.push(Prepend::new(SPACE.to_owned()).into());
            decoders.push(Strip::new(' ', 1, 0).into());
        }
        normalizers.push(replace(" ", SPACE)?.into());
        let mut tokenizer = Tokenizer::new(bpe);
        tokenizer
            .with_normalizer(Some(Normalizers::new(normalizers)))
            .map_err(|e| library_error(file, &e))?
            .with_decoder(Some(Decoders::new(decoders)));
        let special = self.of_type(&[token_type::UNKNOWN, token_type::CONTROL, token_type::UNUSED]);
        add(file, &mut tokenizer, special.map(|token| AddedToken::from(token, true)))?;
        // Tokens such as runs of spaces or newlines are matched before any merge.
        let user_defined = self.of_type(&[token_type::USER_DEFINED]);
        add(
            file,
            &mut tokenizer,
            user_defined.map(|token| AddedToken::from(token, false).normalized(false)),
        )?;
        Ok(tokenizer)
    }

    /// Returns all merges of two pieces into a third, sorted by the score of the result: SentencePiece merges the pair
    /// with the best result first.
    fn merges_by_score(&self, file: &GgufFile, vocab: &Vocab) -> Result<Vec<(String, String)>, ModelError> {
        let scores = file.numbers(SCORES)?;
        if scores.len() != self.tokens.len() {
            let detail =
                format!("metadata {SCORES} has {} elements for {} tokens", scores.len(), self.tokens.len());
            return Err(file.corrupt(detail));
        }
        let mut merges = Vec::new();
        for ((piece, score), kind) in self.tokens.iter().zip(scores).zip(&self.types) {
            if *kind != token_type::NORMAL {
                continue;
            }
            for (at, _) in piece.char_indices().skip(1) {
                let (left, right) = piece.split_at(at);
                if let (Some(&left_id), Some(&right_id)) = (vocab.get(left), vocab.get(right)) {
                    merges.push((score, left_id, right_id, left, right));
                }
            }
        }
        merges.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        Ok(merges.into_iter().map(|(.., left, right)| (left.to_owned(), right.to_owned())).collect())
    }
}

/// Returns `true` for the vocabularies of Llama 3, which encode a word in the vocabulary as one token regardless of
/// merges.
fn is_llama3(pre: &str) -> bool {
    matches!(pre, "llama-bpe" | "llama3" | "llama-v3")
}

/// Returns the normalizer and the word splitter with this llama.cpp name; merges apply within words only.
fn word_splitter(pre: &str) -> Option<(Option<NFC>, PreTokenizerWrapper)> {
    // The library's default pattern is GPT-2's.
    let gpt2 = ByteLevel::new(false, true, true);
    let bytes_only = ByteLevel::new(false, true, false);
    let split = |pattern: &str| {
        let pattern = SplitPattern::Regex(pattern.to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
        split.map(|split| PreTokenizers::new(vec![split.into(), bytes_only.into()]).into()).ok()
    };
    match pre {
        "qwen2" => Some((Some(NFC), split(QWEN2_WORDS)?)),
        pre if is_llama3(pre) => Some((None, split(LLAMA3_WORDS)?)),
        "smollm" => Some((None, PreTokenizers::new(vec![Digits::new(true).into(), gpt2.into()]).into())),
        "gpt-2" => Some((None, gpt2.into())),
        _ => None,
    }
}

fn add(
    file: &GgufFile,
    tokenizer: &mut Tokenizer,
    tokens: impl Iterator<Item = AddedToken>,
) -> Result<(), ModelError> {
    tokenizer.add_tokens(tokens).map(|_| ()).map_err(|e| library_error(file, &e))
}

/// Converts an error of the library, shortened to one line.
fn library_error(file: &GgufFile, error: &tokenizers::Error) -> ModelError {
    let text = error.to_string();
    file.corrupt(format!("invalid tokenizer: {}", text.lines().next().unwrap_or_default()))
}
