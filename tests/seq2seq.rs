//! Compares encoder-decoder models with PyTorch's transformers, on tiny random models that
//! `tests/reference/tiny_seq2seq.py` wrote as directories together with the results of transformers.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};

use support::serving::Server;

use yizhai::{
    engine::{Engine, EngineConfig, Generation, GenerationEvent, Priority, Prompt, QueueOrder, Sampling},
    model::{
        DeviceChoice, ModelOptions,
        seq2seq::{DecoderState, EarlyStopping, ModelDirectory, SearchSettings, Seq2Seq},
    },
    pb::{self, input::Source},
    pipeline::{ModelInfo, Pipeline},
    task::Tasks,
    tokenizer::{SourceVocabulary, Tokenizer},
};

/// `t5` has tied embeddings; `mt5` has a gated feed-forward layer and a separate output layer.
const FAMILIES: [&str; 3] = ["marian", "t5", "mt5"];

#[derive(serde::Deserialize)]
struct Reference {
    sources: Vec<Vec<u32>>,
    /// The tokens of a given completion. The file has the logits after those at `rows`, for every `every`-th token id.
    answer: Vec<u32>,
    rows: Vec<usize>,
    every: usize,
    /// `(sources, rows, vocab_size / every)`.
    logits: Vec<Vec<Vec<f32>>>,
    searches: Vec<Search>,
    texts: Vec<Text>,
    decoded: Vec<Text>,
}

#[derive(serde::Deserialize)]
struct Search {
    options: Options,
    /// Per source, the best first.
    answers: Vec<Vec<Hypothesis>>,
}

/// Differences from the generation settings of the files.
#[derive(serde::Deserialize)]
struct Options {
    num_beams: usize,
    max_new_tokens: usize,
    renormalize_logits: Option<bool>,
    early_stopping: Option<bool>,
    length_penalty: Option<f32>,
    no_repeat_ngram_size: Option<usize>,
}

#[derive(serde::Deserialize)]
struct Hypothesis {
    tokens: Vec<u32>,
}

#[derive(serde::Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
}

fn directory(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/seq2seq").join(family)
}

fn reference(family: &str) -> Reference {
    serde_json::from_str(&std::fs::read_to_string(directory(family).join("reference.json")).unwrap()).unwrap()
}

fn load(family: &str) -> Seq2Seq {
    let options = ModelOptions { device: DeviceChoice::Cpu, ..ModelOptions::default() };
    Seq2Seq::load(&ModelDirectory::open(&directory(family)).unwrap(), &options).unwrap()
}

/// Returns the logits after the start token and after each token of `answer`, for several sources at once:
/// `(tokens, sources, vocab_size)`.
fn logits(model: &Seq2Seq, sources: &[&[u32]], answer: &[u32]) -> Vec<Vec<Vec<f32>>> {
    let mut states = model.encode(sources).unwrap();
    let tokens = std::iter::once(model.start_token()).chain(answer.iter().copied());
    let step = |token| {
        let mut rows: Vec<(&mut DecoderState, &[u32])> =
            states.iter_mut().map(|state| (state, std::slice::from_ref(token))).collect();
        model.step(&mut rows).unwrap().to_vec2::<f32>().unwrap()
    };
    tokens.collect::<Vec<u32>>().iter().map(step).collect()
}

#[test]
fn logits_match_transformers() {
    for family in FAMILIES {
        let (model, reference) = (load(family), reference(family));
        let mut worst = 0f32;
        for (source, expected) in reference.sources.iter().zip(&reference.logits) {
            let found = logits(&model, &[source], &reference.answer);
            for (&row, expected) in reference.rows.iter().zip(expected) {
                let kept = found[row][0].iter().step_by(reference.every);
                assert_eq!(kept.len(), expected.len());
                worst = kept.zip(expected).map(|(a, b)| (a - b).abs()).fold(worst, f32::max);
            }
        }
        println!("{family}: the logits differ by at most {worst:.7}");
        assert!(worst < 1e-4, "{family}: {worst}");
    }
}

#[test]
fn a_source_has_the_same_logits_alone_and_in_a_batch() {
    for family in FAMILIES {
        let (model, reference) = (load(family), reference(family));
        let sources: Vec<&[u32]> = reference.sources.iter().map(Vec::as_slice).collect();
        let together = logits(&model, &sources, &reference.answer);
        for (index, source) in sources.iter().enumerate() {
            for (alone, together) in logits(&model, &[source], &reference.answer).iter().zip(&together) {
                let worst =
                    alone[0].iter().zip(&together[index]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-5, "{family}, source {index}: {worst}");
            }
        }
    }
}

/// Returns all completions of a source, the best first, each with the sum of its log-probabilities.
async fn completions(generation: &mut Generation) -> Vec<(Vec<u32>, f32)> {
    let (mut best, mut others) = ((Vec::new(), 0.0), Vec::new());
    loop {
        match generation.next().await.unwrap() {
            GenerationEvent::Started { .. } => {}
            GenerationEvent::Token { id, log_probability } => {
                best.0.push(id);
                best.1 += log_probability;
            }
            GenerationEvent::Alternative { tokens, log_probabilities, .. } => {
                others.push((tokens, log_probabilities.iter().sum()));
            }
            GenerationEvent::Finished(_) => break,
            GenerationEvent::Failed(reason) => panic!("{reason}"),
        }
    }
    std::iter::once(best).chain(others).collect()
}

#[tokio::test]
async fn batched_searches_find_the_same_completions_as_transformers() {
    for family in FAMILIES {
        let reference = reference(family);
        for Search { options, answers: expected } in &reference.searches {
            let model = load(family);
            let defaults = model.search_settings().clone();
            let settings = SearchSettings {
                beams: options.num_beams,
                renormalize: options.renormalize_logits.unwrap_or(defaults.renormalize),
                early_stopping: match options.early_stopping {
                    Some(true) => EarlyStopping::Yes,
                    _ => defaults.early_stopping,
                },
                length_penalty: options.length_penalty.unwrap_or(defaults.length_penalty),
                no_repeat_ngram: options.no_repeat_ngram_size.unwrap_or(defaults.no_repeat_ngram),
                ..defaults
            };
            let end = model.end_token();
            let engine =
                Engine::start_seq2seq(model.with_search_settings(settings), EngineConfig::default()).unwrap();
            let mut generations = Vec::new();
            for source in &reference.sources {
                let prompt = Prompt {
                    tokens: source.clone(),
                    max_new_tokens: options.max_new_tokens,
                    stop_tokens: vec![end],
                    sampling: Sampling::Greedy,
                    allowed: None,
                    adapter: None,
                    priority: Priority::Interactive,
                    order: QueueOrder::default(),
                    deadline: None,
                };
                generations.push(engine.submit(prompt).await.unwrap());
            }
            for (index, (generation, expected)) in generations.iter_mut().zip(expected).enumerate() {
                let found = completions(generation).await;
                let tokens: Vec<_> = found.iter().map(|(tokens, _)| tokens.as_slice()).collect();
                let expected: Vec<_> = expected.iter().map(|answer| answer.tokens.as_slice()).collect();
                // Without beams, no token is forced at the limit.
                match options.num_beams {
                    1 => assert!(tokens[0].starts_with(expected[0]), "{family}, source {index}: {tokens:?}"),
                    beams => assert_eq!(tokens, expected, "{family}, {beams} beams, source {index}"),
                }
            }
        }
    }
}

#[test]
fn tokenization_matches_transformers() {
    for (family, pieces, ids, end) in
        [("marian", "source.spm", Some("vocab.json"), 0), ("mt5", "spiece.model", None, 1)]
    {
        let (directory, reference) = (directory(family), reference(family));
        let read = |name| std::fs::read(directory.join(name)).unwrap();
        let (bytes, ids) = (read(pieces), ids.map(read));
        let files = SourceVocabulary { pieces: (pieces, &bytes), ids: ids.as_deref(), prefix: "", end };
        let tokenizer = Tokenizer::for_sources(&files).unwrap();
        for Text { text, ids } in &reference.texts {
            assert_eq!(&tokenizer.encode_source(text).unwrap().unwrap(), ids, "{family}: {text:?}");
        }
        for Text { text, ids } in &reference.decoded {
            let mut detokenizer = tokenizer.detokenizer(&[]);
            ids.iter().for_each(|id| assert!(!detokenizer.push(*id).unwrap()));
            assert_eq!(detokenizer.text(), text, "{family}");
        }
    }
}

fn request(tasks: &[pb::Task]) -> pb::DigestRequest {
    let text = "火箭发射入轨。新华社北京12月5日电，我们不会放弃。";
    let source = Some(Source::PageText(text.to_owned()));
    let input = pb::Input { source, page_format: pb::PageFormat::Lines.into() };
    let tasks = tasks.iter().map(|task| (*task).into()).collect();
    let options = pb::DigestOptions { tasks, ..Default::default() };
    pb::DigestRequest { input: Some(input), options: Some(options), request_id: String::new() }
}

#[tokio::test]
async fn a_directory_is_served_for_its_tasks_only() {
    let tasks = Tasks { summary: false, translation: true };
    let model = ModelInfo { id: "marian".to_owned(), weights_sha256: "0".to_owned(), tasks };
    let options = ModelOptions { device: DeviceChoice::Cpu, ..ModelOptions::default() };
    let pipeline = Pipeline::load(&directory("marian"), model, &options, EngineConfig::default()).unwrap();
    let server = Server::start(pipeline).await;
    let mut raw = server.raw_client().await;
    let digest = raw.digest(request(&[pb::Task::Translation])).await.unwrap().into_inner();
    let section = &digest.sections[0];
    let translation = section.translation.as_ref().unwrap();
    assert_eq!(translation.paragraphs.len(), 1);
    assert!(!translation.paragraphs[0].text.contains(['火', '新']), "{translation:?}");
    assert_eq!(section.provenance.as_ref().unwrap().model, "marian");
    let status = raw.digest(request(&[pb::Task::Summary])).await.unwrap_err();
    assert!(status.message().contains("the model `marian` cannot summarize"), "{status}");
}

#[test]
fn errors_about_directories_name_the_file_and_the_field() {
    let copy = |change: &dyn Fn(&Path)| {
        let copy = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(directory("marian")).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
        change(copy.path());
        let loaded = ModelDirectory::open(copy.path())
            .and_then(|directory| Seq2Seq::load(&directory, &ModelOptions::default()));
        loaded.err().unwrap().to_string()
    };
    let config = |from: &'static str, to: &'static str| {
        copy(&|path| {
            let file = path.join("config.json");
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.contains(from));
            std::fs::write(file, text.replace(from, to)).unwrap();
        })
    };
    for (error, expected) in [
        (config("\"model_type\": \"marian\"", "\"model_type\": \"bart\""), "yizhai.toml"),
        (config("\"d_model\": 32", "\"d_model\": 48"), "tensor model.shared.weight has the shape [570, 32]"),
        (config("\"d_model\": 32", "\"d_model\": -1"), "config.json: `d_model`"),
        (config("\"d_model\": 32,", ""), "config.json: `d_model` is missing"),
        (
            config("\"encoder_layers\": 2", "\"encoder_layers\": 3"),
            "encoder.layers.2.self_attn.q_proj.weight is missing",
        ),
        (config("\"swish\"", "\"tanh\""), "`activation_function` is `tanh`"),
        (copy(&|path| std::fs::write(path.join("config.json"), "{").unwrap()), "config.json is malformed"),
        (copy(&|path| std::fs::remove_file(path.join("model.safetensors")).unwrap()), "no model.safetensors"),
        (
            copy(&|path| std::fs::write(path.join("model.safetensors"), [255; 64]).unwrap()),
            "model.safetensors: ",
        ),
        (copy(&|path| std::fs::write(path.join("yizhai.toml"), "tasks = [\"x\"]").unwrap()), "yizhai.toml: "),
    ] {
        assert!(error.contains(expected) && error.lines().count() == 1, "{error}");
    }
}
