"""Closed-loop load generator for streamed chat completions: one process, one epoll, no JSON parsing while it runs.

Each client is a connection that sends its next request when the last answer ended. What is measured: time to the
first event (TTFT), requests, events, errors, and the CPU time of server processes from /proc.
"""

import json
import os
import select
import socket
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

EVENT = b"data: {"
LAST_CHUNK = b"\r\n0\r\n\r\n"
CARRY = len(EVENT) - 1  # one less than both markers, so that a marker is never counted twice
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SILENCE_S = 60.0  # give up when nothing arrives for this long


@dataclass(kw_only=True)
class Load:
    """What to send."""

    host: str = "127.0.0.1"
    port: int
    model: str
    clients: int
    output_tokens: int
    input_words: int = 100
    stream: bool = True
    seconds: float = 5.0
    warm_up_s: float = 0.5
    extra: dict[str, object] = field(default_factory=dict)


@dataclass(kw_only=True)
class Outcome:
    """What came back in the measured time. Times in seconds."""

    wall: float = 0.0
    requests: int = 0
    events: int = 0
    ttft: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def ttft_ms(self, share: float) -> float:
        """Nearest-rank percentile in milliseconds; NaN without data."""
        ranked = sorted(self.ttft)
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))] * 1e3 if ranked else float("nan")


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of processes (each with all its threads); ended ones count nothing."""
    ticks = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                fields = stat.read().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_S


def request_bytes(load: Load, variant: int) -> bytes:
    """One request; prompts differ by variant in their first word only, so that all have the same length."""
    words = [f"w{variant}", *(["the", "quick", "brown", "fox"] * load.input_words)[: load.input_words - 1]]
    body = {
        "model": load.model,
        "messages": [{"role": "user", "content": " ".join(words)}],
        "max_tokens": load.output_tokens,
        "stream": load.stream,
        **load.extra,
    }
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {load.host}:{load.port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


class Client:
    """One keep-alive connection and the request under way on it."""

    def __init__(self, load: Load, request: bytes) -> None:
        self.load, self.request = load, request
        self.socket = socket.create_connection((load.host, load.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent = 0.0
        self.first: float | None = None
        self.tail = b""
        self.body_left: int | None = None
        self.status = b""

    def send(self) -> None:
        self.first, self.tail, self.status, self.body_left = None, b"", b"", None
        self.sent = time.perf_counter()
        self.socket.sendall(self.request)

    def receive(self, outcome: Outcome) -> bool:
        """Take what arrived; true when the answer has ended."""
        data = self.socket.recv(1 << 18)
        if not data:
            outcome.errors["closed early"] += 1
            raise ConnectionError
        now = time.perf_counter()
        text = self.tail + data
        if not self.status:
            self.status = data[9:12]
            if self.status != b"200":
                outcome.errors[f"status {self.status.decode()}"] += 1
        events = text.count(EVENT)
        outcome.events += events
        if self.first is None and (events or not self.load.stream):
            self.first = now
            outcome.ttft.append(now - self.sent)
        if self._ended(text, data):
            if self.load.stream and b'"error"' in text[-4000:]:
                outcome.errors["in-stream error"] += 1
            return True
        self.tail = text[-CARRY:]
        return False

    def _ended(self, text: bytes, data: bytes) -> bool:
        if self.body_left is None:
            head, found, rest = text.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2] if found else b""
            self.body_left = int(length.split(b"\r\n")[0]) - len(rest) if length else -1
        elif self.body_left > 0:
            self.body_left -= len(data)
        return self.body_left == 0 or (self.body_left < 0 and text.endswith(LAST_CHUNK))


def run_load(load: Load, pids: Sequence[int] = ()) -> tuple[Outcome, float]:
    """Warm up, then measure; returns the outcome and the CPU seconds that the given processes used meanwhile."""
    clients = [Client(load, request_bytes(load, variant)) for variant in range(load.clients)]
    try:
        if load.warm_up_s:
            _drive(clients, load.warm_up_s)
        before = cpu_seconds(pids)
        outcome = _drive(clients, load.seconds)
        return outcome, cpu_seconds(pids) - before
    finally:
        for client in clients:
            client.socket.close()


def _drive(clients: list[Client], seconds: float) -> Outcome:
    outcome = Outcome()
    poll = select.epoll()
    by_fd = {client.socket.fileno(): client for client in clients}
    start = time.perf_counter()
    for fd, client in by_fd.items():
        poll.register(fd, select.EPOLLIN)
        client.send()
    open_requests = len(by_fd)
    while open_requests:
        ready = poll.poll(SILENCE_S)
        if not ready:
            outcome.errors["silence"] += open_requests
            break
        for fd, _ in ready:
            client = by_fd[fd]
            try:
                if not client.receive(outcome):
                    continue
                outcome.requests += 1
                if time.perf_counter() - start < seconds:
                    client.send()
                    continue
            except ConnectionError:
                poll.unregister(fd)
            open_requests -= 1
    outcome.wall = time.perf_counter() - start
    poll.close()
    return outcome
