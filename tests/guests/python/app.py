"""An HTTP handler in Python: answers with what it was asked, as JSON."""

import hashlib
import json
import os

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingBody,
    IncomingRequest,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        body = read(request)
        told = {
            "language": "python",
            "path": request.path_with_query(),
            "greeting": os.environ.get("GREETING"),
            "bytes": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        headers = Fields.from_list([("content-type", b"application/json")])
        response = OutgoingResponse(headers)
        out = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with out.write() as stream:
            stream.blocking_write_and_flush(json.dumps(told).encode())
        OutgoingBody.finish(out, None)


def read(request: IncomingRequest) -> bytes:
    """The whole body."""
    body = request.consume()
    read = b""
    with body.stream() as stream:
        while True:
            try:
                read += stream.blocking_read(1 << 16)
            except Err as end:
                if isinstance(end.value, StreamError_Closed):
                    break
                raise
    IncomingBody.finish(body)
    return read
