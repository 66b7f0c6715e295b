//! On a GPU: what it writes is what the CPU writes. `cargo test --release --features cuda --test cuda -- --ignored`, on a
//! machine with a GPU; the real model's test wants `yizhai models pull qwen2.5-coder-0.5b-instruct-q4_k_m` before.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::{path::Path, sync::Arc};

use support::tiny_gguf::{self, IM_END};
use yizhai::{
    catalog::{Catalog, ModelStore},
    engine::{Engine, EngineConfig, GenerationEvent, Priority, Prompt, Sampling, TokenMask, Turn},
    model::{self, Batch, DeviceChoice, KV_BLOCK_TOKENS, ModelOptions},
};

const DEVICES: [DeviceChoice; 2] = [DeviceChoice::Cpu, DeviceChoice::Cuda(0)];

/// Prompts of lengths around the blocks of the cache and the tiles of the attention.
fn prompts() -> Vec<Vec<u32>> {
    [1u32, 15, 16, 17, 31, 33, 70, 200]
        .iter()
        .map(|len| (0..*len).map(|i| (len * 37 + i * 11) % 256).collect())
        .collect()
}

fn options(device: DeviceChoice) -> ModelOptions {
    ModelOptions { device, ..ModelOptions::default() }
}

/// The logits after each of the answer's tokens, all prompts side by side: `[step][prompt]`. Every sequence is given the
/// same answer, so that a near tie does not send two devices along different ways.
fn logits(path: &Path, device: DeviceChoice, prompts: &[Vec<u32>], answer: &[u32]) -> Vec<Vec<Vec<f32>>> {
    let (_, mut model) = model::load_path(path, &options(device)).unwrap();
    let blocks_of = |prompt: &Vec<u32>| (prompt.len() + answer.len()).div_ceil(KV_BLOCK_TOKENS) as u32;
    let mut first = 0;
    let tables: Vec<Arc<[u32]>> = prompts
        .iter()
        .map(|prompt| {
            first += blocks_of(prompt);
            (first - blocks_of(prompt)..first).collect()
        })
        .collect();
    let mut cache = model.new_cache(first as usize).unwrap();
    (0..answer.len())
        .map(|step| {
            let mut batch = Batch::default();
            for (prompt, table) in prompts.iter().zip(&tables) {
                match step {
                    0 => batch.push(table.clone(), 0, prompt, 1),
                    _ => batch.push(table.clone(), prompt.len() + step - 1, &answer[step - 1..step], 1),
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

/// Both devices round activations to 8 bits, each in its own way: see `tests/engine.rs` on the tolerance.
fn the_logits_agree(path: &Path, prompts: &[Vec<u32>], answer: &[u32], tolerance: f32) {
    let [cpu, gpu] = DEVICES.map(|device| logits(path, device, prompts, answer));
    let (mut same, mut worst) = (0, 0.0f32);
    let rows: Vec<_> = cpu.iter().flatten().zip(gpu.iter().flatten()).collect();
    for (want, found) in &rows {
        let error = rms(want.iter().zip(*found).map(|(a, b)| a - b)) / rms(want.iter().copied());
        worst = worst.max(error);
        same += usize::from(argmax(want) == argmax(found));
    }
    println!("{same} of {} greedy tokens; relative error of the logits {worst} at worst", rows.len());
    assert!(worst < tolerance, "{worst}");
    assert!(same * 100 >= rows.len() * 95, "{same} of {}", rows.len());
}

#[test]
#[ignore = "needs a GPU"]
fn the_tiny_model_has_the_logits_of_the_cpu() {
    the_logits_agree(tiny_gguf::path(), &prompts(), &[7, 200, 31, 90], 0.08);
}

#[test]
#[ignore = "needs a GPU and the weights of the 0.5B model"]
fn the_real_model_has_the_logits_of_the_cpu() {
    let catalog = Catalog::builtin().unwrap();
    let manifest = catalog.get("qwen2.5-coder-0.5b-instruct-q4_k_m").unwrap();
    let path = ModelStore::from_env().unwrap().installed(manifest).expect("the model has been pulled");
    let (file, _) = model::load_path(&path, &options(DeviceChoice::Cpu)).unwrap();
    let tokens = |text: &str| file.tokenizer().unwrap().encode(text, false).unwrap().get_ids().to_vec();
    let prompts =
        ["The capital of France is", "新华社北京12月5日电 我国成功发射一颗卫星，", "Once upon a time"];
    let answer = tokens(" a long time ago, in a city by the sea, there lived an old man and his daughter");
    the_logits_agree(&path, &prompts.map(tokens), &answer, 0.08);
}

/// Tokens and their log-probabilities.
type Written = Vec<(u32, f32)>;

/// What the engine writes on a device.
async fn written(device: DeviceChoice, prompts: Vec<Prompt>) -> Vec<Written> {
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
        priority: Priority::Interactive,
        turn: Turn::default(),
        deadline: None,
    }
}

/// The tiny model is random, so that near ties are many; a sequence is compared up to the first one that fell otherwise.
#[tokio::test]
#[ignore = "needs a GPU"]
async fn the_engine_writes_what_it_writes_on_the_cpu_with_and_without_a_mask() {
    let even = Arc::new(TokenMask::new((0..258).map(|id| id % 2 == 0).collect()));
    for allowed in [None, Some(even)] {
        let all = || prompts().into_iter().map(|t| prompt(t, Sampling::Greedy, allowed.clone())).collect();
        let (cpu, gpu) = (written(DEVICES[0], all()).await, written(DEVICES[1], all()).await);
        let agree = |(a, b): (&Written, &Written)| {
            a.iter().zip(b).take_while(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 0.3).count()
        };
        let common: usize = cpu.iter().zip(&gpu).map(agree).sum();
        let total: usize = cpu.iter().map(Vec::len).sum();
        println!("{common} of {total} tokens before the first that differs");
        assert!(common * 2 > total, "{cpu:?} {gpu:?}");
        let is_allowed = |(id, _): &(u32, f32)| allowed.as_ref().is_none_or(|mask| mask.allows(*id as usize));
        assert!(gpu.iter().flatten().all(is_allowed));
    }
}

#[tokio::test]
#[ignore = "needs a GPU"]
async fn draws_are_repeatable_by_their_seed() {
    let draw = async |seed| {
        let sampling = Sampling::Random { temperature: 1.5, top_p: 0.95, top_k: Some(50), seed };
        written(DEVICES[1], vec![prompt(vec![1, 2, 3], sampling, None)]).await
    };
    assert_eq!(draw(1).await, draw(1).await);
    assert_ne!(draw(1).await, draw(2).await);
}
