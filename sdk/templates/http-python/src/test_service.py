import unittest

from service import Request, handle


class ItAnswers(unittest.TestCase):
    def test_each_path(self):
        for method, path, body, status, expected in [
            ("GET", "/", b"", 200, b"Hello from {{name}}\n"),
            ("POST", "/echo", b"there and back", 200, b"there and back"),
            ("PUT", "/echo", b"", 405, b"PUT is not for this path\n"),
            ("GET", "/nowhere", b"", 404, b"nothing at /nowhere\n"),
        ]:
            with self.subTest(f"{method} {path}"):
                response = handle(Request(method, path, "", body))
                self.assertEqual((response.status, response.body), (status, expected))
