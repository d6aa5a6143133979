"""A small server on this machine that can be told to misbehave."""

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    """No test reads or writes the user's own cache, nor asks a proxy for 127.0.0.1."""
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache"


class Server:
    """Answers each path as `say` told it to, and remembers the requests."""

    def __init__(self):
        self.answers, self.requests = {}, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append((self.path, self.headers.get("Range")))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # some tests have the client give up
                    outer.answers[self.path](self)
                self.close_connection = True

            def log_message(self, *_):
                pass

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.httpd.daemon_threads = True
        self.thread = threading.Thread(target=self.httpd.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def url(self, path):
        return f"http://127.0.0.1:{self.httpd.server_address[1]}{path}"

    def say(self, path, body=b"", status=200, headers=None, promised=None, pause=None, ranges=False):
        """Answer `path` with `body`, or, if it is a list, with one of it a request (a number is a status), the last one
        repeated. `promised` is the Content-Length to lie about; `pause` is (after so many bytes, for so many seconds);
        `ranges` heeds the Range header."""
        bodies = body if isinstance(body, list) else [body]
        turn = iter(range(10**6))

        def answer(request):
            content = bodies[min(next(turn), len(bodies) - 1)]
            code, start = status, 0
            wanted = request.headers.get("Range")
            if isinstance(content, int):
                code, content = content, b""
            if ranges and wanted:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                code = 206 if start < len(content) else 416
            request.send_response(code)
            if code == 206:
                request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            request.send_header("Content-Length", str(len(content) - start if promised is None else promised))
            for name, value in (headers or {}).items():
                request.send_header(name, value)
            request.end_headers()
            rest = content[start:] if code != 416 else b""
            if pause:
                after, seconds = pause
                request.wfile.write(rest[:after])
                request.wfile.flush()
                time.sleep(seconds)
                rest = rest[after:]
            request.wfile.write(rest)

        self.answers[path] = answer

    def drip(self, path, length, seconds):
        """Promise `length` bytes and send one every `seconds`."""

        def answer(request):
            request.send_response(200)
            request.send_header("Content-Length", str(length))
            request.end_headers()
            for _ in range(length):
                request.wfile.write(b".")
                request.wfile.flush()
                time.sleep(seconds)

        self.answers[path] = answer

    def close(self):
        self.httpd.shutdown()
        self.httpd.server_close()
        self.thread.join()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()
