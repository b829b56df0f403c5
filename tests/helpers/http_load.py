"""A steady load on one appliance: clients in threads that ask again and again, and what became of their requests."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

ANSWER_S = 30.0  # nothing may hang for longer
PAUSE_S = 0.04  # between a client's requests: what is tested must not be short of processor time


class Load:
    """Short requests over kept-alive connections, and streams; `outcomes` counts `ok`, or what went wrong."""

    def __init__(self, port: int, model: str) -> None:
        self._port, self._model = port, model
        self.outcomes: Counter[str] = Counter()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def add_clients(self, count: int, *, tokens: int, stream: bool = False, again: bool = True) -> None:
        """Start clients; with `again` each asks until the end of the load, else once."""
        for _ in range(count):
            args = (tokens, stream, again)
            thread = threading.Thread(target=self._client, args=args, daemon=True)
            self._threads.append(thread)
            thread.start()

    def finish(self, timeout: float = ANSWER_S) -> Counter[str]:
        """End the load and return the outcomes; fails when a client hangs."""
        self._over.set()
        for thread in self._threads:
            thread.join(timeout)
        assert not [one for one in self._threads if one.is_alive()], f"a client hangs: {self.outcomes}"
        return self.outcomes

    def _client(self, tokens: int, stream: bool, again: bool) -> None:
        line = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_S)
        while True:
            try:
                outcome = self._ask(line, tokens, stream)
            except Exception as error:  # what it is depends on when the other side broke off
                outcome = f"broken: {type(error).__name__}"
                line.close()
            self.outcomes[outcome] += 1
            if not again or self._over.is_set():
                line.close()
                return
            time.sleep(PAUSE_S)

    def _ask(self, line: http.client.HTTPConnection, tokens: int, stream: bool) -> str:
        body = {"model": self._model, "prompt": "x", "max_tokens": tokens, "stream": stream}
        line.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
        answer = line.getresponse()  # the connection is opened anew after an answer that said `connection: close`
        text = answer.read().decode()
        if answer.status != 200:
            return f"{answer.status} {text}"
        if stream:
            return "ok" if text.endswith("data: [DONE]\n\n") and '"error"' not in text else f"cut off: {text[-200:]}"
        return "ok" if json.loads(text)["usage"]["completion_tokens"] == tokens else f"wrong: {text}"


@contextmanager
def load(port: int, model: str) -> Iterator[Load]:
    """A load that is over when the block is left, in whatever way."""
    one = Load(port, model)
    try:
        yield one
    finally:
        one.finish()
