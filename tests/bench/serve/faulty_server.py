"""An OpenAI-compatible server that answers as it is told, with a planted fault if wanted."""

import http.server
import json
import threading

PROMPT_TOKENS_OF_TEMPLATE = 3


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/v1/models":
            self._answer(200, {"data": [{"id": "faulty", "max_model_len": 4096}]})
        else:
            self._answer(404, {})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":
            self._tokenize(body)
        else:
            self._generate(body)

    def _tokenize(self, body):
        if "messages" in body:
            count = PROMPT_TOKENS_OF_TEMPLATE + len(body["messages"][0]["content"].split())
            self._answer(200, {"count": count})
        else:
            self._answer(200, {"tokens": list(range(500, 900)), "count": 400})

    def _generate(self, body):
        number = self.server.next_number()
        # The first two requests verify; later faults must be found all the same.
        fault = self.server.fault if number >= self.server.fault_from else None
        if fault == "status":
            self._answer(500, {"error": {"message": "planted"}})
            return
        prompt = body.get("prompt") or body["messages"][0]["content"].split()
        count = len(prompt) + (0 if "prompt" in body else PROMPT_TOKENS_OF_TEMPLATE)
        tokens = body["max_tokens"] - (1 if fault == "drops-token" else 0)
        word = f"w{number}" if fault == "varies" else "w"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for i in range(tokens):
            if fault == "cut" and i == tokens // 2:
                self.close_connection = True
                return
            finish = "length" if i + 1 == tokens else None
            choice = {"text": word, "finish_reason": finish}
            if "messages" in body:
                choice = {"delta": {"content": word}, "finish_reason": finish}
            self._event({"choices": [choice]})
        usage = {"prompt_tokens": count - (1 if fault == "cuts-prompt" else 0), "completion_tokens": tokens}
        self._event({"choices": [], "usage": usage})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, event):
        self._chunk(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


class FaultyServer(http.server.ThreadingHTTPServer):
    """with FaultyServer("drops-token", fault_from=2) as server: ... server.port"""

    daemon_threads = True

    def __init__(self, fault, fault_from):
        super().__init__(("127.0.0.1", 0), Handler)
        self.fault = fault
        self.fault_from = fault_from
        self.port = self.server_address[1]
        self._lock = threading.Lock()
        self._number = 0

    def next_number(self):
        with self._lock:
            self._number += 1
            return self._number - 1

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()
