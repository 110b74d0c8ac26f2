"""What {{name}} answers: plain Python, which your machine's own runs too."""

from dataclasses import dataclass

TEXT = "text/plain; charset=utf-8"


@dataclass
class Request:
    method: str
    path: str  # without the query
    query: str
    body: bytes


@dataclass
class Response:
    status: int
    content_type: str
    body: bytes


def handle(request: Request) -> Response:
    """The whole service: a request in, a response out."""
    match (request.method, request.path):
        case ("GET" | "HEAD", "/"):
            return Response(200, TEXT, b"Hello from {{name}}\n")
        case ("POST", "/echo"):
            return Response(200, "application/octet-stream", request.body)
        case (_, "/" | "/echo"):
            return Response(405, TEXT, f"{request.method} is not for this path\n".encode())
        case _:
            return Response(404, TEXT, f"nothing at {request.path}\n".encode())
