//! Marian (the OPUS-MT models): post-norm layers, sinusoidal positions, biases everywhere, and one embedding shared by
//! encoder, decoder and output layer.

use candle_core::Device;
use candle_nn::Activation;

use super::{
    Linear, Mlp, ModelDirectory, MultiHeadAttention, NormLayer, Positions, SearchSettings, Seq2Seq, Stack,
    StackLayer, layers::sinusoids, linear,
};
use crate::model::ModelError;

/// Loads a Marian model.
pub(super) fn load(directory: &ModelDirectory, device: &Device) -> Result<Seq2Seq, ModelError> {
    for (setting, known) in [
        ("share_encoder_decoder_embeddings", true),
        ("normalize_before", false),
        ("normalize_embedding", false),
        ("add_final_layer_norm", false),
    ] {
        if directory.config(setting)?.unwrap_or(known) != known {
            return Err(
                directory.unusable(format!("config.json: `{setting}` is {}, which is not supported", !known))
            );
        }
    }
    let width = directory.size("d_model")?;
    let vocab_size = directory.size("vocab_size")?;
    let max_positions = directory.size("max_position_embeddings")?;
    let start_token = directory.size("decoder_start_token_id")?;
    let end_token: Option<u32> = directory.config("eos_token_id")?;
    if start_token >= vocab_size || end_token.is_none_or(|end| end as usize >= vocab_size) {
        return Err(
            directory.unusable("config.json: `decoder_start_token_id` or `eos_token_id` is not a token id")
        );
    }
    let embedding = directory.tensor("model.shared.weight", &[vocab_size, width], device)?;
    let bias = directory.tensor("final_logits_bias", &[1, vocab_size], device)?.squeeze(0)?;
    let positions = sinusoids(max_positions, width, device)?;
    let is_scaled = directory.config("scale_embedding")?.unwrap_or(false);
    Ok(Seq2Seq {
        head: Linear { weight: embedding.clone(), bias: Some(bias) },
        embedding,
        embedding_scale: if is_scaled { (width as f64).sqrt() } else { 1.0 },
        encoder: stack(directory, "encoder", width, Positions::Absolute(positions.clone()), device)?,
        decoder: stack(directory, "decoder", width, Positions::Absolute(positions), device)?,
        head_scale: 1.0,
        max_positions,
        start_token: start_token as u32,
        end_token: end_token.unwrap_or_default(),
        search_settings: SearchSettings::read(directory)?,
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
        return Err(directory.unusable(format!("{detail} ({width}), or `d_model` is odd")));
    }
    let activation = match directory.string("activation_function")? {
        "swish" | "silu" => Activation::Swish,
        "relu" => Activation::Relu,
        "gelu" => Activation::Gelu,
        other => {
            let detail =
                format!("config.json: `activation_function` is `{other}`; supported: swish, relu, gelu");
            return Err(directory.unusable(detail));
        }
    };
    let layer = |index: usize| {
        let tensor = |part: &str| format!("model.{name}.layers.{index}.{part}");
        let linear = |part: &str, shape| linear(directory, &tensor(part), shape, true, device);
        let norm = |part: &str| {
            let vector = |kind| directory.tensor(&format!("{}.{kind}", tensor(part)), &[width], device);
            Ok::<_, ModelError>(NormLayer::Layer {
                weight: vector("weight")?,
                bias: vector("bias")?,
                epsilon: 1e-5,
            })
        };
        let attention = |part: &str| {
            let linear = |kind: &str| linear(&format!("{part}.{kind}"), (width, width));
            Ok::<_, ModelError>(MultiHeadAttention {
                query: linear("q_proj")?,
                key: linear("k_proj")?,
                value: linear("v_proj")?,
                output: linear("out_proj")?,
                heads,
                scale: ((width / heads) as f64).powf(-0.5),
            })
        };
        let cross_attention =
            || Ok::<_, ModelError>((attention("encoder_attn")?, norm("encoder_attn_layer_norm")?));
        Ok(StackLayer {
            self_attention: attention("self_attn")?,
            self_norm: norm("self_attn_layer_norm")?,
            cross_attention: (name == "decoder").then(cross_attention).transpose()?,
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
    Ok(Stack { layers, positions, is_pre_norm: false, final_norm: None })
}
