#!/usr/bin/env python3
"""Writes the greedy completions of some prompts by llama.cpp with an adapter (LoRA), for tests/real_model.rs.

    pip install xllamacpp
    adapter_tokens.py MODEL.gguf ADAPTER.gguf > tests/data/reference/ID.adapter.json

At every step the two largest log-probabilities are kept, so that a test can distinguish a near tie from an error.
"""
import json
import sys
import urllib.request

import xllamacpp

STEPS = 48
SYSTEM = "你是一名新闻翻译，把中文译成英文。"
SENTENCES = [
    "新华社北京12月5日电 我国成功发射一颗卫星，卫星顺利进入预定轨道。",
    "今年前三季度，全国居民人均可支配收入同比增长5.1%。",
    "外交部发言人表示，中方愿同各方加强合作。",
    "第一场比赛将于周六下午在上海举行。",
    "专家建议老年人每天散步半小时左右。",
    "这座桥全长320米，总投资12亿元。",
    "台风“海葵”登陆福建 多地停课",
    "他说：“我们不会放弃。”",
]

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(sys.argv[2], 1.0)]
params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 1024, 1, False, -1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
server = xllamacpp.Server(params)


def post(path, body):
    request = urllib.request.Request(server.listening_address + path, json.dumps(body).encode())
    with urllib.request.urlopen(request) as response:
        return json.load(response)


cases = []
for sentence in SENTENCES:
    text = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{sentence}<|im_end|>\n<|im_start|>assistant\n"
    prompt = post("/tokenize", dict(content=text, add_special=False, parse_special=True))["tokens"]
    answer = post("/completion", dict(
        prompt=prompt, n_predict=STEPS, temperature=0, n_probs=2, return_tokens=True, cache_prompt=False,
    ))
    probabilities = answer["completion_probabilities"]
    best = [[round(top["logprob"], 4) for top in step["top_logprobs"]] for step in probabilities]
    tokens = [step["id"] for step in probabilities]
    cases.append(dict(text=sentence, prompt=prompt, answer=tokens, best_two_log_probabilities=best))
    print(sentence, answer["content"], file=sys.stderr)
lines = ",\n".join("  " + json.dumps(case, ensure_ascii=False) for case in cases)
print(f'{{"from": "llama.cpp, xllamacpp {xllamacpp.__version__}", "cases": [\n{lines}\n]}}')
