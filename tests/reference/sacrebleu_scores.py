#!/usr/bin/env python3
"""Writes the scores of sacreBLEU for tests/data/evaluation/sentences.tsv, for the tests of src/evaluation.

    sacrebleu_scores.py > tests/data/evaluation/scores.json

Needs the package sacrebleu 2.6. The columns of the file are the reference and the outputs of two systems.
"""
import json
import pathlib

from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

DATA = pathlib.Path(__file__).parent.parent / "data/evaluation/sentences.tsv"
# The ranges of lines to score: all, parts with a close decision, single lines, and lines without any matching n-gram.
RANGES = [(0, 30), (0, 10), (10, 20), (20, 30), (12, 17), (17, 21), (7, 10), (0, 1), (8, 9), (9, 10), (29, 30)]

lines = [line.split("\t") for line in DATA.read_text(encoding="utf8").split("\n")[:-1]]
assert all(len(line) == 3 for line in lines)


def scores(rows, system):
    outputs, references = [row[system] for row in rows], [[row[0] for row in rows]]
    return {
        "bleu": BLEU().corpus_score(outputs, references).score,
        "chrf": CHRF().corpus_score(outputs, references).score,
    }


def p_values(rows):
    systems = [("first", [row[1] for row in rows]), ("second", [row[2] for row in rows])]
    metrics = {"BLEU": BLEU(), "chrF": CHRF()}
    _, results = PairedTest(systems, metrics, [[row[0] for row in rows]], test_type="bs", n_samples=1000)()
    return {"bleu": results["BLEU"][1].p_value, "chrf": results["chrF2"][1].p_value}


ranges = []
for start, end in RANGES:
    rows = lines[start:end]
    ranges.append({
        "start": start, "end": end, "first": scores(rows, 1), "second": scores(rows, 2), "p": p_values(rows),
    })
tokens = [BLEU().tokenizer(row[0]) for row in lines]
print(json.dumps({"ranges": ranges, "tokens": tokens}, ensure_ascii=False, indent=1))
