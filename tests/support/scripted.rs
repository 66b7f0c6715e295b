//! A model without weights that answers by a script, through the real tokenizer and engine.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use candle_core::{Device, Tensor};
use yizhai::{
    engine::{Engine, EngineConfig},
    fidelity::numerals,
    model::{Batch, GgufFile, KV_BLOCK_TOKENS, KvCache, Model, ModelError},
    pipeline::{ModelInfo, Pipeline},
    task::Tasks,
    tokenizer::Tokenizer,
};

use super::tiny_gguf::{self, IM_END, IM_START, VOCAB};

/// The logit of a token with a probability of practically 1.
const CERTAIN: f32 = 30.0;

/// Maps the text of the user's turn to the model's reply.
pub type Script = Arc<dyn Fn(&str) -> ScriptedReply + Send + Sync>;

/// The reply of a scripted model.
pub enum ScriptedReply {
    /// Writes this text and ends.
    Text(String),
    /// Writes the first text and ends, with low confidence: the second is almost as likely.
    Unsure(String, String),
    /// Repeats this text forever.
    Forever(&'static str),
    /// Panics.
    Panic,
    /// Returns logits that are not numbers.
    Nan,
}

/// A [`Model`] that follows a script.
pub struct ScriptedModel {
    script: Script,
    /// The duration of every step.
    step_time: Duration,
    /// The number of steps so far.
    steps: Arc<AtomicUsize>,
    /// The tokens in each KV block.
    blocks: HashMap<u32, [u32; KV_BLOCK_TOKENS]>,
}

impl ScriptedModel {
    pub fn new(script: Script, step_time: Duration, steps: Arc<AtomicUsize>) -> Self {
        Self { script, step_time, steps, blocks: HashMap::new() }
    }
}

impl Model for ScriptedModel {
    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn max_positions(&self) -> usize {
        1 << 20
    }

    fn new_cache(&self, _blocks: usize) -> Result<KvCache, ModelError> {
        Ok(KvCache::None)
    }

    fn forward(&mut self, batch: &Batch, _cache: &mut KvCache) -> Result<Tensor, ModelError> {
        self.steps.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(self.step_time);
        let mut logits = Vec::new();
        let mut first = 0;
        for segment in &batch.segments {
            for (position, token) in (segment.start..).zip(&batch.tokens[first..first + segment.len]) {
                let block = segment.blocks[position / KV_BLOCK_TOKENS];
                self.blocks.entry(block).or_default()[position % KV_BLOCK_TOKENS] = *token;
            }
            first += segment.len;
            let end = segment.start + segment.len;
            let history: Vec<u32> =
                segment.blocks.iter().filter_map(|b| self.blocks.get(b)).flatten().copied().collect();
            for prefix_len in end + 1 - segment.logits..=end {
                let mut row = vec![0.0f32; VOCAB];
                self.next_tokens(&history[..prefix_len])
                    .iter()
                    .for_each(|&(token, logit)| row[token as usize] = logit);
                logits.extend(row);
            }
        }
        Ok(Tensor::from_vec(logits, (batch.logit_rows(), VOCAB), &Device::Cpu)?)
    }
}

impl ScriptedModel {
    /// Returns the candidates for the next token with their logits; all other logits are 0.
    fn next_tokens(&self, history: &[u32]) -> Vec<(u32, f32)> {
        let opening: Vec<u32> = "assistant\n".bytes().map(u32::from).collect();
        let turns: Vec<usize> = (0..history.len()).filter(|&i| history[i] == IM_START).collect();
        let (user_at, assistant_at) = (turns[turns.len() - 2], turns[turns.len() - 1]);
        if !history[assistant_at + 1..].starts_with(&opening) {
            // A speculative draft continued past the end of the turn. The result is discarded.
            return vec![(IM_END, CERTAIN)];
        }
        let user_turn = &history[user_at..];
        let user: Vec<u8> =
            user_turn.iter().map_while(|&t| (t != IM_END).then_some(t)).skip(1).map(|t| t as u8).collect();
        let user = String::from_utf8(user).unwrap();
        let written = &history[assistant_at + 1 + opening.len()..];
        let after = |text: &str| text.as_bytes().get(written.len()).map_or(IM_END, |&byte| u32::from(byte));
        let begins = |text: &str| text.bytes().map(u32::from).take(written.len()).eq(written.iter().copied());
        match (self.script)(user.strip_prefix("user\n").unwrap()) {
            ScriptedReply::Text(text) => vec![(after(&text), CERTAIN)],
            ScriptedReply::Unsure(first, second) => {
                let mut candidates = vec![(after(&second), 5.0), (after(&first), 5.1)];
                if begins(&first) != begins(&second) {
                    candidates.remove(usize::from(begins(&second)));
                }
                candidates
            }
            ScriptedReply::Forever(text) => {
                vec![(u32::from(text.as_bytes()[written.len() % text.len()]), CERTAIN)]
            }
            ScriptedReply::Panic => panic!("the script says so"),
            ScriptedReply::Nan => vec![(0, f32::NAN)],
        }
    }
}

/// Returns a script whose results pass all checks: a summary is the first clause of its source, a translation comes from
/// [`faithful_translation`].
pub fn faithful_script() -> Script {
    Arc::new(|prompt: &str| {
        let (instruction, text) = prompt.rsplit_once("\n\n").unwrap();
        ScriptedReply::Text(match instruction.contains("概括") {
            true => {
                let clauses = text.split(['，', '。', '：', '《']);
                let first = clauses.into_iter().find(|clause| clause.chars().count() > 4);
                format!("{}。", first.unwrap_or_default())
            }
            false => faithful_translation(text),
        })
    })
}

/// Translates into a made-up language that passes all checks: every two Chinese characters become a word; quantities are
/// rendered in English and existing English is kept.
pub fn faithful_translation(source: &str) -> String {
    let with_quantities = numerals::rewrite_quantities(source, numerals::QuantityRewrite::ALL);
    let mut words = String::new();
    let mut pending: Option<u32> = None;
    for character in with_quantities.chars() {
        match character {
            '\u{3400}'..='\u{9fff}' => match pending.take() {
                None => pending = Some(u32::from(character)),
                Some(first) => {
                    words.push_str(&format!(" {} ", word(first.wrapping_mul(31) ^ u32::from(character))))
                }
            },
            other => {
                if let Some(first) = pending.take() {
                    words.push_str(&format!(" {} ", word(first)));
                }
                words.push(if other.is_ascii() || "“”’".contains(other) { other } else { ' ' });
            }
        }
    }
    words.extend(pending.map(|first| format!(" {}", word(first))));
    // Quantities that were not rewritten, such as the 三 of 三大工艺, are appended.
    for missing in numerals::compare(source, &words).missing {
        if !missing.text(source).contains(|c: char| c.is_ascii_digit()) {
            words.push_str(&format!(" {}", numerals::english(&missing)));
        }
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns a word of five letters that reads as neither a number nor a name.
fn word(mut seed: u32) -> String {
    let mut letters = String::new();
    for set in ["bdfgklmp", "aeiou", "bdfgklmp", "aeiou", "bdfgklmp"] {
        letters.push(char::from(set.as_bytes()[seed as usize % set.len()]));
        seed /= set.len() as u32;
    }
    letters
}

/// Returns a pipeline with a scripted model and the tokenizer of the tiny model file.
pub fn pipeline(script: Script) -> Pipeline {
    pipeline_with(script, Duration::ZERO, Arc::default(), EngineConfig::default())
}

/// Returns such a pipeline with a step time, a step counter and an engine configuration.
pub fn pipeline_with(
    script: Script,
    step_time: Duration,
    steps: Arc<AtomicUsize>,
    config: EngineConfig,
) -> Pipeline {
    pipeline_with_id("scripted", Tasks::default(), script, step_time, steps, config)
}

/// Returns such a pipeline whose model has this id and supports these tasks.
pub fn pipeline_with_id(
    id: &str,
    tasks: Tasks,
    script: Script,
    step_time: Duration,
    steps: Arc<AtomicUsize>,
    config: EngineConfig,
) -> Pipeline {
    let engine = Engine::start(Box::new(ScriptedModel::new(script, step_time, steps)), config).unwrap();
    let file = GgufFile::open(tiny_gguf::path()).unwrap();
    let tokenizer =
        Tokenizer::new(file.tokenizer().unwrap(), file.chat_template(), file.eos_token_id()).unwrap();
    Pipeline::new(engine, tokenizer, ModelInfo { id: id.to_owned(), weights_sha256: "00".repeat(32), tasks })
}
