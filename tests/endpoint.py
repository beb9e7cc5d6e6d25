"""A real endpoint on loopback that speaks the chat completions protocol, and misbehaves as it is told."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GOOD = "truthful: yes\ninformative: no"


class Server(ThreadingHTTPServer):
    """Answers on a free port of 127.0.0.1.

    Args:
        behave: from the request's body and how often it came, what to do: a text is said; (status, text) is an error, with
            Retry-After 0; a number is a stall of so many seconds before a good answer; bytes are a raw body; a dictionary is a
            choice, or a whole error where its `status` says so; a function gets the handler and does as it likes; None hangs up.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, behave: Callable[[dict, int], object] = lambda body, times: GOOD):
        self.behave, self.lock = behave, threading.Lock()
        self.seen: dict[str, int] = {}
        self.log: list[str] = []
        self.answered: list[str] = []
        self.keys: list[str] = []
        self.bodies: list[dict] = []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __exit__(self, *args):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """A client that was killed is no error of ours."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = self.headers["Idempotency-Key"]
        with self.server.lock:
            self.server.seen[name] = times = self.server.seen.get(name, 0) + 1
            self.server.log.append(name)
            self.server.keys.append(self.headers["Authorization"])
            self.server.bodies.append(body)
        told = self.server.behave(body, times)
        if isinstance(told, float | int):
            time.sleep(told)
            told = GOOD
        if callable(told):
            self.close_connection = True
            told(self)
            return
        if told is None:
            self.close_connection = True
            self.connection.close()
            return
        if isinstance(told, tuple):
            status, text = told
            self.reply(status, json.dumps({"error": {"message": text}}).encode(), "application/json", {"Retry-After": "0.01"})
        elif isinstance(told, dict) and "status" in told:
            self.reply(told["status"], json.dumps({"error": told["error"]}).encode(), "application/json", {})
        elif isinstance(told, bytes):
            self.reply(200, told, "text/html", {})
        else:
            usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
            choice = told if isinstance(told, dict) else {"message": {"content": told}}
            choices = [{"index": 0, "finish_reason": "stop", **choice, "message": {"role": "assistant", **choice["message"]}}]
            whole = {
                "id": "x",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": choices,
                "usage": usage,
            }
            self.reply(200, json.dumps(whole).encode(), "application/json", {})
            with self.server.lock:
                self.server.answered.append(name)

    def reply(self, status, content, kind, more):
        self.send_response(status)
        for header, value in {"Content-Type": kind, "Content-Length": str(len(content)), **more}.items():
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        """Silent."""
