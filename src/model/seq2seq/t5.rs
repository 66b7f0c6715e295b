//! T5, mT5 and models of the same architecture such as MADLAD-400: pre-norm layers, positions as a bias of the
//! attention scores, no other biases, and a gated feed-forward layer in the newer ones.

use candle_core::Device;
use candle_nn::Activation;

use super::{
    Linear, Mlp, ModelDirectory, MultiHeadAttention, NormLayer, Positions, RelativeBias, SearchSettings,
    Seq2Seq, Stack, StackLayer, linear,
};
use crate::model::ModelError;

/// Maximum length of a source and of a completion; relative positions themselves have no limit.
const MAX_POSITIONS: usize = 1024;

/// Loads a T5 model.
pub(super) fn load(directory: &ModelDirectory, device: &Device) -> Result<Seq2Seq, ModelError> {
    let width = directory.size("d_model")?;
    let vocab_size = directory.size("vocab_size")?;
    let start_token: u32 = directory.generation("decoder_start_token_id")?.unwrap_or(0);
    let end_token: u32 = directory.config("eos_token_id")?.unwrap_or(1);
    if start_token as usize >= vocab_size || end_token as usize >= vocab_size {
        return Err(
            directory.unusable("config.json: `decoder_start_token_id` or `eos_token_id` is not a token id")
        );
    }
    let embedding = directory.tensor("shared.weight", &[vocab_size, width], device)?;
    let head = match directory.has_tensor("lm_head.weight") {
        true => linear(directory, "lm_head", (vocab_size, width), false, device)?,
        false => Linear { weight: embedding.clone(), bias: None },
    };
    // The original T5 ties all embeddings and scales the input of the output layer. The settings of its successors say
    // that theirs are untied, whatever the file contains.
    let is_original =
        directory.model_type()? == "t5" && directory.config("tie_word_embeddings")?.unwrap_or(true);
    let layers = directory.size("num_layers")?;
    let decoder_layers = match directory.config::<usize>("num_decoder_layers")? {
        Some(_) => directory.size("num_decoder_layers")?,
        None => layers,
    };
    Ok(Seq2Seq {
        embedding,
        embedding_scale: 1.0,
        encoder: stack(directory, "encoder", (width, layers), device)?,
        decoder: stack(directory, "decoder", (width, decoder_layers), device)?,
        head,
        head_scale: if is_original { (width as f64).powf(-0.5) } else { 1.0 },
        max_positions: directory.config("n_positions")?.unwrap_or(MAX_POSITIONS).clamp(1, MAX_POSITIONS),
        start_token,
        end_token,
        search_settings: SearchSettings::read(directory)?,
    })
}

fn stack(
    directory: &ModelDirectory,
    stack: &str,
    (width, layers): (usize, usize),
    device: &Device,
) -> Result<Stack, ModelError> {
    let is_decoder = stack == "decoder";
    let inner = directory.size("d_ff")?;
    let heads = directory.size("num_heads")?;
    let head_width = directory.size("d_kv")?.checked_mul(heads);
    let head_width = head_width.ok_or_else(|| directory.unusable("config.json: `d_kv` is too large"))?;
    let epsilon = directory.config("layer_norm_epsilon")?.unwrap_or(1e-6);
    let (is_gated, activation) = match directory.string("feed_forward_proj")? {
        "relu" => (false, Activation::Relu),
        "gated-gelu" => (true, Activation::NewGelu),
        "gated-silu" => (true, Activation::Silu),
        other => {
            let detail = format!(
                "config.json: `feed_forward_proj` is `{other}`; supported: relu, gated-gelu, gated-silu"
            );
            return Err(directory.unusable(detail));
        }
    };
    let norm = |name: &str| {
        let weight = directory.tensor(&format!("{stack}.{name}.weight"), &[width], device)?;
        Ok::<_, ModelError>(NormLayer::Rms { weight, epsilon })
    };
    let layer = |index: usize| {
        let name = |part: &str| format!("block.{index}.layer.{part}");
        let linear =
            |part: &str, shape| linear(directory, &format!("{stack}.{}", name(part)), shape, false, device);
        let attention = |part: &str| {
            let linear = |kind: &str, shape| linear(&format!("{part}.{kind}"), shape);
            Ok::<_, ModelError>(MultiHeadAttention {
                query: linear("q", (head_width, width))?,
                key: linear("k", (head_width, width))?,
                value: linear("v", (head_width, width))?,
                output: linear("o", (width, head_width))?,
                heads,
                // The scale is part of the weights.
                scale: 1.0,
            })
        };
        let cross_attention =
            || Ok::<_, ModelError>((attention("1.EncDecAttention")?, norm(&name("1.layer_norm"))?));
        let mlp = if is_decoder { 2 } else { 1 };
        let dense = |part: &str, shape| linear(&format!("{mlp}.DenseReluDense.{part}"), shape);
        Ok(StackLayer {
            self_attention: attention("0.SelfAttention")?,
            self_norm: norm(&name("0.layer_norm"))?,
            cross_attention: is_decoder.then(cross_attention).transpose()?,
            mlp: Mlp {
                gate: is_gated.then(|| dense("wi_0", (inner, width))).transpose()?,
                up: dense(if is_gated { "wi_1" } else { "wi" }, (inner, width))?,
                down: dense("wo", (width, inner))?,
                activation,
            },
            mlp_norm: norm(&name(&format!("{mlp}.layer_norm")))?,
        })
    };
    let buckets = directory.size("relative_attention_num_buckets")?;
    let max_distance = directory.config("relative_attention_max_distance")?.unwrap_or(128);
    if buckets < 4 || max_distance <= buckets {
        let detail = format!(
            "`relative_attention_num_buckets` is {buckets}, too many or too few for a distance of {max_distance}"
        );
        return Err(directory.unusable(format!("config.json: {detail}")));
    }
    let table = format!("{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
    let table = directory.tensor(&table, &[buckets, heads], device)?;
    Ok(Stack {
        layers: (0..layers).map(layer).collect::<Result<_, ModelError>>()?,
        positions: Positions::Relative(RelativeBias {
            table,
            buckets,
            max_distance,
            bidirectional: !is_decoder,
        }),
        is_pre_norm: true,
        final_norm: Some(norm("final_layer_norm")?),
    })
}
