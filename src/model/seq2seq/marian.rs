//! Marian (the OPUS-MT models): norms after the sums, sinusoidal positions, biases everywhere, and one table of tokens for
//! source, answer and head.

use candle_core::Device;
use candle_nn::Activation;

use super::{
    Attention, Decoding, Layer, Linear, Mlp, ModelDirectory, Norm, Positions, Seq2Seq, Stack,
    layers::sinusoids, linear,
};
use crate::model::ModelError;

pub(super) fn load(directory: &ModelDirectory, device: &Device) -> Result<Seq2Seq, ModelError> {
    for (setting, known) in [
        ("share_encoder_decoder_embeddings", true),
        ("normalize_before", false),
        ("normalize_embedding", false),
        ("add_final_layer_norm", false),
    ] {
        if directory.config(setting)?.unwrap_or(known) != known {
            return Err(
                directory.unusable(format!("config.json: `{setting}` is {}; that is not known", !known))
            );
        }
    }
    let width = directory.size("d_model")?;
    let vocab_size = directory.size("vocab_size")?;
    let max_positions = directory.size("max_position_embeddings")?;
    let start_token = directory.size("decoder_start_token_id")?;
    let end_token: Option<u32> = directory.config("eos_token_id")?;
    if start_token >= vocab_size || end_token.is_none_or(|end| end as usize >= vocab_size) {
        return Err(directory.unusable("config.json: `decoder_start_token_id` or `eos_token_id` is no token"));
    }
    let embedding = directory.tensor("model.shared.weight", &[vocab_size, width], device)?;
    let bias = directory.tensor("final_logits_bias", &[1, vocab_size], device)?.squeeze(0)?;
    let positions = sinusoids(max_positions, width, device)?;
    let is_scaled = directory.config("scale_embedding")?.unwrap_or(false);
    Ok(Seq2Seq {
        head: Linear { weight: embedding.clone(), bias: Some(bias) },
        embedding,
        embedding_scale: if is_scaled { (width as f64).sqrt() } else { 1.0 },
        encoder: stack(directory, "encoder", width, Positions::Added(positions.clone()), device)?,
        decoder: stack(directory, "decoder", width, Positions::Added(positions), device)?,
        head_scale: 1.0,
        max_positions,
        start_token: start_token as u32,
        end_token: end_token.unwrap_or_default(),
        decoding: Decoding::read(directory)?,
    })
}

fn stack(
    directory: &ModelDirectory,
    name: &str,
    width: usize,
    positions: Positions,
    device: &Device,
) -> Result<Stack, ModelError> {
    let inner = directory.size(&format!("{name}_ffn_dim"))?;
    let heads = directory.size(&format!("{name}_attention_heads"))?;
    if !width.is_multiple_of(heads) || !width.is_multiple_of(2) {
        let detail =
            format!("config.json: `{name}_attention_heads` is {heads}, which does not divide `d_model`");
        return Err(directory.unusable(format!("{detail}, {width}, or that is odd")));
    }
    let activation = match directory.text("activation_function")? {
        "swish" | "silu" => Activation::Swish,
        "relu" => Activation::Relu,
        "gelu" => Activation::Gelu,
        other => {
            let detail = format!("config.json: `activation_function` is `{other}`; known: swish, relu, gelu");
            return Err(directory.unusable(detail));
        }
    };
    let layer = |index: usize| {
        let tensor = |part: &str| format!("model.{name}.layers.{index}.{part}");
        let linear = |part: &str, shape| linear(directory, &tensor(part), shape, true, device);
        let norm = |part: &str| {
            let vector = |kind| directory.tensor(&format!("{}.{kind}", tensor(part)), &[width], device);
            Ok::<_, ModelError>(Norm::Layer {
                weight: vector("weight")?,
                bias: vector("bias")?,
                epsilon: 1e-5,
            })
        };
        let attention = |part: &str| {
            let linear = |kind: &str| linear(&format!("{part}.{kind}"), (width, width));
            Ok::<_, ModelError>(Attention {
                query: linear("q_proj")?,
                key: linear("k_proj")?,
                value: linear("v_proj")?,
                output: linear("out_proj")?,
                heads,
                scale: ((width / heads) as f64).powf(-0.5),
            })
        };
        let to_source =
            || Ok::<_, ModelError>((attention("encoder_attn")?, norm("encoder_attn_layer_norm")?));
        Ok(Layer {
            own: attention("self_attn")?,
            own_norm: norm("self_attn_layer_norm")?,
            source: (name == "decoder").then(to_source).transpose()?,
            mlp: Mlp {
                gate: None,
                up: linear("fc1", (inner, width))?,
                down: linear("fc2", (width, inner))?,
                activation,
            },
            mlp_norm: norm("final_layer_norm")?,
        })
    };
    let layers =
        (0..directory.size(&format!("{name}_layers"))?).map(layer).collect::<Result<_, ModelError>>()?;
    Ok(Stack { layers, positions, norm_first: false, last_norm: None })
}
