"""Calls every RPC of a running service with a generated Python client, and checks responses and errors.

  PYTHONPATH=generated python3 tests/check_service.py ADDRESS MAX_MESSAGE_BYTES

The server must run with --max-message-bytes MAX_MESSAGE_BYTES. Prints one line per check and stops at the first failure.
"""
import sys

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from yizhai.v1 import digest_pb2 as pb
from yizhai.v1 import digest_pb2_grpc

SUMMARY = pb.DigestOptions(tasks=[pb.TASK_SUMMARY])


def text(page):
    return pb.Input(page_text=page, page_format=pb.PAGE_FORMAT_LINES)


def details(error, kind):
    """Returns the error detail of this type; fails if there is none."""
    for detail in rpc_status.from_call(error).details:
        message = kind()
        if detail.Is(message.DESCRIPTOR):
            detail.Unpack(message)
            return message
    raise AssertionError(f"no {kind.__name__} in {error}")


def assert_fails(call, code, reason):
    """Asserts that a call fails with this code and reason, and returns the error."""
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, error
        info = details(error, error_details_pb2.ErrorInfo)
        assert (info.domain, info.reason) == ("yizhai.v1", reason), info
        print(f"{code.name} {reason}: ok", flush=True)
        return error
    raise AssertionError(f"{reason} was not raised")


def main():
    address, max_message_bytes = sys.argv[1], int(sys.argv[2])
    stub = digest_pb2_grpc.DigestServiceStub(grpc.insecure_channel(address))
    invalid = grpc.StatusCode.INVALID_ARGUMENT

    response = stub.Digest(pb.DigestRequest(input=text("今天天气很好。"), options=SUMMARY, request_id="python"))
    assert response.request_id == "python" and response.sections[0].summary.text.endswith("。"), response
    events = list(stub.StreamDigest(pb.StreamDigestRequest(input=text("今天天气很好。"), options=SUMMARY)))
    assert [event.WhichOneof("event") for event in events] == ["document", "section", "statistics"], events
    items = [pb.DigestManyRequest(item_id=str(n), input=text(page), options=SUMMARY)
             for n, page in enumerate(["今天天气很好。", " "])]
    many = {response.item_id: response for response in stub.DigestMany(iter(items))}
    assert many["0"].WhichOneof("result") == "digest", many
    assert many["1"].error.code == invalid.value[0] and many["1"].error.details, many
    assert len(stub.Segment(pb.SegmentRequest(input=text("一。\n二。"))).document.articles) > 0
    assert any(model.running for model in stub.ListModels(pb.ListModelsRequest()).models)
    print("every RPC: ok", flush=True)

    error = assert_fails(lambda: stub.Digest(pb.DigestRequest()), invalid, "INVALID_FIELD")
    assert details(error, error_details_pb2.BadRequest).field_violations[0].field == "input"
    error = assert_fails(lambda: stub.Digest(pb.DigestRequest(input=text(" "))), invalid, "EMPTY_PAGE")
    large = pb.DigestRequest(input=text("文" * max_message_bytes))
    error = assert_fails(lambda: stub.Digest(large), invalid, "MESSAGE_TOO_LARGE")
    assert str(max_message_bytes) in error.details()
    unknown = pb.DigestRequest(input=text("文。"), options=pb.DigestOptions(model="another"))
    error = assert_fails(lambda: stub.Digest(unknown), grpc.StatusCode.NOT_FOUND, "UNKNOWN_MODEL")
    assert details(error, error_details_pb2.ResourceInfo).resource_name == "another"
    long_page = pb.DigestRequest(input=text("很长的一段话，要写很久。" * 40), options=pb.DigestOptions())
    try:
        stub.Digest(long_page, timeout=0.3)
        raise AssertionError("the deadline was ignored")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    print("DEADLINE_EXCEEDED: ok")


if __name__ == "__main__":
    main()
