"""The embedded engine's own tokenizer, asked over its loopback port: the oracle that ours must equal."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import xllamacpp


class EngineTokenizer:
    """Tokenizes by the engine's rules."""

    def __init__(self, connection: HTTPConnection) -> None:
        self._connection = connection

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        answer = self._ask("/tokenize", {"content": text, "parse_special": special, "add_special": False})
        tokens: list[int] = answer["tokens"]
        return tokens

    def _ask(self, path: str, body: dict[str, object]) -> dict[str, list[int]]:
        self._connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer: dict[str, list[int]] = json.loads(self._connection.getresponse().read())
        return answer


@contextmanager
def engine_tokenizer(model: Path) -> Iterator[EngineTokenizer]:
    """Load a model with the smallest context and hand out its tokenizer."""
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx, params.n_parallel, params.port, params.warmup, params.verbosity = 64, 1, 0, False, -1
    params.cpuparams.n_threads = 1
    server = xllamacpp.Server(params)
    address = urlsplit(server.listening_address)
    connection = HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=30)
    try:
        yield EngineTokenizer(connection)
    finally:
        connection.close()
        del server
