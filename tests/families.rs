//! Compares every family of decoders, with and without adapters, with PyTorch's transformers, on tiny random models and
//! adapters that `tests/reference/tiny_models.py` wrote as GGUF files together with the logits of transformers.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use yizhai::model::{
    self, AdapterFile, AdapterId, BackendChoice, Batch, KV_BLOCK_TOKENS, KvType, Model, ModelOptions,
};

#[derive(serde::Deserialize)]
struct Reference {
    prompt: Vec<u32>,
    /// Positions of the prompt whose logits are in the file.
    rows: Vec<usize>,
    /// Per architecture: `(rows, vocab_size)`.
    logits: BTreeMap<String, Vec<Vec<f32>>>,
    /// The same with the weights of an adapter merged, per architecture and adapter.
    adapters: BTreeMap<String, BTreeMap<String, Vec<Vec<f32>>>>,
}

/// Backend, KV cache type and tolerance: candle computes in f32; the kernels store keys and values as f16 or int8.
const VARIANTS: [(BackendChoice, KvType, f32); 3] = [
    (BackendChoice::Candle, KvType::F16, 1e-3),
    (BackendChoice::Kernels, KvType::F16, 4e-3),
    (BackendChoice::Kernels, KvType::Int8, 4e-2),
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/families")
}

fn reference() -> Reference {
    let reference = std::fs::read_to_string(directory().join("logits.json")).unwrap();
    serde_json::from_str(&reference).unwrap()
}

fn load(family: &str, backend: BackendChoice, kv_type: KvType) -> Box<dyn Model> {
    let options = ModelOptions { backend: Some(backend), kv_type, ..ModelOptions::default() };
    model::load_path(&directory().join(format!("{family}.gguf")), &options).unwrap().1
}

fn add_adapter(model: &mut dyn Model, family: &str, name: &str) -> AdapterId {
    let path = directory().join(format!("{family}.{name}.lora.gguf"));
    model.add_adapter(&AdapterFile::open(&path).unwrap()).unwrap()
}

/// Reads the prompt once per element of `adapters`, each with that adapter, in steps that end at `ends`. Returns the
/// logits after every token: `(adapters, tokens, vocab_size)`.
fn logits_with(
    model: &mut dyn Model,
    prompt: &[u32],
    ends: &[usize],
    adapters: &[Option<AdapterId>],
) -> Vec<Vec<Vec<f32>>> {
    let blocks_each = prompt.len().div_ceil(KV_BLOCK_TOKENS) as u32;
    let mut cache = model.new_cache(blocks_each as usize * adapters.len()).unwrap();
    let mut rows = vec![Vec::new(); adapters.len()];
    let mut start = 0;
    for &end in ends {
        let mut batch = Batch::default();
        for (index, adapter) in (0..).zip(adapters) {
            let blocks: Arc<[u32]> = (index * blocks_each..(index + 1) * blocks_each).collect();
            batch.push_with_adapter(blocks, start, &prompt[start..end], end - start, *adapter);
        }
        let logits = model.forward(&batch, &mut cache).unwrap().to_vec2::<f32>().unwrap();
        for (rows, logits) in rows.iter_mut().zip(logits.chunks(end - start)) {
            rows.extend_from_slice(logits);
        }
        start = end;
    }
    rows
}

/// Returns the logits after every token of the prompt, which is read in chunks that end at `ends`.
fn logits(model: &mut dyn Model, prompt: &[u32], ends: &[usize]) -> Vec<Vec<f32>> {
    logits_with(model, prompt, ends, &[None]).remove(0)
}

fn rms(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), x| (sum + x * x, count + 1));
    (sum / count as f32).sqrt()
}

/// Checks the error of the logits at `rows`, relative to the root mean square of the expected ones.
fn check(found: &[Vec<f32>], rows: &[usize], expected: &[Vec<f32>], tolerance: f32, context: &str) {
    for (&row, expected) in rows.iter().zip(expected) {
        let found = &found[row];
        assert_eq!(found.len(), expected.len());
        let error = rms(found.iter().zip(expected).map(|(a, b)| a - b));
        let size = rms(expected.iter().copied());
        println!("{context}, row {row}: error {:.6} of the logits", error / size);
        assert!(error < tolerance * size, "{context}, row {row}: {error} of {size}");
    }
}

#[test]
fn logits_of_every_family_match_transformers() {
    let Reference { prompt, rows, logits: families, .. } = reference();
    let names: Vec<_> = families.keys().map(String::as_str).collect();
    assert_eq!(names, ["gemma3", "llama", "qwen2", "qwen3"]);
    for (family, expected) in &families {
        for (backend, kv_type, tolerance) in VARIANTS {
            let mut model = load(family, backend, kv_type);
            let whole = logits(model.as_mut(), &prompt, &[prompt.len()]);
            check(&whole, &rows, expected, tolerance, &format!("{family}, {backend:?}, {kv_type:?}"));
            if backend == BackendChoice::Kernels {
                let chunked = logits(model.as_mut(), &prompt, &[5, 6, 21, prompt.len()]);
                assert!(whole == chunked, "{family}, {kv_type:?}: chunked prefill changes the logits");
            }
        }
    }
}

#[test]
fn adapters_match_merged_weights_in_a_step_that_mixes_them() {
    let Reference { prompt, rows, logits: bare, adapters } = reference();
    assert_eq!(adapters.len(), bare.len());
    for (family, merged) in &adapters {
        for (backend, kv_type, tolerance) in VARIANTS {
            let context = format!("{family}, {backend:?}, {kv_type:?}");
            let mut model = load(family, backend, kv_type);
            let before = logits(model.as_mut(), &prompt, &[prompt.len()]);
            let [a, b] = ["a", "b"].map(|name| add_adapter(model.as_mut(), family, name));
            let mixed = [Some(b), None, Some(a), Some(b)];
            let found = logits_with(model.as_mut(), &prompt, &[prompt.len()], &mixed);
            for (name, found) in [("b", &found[0]), ("a", &found[2]), ("b", &found[3])] {
                check(found, &rows, &merged[name], tolerance, &format!("{context}, adapter {name}"));
            }
            check(&found[1], &rows, &bare[family], tolerance, &context);
            if backend == BackendChoice::Kernels {
                assert!(found[1] == before, "{context}: adapters change the logits of the bare model");
                let chunked = logits_with(model.as_mut(), &prompt, &[5, 6, 21, prompt.len()], &mixed);
                assert!(found == chunked, "{context}: chunked prefill changes the logits");
                for (index, adapter) in mixed.iter().enumerate() {
                    let alone = logits_with(model.as_mut(), &prompt, &[prompt.len()], &[*adapter]);
                    assert!(
                        alone[0] == found[index],
                        "{context}: the batch changes the logits of {adapter:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn adapters_change_the_logits() {
    let Reference { logits: bare, adapters, .. } = reference();
    for (family, merged) in &adapters {
        for (name, merged) in merged {
            let difference = merged.iter().flatten().zip(bare[family].iter().flatten()).map(|(a, b)| a - b);
            let size = rms(bare[family].iter().flatten().copied());
            assert!(
                rms(difference) > 0.1 * size,
                "{family}, {name}: the adapter is too weak to test anything"
            );
        }
    }
}

#[test]
fn rows_without_logits_do_not_change_the_result() {
    let Reference { prompt, .. } = reference();
    for (backend, kv_type, tolerance) in VARIANTS {
        let mut model = load("qwen2", backend, kv_type);
        let adapters = ["a", "b"].map(|name| Some(add_adapter(model.as_mut(), "qwen2", name)));
        let expected = logits_with(model.as_mut(), &prompt, &[prompt.len()], &adapters);
        let mut cache = model.new_cache(6).unwrap();
        let mut batch = Batch::default();
        for (index, adapter) in (0..).zip(adapters) {
            let blocks: Arc<[u32]> = (index * 3..index * 3 + 3).collect();
            batch.push_with_adapter(blocks, 0, &prompt, 2 - index as usize, adapter);
        }
        let found = model.forward(&batch, &mut cache).unwrap().to_vec2::<f32>().unwrap();
        let expected = [&expected[0][38], &expected[0][39], &expected[1][39]].map(Vec::clone);
        check(&found, &[0, 1, 2], &expected, tolerance, &format!("{backend:?}, {kv_type:?}"));
    }
}

#[test]
fn adapters_of_another_architecture_and_unknown_adapters_are_rejected() {
    let path = directory().join("llama.a.lora.gguf");
    let adapter = AdapterFile::open(&path).unwrap();
    let info = adapter.info();
    assert_eq!((info.name.as_deref(), info.architecture.as_str()), (Some("tiny llama.a.lora"), "llama"));
    assert_eq!((info.rank, info.matrices), (4, 14));
    let mut qwen = load("qwen2", BackendChoice::Kernels, KvType::F16);
    let error = qwen.add_adapter(&adapter).unwrap_err().to_string();
    assert!(
        error.contains("llama.a.lora.gguf") && error.contains("the model's architecture is `qwen2`"),
        "{error}"
    );
    assert!(qwen.adapters().is_empty());
    let mut llama = load("llama", BackendChoice::Kernels, KvType::F16);
    let id = llama.add_adapter(&adapter).unwrap();
    assert_eq!(&llama.adapters()[id.index()], info);
    let mut batch = Batch::default();
    batch.push_with_adapter(Arc::new([0]), 0, &[1], 1, Some(id));
    let error = qwen.forward(&batch, &mut qwen.new_cache(1).unwrap()).unwrap_err().to_string();
    assert!(error.contains("adapter"), "{error}");
    let error = AdapterFile::open(&directory().join("qwen2.gguf")).err().unwrap().to_string();
    assert!(error.contains("general.type is missing"), "{error}");
}
