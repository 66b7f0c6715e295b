#!/usr/bin/env python3
"""Writes tiny random encoder-decoder models as directories in the format of `save_pretrained`, and the results of
PyTorch's transformers with them, for tests/seq2seq.rs.

    pip install torch transformers sentencepiece
    tiny_seq2seq.py tests/data/seq2seq

Weights are representable in half precision, so that both sides compute with the same ones. The vocabularies are trained
on the page of tests/data and a few English sentences, with a few normalization rules, because the usual ones take 240 kB.
"""
import copy
import json
import sys
import tempfile
from pathlib import Path

import sentencepiece as spm
import torch
import transformers as hf

hf.logging.set_verbosity_error()

PAGE = (Path(__file__).parent.parent / "data/people-daily-2025-12-06.txt").read_text()[:1200]
ENGLISH = [
    "The rocket entered its orbit on schedule, and the first stage was not recovered.",
    "Doctors recommend that older people walk for about half an hour every day.",
    "The bridge, built in the 19th century, spans the river with a total length of 320 meters.",
    "Rebuilt at a cost of 1.2 billion yuan, it is one of the most famous local landmarks.",
    "The next match is the key one, the coach said after the game.",
    "Most scientists believe that it is related to rising sea temperatures.",
    "The Ministry of Transport said there were 12 passengers on board at the time of the accident.",
    "Foreign trade was up 4 percent in the first three quarters of 2025.",
]
# Full-width forms, the ideographic space, newlines, and a ligature.
RULES = "".join(f"{0xff01 + n:X}\t{0x21 + n:X}\n" for n in range(94)) + "3000\t20\nA\t20\nD\t20\n9\t20\nFB01\t66 69\n"
TEXTS = [
    "火箭发射入轨。",
    "　中国航天　迈出一步，　融资３５亿元（约合）。",
    "  two  spaces, and\ta tab ",
    "ﬁrst 第一级 rocket𝄞𝄞🚀 回收。",
    "▁ 二〇二五年 ▁",
    "新华社北京12月5日电 “我们不会放弃，”他说。",
    "",
]


def train(path, lines, size, **special):
    with tempfile.TemporaryDirectory() as directory:
        text, rules = Path(directory, "text"), Path(directory, "rules.tsv")
        text.write_text("\n".join(lines))
        rules.write_text(RULES)
        spm.SentencePieceTrainer.train(
            input=str(text), model_prefix=directory + "/model", vocab_size=size, character_coverage=0.98,
            normalization_rule_tsv=str(rules), num_threads=1, minloglevel=2, **special,
        )
        path.write_bytes(Path(directory, "model.model").read_bytes())
    return spm.SentencePieceProcessor(model_file=str(path))


def random_weights(model, scale):
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "embed_positions" in name:
                continue
            noise = torch.randn(weight.shape, generator=generator)
            if "norm" in name and name.endswith("weight"):
                noise = 1 + 0.2 * noise
            else:
                noise = (scale if weight.dim() == 2 else 0.2) * noise
            weight.copy_(noise.half().float())


def save(model, directory):
    # A copy, because the sinusoids of the original must keep their full precision.
    copy.deepcopy(model).half().save_pretrained(directory)


def hypotheses(model, source, count, **options):
    out = model.generate(
        torch.tensor([source]), num_return_sequences=count, return_dict_in_generate=True, output_scores=True, **options
    )
    scores = out.sequences_scores if options["num_beams"] > 1 else [None]
    ends = set(torch.tensor(model.generation_config.eos_token_id).flatten().tolist())
    found = []
    for tokens, score in zip(out.sequences.tolist(), scores):
        tokens = tokens[1:]
        end = next((at for at, token in enumerate(tokens) if token in ends), None)
        whole = end is not None and not (end + 1 == options["max_new_tokens"] and model.generation_config.forced_eos_token_id)
        found.append(dict(tokens=tokens[:end], score=None if score is None else round(float(score), 6)))
    return found


def reference(model, sources, searches):
    with torch.no_grad():
        answer = [model.config.decoder_start_token_id] + [(n * 37 + 5) % 200 for n in range(11)]
        logits = [
            model(input_ids=torch.tensor([s]), decoder_input_ids=torch.tensor([answer])).logits[0].tolist()
            for s in sources[:2]
        ]
        # The rows of two tokens, with every 7th token of the vocabulary: enough to detect an error.
        kept = [[[round(x, 5) for x in rows[at][::7]] for at in (0, 11)] for rows in logits]
        searched = [
            dict(options=options, answers=[hypotheses(model, s, options["num_beams"], do_sample=False, **options) for s in sources])
            for options in searches
        ]
    return dict(sources=sources, answer=answer[1:], rows=[0, 11], every=7, logits=kept, searches=searched)


def write(directory, value):
    text = json.dumps(value, ensure_ascii=False)
    text = text.replace('}, {"', '},\n{"').replace("]], [[", "]],\n[[").replace('"searches"', '\n"searches"')
    (directory / "reference.json").write_text(text + "\n")


def marian(directory):
    directory.mkdir(parents=True, exist_ok=True)
    control = dict(bos_id=-1, eos_id=0, unk_id=1, pad_id=-1)
    source = train(directory / "source.spm", [line for line in PAGE.splitlines() if line.strip()], 480, **control)
    target = train(directory / "target.spm", ENGLISH, 100, **control)
    pieces = ["</s>", "<unk>"]
    for model in (source, target):
        pieces += [p for p in map(model.id_to_piece, range(2, model.vocab_size())) if p not in pieces]
    # A SentencePiece piece that is missing from the model's vocabulary, as in real models.
    pieces.remove(source.id_to_piece(40))
    pieces.append("<pad>")
    vocab = {piece: id for id, piece in enumerate(pieces)}
    (directory / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False, indent=0) + "\n")
    config = hf.MarianConfig(
        vocab_size=len(vocab), d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=64,
        activation_function="swish", scale_embedding=True, pad_token_id=vocab["<pad>"], eos_token_id=0,
        decoder_start_token_id=vocab["<pad>"], forced_eos_token_id=0, attn_implementation="eager",
    )
    model = hf.MarianMTModel(config).eval()
    random_weights(model, 0.33)
    with torch.no_grad():
        bias = 0.5 * torch.randn(len(vocab), generator=torch.Generator().manual_seed(3))
        bias[0] = 4.7
        model.final_logits_bias.copy_(bias.half().float())
    model.generation_config = hf.GenerationConfig(
        num_beams=6, bad_words_ids=[[vocab["<pad>"]]], forced_eos_token_id=0, max_length=64, renormalize_logits=True,
        pad_token_id=vocab["<pad>"], eos_token_id=0, decoder_start_token_id=vocab["<pad>"],
    )
    save(model, directory)
    tokenizer = hf.MarianTokenizer(str(directory / "source.spm"), str(directory / "target.spm"), str(directory / "vocab.json"))
    texts = [dict(text=text, ids=tokenizer(text).input_ids) for text in TEXTS]
    answers = [[vocab[p] for p in target.encode(text, out_type=str) if p in vocab] for text in ENGLISH[:3]]
    sources = [t["ids"] for t in texts if len(t["ids"]) > 3][:4]
    searches = [
        dict(num_beams=6, max_new_tokens=24),
        dict(num_beams=4, max_new_tokens=24, renormalize_logits=False, early_stopping=True, length_penalty=0.6),
        dict(num_beams=3, max_new_tokens=8, length_penalty=2.0),
        dict(num_beams=1, max_new_tokens=24),
    ]
    write(directory, dict(
        texts=texts, decoded=[dict(ids=ids, text=tokenizer.decode(ids, skip_special_tokens=True)) for ids in answers],
        **reference(model, sources, searches), **{"from": f"transformers {hf.__version__}"},
    ))


def t5(directory, model_class, config_class, **differences):
    directory.mkdir(parents=True, exist_ok=True)
    control = dict(bos_id=-1, pad_id=0, eos_id=1, unk_id=2)
    lines = [line for line in PAGE.splitlines() if line.strip()] + ENGLISH
    pieces = train(directory / "spiece.model", lines, 500, **control)
    config = config_class(
        vocab_size=512, d_model=32, d_kv=12, d_ff=48, num_layers=2, num_heads=4,
        relative_attention_num_buckets=8, relative_attention_max_distance=12, decoder_start_token_id=0, pad_token_id=0,
        eos_token_id=1, attn_implementation="eager", **differences,
    )
    model = model_class(config).eval()
    random_weights(model, 0.3)
    if differences.get("tie_word_embeddings") is False:
        # An untied output layer, as in the published files.
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.flip(0).clone())
    model.generation_config = hf.GenerationConfig(
        num_beams=1, max_length=64, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    )
    save(model, directory)
    (directory / "yizhai.toml").write_text('tasks = ["summary"]\n')
    texts = [dict(text=text, ids=pieces.encode(text) + [1]) for text in TEXTS]
    sources = [t["ids"] for t in texts if len(t["ids"]) > 3][:4]
    searches = [
        dict(num_beams=1, max_new_tokens=24),
        dict(num_beams=4, max_new_tokens=12, length_penalty=0.6, no_repeat_ngram_size=2),
    ]
    write(directory, dict(
        texts=texts, decoded=[dict(ids=pieces.encode(text), text=text) for text in ENGLISH[:3]],
        **reference(model, sources, searches), **{"from": f"transformers {hf.__version__}"},
    ))


out = Path(sys.argv[1])
marian(out / "marian")
t5(out / "t5", hf.T5ForConditionalGeneration, hf.T5Config, feed_forward_proj="relu")
t5(out / "mt5", hf.MT5ForConditionalGeneration, hf.MT5Config, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
