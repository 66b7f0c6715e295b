//! Tests that models give the same results on a GPU and on the CPU. Run them on a machine with a GPU by
//! `cargo test --release --features cuda --test cuda -- --ignored`; the test of the real model requires
//! `yizhai models pull qwen2.5-coder-0.5b-instruct-q4_k_m`.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::{path::Path, sync::Arc};

use support::tiny_gguf::{self, IM_END};
use yizhai::{
    catalog::{Catalog, ModelStore},
    engine::{Engine, EngineConfig, GenerationEvent, Priority, Prompt, QueueOrder, Sampling, TokenMask},
    model::{self, Batch, DeviceChoice, KV_BLOCK_TOKENS, ModelOptions},
};

const DEVICES: [DeviceChoice; 2] = [DeviceChoice::Cpu, DeviceChoice::Cuda(0)];

/// Returns prompts whose lengths are near the sizes of KV blocks and attention tiles.
fn prompts() -> Vec<Vec<u32>> {
    [1u32, 15, 16, 17, 31, 33, 70, 200]
        .iter()
        .map(|len| (0..*len).map(|i| (len * 37 + i * 11) % 256).collect())
        .collect()
}

fn options(device: DeviceChoice) -> ModelOptions {
    ModelOptions { device, ..ModelOptions::default() }
}

/// Returns the logits after each token of the completion, for all prompts in one batch: `[step][prompt]`. The
/// completion is given, so that a near tie does not make two devices continue differently.
fn logits(path: &Path, device: DeviceChoice, prompts: &[Vec<u32>], completion: &[u32]) -> Vec<Vec<Vec<f32>>> {
    let (_, mut model) = model::load_path(path, &options(device)).unwrap();
    let blocks_of = |prompt: &Vec<u32>| (prompt.len() + completion.len()).div_ceil(KV_BLOCK_TOKENS) as u32;
    let mut first = 0;
    let tables: Vec<Arc<[u32]>> = prompts
        .iter()
        .map(|prompt| {
            first += blocks_of(prompt);
            (first - blocks_of(prompt)..first).collect()
        })
        .collect();
    let mut cache = model.new_cache(first as usize).unwrap();
    (0..completion.len())
        .map(|step| {
            let mut batch = Batch::default();
            for (prompt, table) in prompts.iter().zip(&tables) {
                match step {
                    0 => batch.push(table.clone(), 0, prompt, 1),
                    _ => batch.push(table.clone(), prompt.len() + step - 1, &completion[step - 1..step], 1),
                }
            }
            let logits = model.forward(&batch, &mut cache).unwrap();
            logits.to_device(&candle_core::Device::Cpu).unwrap().to_vec2().unwrap()
        })
        .collect()
}

fn argmax(row: &[f32]) -> usize {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap()
}

fn rms(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), x| (sum + x * x, count + 1));
    (sum / count as f32).sqrt()
}

/// Asserts that the logits of both devices agree within `tolerance`. Both quantize activations to 8 bits, but in
/// different blocks; `tests/engine.rs` explains the tolerance.
fn assert_logits_agree(path: &Path, prompts: &[Vec<u32>], completion: &[u32], tolerance: f32) {
    let [cpu, gpu] = DEVICES.map(|device| logits(path, device, prompts, completion));
    let (mut same, mut worst) = (0, 0.0f32);
    let rows: Vec<_> = cpu.iter().flatten().zip(gpu.iter().flatten()).collect();
    for (expected, actual) in &rows {
        let error = rms(expected.iter().zip(*actual).map(|(a, b)| a - b)) / rms(expected.iter().copied());
        worst = worst.max(error);
        same += usize::from(argmax(expected) == argmax(actual));
    }
    println!("{same} of {} greedy tokens agree; the largest relative error of logits is {worst}", rows.len());
    assert!(worst < tolerance, "{worst}");
    assert!(same * 100 >= rows.len() * 95, "{same} of {}", rows.len());
}

#[test]
#[ignore = "requires a GPU"]
fn logits_of_the_tiny_model_agree_with_the_cpu() {
    assert_logits_agree(tiny_gguf::path(), &prompts(), &[7, 200, 31, 90], 0.08);
}

#[test]
#[ignore = "requires a GPU and the weights of the 0.5B model"]
fn logits_of_the_real_model_agree_with_the_cpu() {
    let catalog = Catalog::builtin().unwrap();
    let manifest = catalog.get("qwen2.5-coder-0.5b-instruct-q4_k_m").unwrap();
    let path = ModelStore::from_env().unwrap().installed(manifest).expect("the model has been pulled");
    let (file, _) = model::load_path(&path, &options(DeviceChoice::Cpu)).unwrap();
    let tokens = |text: &str| file.tokenizer().unwrap().encode(text, false).unwrap().get_ids().to_vec();
    let prompts =
        ["The capital of France is", "新华社北京12月5日电 我国成功发射一颗卫星，", "Once upon a time"];
    let completion =
        tokens(" a long time ago, in a city by the sea, there lived an old man and his daughter");
    assert_logits_agree(&path, &prompts.map(tokens), &completion, 0.08);
}

/// Tokens and their log-probabilities.
type Tokens = Vec<(u32, f32)>;

/// Returns the completions of the engine on a device.
async fn generate(device: DeviceChoice, prompts: Vec<Prompt>) -> Vec<Tokens> {
    let (_, model) = model::load_path(tiny_gguf::path(), &options(device)).unwrap();
    let engine = Engine::start(model, EngineConfig::default()).unwrap();
    let mut generations = Vec::new();
    for prompt in prompts {
        generations.push(engine.submit(prompt).await.unwrap());
    }
    let mut all = Vec::new();
    for mut generation in generations {
        let mut tokens = Vec::new();
        while let Some(event) = generation.next().await {
            match event {
                GenerationEvent::Token { id, log_probability } => tokens.push((id, log_probability)),
                GenerationEvent::Failed(reason) => panic!("{reason}"),
                _ => {}
            }
        }
        all.push(tokens);
    }
    all
}

fn prompt(tokens: Vec<u32>, sampling: Sampling, allowed: Option<Arc<TokenMask>>) -> Prompt {
    Prompt {
        tokens,
        max_new_tokens: 30,
        stop_tokens: vec![IM_END],
        sampling,
        allowed,
        adapter: None,
        priority: Priority::Interactive,
        order: QueueOrder::default(),
        deadline: None,
    }
}

/// The tiny model is random and has many near ties, so sequences are compared up to the first token that differs.
#[tokio::test]
#[ignore = "requires a GPU"]
async fn the_engine_generates_the_tokens_of_the_cpu_with_and_without_a_mask() {
    let even = Arc::new(TokenMask::new((0..258).map(|id| id % 2 == 0).collect()));
    for allowed in [None, Some(even)] {
        let all = || prompts().into_iter().map(|t| prompt(t, Sampling::Greedy, allowed.clone())).collect();
        let (cpu, gpu) = (generate(DEVICES[0], all()).await, generate(DEVICES[1], all()).await);
        let agree = |(a, b): (&Tokens, &Tokens)| {
            a.iter().zip(b).take_while(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 0.3).count()
        };
        let common: usize = cpu.iter().zip(&gpu).map(agree).sum();
        let total: usize = cpu.iter().map(Vec::len).sum();
        println!("{common} of {total} tokens precede the first difference");
        assert!(common * 2 > total, "{cpu:?} {gpu:?}");
        let is_allowed = |(id, _): &(u32, f32)| allowed.as_ref().is_none_or(|mask| mask.allows(*id as usize));
        assert!(gpu.iter().flatten().all(is_allowed));
    }
}

#[tokio::test]
#[ignore = "requires a GPU"]
async fn sampling_is_reproducible_per_seed() {
    let sample = async |seed| {
        let sampling = Sampling::Random { temperature: 1.5, top_p: 0.95, top_k: Some(50), seed };
        generate(DEVICES[1], vec![prompt(vec![1, 2, 3], sampling, None)]).await
    };
    assert_eq!(sample(1).await, sample(1).await);
    assert_ne!(sample(1).await, sample(2).await);
}
