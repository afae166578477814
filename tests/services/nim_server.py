"""A stand-in for an inference container with the contract of one; its model loads until two checks have asked."""

import http.server
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

LOADING = [True, True]
CACHE = Path(os.environ["NIM_CACHE_PATH"])
MODEL = Path(os.environ.get("NIM_MODEL_PATH", str(CACHE / "model")))


class Answers(http.server.BaseHTTPRequestHandler):
    """Says whether the model is ready, and what it was made of."""

    def do_GET(self) -> None:
        loading = bool(LOADING)
        if loading and self.path == "/v1/health/ready":
            LOADING.pop()
        self.send_response(503 if loading else 200)
        self.end_headers()
        if not loading and self.path == "/v1/models":
            self.wfile.write(json.dumps({"model": MODEL.read_text(), "user": os.getuid()}).encode())

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        print(self.path, int(code), flush=True)


if __name__ == "__main__":
    Path("/dev/shm/queue").write_bytes(bytes(4 << 20))  # more than the 4 KiB that other services have
    if not MODEL.exists():
        if not os.environ.get("NGC_API_KEY"):
            sys.exit("NGC_API_KEY is not set, and there is no model")
        MODEL.write_text(f"downloaded at {time.time_ns()}")
    server = http.server.ThreadingHTTPServer(("", 8000), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    threading.Event().wait()
