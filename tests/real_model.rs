//! Tests with real weights: the small model against candle's own implementation, sequences of a batch against the same
//! sequences alone, and one model of each other family and an adapter against the output of llama.cpp.
//!
//! Ignored by default. Run `yizhai models pull ID` for each of the ids below, then
//! `cargo test --release --test real_model -- --ignored`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use candle_core::{Device, Tensor, quantized::gguf_file};
use candle_transformers::models::quantized_qwen2;
use yizhai::{
    catalog::{Catalog, ModelStore},
    model::{self, AdapterFile, AdapterId, BackendChoice, Batch, GgufFile, KV_BLOCK_TOKENS, ModelOptions},
    tokenizer::{ChatMessage, ChatRole, Tokenizer},
};

const MODEL: &str = "qwen2.5-coder-0.5b-instruct-q4_k_m";
const DEFAULT_MODEL: &str = "qwen2.5-coder-1.5b-instruct-q4_k_m";
const STEPS: usize = 48;

fn path_of(id: &str) -> std::path::PathBuf {
    let catalog = Catalog::builtin().unwrap();
    ModelStore::from_env().unwrap().installed(catalog.get(id).unwrap()).expect("the model is not installed")
}

fn path() -> std::path::PathBuf {
    path_of(MODEL)
}

fn prompt() -> Vec<u32> {
    let file = GgufFile::open(&path()).unwrap();
    let tokenizer =
        Tokenizer::new(file.tokenizer().unwrap(), file.chat_template(), file.eos_token_id()).unwrap();
    let text = "将下面的新闻文字译成英文，只输出译文，不要解释。\n\n5日下午，马克龙访问四川大学，签署合作协议近20份。";
    tokenizer.encode_chat(&[ChatMessage { role: ChatRole::User, text }]).unwrap()
}

/// Returns the greedy tokens and the logits of every step from candle's own model.
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

/// Returns the logits of every step from our model, which is fed the tokens of the reference.
fn logits(id: &str, backend: BackendChoice, prompt: &[u32], answer: &[u32]) -> Vec<Vec<f32>> {
    let options = ModelOptions { backend: Some(backend), ..ModelOptions::default() };
    let (_, mut model) = model::load_path(&path_of(id), &options).unwrap();
    logits_with(model.as_mut(), None, prompt, answer)
}

/// Returns the logits of every step of `model` with an adapter, which is fed the tokens of `answer`.
fn logits_with(
    model: &mut dyn model::Model,
    adapter: Option<AdapterId>,
    prompt: &[u32],
    answer: &[u32],
) -> Vec<Vec<f32>> {
    let steps = answer.len();
    let blocks: std::sync::Arc<[u32]> = (0..((prompt.len() + steps) / KV_BLOCK_TOKENS + 1) as u32).collect();
    let mut cache = model.new_cache(blocks.len()).unwrap();
    let mut read = 0;
    let mut rows = Vec::new();
    for step in 0..steps {
        let tokens: &[u32] = if step == 0 { prompt } else { &answer[step - 1..step] };
        let mut batch = Batch::default();
        batch.push_with_adapter(blocks.clone(), read, tokens, 1, adapter);
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

/// Maximum relative error of the logits.
///
/// With 8-bit activations, a difference in the last bit of a sum can change a quantized value, so that two summation orders
/// drift 1 to 5 percent apart within 48 steps. At the first step, candle's operations must agree exactly with
/// candle-transformers, and the tokens must agree at every step.
const TOLERANCE: f32 = 0.08;

#[test]
#[ignore = "needs the weights of the 0.5B model"]
fn both_backends_agree_with_candle_transformers() {
    let prompt = prompt();
    let (answer, expected) = reference(&prompt);
    for backend in [BackendChoice::Candle, BackendChoice::Kernels] {
        let rows = logits(MODEL, backend, &prompt, &answer);
        let error = |(row, expected): (&Vec<f32>, &Vec<f32>)| {
            rms(row.iter().zip(expected).map(|(a, b)| a - b)) / rms(expected.iter().copied())
        };
        let errors: Vec<f32> = rows.iter().zip(&expected).map(error).collect();
        let worst = errors.iter().copied().fold(0.0, f32::max);
        let same = rows.iter().zip(&answer).filter(|(row, token)| argmax(row) == **token).count();
        println!(
            "{backend:?}: {same} of {STEPS} greedy tokens; relative error of the logits: {} at the first step, at most {worst}",
            errors[0]
        );
        assert_eq!(same, STEPS, "{backend:?}");
        assert!(worst < TOLERANCE, "{backend:?}: {errors:?}");
        if backend == BackendChoice::Candle {
            assert!(errors[0] < 1e-6, "{errors:?}");
        }
    }
}

/// A sequence of a batch.
struct BatchSequence {
    tokens: Vec<u32>,
    /// The number of tokens that are in the KV cache.
    read: usize,
    /// The block table.
    blocks: std::sync::Arc<[u32]>,
}

/// Decodes all sequences in one batch, greedily, for `steps` steps. Returns the tokens and the last logits of each.
fn decode(model: &mut dyn model::Model, prompts: &[Vec<u32>], steps: usize) -> Vec<(Vec<u32>, Vec<f32>)> {
    let each = prompts.iter().map(|p| (p.len() + steps).div_ceil(KV_BLOCK_TOKENS)).max().unwrap() as u32;
    let mut cache = model.new_cache(each as usize * prompts.len()).unwrap();
    let mut running: Vec<BatchSequence> = (0u32..)
        .zip(prompts)
        .map(|(n, tokens)| BatchSequence {
            tokens: tokens.clone(),
            read: 0,
            blocks: (n * each..(n + 1) * each).collect(),
        })
        .collect();
    let mut last = vec![Vec::new(); prompts.len()];
    for _ in 0..steps {
        let mut batch = Batch::default();
        for sequence in &mut running {
            batch.push(sequence.blocks.clone(), sequence.read, &sequence.tokens[sequence.read..], 1);
            sequence.read = sequence.tokens.len();
        }
        let logits: Vec<Vec<f32>> = model.forward(&batch, &mut cache).unwrap().to_vec2().unwrap();
        for ((sequence, logits), last) in running.iter_mut().zip(logits).zip(&mut last) {
            sequence.tokens.push(argmax(&logits));
            *last = logits;
        }
    }
    running.into_iter().zip(last).map(|(sequence, last)| (sequence.tokens, last)).collect()
}

/// Asserts that a sequence has the same tokens and bit-identical logits alone and in a batch of 16.
///
/// The kernels guarantee that the result of a row depends on nothing but the row, even though they use other instructions
/// for many rows than for one.
fn assert_batch_agrees_with_single(id: &str, steps: usize) {
    let options = ModelOptions { backend: Some(BackendChoice::Kernels), ..ModelOptions::default() };
    let (_, mut model) = model::load_path(&path_of(id), &options).unwrap();
    let prompt = prompt();
    let prompts: Vec<Vec<u32>> = (0..16).map(|n| prompt[..prompt.len() - n].to_vec()).collect();
    let together = decode(model.as_mut(), &prompts, steps);
    for (n, (prompt, together)) in prompts.iter().zip(together).enumerate() {
        let alone = decode(model.as_mut(), std::slice::from_ref(prompt), steps).remove(0);
        assert!(alone == together, "{id}, sequence {n}: {:?} alone, {:?} in the batch", alone.0, together.0);
    }
}

#[test]
#[ignore = "needs the weights of the 0.5B model"]
fn a_batch_of_the_small_model_agrees_with_single_sequences() {
    assert_batch_agrees_with_single(MODEL, 16);
}

#[test]
#[ignore = "needs the weights of the 1.5B model"]
fn a_batch_of_the_default_model_agrees_with_single_sequences() {
    assert_batch_agrees_with_single(DEFAULT_MODEL, 8);
}

/// The output of llama.cpp for a prompt, written by `tests/reference/greedy_tokens.py`.
#[derive(serde::Deserialize)]
struct ReferenceCase {
    text: String,
    /// The tokens of the text, with a beginning-of-sequence token if the model file requires it.
    prompt: Vec<u32>,
    /// The greedy completion.
    answer: Vec<u32>,
    /// The two largest logits at every step.
    best_two_logits: Vec<[f32; 2]>,
}

#[derive(serde::Deserialize)]
struct Reference {
    cases: Vec<ReferenceCase>,
}

/// Maximum difference between a logit and llama.cpp's.
///
/// Both implementations quantize activations to 8 bits before every product, and llama.cpp takes GELU from a
/// half-precision table: for Gemma, its logits differ by up to 1.19 from those of the same weights in f32.
const LOGIT_TOLERANCE: f32 = 1.2;

/// Asserts that the tokenizer agrees with llama.cpp's, that every greedy token agrees unless llama.cpp's two best logits
/// are closer than the tolerance, and that the largest logits agree within the tolerance.
fn assert_agrees_with_llama_cpp(id: &str, reference: &str) {
    let Reference { cases } = serde_json::from_str(reference).unwrap();
    let tokenizer = GgufFile::open(&path_of(id)).unwrap().tokenizer().unwrap();
    for backend in [BackendChoice::Kernels, BackendChoice::Candle] {
        let (mut same, mut steps, mut worst, mut widest_tie) = (0, 0, 0f32, 0f32);
        for ReferenceCase { text, prompt, answer, best_two_logits } in &cases {
            assert_eq!(tokenizer.encode(text.as_str(), true).unwrap().get_ids(), prompt, "{text}");
            let rows = logits(id, backend, prompt, answer);
            for ((row, &token), [first, second]) in rows.iter().zip(answer).zip(best_two_logits) {
                let is_same = argmax(row) == token;
                let is_tie = first - second < LOGIT_TOLERANCE;
                assert!(is_same || is_tie, "{id}, {backend:?}: {} for {token} in {text}", argmax(row));
                steps += 1;
                same += usize::from(is_same);
                widest_tie = widest_tie.max(if is_same { 0.0 } else { first - second });
                worst = worst.max((row[token as usize] - first).abs());
            }
        }
        println!(
            "{id}, {backend:?}: {same} of {steps} greedy tokens agree; at the others, llama.cpp's two best logits are at \
             most {widest_tie} apart; logits differ by at most {worst}"
        );
        assert!(worst < LOGIT_TOLERANCE, "{id}, {backend:?}: {worst}");
        assert!(same * 100 >= steps * 90, "{id}, {backend:?}: {same} of {steps}");
    }
}

#[test]
#[ignore = "needs the weights of SmolLM2 135M"]
fn smollm2_agrees_with_llama_cpp() {
    assert_agrees_with_llama_cpp(
        "smollm2-135m-instruct-q4_1",
        include_str!("data/reference/smollm2-135m-instruct-q4_1.json"),
    );
}

#[test]
#[ignore = "needs the weights of Gemma 3 270M"]
fn gemma_3_agrees_with_llama_cpp() {
    assert_agrees_with_llama_cpp(
        "gemma-3-270m-q4_k_m",
        include_str!("data/reference/gemma-3-270m-q4_k_m.json"),
    );
}

/// The output of llama.cpp for a prompt with an adapter, written by `tests/reference/adapter_tokens.py`.
#[derive(serde::Deserialize)]
struct AdapterCase {
    text: String,
    /// The tokens of a conversation about the text.
    prompt: Vec<u32>,
    /// The greedy completion.
    answer: Vec<u32>,
    /// The two largest log-probabilities at every step.
    best_two_log_probabilities: Vec<[f32; 2]>,
}

#[derive(serde::Deserialize)]
struct AdapterReference {
    cases: Vec<AdapterCase>,
}

/// Asserts that every greedy token of the default model with the adapter agrees with llama.cpp unless its two best tokens
/// are a near tie. The environment variable `YIZHAI_TEST_ADAPTER` names the file of the adapter.
#[test]
#[ignore = "needs the weights of the 1.5B model and its adapter"]
fn the_adapter_agrees_with_llama_cpp() {
    /// Differences of log-probabilities that 8-bit activations explain.
    const NEAR_TIE: f32 = 0.25;
    let reference = include_str!("data/reference/zh-en-news-adapter.json");
    let AdapterReference { cases } = serde_json::from_str(reference).unwrap();
    let path = std::env::var_os("YIZHAI_TEST_ADAPTER").expect("YIZHAI_TEST_ADAPTER names the adapter file");
    let adapter = AdapterFile::open(path.as_ref()).unwrap();
    let (_, mut model) = model::load_path(&path_of(DEFAULT_MODEL), &ModelOptions::default()).unwrap();
    let id = model.add_adapter(&adapter).unwrap();
    let (mut same, mut bare_same, mut steps, mut widest_tie, mut worst) = (0, 0, 0, 0f32, 0f32);
    for AdapterCase { text, prompt, answer, best_two_log_probabilities } in &cases {
        let rows = logits_with(model.as_mut(), Some(id), prompt, answer);
        let bare = logits_with(model.as_mut(), None, prompt, answer);
        bare_same += bare.iter().zip(answer).filter(|(row, token)| argmax(row) == **token).count();
        for ((row, &token), [first, second]) in rows.iter().zip(answer).zip(best_two_log_probabilities) {
            let is_same = argmax(row) == token;
            assert!(is_same || first - second < NEAR_TIE, "{} for {token} in {text}", argmax(row));
            steps += 1;
            same += usize::from(is_same);
            widest_tie = widest_tie.max(if is_same { 0.0 } else { first - second });
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let log_sum = largest + row.iter().map(|logit| (logit - largest).exp()).sum::<f32>().ln();
            worst = worst.max((row[token as usize] - log_sum - first).abs());
        }
    }
    println!(
        "{same} of {steps} greedy tokens agree ({bare_same} without the adapter); at the others, llama.cpp's two best \
         log-probabilities are at most {widest_tie} apart; log-probabilities differ by at most {worst}"
    );
    assert!(same * 100 >= steps * 97, "{same} of {steps}");
    assert!(bare_same < same, "the adapter changes nothing");
}
