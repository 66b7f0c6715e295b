#!/usr/bin/env python3
"""Sends a page to `yizhai serve` and prints each section as soon as it is finished.

  pip install -r examples/python/requirements.txt
  examples/python/generate generated
  PYTHONPATH=generated python3 examples/python/digest.py --server 127.0.0.1:50051 PAGE.txt
"""
import argparse
import sys
import time

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from yizhai.v1 import digest_pb2 as pb
from yizhai.v1 import digest_pb2_grpc

TASKS = {"summary": pb.TASK_SUMMARY, "translation": pb.TASK_TRANSLATION}


def retry_seconds(error):
    """Returns the delay in seconds after which the server allows a retry, or None if it allows none."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        info = error_details_pb2.RetryInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info):
            return info.retry_delay.ToTimedelta().total_seconds()
    return None


def stream(stub, request):
    """Yields the events of a digest. Retries while the server is full or still loading its model."""
    for _ in range(60):
        started = False
        try:
            for event in stub.StreamDigest(request):
                started = True
                yield event
            return
        except grpc.RpcError as error:
            wait = retry_seconds(error)
            if started or wait is None:
                raise
            time.sleep(wait)
    raise SystemExit("the server did not become ready")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("page")
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--tasks", default="summary,translation")
    args = parser.parse_args()
    with open(args.page, "rb") as file:
        page = file.read()
    request = pb.StreamDigestRequest(
        input=pb.Input(page_bytes=page),
        options=pb.DigestOptions(tasks=[TASKS[task] for task in args.tasks.split(",")]),
    )
    # The server may have been started just now, so wait for its socket.
    channel = grpc.insecure_channel(args.server, options=[("grpc.max_receive_message_length", -1)])
    grpc.channel_ready_future(channel).result(timeout=30)
    stub = digest_pb2_grpc.DigestServiceStub(channel)
    articles = []
    failed = 0
    for response in stream(stub, request):
        event = response.WhichOneof("event")
        if event == "document":
            articles = response.document.articles
            print(f"{len(articles)} articles, {sum(len(a.sections) for a in articles)} sections", flush=True)
        elif event == "section":
            section = response.section
            article = articles[section.article_index]
            heading = article.sections[section.section_index].heading.text or article.headline.text
            print(f"\n[{section.article_index + 1}.{section.section_index + 1}] {heading}")
            if section.HasField("error"):
                failed += 1
                print(f"failed: {section.error.message}")
                continue
            if section.HasField("summary"):
                print(section.summary.text)
            if section.HasField("translation"):
                print(section.translation.heading)
                for paragraph in section.translation.paragraphs:
                    print(paragraph.text)
            for finding in section.verdict.findings:
                print(f"! {pb.FindingKind.Name(finding.kind)}: {finding.message}")
            sys.stdout.flush()
        else:
            statistics = response.statistics
            print(f"\n{statistics.sections} sections in {statistics.total_time_ms / 1000:.1f} s, "
                  f"{statistics.completion_tokens} tokens generated")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
