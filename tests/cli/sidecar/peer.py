"""Both ends of gRPC as grpcio has them, without a word of attestation."""

import sys
import threading
from concurrent import futures

import grpc

LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def slow(request, context):
    ended = threading.Event()

    def end():
        print("cancelled", flush=True)
        ended.set()

    context.add_callback(end)
    yield b"started"
    ended.wait(60)


def fail(request, context):
    context.set_trailing_metadata((("x-detail", "42"), ("x-detail-bin", b"\x00\xff")))
    context.abort(grpc.StatusCode[request.decode()], "why: \u00e4 %")


def echo_all(requests, context):
    return b"".join(requests)


def bidi(requests, context):
    for request in requests:
        yield request[::-1]


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    assert metadata["x-token"] == "secret", metadata
    assert not any(name.startswith("attestation-") for name in metadata), metadata
    context.send_initial_metadata((("x-initial", "1"),))
    context.set_trailing_metadata((("x-trailing", "2"),))
    return request[::-1]


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return {
            "/t.T/Unary": grpc.unary_unary_rpc_method_handler(unary),
            "/t.T/Large": grpc.unary_unary_rpc_method_handler(lambda request, context: request),
            "/t.T/Collect": grpc.stream_unary_rpc_method_handler(echo_all),
            "/t.T/Count": grpc.unary_stream_rpc_method_handler(lambda request, context: (bytes([n]) for n in range(request[0]))),
            "/t.T/Bidi": grpc.stream_stream_rpc_method_handler(bidi),
            "/t.T/Slow": grpc.unary_stream_rpc_method_handler(slow),
            "/t.T/Fail": grpc.unary_unary_rpc_method_handler(fail),
        }.get(details.method)


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(8), options=LARGE)
    server.add_generic_rpc_handlers((Handler(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


def code_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("it did not fail")


def client(address, case):
    channel = grpc.insecure_channel(address, options=LARGE)
    if case == "unary":
        reply, call = channel.unary_unary("/t.T/Unary").with_call(b"abc", timeout=60, metadata=(("x-token", "secret"),))
        assert reply == b"cba", reply
        initial = dict(call.initial_metadata())
        assert initial["x-initial"] == "1", initial
        assert initial["attestation-result"].startswith("verified;"), initial
        assert dict(call.trailing_metadata())["x-trailing"] == "2", call.trailing_metadata()
    elif case == "streaming":
        chunks = [bytes([n]) * 1000 for n in range(100)]
        assert channel.stream_unary("/t.T/Collect")(iter(chunks), timeout=60) == b"".join(chunks)
        assert list(channel.unary_stream("/t.T/Count")(bytes([50]), timeout=60)) == [bytes([n]) for n in range(50)]
        turn = threading.Semaphore(1)

        def turns():
            for n in range(20):
                turn.acquire()
                yield b"%d!" % n

        # Each request is sent only once the reply to the one before has come.
        replies = channel.stream_stream("/t.T/Bidi")(turns(), timeout=60)
        for n, reply in enumerate(replies):
            assert reply == (b"%d!" % n)[::-1], reply
            turn.release()
    elif case == "large":
        message = bytes(range(256)) * 4096 * 100
        assert channel.unary_unary("/t.T/Large")(message, timeout=300) == message
    elif case == "deadline":
        def late():
            for _ in channel.unary_stream("/t.T/Slow")(b"", timeout=1):
                pass

        assert code_of(late).code() == grpc.StatusCode.DEADLINE_EXCEEDED
    elif case == "cancellation":
        call = channel.unary_stream("/t.T/Slow")(b"", timeout=60)
        assert next(call) == b"started"
        call.cancel()
        assert code_of(lambda: next(call)).code() == grpc.StatusCode.CANCELLED
    elif case == "errors":
        for name in ["INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "INTERNAL", "UNAUTHENTICATED"]:
            error = code_of(lambda: channel.unary_unary("/t.T/Fail")(name.encode(), timeout=60))
            assert (error.code().name, error.details()) == (name, "why: \u00e4 %"), error
            trailing = dict(error.trailing_metadata())
            assert (trailing["x-detail"], trailing["x-detail-bin"]) == ("42", b"\x00\xff"), trailing
        assert code_of(lambda: channel.unary_unary("/t.T/Nothing")(b"", timeout=60)).code() == grpc.StatusCode.UNIMPLEMENTED
    elif case == "code":
        print(code_of(lambda: channel.unary_unary("/t.T/Unary")(b"", timeout=60)).code().name)
        return
    else:
        raise AssertionError(case)
    print("passed")


if sys.argv[1] == "server":
    serve()
else:
    client(*sys.argv[2:])
