"""Between wasi:http and `handle`."""

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import types as http
from wit_world.imports.streams import InputStream, OutputStream

from service import TEXT, Request, Response, handle

MOST_BODY_BYTES = 1 << 20  # a longer one is answered with 413
READ_BYTES = 64 << 10
WRITE_BYTES = 4096  # what one write may hold


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: http.IncomingRequest, response_out: http.ResponseOutparam) -> None:
        path, _, query = (request.path_with_query() or "").partition("?")
        method = method_of(request)
        body = body_of(request)
        if body is None:
            response = Response(413, TEXT, b"the body is too long\n")
        else:
            response = handle(Request(method, path, query, body))
        print(method, path, response.status)  # one line to the pod's log
        answer(response_out, response)


def method_of(request: http.IncomingRequest) -> str:
    method = request.method()
    if isinstance(method, http.Method_Other):
        return method.value
    return type(method).__name__.removeprefix("Method_").upper()


def body_of(request: http.IncomingRequest) -> bytes | None:
    """None where it is too long."""
    read = b""
    with request.consume() as body, body.stream() as stream:
        while part := next_part(stream):
            read += part
            if len(read) > MOST_BODY_BYTES:
                return None
    return read


def next_part(stream: InputStream) -> bytes:
    """Nothing at the end, and where the client is gone."""
    try:
        return stream.blocking_read(READ_BYTES)
    except Err:
        return b""


def answer(response_out: http.ResponseOutparam, response: Response) -> None:
    headers = http.Fields()
    headers.append("content-type", response.content_type.encode())
    outgoing = http.OutgoingResponse(headers)
    outgoing.set_status_code(response.status)
    body = outgoing.body()
    http.ResponseOutparam.set(response_out, Ok(outgoing))
    with body.write() as stream:
        write(stream, response.body)
    http.OutgoingBody.finish(body, None)


def write(stream: OutputStream, content: bytes) -> None:
    try:
        for at in range(0, len(content), WRITE_BYTES):
            stream.blocking_write_and_flush(content[at : at + WRITE_BYTES])
    except Err:
        pass  # the client is gone: nobody reads the rest
