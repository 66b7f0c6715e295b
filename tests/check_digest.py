#!/usr/bin/env python3
"""Reads the JSON of a digest from stdin and fails unless every section has a Chinese summary and an English translation."""
import json
import re
import sys

HAN = re.compile(r"[\u4e00-\u9fff]")
digest = json.load(sys.stdin)
sections = [section for article in digest["articles"] for section in article["sections"]]
assert sections, "no sections"
for section in sections:
    assert section["error"] is None, section["error"]
    summary = section["summary"]["text"]
    assert HAN.search(summary) and summary.endswith(("。", "！", "？", "”", "…")), f"no Chinese summary: {summary!r}"
    assert len(summary) <= 100, f"{len(summary)} characters"
    paragraphs = section["translation"]["paragraphs"]
    assert len(paragraphs) == len(section["source"]), "a paragraph is missing"
    for paragraph in paragraphs:
        words = re.findall(r"[A-Za-z]+", paragraph["text"])
        assert len(words) >= 5, f"no English: {paragraph['text']!r}"
print(f"{len(sections)} sections in both languages")
