"""Streamed completions with the arrival time of every read: what the benchmarks with timetables and faults need.

One connection per request, so that each finds its own front end.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import trio

ANSWER_S = 120.0  # a request that takes longer hangs
FIRST_EVENT = b"data: {"
LAST_CHUNK = b"\r\n0\r\n\r\n"
PORTION = 1 << 16


@dataclass
class StreamedAnswer:
    """One answer. Times are seconds of trio's clock."""

    sent_at: float
    reads: list[float] = field(default_factory=list)
    """When something of the body arrived."""
    ended_at: float = 0.0
    outcome: str = ""
    """`ok`, or the kind of error."""
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    """Only if asked for."""
    cached_tokens: int = 0
    completion_tokens: int = 0
    worker: int | None = None
    """Only if asked for: the worker that gave the last token."""
    local_port: int = 0

    @property
    def ttft_ms(self) -> float:
        """From the first byte of the request to the first event."""
        return (self.reads[0] - self.sent_at) * 1e3 if self.reads else float("nan")

    def silence_over(self, at: float) -> float:
        """Seconds between the last read before a moment and the first one after it; 0 outside of the output."""
        before = [one for one in self.reads if one <= at]
        after = [one for one in self.reads if one > at]
        return after[0] - before[-1] if before and after else 0.0


def completion_body(model: str, prompt: object, max_tokens: int, **more: object) -> bytes:
    """The body of a streamed request with usage at its end."""
    body = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "stream": True}
    return json.dumps(body | {"stream_options": {"include_usage": True}} | more).encode()


async def ask(port: int, body: bytes) -> StreamedAnswer:
    """Post a completion and read it to its end. Never raises for what the server does: that is the outcome.

    Cancelling closes the connection.
    """
    answer = StreamedAnswer(trio.current_time())
    raw = bytearray()
    try:
        with trio.fail_after(ANSWER_S):
            await _exchange(port, body, answer, raw)
        answer.outcome = _read_body(bytes(raw), answer)
    except trio.TooSlowError:
        answer.outcome = "hung"
    except (OSError, trio.BrokenResourceError) as error:
        answer.outcome = f"broken: {type(error.__cause__ or error).__name__}"
    answer.ended_at = trio.current_time()
    return answer


async def _exchange(port: int, body: bytes, answer: StreamedAnswer, raw: bytearray) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    answer.local_port = stream.socket.getsockname()[1]
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    async with stream:
        answer.sent_at = trio.current_time()
        await stream.send_all(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        while data := await stream.receive_some(PORTION):
            raw += data
            if answer.reads or FIRST_EVENT in raw:
                answer.reads.append(trio.current_time())


def _read_body(raw: bytes, answer: StreamedAnswer) -> str:
    head, _, chunks = raw.partition(b"\r\n\r\n")
    status = head[9:12].decode()
    if status != "200":
        return f"status {status}" if status else "no answer"
    text = _unchunk(chunks)
    for line in text.split(b"\n\n"):
        if line.startswith(b"event: error") or b'"error"' in line:
            code = line.partition(b'"code":')[2].decode().strip('"}')
            return f"error in stream: {code}"
        if line.startswith(FIRST_EVENT):
            _read_event(json.loads(line.removeprefix(b"data: ")), answer)
    return "ok" if raw.endswith(LAST_CHUNK) and text.endswith(b"data: [DONE]\n\n") else "cut off"


def _unchunk(data: bytes) -> bytes:
    """The chunks that came whole."""
    found = []
    while data:
        size, _, rest = data.partition(b"\r\n")
        count = int(size, 16) if size else 0
        if not count or len(rest) < count:
            break
        found.append(rest[:count])
        data = rest[count + 2 :]
    return b"".join(found)


def _read_event(event: Mapping[str, Any], answer: StreamedAnswer) -> None:
    for choice in event["choices"]:
        answer.text += choice["text"]
    nvext = event.get("nvext") or {}
    answer.token_ids += nvext.get("token_ids") or ()
    if workers := nvext.get("worker_id"):
        answer.worker = workers["decode_worker_id"]
    if usage := event.get("usage"):
        answer.cached_tokens = usage["prompt_tokens_details"]["cached_tokens"]
        answer.completion_tokens = usage["completion_tokens"]
