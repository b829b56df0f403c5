"""CPU of the front end for a short chat request, without link and worker: `python -m tests.bench.short_request`.

Everything else is real: listener, routes, service, template, tokenizer, router, answer. The worker answers in the next
pass of the scheduler. With `--profile` the costliest functions are printed instead.
"""

import argparse
import cProfile
import json
import multiprocessing
import pstats
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from multiprocessing.connection import Connection

import trio

from appliance.core.identity import ModelName, WorkerId
from appliance.core.model_facts import EngineOptions
from appliance.core.ports import StreamSink
from appliance.core.records import ModelRecord
from appliance.core.requests import EngineRequest, EngineUsage, TokenChunk
from appliance.core.settings import HttpSettings, PathSettings, RequestSettings, RouterSettings
from appliance.engines.cards import make_card
from appliance.frontend.accounts import Accounts
from appliance.frontend.catalog import Catalog
from appliance.frontend.routes import PublicRoutes
from appliance.frontend.service import GenerationService
from appliance.frontend.token_service import TokenService
from appliance.roles.frontend_serving import spare_the_collector
from appliance.routing.router import Router
from appliance.telemetry.cells import Metrics
from appliance.telemetry.metrics import TABLE
from appliance.web.listener import Listener
from tests.bench.http_floor import short
from tests.fakes.transport import FakeTransport
from tests.helpers.engines import demo_facts, tokens_of

CLIENTS = 16
REQUESTS = 8000
WORDS = 100


class InstantWorkers(FakeTransport):
    """Workers that give one token in the next pass of the scheduler."""

    def __init__(self, token: int) -> None:
        super().__init__()
        self._last = TokenChunk(0, [token], "length", EngineUsage(WORDS, 1))
        self._token = trio.lowlevel.current_trio_token()

    def open(self, worker: WorkerId, request: EngineRequest, sink: StreamSink) -> AbstractContextManager[None]:
        self._token.run_sync_soon(self._answer, sink)
        return self._stream()

    def _answer(self, sink: StreamSink) -> None:
        sink.on_chunk(self._last)
        sink.flush()

    @contextmanager
    def _stream(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def front_end(sock: socket.socket, mode: str) -> AsyncIterator[None]:
    """A front end with four workers of the demo model, called m."""
    facts = demo_facts()
    card = make_card(
        "mocker",
        facts,
        EngineOptions(served_name="m"),
        task="generate",
        context_length=8192,
        max_num_seqs=64,
        total_kv_blocks=8192,
        kv_events=True,
    )
    catalog, router = Catalog(), Router(RouterSettings(mode=mode))
    catalog.set_records([ModelRecord(name=ModelName("m"), phase="ready", created=0)])
    await catalog.learn(card, {ref.digest: facts.files[name] for name, ref in facts.refs.items()}, _no_tokenizer)
    for number in range(4):
        router.add(WorkerId(f"w{number}"), card)
    transport = InstantWorkers(tokens_of("a")[0])
    settings = RequestSettings()
    service = GenerationService(catalog, router, transport, Accounts(Metrics(TABLE)), lambda: settings)
    tokens = TokenService(catalog, router, lambda: settings)
    routes = PublicRoutes(service, tokens, catalog, HttpSettings(), PathSettings())
    async with trio.open_nursery() as nursery:
        await nursery.start(Listener([sock], routes, HttpSettings(), fallback=short).run)
        spare_the_collector()
        yield
        nursery.cancel_scope.cancel()


async def _no_tokenizer(_: str) -> list[int]:
    raise NotImplementedError


def ask_all(port: int, count: int) -> None:
    """Load from a thread of its own: closed loop over keep-alive connections. Its CPU time is not counted."""
    text = " ".join(["the", "quick", "brown", "fox"] * (WORDS // 4))
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 1}).encode()
    request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    request += b"content-length: %d\r\n\r\n%s" % (len(body), body)
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(CLIENTS)]
    for _ in range(count // CLIENTS):
        for client in clients:
            client.sendall(request)
        for client in clients:
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
    for client in clients:
        client.close()


def load(port: int, pipe: Connection) -> None:
    """The load generator's process: a warm-up, then the measured part when told to."""
    ask_all(port, REQUESTS // 8)
    pipe.send(None)
    pipe.recv()
    ask_all(port, REQUESTS)
    pipe.send(None)


async def measure(
    sock: socket.socket, pipe: Connection, mode: str, profile: cProfile.Profile | None
) -> tuple[float, float]:
    """User and system seconds of this process for the measured part."""
    async with front_end(sock, mode):
        await trio.to_thread.run_sync(pipe.recv)
        before = resource.getrusage(resource.RUSAGE_SELF)
        if profile is not None:
            profile.enable()
        pipe.send(None)
        await trio.to_thread.run_sync(pipe.recv)
        if profile is not None:
            profile.disable()
        after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime


def main() -> None:
    """Print microseconds of CPU per request, or a profile."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--router-mode", default="kv")
    given = parser.parse_args()
    profile = cProfile.Profile() if given.profile else None
    sock = socket.create_server(("127.0.0.1", 0), backlog=256)
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=load, args=(sock.getsockname()[1], theirs))
    process.start()
    user, system = trio.run(measure, sock, ours, given.router_mode, profile)
    process.join(10)
    if profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(50)
    scale = 1e6 / REQUESTS
    print(f"short request: {(user + system) * scale:.1f} us (user {user * scale:.1f}, system {system * scale:.1f})")


if __name__ == "__main__":
    main()
