//! A model that answers by a script: real tokens, real steps, no weights.

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

/// The logit of a token that leaves no doubt.
const SURE: f32 = 30.0;

/// Given the text of the user's turn, what the model answers.
pub type Script = Arc<dyn Fn(&str) -> Answer + Send + Sync>;

/// What a scripted model does with a prompt.
pub enum Answer {
    /// Writes this and ends.
    Text(String),
    /// Writes the first and ends, but is sure of no token, and finds the second nearly as likely.
    Unsure(String, String),
    /// Writes this over and over and never ends.
    Forever(&'static str),
    /// Panics.
    Panic,
    /// Gives logits that are no numbers.
    Nan,
}

pub struct Scripted {
    script: Script,
    /// How long every step takes.
    step_time: Duration,
    steps: Arc<AtomicUsize>,
    /// The tokens in the KV blocks.
    blocks: HashMap<u32, [u32; KV_BLOCK_TOKENS]>,
}

impl Scripted {
    pub fn new(script: Script, step_time: Duration, steps: Arc<AtomicUsize>) -> Self {
        Self { script, step_time, steps, blocks: HashMap::new() }
    }
}

impl Model for Scripted {
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
            for read in end + 1 - segment.logits..=end {
                let mut row = vec![0.0f32; VOCAB];
                self.next_tokens(&history[..read])
                    .iter()
                    .for_each(|&(token, logit)| row[token as usize] = logit);
                logits.extend(row);
            }
        }
        Ok(Tensor::from_vec(logits, (batch.logit_rows(), VOCAB), &Device::Cpu)?)
    }
}

impl Scripted {
    /// What may come next, and its logit; that of all else is 0.
    fn next_tokens(&self, history: &[u32]) -> Vec<(u32, f32)> {
        let opening: Vec<u32> = "assistant\n".bytes().map(u32::from).collect();
        let turns: Vec<usize> = (0..history.len()).filter(|&i| history[i] == IM_START).collect();
        let (user_at, assistant_at) = (turns[turns.len() - 2], turns[turns.len() - 1]);
        if !history[assistant_at + 1..].starts_with(&opening) {
            // A guess of what comes next ran on past the end of the turn; nobody reads what follows it.
            return vec![(IM_END, SURE)];
        }
        let user_turn = &history[user_at..];
        let user: Vec<u8> =
            user_turn.iter().map_while(|&t| (t != IM_END).then_some(t)).skip(1).map(|t| t as u8).collect();
        let user = String::from_utf8(user).unwrap();
        let written = &history[assistant_at + 1 + opening.len()..];
        let after = |text: &str| text.as_bytes().get(written.len()).map_or(IM_END, |&byte| u32::from(byte));
        let begins = |text: &str| text.bytes().map(u32::from).take(written.len()).eq(written.iter().copied());
        match (self.script)(user.strip_prefix("user\n").unwrap()) {
            Answer::Text(text) => vec![(after(&text), SURE)],
            Answer::Unsure(first, second) => {
                let mut may_come = vec![(after(&second), 5.0), (after(&first), 5.1)];
                if begins(&first) != begins(&second) {
                    may_come.remove(usize::from(begins(&second)));
                }
                may_come
            }
            Answer::Forever(text) => vec![(u32::from(text.as_bytes()[written.len() % text.len()]), SURE)],
            Answer::Panic => panic!("the script says so"),
            Answer::Nan => vec![(0, f32::NAN)],
        }
    }
}

/// Summaries and translations that no check objects to: a summary quotes the first clause of its source, a
/// translation is [`faithful`].
pub fn obedient() -> Script {
    Arc::new(|prompt: &str| {
        let (instruction, text) = prompt.rsplit_once("\n\n").unwrap();
        Answer::Text(match instruction.contains("概括") {
            true => {
                let clauses = text.split(['，', '。', '：', '《']);
                let first = clauses.into_iter().find(|clause| clause.chars().count() > 4);
                format!("{}。", first.unwrap_or_default())
            }
            false => faithful(text),
        })
    })
}

/// A translation into no language: every two Chinese characters are a word; quantities and what is English already
/// stay.
pub fn faithful(source: &str) -> String {
    let rewritten = numerals::rewrite_quantities(source, numerals::QuantityRewrite::ALL);
    let mut words = String::new();
    let mut half: Option<u32> = None;
    for character in rewritten.chars() {
        match character {
            '\u{3400}'..='\u{9fff}' => match half.take() {
                None => half = Some(u32::from(character)),
                Some(first) => {
                    words.push_str(&format!(" {} ", word(first.wrapping_mul(31) ^ u32::from(character))))
                }
            },
            other => {
                if let Some(first) = half.take() {
                    words.push_str(&format!(" {} ", word(first)));
                }
                words.push(if other.is_ascii() || "“”’".contains(other) { other } else { ' ' });
            }
        }
    }
    words.extend(half.map(|first| format!(" {}", word(first))));
    // What is written in Chinese and not settled, such as the 三 of 三大工艺, is told behind.
    for missing in numerals::compare(source, &words).missing {
        if !missing.text(source).contains(|c: char| c.is_ascii_digit()) {
            words.push_str(&format!(" {}", numerals::english(&missing)));
        }
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A word of five letters that is no number and no name.
fn word(mut seed: u32) -> String {
    let mut letters = String::new();
    for set in ["bdfgklmp", "aeiou", "bdfgklmp", "aeiou", "bdfgklmp"] {
        letters.push(char::from(set.as_bytes()[seed as usize % set.len()]));
        seed /= set.len() as u32;
    }
    letters
}

/// A pipeline over a scripted model, with the tokenizer of the tiny file.
pub fn pipeline(script: Script) -> Pipeline {
    pipeline_with(script, Duration::ZERO, Arc::default(), EngineConfig::default())
}

pub fn pipeline_with(
    script: Script,
    step_time: Duration,
    steps: Arc<AtomicUsize>,
    config: EngineConfig,
) -> Pipeline {
    pipeline_of("scripted", Tasks::default(), script, step_time, steps, config)
}

/// A pipeline over a scripted model of this id, which can be asked for these tasks.
pub fn pipeline_of(
    id: &str,
    tasks: Tasks,
    script: Script,
    step_time: Duration,
    steps: Arc<AtomicUsize>,
    config: EngineConfig,
) -> Pipeline {
    let engine = Engine::start(Box::new(Scripted::new(script, step_time, steps)), config).unwrap();
    let file = GgufFile::open(tiny_gguf::path()).unwrap();
    let tokenizer =
        Tokenizer::new(file.tokenizer().unwrap(), file.chat_template(), file.eos_token_id()).unwrap();
    Pipeline::new(engine, tokenizer, ModelInfo { id: id.to_owned(), weights_sha256: "00".repeat(32), tasks })
}
