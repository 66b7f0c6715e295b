//! Compares every family of decoders with PyTorch's transformers, on tiny random models that
//! `tests/reference/tiny_models.py` wrote as GGUF files together with the logits of transformers.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, path::Path, sync::Arc};

use yizhai::model::{self, BackendChoice, Batch, KV_BLOCK_TOKENS, KvType, Model, ModelOptions};

#[derive(serde::Deserialize)]
struct Reference {
    prompt: Vec<u32>,
    /// Positions of the prompt whose logits are in the file.
    rows: Vec<usize>,
    /// Per architecture: `(rows, vocab_size)`.
    logits: BTreeMap<String, Vec<Vec<f32>>>,
}

/// Backend, KV cache type and tolerance: candle computes in f32; the kernels store keys and values as f16 or int8.
const VARIANTS: [(BackendChoice, KvType, f32); 3] = [
    (BackendChoice::Candle, KvType::F16, 1e-3),
    (BackendChoice::Kernels, KvType::F16, 4e-3),
    (BackendChoice::Kernels, KvType::Int8, 4e-2),
];

/// Returns the logits after every token of the prompt, which is read in chunks that end at `ends`.
fn logits(model: &mut dyn Model, prompt: &[u32], ends: &[usize]) -> Vec<Vec<f32>> {
    let blocks: Arc<[u32]> = (0..prompt.len().div_ceil(KV_BLOCK_TOKENS) as u32).collect();
    let mut cache = model.new_cache(blocks.len()).unwrap();
    let mut rows = Vec::new();
    let mut start = 0;
    for &end in ends {
        let mut batch = Batch::default();
        batch.push(blocks.clone(), start, &prompt[start..end], end - start);
        let logits = model.forward(&batch, &mut cache).unwrap();
        rows.extend(logits.to_vec2::<f32>().unwrap());
        start = end;
    }
    rows
}

fn rms(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), x| (sum + x * x, count + 1));
    (sum / count as f32).sqrt()
}

#[test]
fn logits_of_every_family_match_transformers() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/families");
    let reference = std::fs::read_to_string(directory.join("logits.json")).unwrap();
    let Reference { prompt, rows, logits: families } = serde_json::from_str(&reference).unwrap();
    let names: Vec<_> = families.keys().map(String::as_str).collect();
    assert_eq!(names, ["gemma3", "llama", "qwen2", "qwen3"]);
    for (family, expected) in &families {
        let path = directory.join(format!("{family}.gguf"));
        for (backend, kv_type, tolerance) in VARIANTS {
            let options = ModelOptions { backend: Some(backend), kv_type, ..ModelOptions::default() };
            let (_, mut model) = model::load_path(&path, &options).unwrap();
            let whole = logits(model.as_mut(), &prompt, &[prompt.len()]);
            for (&row, expected) in rows.iter().zip(expected) {
                let found = &whole[row];
                assert_eq!(found.len(), expected.len());
                let error = rms(found.iter().zip(expected).map(|(a, b)| a - b));
                let size = rms(expected.iter().copied());
                println!(
                    "{family}, {backend:?}, {kv_type:?}, row {row}: error {:.6} of the logits",
                    error / size
                );
                assert!(
                    error < tolerance * size,
                    "{family}, {backend:?}, {kv_type:?}, row {row}: {error} of {size}"
                );
            }
            if backend == BackendChoice::Kernels {
                let chunked = logits(model.as_mut(), &prompt, &[5, 6, 21, prompt.len()]);
                assert!(whole == chunked, "{family}, {kv_type:?}: chunked prefill changes the logits");
            }
        }
    }
}
