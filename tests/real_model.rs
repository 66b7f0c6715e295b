//! The real 0.5B model against candle's own code on the same file. Ignored by default because it needs the
//! weights: `yizhai models pull qwen2.5-coder-0.5b-instruct-q4_k_m`, then
//! `cargo test --release --test real_model -- --ignored`.
#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor, quantized::gguf_file};
use candle_transformers::models::quantized_qwen2;
use yizhai::{
    catalog::{Catalog, Store},
    model::{self, BackendChoice, Batch, GgufFile, KV_BLOCK_TOKENS, ModelOptions},
    tokenizer::{Message, Role, Tokenizer},
};

const MODEL: &str = "qwen2.5-coder-0.5b-instruct-q4_k_m";
const STEPS: usize = 48;

fn path() -> std::path::PathBuf {
    let catalog = Catalog::builtin().unwrap();
    Store::from_env().unwrap().installed(catalog.get(MODEL).unwrap()).expect("the 0.5B model has been pulled")
}

fn prompt() -> Vec<u32> {
    let file = GgufFile::open(&path()).unwrap();
    let tokenizer =
        Tokenizer::new(file.tokenizer().unwrap(), file.chat_template(), file.eos_token_id()).unwrap();
    let text = "将下面的新闻文字译成英文，只输出译文，不要解释。\n\n5日下午，马克龙访问四川大学，签署合作协议近20份。";
    tokenizer.chat(&[Message { role: Role::User, text }]).unwrap()
}

/// The greedy tokens and the logits of every step by candle's own model.
fn reference(prompt: &[u32]) -> (Vec<u32>, Vec<Vec<f32>>) {
    let mut file = std::fs::File::open(path()).unwrap();
    let content = gguf_file::Content::read(&mut file).unwrap();
    let mut model = quantized_qwen2::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
    let mut tokens = prompt.to_vec();
    let (mut read, mut rows) = (0, Vec::new());
    for _ in 0..STEPS {
        let input = Tensor::new(&tokens[read..], &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let row: Vec<f32> = model.forward(&input, read).unwrap().squeeze(0).unwrap().to_vec1().unwrap();
        read = tokens.len();
        tokens.push(argmax(&row));
        rows.push(row);
    }
    (tokens.split_off(prompt.len()), rows)
}

/// The logits of every step by our model, which is given the tokens of the reference.
fn logits(backend: BackendChoice, prompt: &[u32], answer: &[u32]) -> Vec<Vec<f32>> {
    let options = ModelOptions { backend: Some(backend), ..ModelOptions::default() };
    let (_, mut model) = model::load_path(&path(), &options).unwrap();
    let blocks: std::sync::Arc<[u32]> = (0..((prompt.len() + STEPS) / KV_BLOCK_TOKENS + 1) as u32).collect();
    let mut cache = model.new_cache(blocks.len()).unwrap();
    let mut read = 0;
    let mut rows = Vec::new();
    for step in 0..STEPS {
        let tokens: &[u32] = if step == 0 { prompt } else { &answer[step - 1..step] };
        let mut batch = Batch::default();
        batch.push(blocks.clone(), read, tokens, 1);
        read += tokens.len();
        rows.push(model.forward(&batch, &mut cache).unwrap().squeeze(0).unwrap().to_vec1().unwrap());
    }
    rows
}

fn argmax(row: &[f32]) -> u32 {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as u32
}

fn rms(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), x| (sum + x * x, count + 1));
    (sum / count as f32).sqrt()
}

/// Products of 8-bit activations make a step of the logits out of a rounding of the last bit, so two orders of the same
/// sum come to lie about 1 to 5 percent apart within 48 steps. What is certain is the first step, where candle's own
/// operations do just what candle-transformers does, and the tokens.
const TOLERANCE: f32 = 0.08;

#[test]
#[ignore = "needs the weights of the 0.5B model"]
fn both_backends_write_what_candle_transformers_writes() {
    let prompt = prompt();
    let (answer, expected) = reference(&prompt);
    for backend in [BackendChoice::Candle, BackendChoice::Kernels] {
        let rows = logits(backend, &prompt, &answer);
        let error = |(found, expected): (&Vec<f32>, &Vec<f32>)| {
            rms(found.iter().zip(expected).map(|(a, b)| a - b)) / rms(expected.iter().copied())
        };
        let errors: Vec<f32> = rows.iter().zip(&expected).map(error).collect();
        let worst = errors.iter().copied().fold(0.0, f32::max);
        let same = rows.iter().zip(&answer).filter(|(row, token)| argmax(row) == **token).count();
        println!(
            "{backend:?}: {same} of {STEPS} greedy tokens; relative error of the logits {} at first, {worst} at worst",
            errors[0]
        );
        assert_eq!(same, STEPS, "{backend:?}");
        assert!(worst < TOLERANCE, "{backend:?}: {errors:?}");
        if backend == BackendChoice::Candle {
            assert!(errors[0] < 1e-6, "{errors:?}");
        }
    }
}
