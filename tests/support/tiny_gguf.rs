//! Writes a tiny Qwen2 model with random weights and a byte-level tokenizer, in the format of real models.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use candle_core::{
    Device, Tensor,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{self, Value},
    },
};

const HIDDEN: usize = 256;
const MLP: usize = 512;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const LAYERS: usize = 2;
pub const IM_START: u32 = 256;
pub const IM_END: u32 = 257;
pub const VOCAB: usize = 258;

/// Returns the path of the tiny model, which is written once per test program.
pub fn path() -> &'static Path {
    static PATH: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = PATH.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tiny-qwen2.gguf");
        write(&path);
        (directory, path)
    });
    path
}

/// The metadata of a model file, in file order.
pub type Metadata = Vec<(String, Value)>;
/// The tensors of a model file.
pub type Tensors = Vec<(String, QTensor)>;

/// Writes the model to `path`.
pub fn write(path: &Path) {
    write_with(path, |_, _| {});
}

/// Writes the model to `path` after changing its metadata or tensors.
pub fn write_with(path: &Path, change: impl FnOnce(&mut Metadata, &mut Tensors)) {
    let (mut metadata, mut tensors) = (metadata(), tensors());
    change(&mut metadata, &mut tensors);
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(k, v)| (k.as_str(), v)).collect();
    gguf_file::write(&mut File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

/// Returns the character that represents a byte in GPT-2's byte-level vocabulary.
pub fn byte_char(byte: u8) -> char {
    let is_plain = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if is_plain(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|b| !is_plain(*b)).count();
    char::from_u32(256 + before as u32).unwrap()
}

fn metadata() -> Metadata {
    let mut tokens: Vec<Value> = (0..=255).map(|b| Value::String(byte_char(b).to_string())).collect();
    tokens.extend(["<|im_start|>", "<|im_end|>"].map(|t| Value::String(t.to_owned())));
    let types = (0..VOCAB).map(|id| Value::I32(if id < 256 { 1 } else { 3 })).collect();
    let number = |n: usize| Value::U32(n as u32);
    [
        ("general.architecture", Value::String("qwen2".to_owned())),
        ("qwen2.embedding_length", number(HIDDEN)),
        ("qwen2.feed_forward_length", number(MLP)),
        ("qwen2.block_count", number(LAYERS)),
        ("qwen2.attention.head_count", number(HEADS)),
        ("qwen2.attention.head_count_kv", number(KV_HEADS)),
        ("qwen2.context_length", number(4096)),
        ("qwen2.attention.layer_norm_rms_epsilon", Value::F32(1e-6)),
        ("qwen2.rope.freq_base", Value::F32(10_000.0)),
        ("tokenizer.ggml.model", Value::String("gpt2".to_owned())),
        ("tokenizer.ggml.pre", Value::String("qwen2".to_owned())),
        ("tokenizer.ggml.tokens", Value::Array(tokens)),
        ("tokenizer.ggml.token_type", Value::Array(types)),
        ("tokenizer.ggml.merges", Value::Array(Vec::new())),
        ("tokenizer.ggml.eos_token_id", Value::U32(IM_END)),
        ("tokenizer.chat_template", Value::String("<|im_start|>…<|im_end|>".to_owned())),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .to_vec()
}

fn tensors() -> Tensors {
    let mut random = Random(7);
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[usize], scale: f32, offset: f32, dtype| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| offset + scale * random.next()).collect();
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        tensors.push((name, QTensor::quantize(&tensor, dtype).unwrap()));
    };
    let kv = HIDDEN / HEADS * KV_HEADS;
    add("token_embd.weight".to_owned(), &[VOCAB, HIDDEN], 1.0, 0.0, GgmlDType::Q4K);
    add("output.weight".to_owned(), &[VOCAB, HIDDEN], 0.2, 0.0, GgmlDType::Q6K);
    add("output_norm.weight".to_owned(), &[HIDDEN], 0.1, 1.0, GgmlDType::F32);
    for layer in 0..LAYERS {
        let mut add = |name: &str, shape: &[usize], scale, offset, dtype| {
            add(format!("blk.{layer}.{name}"), shape, scale, offset, dtype);
        };
        for name in ["attn_norm.weight", "ffn_norm.weight"] {
            add(name, &[HIDDEN], 0.1, 1.0, GgmlDType::F32);
        }
        for (name, rows, dtype) in [
            ("attn_q", HIDDEN, GgmlDType::Q4K),
            ("attn_k", kv, GgmlDType::Q5K),
            ("attn_v", kv, GgmlDType::Q8_0),
        ] {
            add(&format!("{name}.weight"), &[rows, HIDDEN], 0.2, 0.0, dtype);
            add(&format!("{name}.bias"), &[rows], 0.2, 0.0, GgmlDType::F32);
        }
        add("attn_output.weight", &[HIDDEN, HIDDEN], 0.2, 0.0, GgmlDType::Q4K);
        add("ffn_gate.weight", &[MLP, HIDDEN], 0.2, 0.0, GgmlDType::Q4K);
        add("ffn_up.weight", &[MLP, HIDDEN], 0.2, 0.0, GgmlDType::Q4K);
        add("ffn_down.weight", &[HIDDEN, MLP], 0.2, 0.0, GgmlDType::Q6K);
    }
    tensors
}

/// A seeded generator of numbers in -1..1 (xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40;
        bits as f32 / (1u64 << 23) as f32 - 1.0
    }
}
