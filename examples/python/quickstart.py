#!/usr/bin/env python3
"""Digests article.txt with `yizhai serve` and prints summaries and translations. README.md shows this program.

  pip install -r examples/python/requirements.txt
  examples/python/generate generated
  PYTHONPATH=generated python3 examples/python/quickstart.py
"""
import grpc
from yizhai.v1 import digest_pb2 as pb, digest_pb2_grpc

channel = grpc.insecure_channel("127.0.0.1:50051", options=[("grpc.max_receive_message_length", -1)])
stub = digest_pb2_grpc.DigestServiceStub(channel)
request = pb.DigestRequest(input=pb.Input(page_bytes=open("article.txt", "rb").read()))
for section in stub.Digest(request, timeout=300).sections:
    print(section.summary.text)
    for paragraph in section.translation.paragraphs:
        print(paragraph.text)
