//! Encoder-decoder models: a source is read once, and an answer written to it token by token.
//!
//! ```text
//! directory (the files) ──▶ marian, t5 ──▶ Seq2Seq: encode(sources) ──▶ Writing ──▶ step ──▶ logits
//!                           (what a family is like)    packed, no padding    beams of one answer
//! ```
//!
//! Two stacks of the same layers; the families differ in where the norms stand and of what kind they are, in how positions
//! are told, and in the feed-forward part. Runs on candle's operations in f32. Called by the engine's worker; never
//! schedules, never chooses a token, never sees text.

mod directory;
mod layers;
mod marian;
mod t5;

use candle_core::{Device, Tensor};
use layers::{Attention, Linear, Mlp, Norm, RelativeBias};

pub use directory::{About, ModelDirectory, TaskName};

use super::{ModelError, ModelOptions};

/// A stack of layers: the encoder or the decoder.
struct Stack {
    layers: Vec<Layer>,
    positions: Positions,
    /// Whether the norms stand before what they belong to (T5), or after it and the sum (Marian).
    norm_first: bool,
    /// Of what comes out of the last layer.
    last_norm: Option<Norm>,
}

struct Layer {
    own: Attention,
    own_norm: Norm,
    /// Attention to the source; only in the decoder.
    source: Option<(Attention, Norm)>,
    mlp: Mlp,
    mlp_norm: Norm,
}

/// How a token's position is told.
enum Positions {
    /// Rows that are added to those of the tokens: `(positions, width)`.
    Added(Tensor),
    /// A bias of the scores, in all layers.
    Relative(RelativeBias),
}

/// How an answer is searched, as the model's files say.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoding {
    /// How many answers are followed at once; 1 means the likeliest token each time.
    pub beams: usize,
    /// The power of the length by which the likelihood of an answer is divided.
    pub length_penalty: f32,
    /// When the search ends.
    pub early_stopping: EarlyStopping,
    /// Tokens that are never written.
    pub suppressed: Vec<u32>,
    /// Whether an answer at the limit of tokens is ended by force.
    pub forced_end: bool,
    /// Whether the likelihoods are those among the tokens that may be written.
    pub renormalize: bool,
    /// No run of so many tokens is written twice; 0 means that any may.
    pub no_repeat: usize,
}

/// When a beam search ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlyStopping {
    /// When as many answers as there are beams have ended.
    Yes,
    /// When, besides, none that goes on is likelier by now.
    No,
    /// When, besides, none that goes on can become likelier.
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
    decoding: Decoding,
}

/// Keys and values, `(b, heads, tokens, head_dim)` each.
type KeysValues = (Tensor, Tensor);

/// What the decoder remembers of one answer: the source's keys and values of each layer, and those of the tokens
/// written, for each beam.
pub struct Writing {
    source: Vec<KeysValues>,
    own: Vec<Option<KeysValues>>,
    /// Tokens that every beam has.
    written: usize,
}

impl Writing {
    /// Goes on with these beams only, in this order; one may come several times.
    ///
    /// # Errors
    /// When the device fails.
    pub fn keep(&mut self, beams: &[u32]) -> Result<(), ModelError> {
        for cached in self.own.iter_mut().flatten() {
            let as_it_is = beams.len() == cached.0.dim(0)? && beams.iter().copied().eq(0..beams.len() as u32);
            if !as_it_is {
                let beams = Tensor::new(beams, cached.0.device())?;
                *cached = (cached.0.index_select(&beams, 0)?, cached.1.index_select(&beams, 0)?);
            }
        }
        Ok(())
    }
}

impl Seq2Seq {
    /// Loads the model of a directory, choosing the family by its `model_type`.
    ///
    /// # Errors
    /// When the family is not known, a setting or tensor is missing or wrong, or the device is not there.
    pub fn load(directory: &ModelDirectory, options: &ModelOptions) -> Result<Self, ModelError> {
        let device = options.device.open()?;
        match directory.model_type()? {
            "marian" => marian::load(directory, &device),
            "t5" | "mt5" => t5::load(directory, &device),
            other => {
                Err(directory
                    .unusable(format!("config.json: `model_type` is `{other}`; known: marian, t5, mt5")))
            }
        }
    }

    /// Number of token ids that it knows.
    pub fn vocab_size(&self) -> usize {
        self.embedding.dims()[0]
    }

    /// The longest source, and the longest answer, in tokens.
    pub fn max_positions(&self) -> usize {
        self.max_positions
    }

    /// The token that an answer follows.
    pub fn start_token(&self) -> u32 {
        self.start_token
    }

    /// The token that ends a source and an answer.
    pub fn end_token(&self) -> u32 {
        self.end_token
    }

    /// How its answers are searched.
    pub fn decoding(&self) -> &Decoding {
        &self.decoding
    }

    /// Searches otherwise.
    #[must_use]
    pub fn with_decoding(mut self, decoding: Decoding) -> Self {
        self.decoding = decoding;
        self
    }

    /// Reads sources, each of at least one token; for each what an answer is begun with: one beam, nothing written.
    ///
    /// # Errors
    /// When a source is empty or too long, a token id is out of range, or the device fails.
    pub fn encode(&self, sources: &[&[u32]]) -> Result<Vec<Writing>, ModelError> {
        let positions: Vec<u32> = sources.iter().flat_map(|source| 0..source.len() as u32).collect();
        let tokens = sources.concat();
        // `(total_tokens, width)`
        let mut x = self.embed(&self.encoder, &tokens, &positions)?;
        for layer in &self.encoder.layers {
            x = self.encoder.around(x, &layer.own_norm, |x| {
                let own = &layer.own;
                let (q, k, v) = (own.query.apply(x)?, own.key.apply(x)?, own.value.apply(x)?);
                let mixed = parts(sources.iter().map(|source| source.len())).map(|(start, len)| {
                    let part = |rows: &Tensor| own.by_head(&rows.narrow(0, start, len)?);
                    let bias = self.encoder.bias(0, len, len)?;
                    own.attend(&part(&q)?, (&part(&k)?, &part(&v)?), bias.as_ref())
                });
                own.output.apply(&Tensor::cat(&mixed.collect::<candle_core::Result<Vec<_>>>()?, 0)?)
            })?;
            x = self.encoder.around(x, &layer.mlp_norm, |x| layer.mlp.apply(x))?;
        }
        let x = self.encoder.finish(x)?;
        let begun = parts(sources.iter().map(|source| source.len())).map(|(start, len)| {
            let rows = x.narrow(0, start, len)?;
            let read = self.decoder.layers.iter().filter_map(|layer| layer.source.as_ref());
            let read = read.map(|(attention, _)| {
                let keys = attention.by_head(&attention.key.apply(&rows)?)?;
                Ok((keys, attention.by_head(&attention.value.apply(&rows)?)?))
            });
            let source = read.collect::<candle_core::Result<Vec<_>>>()?;
            Ok(Writing { own: vec![None; source.len()], source, written: 0 })
        });
        begun.collect()
    }

    /// Writes the next token of every beam of some answers and returns the logits after each,
    /// `(all beams, vocab_size)` as f32.
    ///
    /// # Errors
    /// When the number of beams is not what was kept, a token id is out of range, an answer is too long, or the device
    /// fails.
    pub fn step(&self, answers: &mut [(&mut Writing, &[u32])]) -> Result<Tensor, ModelError> {
        let tokens: Vec<u32> = answers.iter().flat_map(|(_, tokens)| tokens.iter().copied()).collect();
        let positions: Vec<u32> = answers
            .iter()
            .flat_map(|(writing, tokens)| tokens.iter().map(|_| writing.written as u32))
            .collect();
        // `(all beams, width)`
        let mut x = self.embed(&self.decoder, &tokens, &positions)?;
        for (index, layer) in self.decoder.layers.iter().enumerate() {
            x = self.decoder.around(x, &layer.own_norm, |x| {
                let own = &layer.own;
                let (q, k, v) = (own.query.apply(x)?, own.key.apply(x)?, own.value.apply(x)?);
                let mut mixed = Vec::with_capacity(answers.len());
                let mut start = 0;
                for (writing, tokens) in &mut *answers {
                    let part = |rows: &Tensor| own.by_beam(&rows.narrow(0, start, tokens.len())?);
                    let (keys, values) = grown(writing.own[index].take(), (part(&k)?, part(&v)?))?;
                    let bias = self.decoder.bias(writing.written, 1, writing.written + 1)?;
                    mixed.push(own.attend(&part(&q)?, (&keys, &values), bias.as_ref())?);
                    writing.own[index] = Some((keys, values));
                    start += tokens.len();
                }
                own.output.apply(&Tensor::cat(&mixed, 0)?)
            })?;
            if let Some((attention, norm)) = &layer.source {
                x = self.decoder.around(x, norm, |x| {
                    let q = attention.query.apply(x)?;
                    let places = parts(answers.iter().map(|(_, tokens)| tokens.len()));
                    let mixed = places.zip(&*answers).map(|((start, len), (writing, _))| {
                        let (keys, values) = &writing.source[index];
                        attention.attend(&attention.by_head(&q.narrow(0, start, len)?)?, (keys, values), None)
                    });
                    attention.output.apply(&Tensor::cat(&mixed.collect::<candle_core::Result<Vec<_>>>()?, 0)?)
                })?;
            }
            x = self.decoder.around(x, &layer.mlp_norm, |x| layer.mlp.apply(x))?;
        }
        for (writing, _) in answers {
            writing.written += 1;
        }
        let x = (self.decoder.finish(x)? * self.head_scale)?;
        Ok(self.head.apply(&x)?)
    }

    /// The rows of some tokens, with their positions where these are added: `(tokens, width)`.
    fn embed(&self, stack: &Stack, tokens: &[u32], positions: &[u32]) -> Result<Tensor, ModelError> {
        if tokens.is_empty() || positions.iter().any(|at| *at as usize >= self.max_positions) {
            let most = self.max_positions;
            return Err(ModelError::step(format!(
                "a source or an answer is empty, or has more than {most} tokens"
            )));
        }
        if let Some(id) = tokens.iter().find(|id| **id as usize >= self.vocab_size()) {
            return Err(ModelError::step(format!("there is no token {id}")));
        }
        let device = self.embedding.device();
        let rows = self.embedding.index_select(&Tensor::new(tokens, device)?, 0)?;
        let rows = (rows * self.embedding_scale)?;
        Ok(match &stack.positions {
            Positions::Added(table) => (rows + table.index_select(&Tensor::new(positions, device)?, 0)?)?,
            Positions::Relative(_) => rows,
        })
    }
}

impl Stack {
    /// A part of a layer with its norm and the sum around it.
    fn around(
        &self,
        x: Tensor,
        norm: &Norm,
        part: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<Tensor> {
        match self.norm_first {
            true => &x + part(&norm.apply(&x)?)?,
            false => norm.apply(&(&x + part(&x)?)?),
        }
    }

    fn finish(&self, x: Tensor) -> candle_core::Result<Tensor> {
        self.last_norm.as_ref().map_or(Ok(x.clone()), |norm| norm.apply(&x))
    }

    /// What is added to the scores of `queries` queries from position `start` on to the first `keys` keys.
    fn bias(&self, start: usize, queries: usize, keys: usize) -> candle_core::Result<Option<Tensor>> {
        match &self.positions {
            Positions::Added(_) => Ok(None),
            Positions::Relative(bias) => bias.of(start..start + queries, keys).map(Some),
        }
    }
}

/// Where the rows of each sequence begin, and how many they are.
fn parts(lengths: impl Iterator<Item = usize>) -> impl Iterator<Item = (usize, usize)> {
    lengths.scan(0, |end, len| {
        let start = *end;
        *end += len;
        Some((start, len))
    })
}

/// The keys and values of the tokens written, and those of the next one.
fn grown(before: Option<KeysValues>, next: KeysValues) -> candle_core::Result<KeysValues> {
    match before {
        None => Ok(next),
        Some((keys, values)) => {
            Ok((Tensor::cat(&[&keys, &next.0], 2)?, Tensor::cat(&[&values, &next.1], 2)?))
        }
    }
}

impl Decoding {
    /// What the files of a model say.
    fn read(directory: &ModelDirectory) -> Result<Self, ModelError> {
        const MAX_BEAMS: usize = 16;
        let beams = directory.generation("num_beams")?.unwrap_or(1);
        if !(1..=MAX_BEAMS).contains(&beams) {
            return Err(directory.unusable(format!("`num_beams` is {beams}, not 1 to {MAX_BEAMS}")));
        }
        let early_stopping = match directory.generation::<serde_json::Value>("early_stopping")? {
            None | Some(serde_json::Value::Bool(false)) => EarlyStopping::No,
            Some(serde_json::Value::Bool(true)) => EarlyStopping::Yes,
            Some(serde_json::Value::String(never)) if never == "never" => EarlyStopping::Never,
            Some(other) => return Err(directory.unusable(format!("`early_stopping` is {other}"))),
        };
        // Words of several tokens are rare there, and none of the models that are known has one.
        let bad_words: Vec<Vec<u32>> = directory.generation("bad_words_ids")?.unwrap_or_default();
        Ok(Self {
            beams,
            length_penalty: directory.generation("length_penalty")?.unwrap_or(1.0),
            early_stopping,
            suppressed: bad_words.into_iter().filter(|word| word.len() == 1).flatten().collect(),
            forced_end: directory.generation::<u32>("forced_eos_token_id")?.is_some(),
            renormalize: directory.generation("renormalize_logits")?.unwrap_or(false),
            no_repeat: directory.generation("no_repeat_ngram_size")?.unwrap_or(0),
        })
    }
}

/// A matrix without or with its bias, `NAME.weight` and `NAME.bias`.
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
