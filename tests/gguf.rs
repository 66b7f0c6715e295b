//! Tests with corrupt and malicious model files: each is rejected with an error that names the culprit, without a panic and
//! without allocating memory for sizes that a header merely claims.
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
    quantized::{GgmlDType, QTensor, gguf_file::Value},
};
use support::tiny_gguf::{self, Metadata, Tensors};
use yizhai::{
    model::{self, BackendChoice, Batch, GgufFile, ModelError, ModelOptions},
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
