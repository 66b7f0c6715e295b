#!/usr/bin/env python3
"""Writes the tokens of some prompts and their greedy continuation by llama.cpp, for tests/real_model.rs.

    greedy_tokens.py MODEL.gguf > tests/data/reference/ID.json

Needs the package llama-cpp-python. The output contains the two largest logits of every step, so that a test can
distinguish a near tie from an error.
"""
import ctypes
import json
import sys

import llama_cpp as lc
import numpy as np

STEPS = 40
PROMPTS = [
    "The capital of France is",
    "新华社北京12月5日电 我国成功发射一颗卫星，",
    "Once upon a time, in 1987,\n\nthere  were 3 little kittens.",
]


@lc.llama_log_callback
def quiet(level, text, data):
    pass


lc.llama_log_set(quiet, ctypes.c_void_p(0))
model = lc.llama_model_load_from_file(sys.argv[1].encode(), lc.llama_model_default_params())
vocab = lc.llama_model_get_vocab(model)
size = lc.llama_vocab_n_tokens(vocab)


def tokens_of(text):
    data = text.encode()
    buffer = (lc.llama_token * 4096)()
    count = lc.llama_tokenize(vocab, data, len(data), buffer, 4096, True, False)
    return list(buffer[:count])


def complete(prompt):
    params = lc.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_threads, params.n_threads_batch = 1024, 1024, 2, 2
    params.flash_attn_type = 0
    context = lc.llama_init_from_model(model, params)
    chosen, best = [], []
    feed = prompt
    for _ in range(STEPS):
        tokens = (lc.llama_token * len(feed))(*feed)  # keep it alive: the batch only borrows it
        if lc.llama_decode(context, lc.llama_batch_get_one(tokens, len(feed))):
            raise SystemExit("llama_decode failed")
        logits = np.ctypeslib.as_array(lc.llama_get_logits_ith(context, -1), shape=(size,))
        first, second = np.argsort(-logits)[:2]
        chosen.append(int(first))
        best.append([round(float(logits[first]), 4), round(float(logits[second]), 4)])
        feed = [int(first)]
    lc.llama_free(context)
    return chosen, best


cases = []
for text in PROMPTS:
    prompt = tokens_of(text)
    completion, best = complete(prompt)
    cases.append({"text": text, "prompt": prompt, "answer": completion, "best_two_logits": best})
    print(text, len(completion), file=sys.stderr)
lines = ",\n".join("  " + json.dumps(case, ensure_ascii=False) for case in cases)
print(f'{{"from": "llama.cpp, llama-cpp-python {lc.__version__}", "cases": [\n{lines}\n]}}')
