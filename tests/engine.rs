//! Tests of the engine with a tiny model that the test writes itself, and with scripted models that misbehave.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use candle_core::{Device, Tensor, quantized::gguf_file};
use candle_transformers::models::quantized_qwen2;
use support::{
    scripted::{Script, ScriptedModel, ScriptedReply},
    tiny_gguf::{self, IM_END, IM_START},
};
use yizhai::{
    engine::{
        Engine, EngineConfig, FinishReason, Generation, GenerationEvent, Health, Priority, Prompt,
        QueueOrder, Sampling, SubmitError,
    },
    model::{
        self, AdapterFile, AdapterId, BackendChoice, Batch, DeviceChoice, GgufFile, KV_BLOCK_TOKENS, KvType,
        ModelOptions,
    },
};

fn engine(config: EngineConfig) -> Engine {
    engine_on(None, config)
}

fn engine_on(backend: Option<BackendChoice>, config: EngineConfig) -> Engine {
    let options = ModelOptions { backend, ..ModelOptions::default() };
    let (_, model) = model::load_path(tiny_gguf::path(), &options).unwrap();
    Engine::start(model, config).unwrap()
}

fn prompt(tokens: Vec<u32>, max_new_tokens: usize) -> Prompt {
    Prompt {
        tokens,
        max_new_tokens,
        stop_tokens: vec![IM_END],
        sampling: Sampling::Greedy,
        allowed: None,
        adapter: None,
        priority: Priority::Interactive,
        order: QueueOrder::default(),
        deadline: None,
    }
}

/// Returns different prompts of different lengths.
fn prompts() -> Vec<Vec<u32>> {
    (0..7u32).map(|n| (0..3 + 5 * n).map(|i| (n * 37 + i * 11) % 256).collect()).collect()
}

async fn collect(mut generation: Generation) -> (Vec<u32>, FinishReason) {
    let mut tokens = Vec::new();
    loop {
        match generation.next().await.expect("a generation ends with a finish reason") {
            GenerationEvent::Started { .. } => {}
            GenerationEvent::Token { id, .. } => tokens.push(id),
            GenerationEvent::Finished(reason) => return (tokens, reason),
            GenerationEvent::Alternative { .. } => panic!("decoders have no alternatives"),
            GenerationEvent::Failed(reason) => panic!("{reason}"),
        }
    }
}

/// Decodes greedily with candle-transformers' model of the same file.
fn reference(prompt: &[u32], count: usize) -> Vec<u32> {
    let mut file = std::fs::File::open(tiny_gguf::path()).unwrap();
    let content = gguf_file::Content::read(&mut file).unwrap();
    let mut model = quantized_qwen2::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
    let mut tokens = prompt.to_vec();
    let mut read = 0;
    for _ in 0..count {
        let input = Tensor::new(&tokens[read..], &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let logits = model.forward(&input, read).unwrap().squeeze(0).unwrap();
        read = tokens.len();
        tokens.push(logits.argmax(0).unwrap().to_scalar().unwrap());
    }
    tokens.split_off(prompt.len())
}

#[tokio::test]
async fn greedy_tokens_match_candle_transformers() {
    let engine = engine_on(Some(BackendChoice::Candle), EngineConfig::default());
    for tokens in prompts() {
        let expected = reference(&tokens, 24);
        let expected: Vec<u32> = expected.into_iter().take_while(|t| *t != IM_END).collect();
        let (written, _) = collect(engine.submit(prompt(tokens, 24)).await.unwrap()).await;
        assert_eq!(written, expected);
    }
}

#[tokio::test]
async fn a_sequence_is_the_same_alone_and_in_a_batch_with_chunked_prefill() {
    let alone = engine(EngineConfig { max_sequences: 1, ..EngineConfig::default() });
    let crowded = engine(EngineConfig { max_step_tokens: 9, ..EngineConfig::default() });
    let mut together = Vec::new();
    for tokens in prompts() {
        together.push(crowded.submit(prompt(tokens, 20)).await.unwrap());
    }
    for (tokens, generation) in prompts().into_iter().zip(together) {
        let expected = collect(alone.submit(prompt(tokens, 20)).await.unwrap()).await;
        assert_eq!(collect(generation).await, expected);
    }
}

#[tokio::test]
async fn cancelling_a_sequence_does_not_change_the_others() {
    let alone = engine(EngineConfig { max_sequences: 1, ..EngineConfig::default() });
    let crowded = engine(EngineConfig { max_step_tokens: 9, ..EngineConfig::default() });
    let mut together = Vec::new();
    for tokens in prompts() {
        together.push(crowded.submit(prompt(tokens, 20)).await.unwrap());
    }
    // Every second one is cancelled, each after a different number of events; one of them during prefill.
    let mut kept = Vec::new();
    for (n, mut generation) in together.into_iter().enumerate() {
        if n % 2 == 0 {
            kept.push(generation);
            continue;
        }
        for _ in 0..n / 2 * 3 {
            generation.next().await;
        }
    }
    for (tokens, generation) in prompts().into_iter().step_by(2).zip(kept) {
        let expected = collect(alone.submit(prompt(tokens, 20)).await.unwrap()).await;
        assert_eq!(collect(generation).await, expected);
    }
}

/// Returns the number of prompt tokens taken from the prefix cache.
async fn cached(generation: &mut Generation) -> usize {
    match generation.next().await {
        Some(GenerationEvent::Started { cached_tokens, .. }) => cached_tokens,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn shared_prefixes_are_cached_without_changing_the_completions() {
    let instructions: Vec<u32> = (0..40).map(|i| (i * 13) % 256).collect();
    let whole_blocks = instructions.len() / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS;
    let with = |rest: &[u32]| prompt([&instructions[..], rest].concat(), 20);
    let shared = engine(EngineConfig::default());
    let mut first = shared.submit(with(&[1, 2, 3])).await.unwrap();
    assert_eq!(cached(&mut first).await, 0);
    collect(first).await;
    let mut together = Vec::new();
    for n in 0..4 {
        together.push(shared.submit(with(&[n, 77, n])).await.unwrap());
    }
    for (n, mut generation) in (0..4).zip(together) {
        assert_eq!(cached(&mut generation).await, whole_blocks);
        let fresh = engine(EngineConfig::default());
        let mut alone = fresh.submit(with(&[n, 77, n])).await.unwrap();
        assert_eq!(cached(&mut alone).await, 0);
        assert_eq!(collect(generation).await, collect(alone).await);
    }
    let mut other = shared.submit(prompt([&[9], &instructions[..]].concat(), 1)).await.unwrap();
    assert_eq!(cached(&mut other).await, 0, "a prompt with another first token shares nothing");
}

#[tokio::test]
async fn prompts_wait_for_one_with_the_same_prefix_that_is_in_prefill() {
    let tokens: Vec<u32> = (0..5 * KV_BLOCK_TOKENS as u32 + 3).map(|i| i * 7 % 256).collect();
    let engine = engine(EngineConfig::default());
    let mut together = Vec::new();
    for _ in 0..3 {
        together.push(engine.submit(prompt(tokens.clone(), 4)).await.unwrap());
    }
    let mut counts = Vec::new();
    for generation in &mut together {
        counts.push(cached(generation).await);
    }
    assert_eq!(counts, [0, 5 * KV_BLOCK_TOKENS, 5 * KV_BLOCK_TOKENS]);
}

#[tokio::test]
async fn a_shared_prefix_uses_kv_blocks_once() {
    let prompts = ["b", "c"].map(|end| chat(&("a".repeat(64) + end)));
    let new_tokens = 200;
    let blocks = (prompts[0].len() + new_tokens).div_ceil(KV_BLOCK_TOKENS);
    let shared = prompts[0].iter().zip(&prompts[1]).take_while(|(a, b)| a == b).count() / KV_BLOCK_TOKENS;
    assert!(shared > 0);
    let config =
        EngineConfig { kv_tokens: Some((2 * blocks - shared) * KV_BLOCK_TOKENS), ..EngineConfig::default() };
    let (engine, _) = scripted(forever(), Duration::from_millis(5), config);
    let [first, second] = prompts;
    let mut first = engine.submit(prompt(first, new_tokens)).await.unwrap();
    while !matches!(first.next().await, Some(GenerationEvent::Token { .. })) {}
    let mut second = engine.submit(prompt(second, new_tokens)).await.unwrap();
    assert_eq!(cached(&mut second).await, shared * KV_BLOCK_TOKENS);
    second.next().await;
    assert_eq!(engine.running(), 2, "the second sequence waits for the end of the first");
}

/// Starts an engine with the tiny Qwen2 of `tests/data/families` and its two adapters.
fn engine_with_adapters(config: EngineConfig) -> (Engine, [Option<AdapterId>; 3]) {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/families");
    let options = ModelOptions::default();
    let (_, mut model) = model::load_path(&directory.join("qwen2.gguf"), &options).unwrap();
    let mut adapters = [None; 3];
    for (adapter, name) in adapters[1..].iter_mut().zip(["a", "b"]) {
        let file = AdapterFile::open(&directory.join(format!("qwen2.{name}.lora.gguf"))).unwrap();
        *adapter = Some(model.add_adapter(&file).unwrap());
    }
    (Engine::start(model, config).unwrap(), adapters)
}

/// Collects the tokens of a generation with their log-probabilities.
async fn collect_scored(mut generation: Generation) -> Vec<(u32, f32)> {
    let mut tokens = Vec::new();
    while let Some(event) = generation.next().await {
        match event {
            GenerationEvent::Token { id, log_probability } => tokens.push((id, log_probability)),
            GenerationEvent::Failed(reason) => panic!("{reason}"),
            _ => {}
        }
    }
    tokens
}

#[tokio::test]
async fn sequences_with_different_adapters_share_steps_but_not_the_prefix_cache() {
    let tokens: Vec<u32> = (0..3 * KV_BLOCK_TOKENS as u32 + 3).map(|i| i * 7 % 64).collect();
    let (mixed, adapters) = engine_with_adapters(EngineConfig::default());
    let with = |adapter| Prompt { adapter, stop_tokens: vec![], ..prompt(tokens.clone(), 12) };
    let mut alone = Vec::new();
    for adapter in adapters {
        let (engine, _) = engine_with_adapters(EngineConfig { max_sequences: 1, ..EngineConfig::default() });
        alone.push(collect_scored(engine.submit(with(adapter)).await.unwrap()).await);
    }
    assert!(alone[0] != alone[1] && alone[1] != alone[2] && alone[0] != alone[2], "{alone:?}");
    for round in 0..2 {
        let mut together = Vec::new();
        for adapter in adapters.into_iter().chain(adapters) {
            together.push(mixed.submit(with(adapter)).await.unwrap());
        }
        let mut counts = Vec::new();
        for (index, mut generation) in together.into_iter().enumerate() {
            counts.push(cached(&mut generation).await);
            assert_eq!(collect_scored(generation).await, alone[index % 3], "round {round}, sequence {index}");
        }
        // The second sequence with the same adapter uses the prefix of the first one, or waits for it.
        let first = if round == 0 { 0 } else { 3 * KV_BLOCK_TOKENS };
        assert_eq!(counts, [[first; 3], [3 * KV_BLOCK_TOKENS; 3]].concat());
    }
}

#[tokio::test]
async fn adapters_apply_to_scoring_and_unknown_ones_are_rejected() {
    let (engine, adapters) = engine_with_adapters(EngineConfig::default());
    assert_eq!(engine.adapters().len(), 2);
    let with = |adapter| Prompt { adapter, ..prompt(vec![1, 2, 3], 4) };
    let mut scores = Vec::new();
    for adapter in adapters {
        let generation = engine.score(with(adapter), vec![5, 6, 7]).await.unwrap();
        scores.push(collect_scored(generation).await);
    }
    assert!(scores[0] != scores[1] && scores[1] != scores[2], "{scores:?}");
    let bare = self::engine(EngineConfig::default());
    assert_eq!(bare.submit(with(adapters[1])).await.unwrap_err(), SubmitError::UnknownAdapter);
}

#[tokio::test]
async fn drafting_saves_steps_without_changing_tokens() {
    let quoting: Script = Arc::new(|_| ScriptedReply::Text("the rocket flew; the rocket landed".to_owned()));
    let mut completions = Vec::new();
    for (max_draft_rows, min_steps, max_steps) in [(0, 35, 35), (8, 5, 20)] {
        let config = EngineConfig { max_draft_rows, ..EngineConfig::default() };
        let (engine, steps) = scripted(quoting.clone(), Duration::ZERO, config);
        let completion =
            collect(engine.submit(prompt(chat("On Monday the rocket flew"), 100)).await.unwrap()).await;
        let steps = steps.load(Ordering::SeqCst);
        assert!((min_steps..=max_steps).contains(&steps), "{steps} steps");
        completions.push(completion);
    }
    assert_eq!(completions[0], completions[1]);
}

#[tokio::test]
async fn drafting_does_not_change_tokens_with_greedy_or_random_sampling() {
    let config =
        |max_draft_rows| EngineConfig { max_draft_rows, max_sequences: 3, ..EngineConfig::default() };
    let (without, with) = (engine(config(0)), engine(config(12)));
    let random = Sampling::Random { temperature: 0.7, top_p: 0.9, top_k: None, seed: 5 };
    for sampling in [Sampling::Greedy, random] {
        let mut pairs = Vec::new();
        for tokens in prompts() {
            let prompt = Prompt { sampling, ..prompt([&tokens[..], &tokens].concat(), 60) };
            pairs.push((without.submit(prompt.clone()).await.unwrap(), with.submit(prompt).await.unwrap()));
        }
        for (without, with) in pairs {
            assert_eq!(collect(without).await, collect(with).await);
        }
    }
}

#[tokio::test]
async fn scoring_a_completion_returns_the_log_probabilities_of_its_generation() {
    let engine = engine(EngineConfig::default());
    let events = async |mut generation: Generation| {
        let mut found = Vec::new();
        while let Some(event) = generation.next().await {
            match event {
                GenerationEvent::Token { id, log_probability } => found.push((id, log_probability)),
                GenerationEvent::Finished(reason) => assert_eq!(reason, FinishReason::Length),
                _ => {}
            }
        }
        found
    };
    // Longer than the part of a given completion that one step reads.
    let prompt = prompt(vec![IM_START, 7, 8, 9], 150);
    let generated = events(engine.submit(prompt.clone()).await.unwrap()).await;
    let completion: Vec<u32> = generated.iter().map(|(id, _)| *id).collect();
    let scored = events(engine.score(prompt.clone(), completion.clone()).await.unwrap()).await;
    assert_eq!(scored, generated);
    assert!(scored.iter().all(|(_, log_probability)| *log_probability < 0.0));

    let others: Vec<u32> = completion.iter().map(|id| (id + 1) % 256).collect();
    let unlikely = events(engine.score(prompt.clone(), others.clone()).await.unwrap()).await;
    assert_eq!(unlikely.iter().map(|(id, _)| *id).collect::<Vec<_>>(), others);
    let sum = |found: &[(u32, f32)]| found.iter().map(|(_, p)| p).sum::<f32>();
    assert!(sum(&unlikely) < sum(&scored), "greedy decoding chooses likely tokens");
    assert_eq!(engine.score(prompt, Vec::new()).await.unwrap_err(), SubmitError::Empty);
}

#[tokio::test]
async fn random_sampling_is_reproducible_per_seed() {
    let engine = engine(EngineConfig::default());
    let draw = async |seed| {
        let sampling = Sampling::Random { temperature: 1.5, top_p: 0.95, top_k: Some(50), seed };
        let tokens = vec![IM_START, 1, 2, 3];
        collect(engine.submit(Prompt { sampling, ..prompt(tokens, 30) }).await.unwrap()).await
    };
    assert_eq!(draw(1).await, draw(1).await);
    assert_ne!(draw(1).await, draw(2).await);
}

#[tokio::test]
async fn reaching_the_token_limit_finishes_with_length() {
    let engine = engine(EngineConfig::default());
    let (tokens, reason) = collect(engine.submit(prompt(vec![1, 2], 5)).await.unwrap()).await;
    assert_eq!((tokens.len(), reason), (5, FinishReason::Length));
}

#[tokio::test]
async fn rejects_prompts_that_exceed_the_limits() {
    let engine = engine(EngineConfig { max_model_len: 100, ..EngineConfig::default() });
    let error = engine.submit(prompt(vec![1; 90], 11)).await.unwrap_err();
    assert_eq!(error, SubmitError::TooLong { prompt: 90, completion: 11, limit: 100 });
    assert_eq!(engine.submit(prompt(vec![], 5)).await.unwrap_err(), SubmitError::Empty);
    assert_eq!(engine.submit(prompt(vec![1], 0)).await.unwrap_err(), SubmitError::Empty);
    assert!(engine.submit(prompt(vec![1; 90], 10)).await.is_ok());
}

fn scripted(script: Script, step_time: Duration, config: EngineConfig) -> (Engine, Arc<AtomicUsize>) {
    let steps = Arc::new(AtomicUsize::new(0));
    let model = ScriptedModel::new(script, step_time, steps.clone());
    (Engine::start(Box::new(model), config).unwrap(), steps)
}

/// Returns the tokens of a conversation with the user message `text`.
fn chat(text: &str) -> Vec<u32> {
    let message = |role: &str, text: &str| {
        let bytes = format!("{role}\n{text}").into_bytes();
        std::iter::once(IM_START).chain(bytes.into_iter().map(u32::from)).collect::<Vec<_>>()
    };
    [message("user", text), vec![IM_END, u32::from(b'\n')], message("assistant", "")].concat()
}

fn forever() -> Script {
    Arc::new(|_| ScriptedReply::Forever("again "))
}

#[tokio::test]
async fn dropping_a_receiver_frees_its_slot_at_the_next_step() {
    let config = EngineConfig { max_sequences: 1, ..EngineConfig::default() };
    let (engine, steps) = scripted(forever(), Duration::from_millis(5), config);
    let mut endless = engine.submit(prompt(chat("a"), 5000)).await.unwrap();
    while !matches!(endless.next().await, Some(GenerationEvent::Token { .. })) {}
    let mut next = engine.submit(prompt(chat("b"), 5000)).await.unwrap();
    drop(endless);
    let steps_before = steps.load(Ordering::SeqCst);
    assert!(matches!(next.next().await, Some(GenerationEvent::Started { .. })));
    assert!(steps.load(Ordering::SeqCst) <= steps_before + 2);
    drop(next);
    while engine.running() > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // The worker is idle and runs no steps.
    tokio::time::sleep(Duration::from_millis(30)).await;
    let idle = steps.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(steps.load(Ordering::SeqCst), idle);
}

#[tokio::test]
async fn a_deadline_ends_running_and_waiting_sequences() {
    let config = EngineConfig { max_sequences: 1, ..EngineConfig::default() };
    let (engine, _) = scripted(forever(), Duration::from_millis(2), config);
    let deadline = Some(Instant::now() + Duration::from_millis(100));
    let running = engine.submit(Prompt { deadline, ..prompt(chat("a"), 5000) }).await.unwrap();
    let waiting = engine.submit(Prompt { deadline, ..prompt(chat("b"), 5000) }).await.unwrap();
    let (tokens, reason) = collect(running).await;
    assert!(!tokens.is_empty() && reason == FinishReason::Deadline);
    assert_eq!(collect(waiting).await, (vec![], FinishReason::Deadline));
}

async fn check_failure(script: Script, expected: &str) {
    let (engine, _) = scripted(script, Duration::from_millis(1), EngineConfig::default());
    let mut neighbour = engine.submit(prompt(chat("neighbour"), 5000)).await.unwrap();
    let mut failing = engine.submit(prompt(chat("failing"), 5000)).await.unwrap();
    for generation in [&mut neighbour, &mut failing] {
        let failure = loop {
            match generation.next().await.expect("a failure is reported to every sequence") {
                GenerationEvent::Failed(reason) => break reason,
                _ => continue,
            }
        };
        assert!(failure.contains(expected), "{failure}");
    }
    let mut health = engine.health();
    assert!(matches!(&*health.wait_for(|h| *h != Health::Ready).await.unwrap(), Health::Failed(_)));
    let error = engine.submit(prompt(chat("late"), 5)).await.unwrap_err();
    assert!(matches!(&error, SubmitError::Stopped(reason) if reason.contains(expected)), "{error}");
}

fn failing_with(answer: fn() -> ScriptedReply) -> Script {
    Arc::new(move |user| if user == "failing" { answer() } else { ScriptedReply::Forever("fine ") })
}

#[tokio::test]
async fn a_panic_is_reported_to_all_sequences() {
    check_failure(failing_with(|| ScriptedReply::Panic), "the script says so").await;
}

#[tokio::test]
async fn nan_logits_are_reported_to_all_sequences() {
    check_failure(failing_with(|| ScriptedReply::Nan), "NaN").await;
}

#[test]
fn errors_about_corrupt_model_files_name_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let whole = std::fs::read(tiny_gguf::path()).unwrap();
    let open = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = GgufFile::open(&path).err().unwrap().to_string();
        assert!(error.contains(name) && error.contains("corrupt") && error.lines().count() == 1, "{error}");
    };
    open("cut-tensors.gguf", &whole[..whole.len() - 1000]);
    open("cut-header.gguf", &whole[..300]);
    open("no-gguf.gguf", b"<html>404</html>");
    open("empty.gguf", b"");
    let missing = GgufFile::open(&directory.path().join("missing.gguf")).err().unwrap().to_string();
    assert!(missing.contains("missing.gguf") && missing.contains("No such file"), "{missing}");
}

#[test]
fn rejects_devices_that_are_not_available() {
    assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
    assert!("gpu".parse::<DeviceChoice>().is_err());
    if !cfg!(feature = "cuda") {
        let error = DeviceChoice::Cuda(0).open().err().unwrap().to_string();
        assert!(error.contains("cuda:0") && error.contains("--features cuda"), "{error}");
    }
}

/// Returns the logits after each of the prompts, read in one step.
fn logits(backend: BackendChoice, kv_type: KvType) -> Vec<Vec<f32>> {
    let options = ModelOptions { backend: Some(backend), kv_type, ..ModelOptions::default() };
    let (_, mut model) = model::load_path(tiny_gguf::path(), &options).unwrap();
    let mut cache = model.new_cache(64).unwrap();
    let mut batch = Batch::default();
    let mut first = 0u32;
    for tokens in prompts() {
        let blocks = tokens.len().div_ceil(KV_BLOCK_TOKENS) as u32;
        batch.push((first..first + blocks).collect(), 0, &tokens, 1);
        first += blocks;
    }
    model.forward(&batch, &mut cache).unwrap().to_vec2().unwrap()
}

/// Kernels and candle both round activations to 8 bits before every product, in different ways. The error is 0.6 % of
/// the root mean square per product; the two layers and the softmax of this random model amplify it, because it has no
/// structure that would dampen it. A wrong formula anywhere gives an error of the size of the logits themselves.
#[test]
fn logits_of_the_kernels_match_candle_within_8_bit_rounding_noise() {
    let expected = logits(BackendChoice::Candle, KvType::F16);
    let rms = |values: &mut dyn Iterator<Item = f32>| {
        let (sum, count) = values.fold((0.0, 0), |(sum, count), x| (sum + x * x, count + 1));
        (sum / count as f32).sqrt()
    };
    for (kv_type, tolerance) in [(KvType::F16, 0.06), (KvType::Int8, 0.08)] {
        for (found, expected) in logits(BackendChoice::Kernels, kv_type).iter().zip(&expected) {
            let error = rms(&mut found.iter().zip(expected).map(|(a, b)| a - b));
            let size = rms(&mut expected.iter().copied());
            assert!(error < tolerance * size, "{kv_type:?}: error {error} of {size}");
        }
    }
}
