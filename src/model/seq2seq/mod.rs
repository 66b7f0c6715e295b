//! Encoder-decoder models: encode a source once and decode a completion token by token.
//!
//! ```text
//! directory (files) ──▶ marian, t5 ──▶ Seq2Seq: encode(sources) ──▶ DecoderState ──▶ step ──▶ logits
//!                       (families)              packed, no padding   beams of one completion
//! ```
//!
//! Encoder and decoder are stacks of the same layers; the families differ in the place and type of the norms, in the
//! representation of positions, and in the feed-forward layer. Runs on candle's operations in f32. Called by the
//! engine's worker; never schedules, samples or sees text.

mod directory;
mod layers;
mod marian;
mod t5;

use candle_core::{Device, Tensor};
use layers::{Linear, Mlp, MultiHeadAttention, NormLayer, RelativeBias};

pub use directory::{ModelDirectory, Seq2SeqSettings};

use super::{ModelError, ModelOptions};

/// The encoder or the decoder.
struct Stack {
    layers: Vec<StackLayer>,
    positions: Positions,
    /// `true` for norms before each sublayer (T5), `false` for norms after the residual connection (Marian).
    is_pre_norm: bool,
    /// Applied to the output of the last layer.
    final_norm: Option<NormLayer>,
}

struct StackLayer {
    self_attention: MultiHeadAttention,
    self_norm: NormLayer,
    /// Attention to the source; in the decoder only.
    cross_attention: Option<(MultiHeadAttention, NormLayer)>,
    mlp: Mlp,
    mlp_norm: NormLayer,
}

/// The representation of positions.
enum Positions {
    /// Rows that are added to the embeddings: `(positions, width)`.
    Absolute(Tensor),
    /// A bias of the attention scores, shared by all layers.
    Relative(RelativeBias),
}

/// The parameters of the search for completions, from the model's files.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchSettings {
    /// Number of beams; 1 means greedy decoding.
    pub beams: usize,
    /// Exponent of the length by which the score of a completion is divided.
    pub length_penalty: f32,
    /// The stopping rule of the search.
    pub early_stopping: EarlyStopping,
    /// Tokens that are never generated.
    pub suppressed: Vec<u32>,
    /// `true` if the last token of a completion at the token limit is forced to be the end token.
    pub force_end: bool,
    /// `true` if scores are log-probabilities among the allowed tokens only.
    pub renormalize: bool,
    /// Length of n-grams that may not be repeated; 0 allows all.
    pub no_repeat_ngram: usize,
}

/// The stopping rule of a beam search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlyStopping {
    /// As soon as there are as many finished completions as beams.
    Yes,
    /// Only if, in addition, no running hypothesis has a better score now.
    No,
    /// Only if, in addition, no running hypothesis can reach a better score.
    Never,
}

/// An encoder-decoder model.
pub struct Seq2Seq {
    /// `(vocab_size, width)`.
    embedding: Tensor,
    embedding_scale: f64,
    encoder: Stack,
    decoder: Stack,
    head: Linear,
    head_scale: f64,
    max_positions: usize,
    start_token: u32,
    end_token: u32,
    search_settings: SearchSettings,
}

/// Keys and values, each `(b, heads, tokens, head_dim)`.
type KeysValues = (Tensor, Tensor);

/// The decoder's state for one source: per layer, the keys and values of the source, and those of the generated tokens
/// of each beam.
pub struct DecoderState {
    source: Vec<KeysValues>,
    generated: Vec<Option<KeysValues>>,
    /// Number of tokens of every beam.
    len: usize,
}

impl DecoderState {
    /// Keeps only these beams, in this order; a beam may occur several times.
    ///
    /// # Errors
    /// If the device fails.
    pub(crate) fn select_beams(&mut self, beams: &[u32]) -> Result<(), ModelError> {
        for cached in self.generated.iter_mut().flatten() {
            let is_unchanged =
                beams.len() == cached.0.dim(0)? && beams.iter().copied().eq(0..beams.len() as u32);
            if !is_unchanged {
                let beams = Tensor::new(beams, cached.0.device())?;
                *cached = (cached.0.index_select(&beams, 0)?, cached.1.index_select(&beams, 0)?);
            }
        }
        Ok(())
    }
}

impl Seq2Seq {
    /// Loads the model of a directory; its `model_type` selects the family.
    ///
    /// # Errors
    /// If the family is not supported, a setting or tensor is missing or invalid, or the device cannot be used.
    pub fn load(directory: &ModelDirectory, options: &ModelOptions) -> Result<Self, ModelError> {
        let device = options.device.open()?;
        match directory.model_type()? {
            "marian" => marian::load(directory, &device),
            "t5" | "mt5" => t5::load(directory, &device),
            other => Err(directory
                .unusable(format!("config.json: `model_type` is `{other}`; supported: marian, t5, mt5"))),
        }
    }

    /// Returns the number of token ids.
    pub fn vocab_size(&self) -> usize {
        self.embedding.dims()[0]
    }

    /// Returns the maximum length of a source, which is that of a completion, in tokens.
    pub fn max_positions(&self) -> usize {
        self.max_positions
    }

    /// Returns the token that precedes every completion.
    pub fn start_token(&self) -> u32 {
        self.start_token
    }

    /// Returns the token that ends a source and a completion.
    pub fn end_token(&self) -> u32 {
        self.end_token
    }

    /// Returns the search settings.
    pub fn search_settings(&self) -> &SearchSettings {
        &self.search_settings
    }

    /// Replaces the search settings.
    #[must_use]
    pub fn with_search_settings(mut self, search_settings: SearchSettings) -> Self {
        self.search_settings = search_settings;
        self
    }

    /// Encodes sources of at least one token each. Returns the initial decoder state of each: one beam without tokens.
    ///
    /// # Errors
    /// If a source is empty or too long, a token id is out of range, or the device fails.
    pub fn encode(&self, sources: &[&[u32]]) -> Result<Vec<DecoderState>, ModelError> {
        let positions: Vec<u32> = sources.iter().flat_map(|source| 0..source.len() as u32).collect();
        let tokens = sources.concat();
        // `(total_tokens, width)`
        let mut x = self.embed(&self.encoder, &tokens, &positions)?;
        for layer in &self.encoder.layers {
            x = self.encoder.residual(x, &layer.self_norm, |x| {
                let attention = &layer.self_attention;
                let (q, k, v) =
                    (attention.query.apply(x)?, attention.key.apply(x)?, attention.value.apply(x)?);
                let mixed = row_ranges(sources.iter().map(|source| source.len())).map(|(start, len)| {
                    let part = |rows: &Tensor| attention.by_head(&rows.narrow(0, start, len)?);
                    let bias = self.encoder.bias(0, len, len)?;
                    attention.attend(&part(&q)?, (&part(&k)?, &part(&v)?), bias.as_ref())
                });
                attention.output.apply(&Tensor::cat(&mixed.collect::<candle_core::Result<Vec<_>>>()?, 0)?)
            })?;
            x = self.encoder.residual(x, &layer.mlp_norm, |x| layer.mlp.apply(x))?;
        }
        let x = self.encoder.finish(x)?;
        let states = row_ranges(sources.iter().map(|source| source.len())).map(|(start, len)| {
            let rows = x.narrow(0, start, len)?;
            let read = self.decoder.layers.iter().filter_map(|layer| layer.cross_attention.as_ref());
            let read = read.map(|(attention, _)| {
                let keys = attention.by_head(&attention.key.apply(&rows)?)?;
                Ok((keys, attention.by_head(&attention.value.apply(&rows)?)?))
            });
            let source = read.collect::<candle_core::Result<Vec<_>>>()?;
            Ok(DecoderState { generated: vec![None; source.len()], source, len: 0 })
        });
        states.collect()
    }

    /// Appends the next token to every beam of several sequences and returns the logits after each,
    /// `(all beams, vocab_size)` as f32.
    ///
    /// # Errors
    /// If the number of tokens differs from the number of beams, a token id is out of range, a completion is too long,
    /// or the device fails.
    pub fn step(&self, sequences: &mut [(&mut DecoderState, &[u32])]) -> Result<Tensor, ModelError> {
        let tokens: Vec<u32> = sequences.iter().flat_map(|(_, tokens)| tokens.iter().copied()).collect();
        let positions: Vec<u32> =
            sequences.iter().flat_map(|(state, tokens)| tokens.iter().map(|_| state.len as u32)).collect();
        // `(all beams, width)`
        let mut x = self.embed(&self.decoder, &tokens, &positions)?;
        for (index, layer) in self.decoder.layers.iter().enumerate() {
            x = self.decoder.residual(x, &layer.self_norm, |x| {
                let attention = &layer.self_attention;
                let (q, k, v) =
                    (attention.query.apply(x)?, attention.key.apply(x)?, attention.value.apply(x)?);
                let mut mixed = Vec::with_capacity(sequences.len());
                let mut start = 0;
                for (state, tokens) in &mut *sequences {
                    let part = |rows: &Tensor| attention.by_beam(&rows.narrow(0, start, tokens.len())?);
                    let (keys, values) = append(state.generated[index].take(), (part(&k)?, part(&v)?))?;
                    let bias = self.decoder.bias(state.len, 1, state.len + 1)?;
                    mixed.push(attention.attend(&part(&q)?, (&keys, &values), bias.as_ref())?);
                    state.generated[index] = Some((keys, values));
                    start += tokens.len();
                }
                attention.output.apply(&Tensor::cat(&mixed, 0)?)
            })?;
            if let Some((attention, norm)) = &layer.cross_attention {
                x = self.decoder.residual(x, norm, |x| {
                    let q = attention.query.apply(x)?;
                    let ranges = row_ranges(sequences.iter().map(|(_, tokens)| tokens.len()));
                    let mixed = ranges.zip(&*sequences).map(|((start, len), (state, _))| {
                        let (keys, values) = &state.source[index];
                        attention.attend(&attention.by_head(&q.narrow(0, start, len)?)?, (keys, values), None)
                    });
                    attention.output.apply(&Tensor::cat(&mixed.collect::<candle_core::Result<Vec<_>>>()?, 0)?)
                })?;
            }
            x = self.decoder.residual(x, &layer.mlp_norm, |x| layer.mlp.apply(x))?;
        }
        for (state, _) in sequences {
            state.len += 1;
        }
        let x = (self.decoder.finish(x)? * self.head_scale)?;
        Ok(self.head.apply(&x)?)
    }

    /// Looks up the embeddings of tokens, with absolute positions added if the model has them: `(tokens, width)`.
    fn embed(&self, stack: &Stack, tokens: &[u32], positions: &[u32]) -> Result<Tensor, ModelError> {
        if tokens.is_empty() || positions.iter().any(|at| *at as usize >= self.max_positions) {
            let limit = self.max_positions;
            return Err(ModelError::step(format!(
                "a source or completion is empty or has more than {limit} tokens"
            )));
        }
        if let Some(id) = tokens.iter().find(|id| **id as usize >= self.vocab_size()) {
            return Err(ModelError::step(format!("token {id} is out of range")));
        }
        let device = self.embedding.device();
        let rows = self.embedding.index_select(&Tensor::new(tokens, device)?, 0)?;
        let rows = (rows * self.embedding_scale)?;
        Ok(match &stack.positions {
            Positions::Absolute(table) => {
                (rows + table.index_select(&Tensor::new(positions, device)?, 0)?)?
            }
            Positions::Relative(_) => rows,
        })
    }
}

impl Stack {
    /// Applies a sublayer with its norm and residual connection.
    fn residual(
        &self,
        x: Tensor,
        norm: &NormLayer,
        sublayer: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<Tensor> {
        match self.is_pre_norm {
            true => &x + sublayer(&norm.apply(&x)?)?,
            false => norm.apply(&(&x + sublayer(&x)?)?),
        }
    }

    fn finish(&self, x: Tensor) -> candle_core::Result<Tensor> {
        self.final_norm.as_ref().map_or(Ok(x.clone()), |norm| norm.apply(&x))
    }

    /// Returns the bias of the scores between `queries` queries from position `start` on and the first `keys` keys.
    fn bias(&self, start: usize, queries: usize, keys: usize) -> candle_core::Result<Option<Tensor>> {
        match &self.positions {
            Positions::Absolute(_) => Ok(None),
            Positions::Relative(bias) => bias.between(start..start + queries, keys).map(Some),
        }
    }
}

/// Returns the first row and the number of rows of each sequence.
fn row_ranges(lengths: impl Iterator<Item = usize>) -> impl Iterator<Item = (usize, usize)> {
    lengths.scan(0, |end, len| {
        let start = *end;
        *end += len;
        Some((start, len))
    })
}

/// Appends the keys and values of the next token.
fn append(before: Option<KeysValues>, next: KeysValues) -> candle_core::Result<KeysValues> {
    match before {
        None => Ok(next),
        Some((keys, values)) => {
            Ok((Tensor::cat(&[&keys, &next.0], 2)?, Tensor::cat(&[&values, &next.1], 2)?))
        }
    }
}

impl SearchSettings {
    /// Reads the settings from the model's files.
    fn read(directory: &ModelDirectory) -> Result<Self, ModelError> {
        const MAX_BEAMS: usize = 16;
        let beams = directory.generation("num_beams")?.unwrap_or(1);
        if !(1..=MAX_BEAMS).contains(&beams) {
            return Err(directory.unusable(format!("`num_beams` is {beams}; expected 1 to {MAX_BEAMS}")));
        }
        let early_stopping = match directory.generation::<serde_json::Value>("early_stopping")? {
            None | Some(serde_json::Value::Bool(false)) => EarlyStopping::No,
            Some(serde_json::Value::Bool(true)) => EarlyStopping::Yes,
            Some(serde_json::Value::String(never)) if never == "never" => EarlyStopping::Never,
            Some(other) => {
                return Err(directory.unusable(format!("`early_stopping` has the unsupported value {other}")));
            }
        };
        // Words of several tokens are rare and do not occur in the supported models.
        let bad_words: Vec<Vec<u32>> = directory.generation("bad_words_ids")?.unwrap_or_default();
        Ok(Self {
            beams,
            length_penalty: directory.generation("length_penalty")?.unwrap_or(1.0),
            early_stopping,
            suppressed: bad_words.into_iter().filter(|word| word.len() == 1).flatten().collect(),
            force_end: directory.generation::<u32>("forced_eos_token_id")?.is_some(),
            renormalize: directory.generation("renormalize_logits")?.unwrap_or(false),
            no_repeat_ngram: directory.generation("no_repeat_ngram_size")?.unwrap_or(0),
        })
    }
}

/// Loads a linear layer: `NAME.weight` and, if it has one, `NAME.bias`.
fn linear(
    directory: &ModelDirectory,
    name: &str,
    (out, input): (usize, usize),
    has_bias: bool,
    device: &Device,
) -> Result<Linear, ModelError> {
    let weight = directory.tensor(&format!("{name}.weight"), &[out, input], device)?;
    let bias = has_bias.then(|| directory.tensor(&format!("{name}.bias"), &[out], device)).transpose()?;
    Ok(Linear { weight, bias })
}
