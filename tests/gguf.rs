//! Tests with corrupt and malicious model files: each is rejected with an error that names the culprit, without a panic
//! and without allocating memory for sizes that a header merely claims.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::Arc,
};

use candle_core::{
    Device, Tensor,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{self, Value},
    },
};
use support::tiny_gguf::{self, Metadata, Tensors};
use yizhai::{
    model::{self, AdapterFile, BackendChoice, Batch, GgufFile, ModelError, ModelOptions},
    tokenizer::Tokenizer,
};

/// Loads a model file and computes the logits of one token.
fn load_and_run(path: &Path) -> Result<(), String> {
    let options = ModelOptions {
        backend: Some(BackendChoice::Kernels),
        threads: 1,
        max_positions: 64,
        ..ModelOptions::default()
    };
    let text = |error: ModelError| error.to_string();
    let (file, mut model) = model::load_path(path, &options).map_err(text)?;
    let tokenizer = file.tokenizer().map_err(text)?;
    Tokenizer::new(tokenizer, file.chat_template(), file.eos_token_id()).map_err(|e| e.to_string())?;
    let mut cache = model.new_cache(1).map_err(text)?;
    let mut batch = Batch::default();
    batch.push(Arc::new([0]), 0, &[65], 1);
    let logits = model.forward(&batch, &mut cache).map_err(text)?;
    match logits.dims() {
        [1, vocabulary] if *vocabulary == model.vocab_size() => Ok(()),
        other => Err(format!("logits of the shape {other:?}")),
    }
}

fn set(metadata: &mut Metadata, key: &str, value: Value) {
    metadata.retain(|(other, _)| other != key);
    metadata.push((key.to_owned(), value));
}

fn zeros(shape: &[usize]) -> QTensor {
    let tensor = Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
    QTensor::quantize(&tensor, GgmlDType::F32).unwrap()
}

type Change = fn(&mut Metadata, &mut Tensors);

/// Well-formed files with inconsistent contents, and a part of the expected error.
const INCONSISTENT: [(&str, Change); 26] = [
    ("general.architecture", |m, _| m.retain(|(key, _)| key != "general.architecture")),
    ("unknown architecture `rwkv7`", |m, _| {
        set(m, "general.architecture", Value::String("rwkv7".to_owned()))
    }),
    ("general.architecture is not a string", |m, _| set(m, "general.architecture", Value::U32(2))),
    ("qwen2.block_count is 0", |m, _| set(m, "qwen2.block_count", Value::U32(0))),
    ("qwen2.block_count is not a non-negative integer", |m, _| set(m, "qwen2.block_count", Value::I32(-1))),
    ("tensor blk.2.attn_norm.weight is missing", |m, _| set(m, "qwen2.block_count", Value::U32(1 << 24))),
    ("qwen2.block_count is 4294967295", |m, _| set(m, "qwen2.block_count", Value::U32(u32::MAX))),
    ("qwen2.attention.head_count is 0", |m, _| set(m, "qwen2.attention.head_count", Value::U32(0))),
    ("qwen2.attention.head_count is 6", |m, _| set(m, "qwen2.attention.head_count", Value::U32(6))),
    ("heads of 8 elements", |m, _| set(m, "qwen2.attention.head_count", Value::U32(32))),
    ("qwen2.attention.head_count_kv is 0", |m, _| set(m, "qwen2.attention.head_count_kv", Value::U32(0))),
    ("qwen2.attention.head_count_kv is 3", |m, _| set(m, "qwen2.attention.head_count_kv", Value::U32(3))),
    ("tensor blk.0.attn_k.weight has the shape", |m, _| {
        set(m, "qwen2.attention.head_count_kv", Value::U32(4));
    }),
    ("qwen2.context_length is 0", |m, _| set(m, "qwen2.context_length", Value::U32(0))),
    ("qwen2.context_length is 18446744073709551615", |m, _| {
        set(m, "qwen2.context_length", Value::U64(u64::MAX));
    }),
    ("qwen2.attention.layer_norm_rms_epsilon", |m, _| {
        set(m, "qwen2.attention.layer_norm_rms_epsilon", Value::F32(f32::NAN));
    }),
    ("qwen2.rope.freq_base", |m, _| set(m, "qwen2.rope.freq_base", Value::F32(-1.0))),
    ("qwen2.rope.scaling.type is `yarn`", |m, _| {
        set(m, "qwen2.rope.scaling.type", Value::String("yarn".to_owned()));
    }),
    ("tokenizer.ggml.tokens", |m, _| m.retain(|(key, _)| key != "tokenizer.ggml.tokens")),
    ("tokenizer.ggml.token_type has 1 elements for 258 tokens", |m, _| {
        set(m, "tokenizer.ggml.token_type", Value::Array(vec![Value::I32(1)]));
    }),
    ("tokenizer.ggml.merges contains `ab`", |m, _| {
        set(m, "tokenizer.ggml.merges", Value::Array(vec![Value::String("ab".to_owned())]));
    }),
    ("unknown pre-tokenizer `klingon`", |m, _| {
        set(m, "tokenizer.ggml.pre", Value::String("klingon".to_owned()))
    }),
    ("tokenizer.ggml.bos_token_id is 9999, but there are 258", |m, _| {
        set(m, "tokenizer.ggml.add_bos_token", Value::Bool(true));
        set(m, "tokenizer.ggml.bos_token_id", Value::U32(9999));
    }),
    ("tensor output_norm.weight is missing", |_, t| t.retain(|(name, _)| name != "output_norm.weight")),
    ("tensor blk.1.attn_v.bias is missing", |_, t| t.retain(|(name, _)| name != "blk.1.attn_v.bias")),
    ("tensor blk.1.ffn_norm.weight has the shape [255]", |_, t| {
        t.retain(|(name, _)| name != "blk.1.ffn_norm.weight");
        t.push(("blk.1.ffn_norm.weight".to_owned(), zeros(&[255])));
    }),
];

#[test]
fn rejects_inconsistent_files_with_the_name_of_the_culprit() {
    let directory = tempfile::tempdir().unwrap();
    for (number, (expected, change)) in INCONSISTENT.into_iter().enumerate() {
        let path = directory.path().join(format!("inconsistent-{number}.gguf"));
        tiny_gguf::write_with(&path, change);
        let error = load_and_run(&path).expect_err(expected);
        assert!(error.contains(expected) && error.lines().count() == 1, "{expected}: {error}");
    }
}

#[test]
fn accepts_the_unchanged_tiny_model() {
    assert_eq!(load_and_run(tiny_gguf::path()), Ok(()));
}

/// Writes an adapter of rank 2 for the tiny model, changed by `change`.
fn write_adapter(path: &Path, change: Change) {
    let mut metadata: Metadata = [
        ("general.architecture", Value::String("qwen2".to_owned())),
        ("general.type", Value::String("adapter".to_owned())),
        ("adapter.type", Value::String("lora".to_owned())),
        ("adapter.lora.alpha", Value::F32(4.0)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let mut tensors: Tensors = Vec::new();
    for (name, out, input) in [("attn_q", 256, 256), ("attn_k", 128, 256), ("ffn_down", 256, 512)] {
        for layer in 0..2 {
            tensors.push((format!("blk.{layer}.{name}.weight.lora_a"), zeros(&[2, input])));
            tensors.push((format!("blk.{layer}.{name}.weight.lora_b"), zeros(&[out, 2])));
        }
    }
    change(&mut metadata, &mut tensors);
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(k, v)| (k.as_str(), v)).collect();
    gguf_file::write(&mut File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

/// Loads an adapter for the tiny model and computes the logits of one token with it.
fn load_and_run_adapter(path: &Path) -> Result<(), String> {
    let text = |error: ModelError| error.to_string();
    let adapter = AdapterFile::open(path).map_err(text)?;
    let options = ModelOptions { threads: 1, max_positions: 64, ..ModelOptions::default() };
    let (_, mut model) = model::load_path(tiny_gguf::path(), &options).map_err(text)?;
    let id = model.add_adapter(&adapter).map_err(text)?;
    let mut batch = Batch::default();
    batch.push_with_adapter(Arc::new([0]), 0, &[65], 1, Some(id));
    let mut cache = model.new_cache(1).map_err(text)?;
    model.forward(&batch, &mut cache).map(|_| ()).map_err(text)
}

fn replace(tensors: &mut Tensors, name: &str, shape: Option<&[usize]>) {
    tensors.retain(|(other, _)| other != name);
    tensors.extend(shape.map(|shape| (name.to_owned(), zeros(shape))));
}

/// Adapters that cannot be used, and a part of the expected error.
const UNUSABLE_ADAPTERS: [(&str, Change); 18] = [
    ("metadata general.type is missing", |m, _| m.retain(|(key, _)| key != "general.type")),
    ("metadata general.type is `model`; expected `adapter`", |m, _| {
        set(m, "general.type", Value::String("model".to_owned()));
    }),
    ("metadata general.type is not a string", |m, _| set(m, "general.type", Value::U32(1))),
    ("metadata adapter.type is `ia3`; expected `lora`", |m, _| {
        set(m, "adapter.type", Value::String("ia3".to_owned()));
    }),
    ("metadata adapter.alora.invocation_tokens", |m, _| {
        set(m, "adapter.alora.invocation_tokens", Value::Array(vec![Value::U32(1)]));
    }),
    ("metadata adapter.lora.alpha is NaN", |m, _| set(m, "adapter.lora.alpha", Value::F32(f32::NAN))),
    ("metadata adapter.lora.alpha is -1", |m, _| set(m, "adapter.lora.alpha", Value::F32(-1.0))),
    ("general.architecture is missing", |m, _| m.retain(|(key, _)| key != "general.architecture")),
    ("general.architecture is `llama`, but the model's architecture is `qwen2`", |m, _| {
        set(m, "general.architecture", Value::String("llama".to_owned()));
    }),
    ("it has no tensors", |_, t| t.clear()),
    ("tensor blk.0.attn_q.weight.lora_b is missing", |_, t| replace(t, "blk.0.attn_q.weight.lora_b", None)),
    ("tensor blk.1.ffn_down.weight.lora_a is missing", |_, t| {
        replace(t, "blk.1.ffn_down.weight.lora_a", None);
    }),
    ("tensor blk.0.attn_q.weight.dora ends with neither", |_, t| {
        replace(t, "blk.0.attn_q.weight.dora", Some(&[2, 256]));
    }),
    ("tensor blk.0.attn_q.weight.lora_a has the shape [2, 128]; the model needs [2, 256]", |_, t| {
        replace(t, "blk.0.attn_q.weight.lora_a", Some(&[2, 128]));
    }),
    ("tensor blk.0.attn_q.weight.lora_b has the shape [256, 3]; the model needs [256, 2]", |_, t| {
        replace(t, "blk.0.attn_q.weight.lora_b", Some(&[256, 3]));
    }),
    ("tensor blk.0.attn_q.weight.lora_a has the shape [512]", |_, t| {
        replace(t, "blk.0.attn_q.weight.lora_a", Some(&[512]));
    }),
    ("tensor blk.0.attn_q.weight.lora_a has the shape [1025, 256]", |_, t| {
        replace(t, "blk.0.attn_q.weight.lora_a", Some(&[1025, 256]));
    }),
    ("tensor blk.2.attn_q.weight.lora_a: the model has no matrix blk.2.attn_q.weight", |_, t| {
        replace(t, "blk.2.attn_q.weight.lora_a", Some(&[2, 256]));
        replace(t, "blk.2.attn_q.weight.lora_b", Some(&[256, 2]));
    }),
];

#[test]
fn rejects_unusable_adapters_with_the_name_of_the_culprit() {
    let directory = tempfile::tempdir().unwrap();
    for (number, (expected, change)) in UNUSABLE_ADAPTERS.into_iter().enumerate() {
        let path = directory.path().join(format!("adapter-{number}.gguf"));
        write_adapter(&path, change);
        let error = load_and_run_adapter(&path).expect_err(expected);
        assert!(error.contains(expected) && error.lines().count() == 1, "{expected}: {error}");
        assert!(error.contains(&format!("adapter-{number}.gguf")), "{error}");
    }
    let path = directory.path().join("adapter.gguf");
    write_adapter(&path, |_, _| {});
    assert_eq!(load_and_run_adapter(&path), Ok(()));
    write_adapter(&path, |m, _| m.retain(|(key, _)| key != "adapter.lora.alpha"));
    assert_eq!(load_and_run_adapter(&path), Ok(()));
}

/// Returns the length of a file's header, which the tensors follow.
fn header_len(bytes: &[u8]) -> usize {
    let last = b"blk.1.ffn_down.weight";
    let at = bytes.windows(last.len()).rposition(|window| window == last).unwrap();
    at + last.len() + 4 + 2 * 8 + 4 + 8
}

/// Applies a few thousand random changes of a few bytes, most of them in the header; each file is accepted or rejected.
#[test]
fn changed_bytes_never_cause_a_panic() {
    let whole = std::fs::read(tiny_gguf::path()).unwrap();
    let header = header_len(&whole);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("changed.gguf");
    std::fs::write(&path, &whole).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let mut random = Random(0x1d8_4c21);
    let mut rejected = 0;
    for _ in 0..3000 {
        let changes: Vec<(usize, [u8; 4], usize)> = (0..1 + random.below(3))
            .map(|_| {
                let end = if random.below(20) == 0 { whole.len() } else { header };
                (random.below(end - 4), random.bytes(), 1 + random.below(4))
            })
            .collect();
        for &(at, bytes, len) in &changes {
            file.write_all_at(&bytes[..len], at as u64).unwrap();
        }
        rejected += usize::from(load_and_run(&path).is_err());
        for &(at, ..) in &changes {
            file.write_all_at(&whole[at..at + 4], at as u64).unwrap();
        }
    }
    assert!(rejected > 1000, "only {rejected} of 3000 changes were detected");
    assert_eq!(load_and_run(&path), Ok(()), "the file is restored");
}

#[test]
fn rejects_files_truncated_at_any_point() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cut.gguf");
    let whole = std::fs::read(tiny_gguf::path()).unwrap();
    let header = header_len(&whole);
    std::fs::write(&path, &whole).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    let cuts = (1..header).rev().step_by(7).chain([0]);
    for len in [whole.len() - 1, header + 1000, header].into_iter().chain(cuts) {
        file.set_len(len as u64).unwrap();
        let error = GgufFile::open(&path).err().unwrap().to_string();
        assert!(error.contains("cut.gguf") && error.lines().count() == 1, "{len}: {error}");
    }
}

/// A reproducible random number generator (xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end
    }

    /// Returns the bytes of a number that is small, near the end of its range, a power of two, or arbitrary.
    fn bytes(&mut self) -> [u8; 4] {
        let any = (self.next() >> 32) as u32;
        match self.below(4) {
            0 => (any % 16).to_le_bytes(),
            1 => (u32::MAX - any % 16).to_le_bytes(),
            2 => (1u32 << (any % 32)).to_le_bytes(),
            _ => any.to_le_bytes(),
        }
    }
}
