"""Instructions that a front end spends on one short request: `python -m tests.bench.instructions [--requests 640]`.

A whole front end, in mode kv with one mocker worker behind a real link, runs under valgrind's callgrind. Seconds
depend on the machine and its neighbours, these counts do not: two runs differ by a thousandth. So they tell whether a
change made the path shorter, while `frontend.py` tells what it costs. Needs valgrind; the kernel's part is not counted.
"""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLIENTS = 16
WARM_UP = 320
WORDS = ("the", "quick", "brown", "fox")
PATIENCE_S = 300.0  # valgrind makes everything fifty times slower
PORT_LINE = re.compile(rb"http://127\.0\.0\.1:(\d+)")


@contextmanager
def running(argv: list[str], ready: re.Pattern[bytes]) -> Iterator[tuple[subprocess.Popen[bytes], re.Match[bytes]]]:
    """A process and what its ready line says; ended with the block."""
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if match := ready.search(line):
                yield process, match
                return
        raise SystemExit(f"{argv[0]} ended with {process.wait()} before it was ready")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)


def request_bytes(client: int) -> bytes:
    """A chat of 100 words for one token; clients differ in the first word."""
    text = " ".join([f"w{client}", *(WORDS * 25)[1:]])
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 1}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return head + b"content-length: %d\r\n\r\n%s" % (len(body), body)


def ask(clients: list[socket.socket], requests: list[bytes], count: int) -> None:
    """Send this many requests, one at a time on each connection, all connections at once."""
    for _ in range(count // len(clients)):
        for client, request in zip(clients, requests, strict=True):
            client.sendall(request)
        for client in clients:
            answer = client.recv(65536)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"a request failed: {answer!r}")


def count_instructions(pid: int, out: Path) -> int:
    """What the process spent since this was last asked."""
    before = set(out.parent.glob(f"{out.name}.*"))
    subprocess.run(["callgrind_control", "--dump", str(pid)], check=True, capture_output=True)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for dump in sorted(set(out.parent.glob(f"{out.name}.*")) - before):
            if found := re.search(rb"^totals: (\d+)", dump.read_bytes(), re.MULTILINE):
                return int(found[1])
        time.sleep(0.1)
    raise SystemExit("callgrind gives no counts")


def measure(folder: Path, requests: int, mode: str) -> float:
    """Instructions per request."""
    ours = [sys.executable, "-m", "appliance"]
    out = folder / "counts"
    worker = ["worker", "--model", "m", "--engine", "mocker", "--engine-arg", "step_ms=0"]
    worker += ["--link-socket", str(folder / "w" / "a.sock"), "--state-dir", str(folder / "state")]
    front_end = ["frontend", "--workers", str(folder / "w"), "--http-port", "0", "--router-mode", mode]
    valgrind = ["valgrind", "--tool=callgrind", "--quiet", f"--callgrind-out-file={out}"]
    (folder / "w").mkdir()
    with (
        running([*ours, *worker], re.compile(b"^ready:")),
        running([*valgrind, *ours, *front_end], PORT_LINE) as (process, found),
    ):
        clients = [socket.create_connection(("127.0.0.1", int(found[1]))) for _ in range(CLIENTS)]
        bodies = [request_bytes(number) for number in range(CLIENTS)]
        ask(clients, bodies, WARM_UP)
        count_instructions(process.pid, out)
        ask(clients, bodies, requests)
        spent = count_instructions(process.pid, out)
        for client in clients:
            client.close()
    return spent / (requests // CLIENTS * CLIENTS)


def main() -> None:
    """Print the count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=640)
    parser.add_argument("--router-mode", default="kv")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"short request: {measure(Path(folder), given.requests, given.router_mode):,.0f} instructions")


if __name__ == "__main__":
    main()
