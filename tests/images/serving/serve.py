"""A serving container as users write them, which misbehaves when it is told to.

It keeps SageMaker's contract with the standard library alone: port SAGEMAKER_BIND_TO_PORT or 8080,
`/ping`, `/invocations`, the model in /opt/ml/model, SIGTERM. An invocation is answered with its own
body and content type.

Faults are named in the environment, in SERVE_FAULTS (with commas), or for one invocation in its
header X-Amzn-SageMaker-Custom-Attributes:

    exit            ends at the start, with code 3
    never-listen    accepts no connection
    no-ping         answers pings with 503
    slow-start=S    accepts connections after S seconds
    ignore-sigterm  goes on after SIGTERM
    status=N        answers with that status and the text "told to fail"
    hang=S          answers after S seconds
    large=MB        answers with a body of that size
    stream=N        answers with N parts, 0.2 seconds apart
    cut=N           the same, but the connection ends after N parts
    die             the process ends in the middle of the invocation
    describe        answers with what it sees, in JSON

EXECUTION_PARAMETERS is its answer to GET /execution-parameters, if it is set.
"""

import http.server
import json
import os
import signal
import socket
import sys
import threading
import time

BASE = os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")
PORT = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


def read_faults(text):
    pairs = [part.partition("=") for part in (text or "").split(",") if part]
    return {name.strip(): float(value or 0) for name, _, value in pairs}


STANDING = read_faults(os.environ.get("SERVE_FAULTS"))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", kind="text/plain", **headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        parameters = os.environ.get("EXECUTION_PARAMETERS")
        if self.path == "/execution-parameters" and parameters:
            self.answer(200, parameters.encode(), "application/json")
        elif self.path != "/ping":
            self.answer(404)
        else:
            self.answer(503 if "no-ping" in STANDING else 200)

    def do_POST(self):
        body = self.read_body()
        if self.path != "/invocations":
            self.answer(404)
            return
        faults = {**STANDING, **read_faults(self.headers.get(ATTRIBUTES))}
        print(f"invocation of {len(body)} bytes, faults {sorted(faults)}", flush=True)
        if "die" in faults:
            os._exit(9)
        time.sleep(faults.get("hang", 0))
        if "status" in faults:
            self.answer(int(faults["status"]), b"told to fail")
        elif "large" in faults:
            self.answer(200, bytes(int(faults["large"] * 1024 * 1024)))
        elif "stream" in faults or "cut" in faults:
            self.stream(int(faults.get("cut") or faults["stream"]), whole="cut" not in faults)
        elif "describe" in faults:
            self.answer(200, json.dumps(self.seen(len(body))).encode(), "application/json")
        else:
            kind = self.headers.get("Content-Type", "application/octet-stream")
            self.answer(200, body, kind, X_Amzn_SageMaker_Custom_Attributes="echo")

    def read_body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
            if not size:
                return b"".join(chunks)

    def stream(self, parts, whole):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(parts):
            data = f"part {number}\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            time.sleep(0.2)
        if whole:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True

    def seen(self, size):
        found = []
        for directory, _, files in os.walk(os.path.join(BASE, "model")):
            found += [os.path.relpath(os.path.join(directory, name), BASE) for name in files]
        return {
            "arguments": sys.argv[1:],
            "body_bytes": size,
            "environment": dict(os.environ),
            "headers": dict(self.headers.items()),
            "host": socket.gethostname(),
            "model": sorted(found),
            "pid": os.getpid(),
        }


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = False


def main():
    print("starting, faults", sorted(STANDING), flush=True)
    if "exit" in STANDING:
        print("told to exit", file=sys.stderr, flush=True)
        sys.exit(3)
    if "ignore-sigterm" in STANDING:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while "never-listen" in STANDING:
        time.sleep(3600)
    time.sleep(STANDING.get("slow-start", 0))
    server = Server(("0.0.0.0", PORT), Handler)
    if "ignore-sigterm" not in STANDING:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.1)
    server.server_close()


if __name__ == "__main__":
    main()
