"""A foreign server as our child: launched, watched while it loads, watched while it serves, and ended.

The guard of the supervisor finds it by the mark in its environment when this process dies, whatever it does.
"""

import logging
from collections.abc import Callable, Mapping

import trio

from appliance.core.errors import ApplianceError, EngineFailed, WorkerLost, WorkerTimeout
from appliance.core.ports import ProgressReport
from appliance.engines.foreign.log_watch import LogWatch, PortTaken
from appliance.engines.foreign.ports import LOOPBACK, free_ports
from appliance.engines.http.address import ServerAddress
from appliance.engines.http.client import HttpClient
from appliance.supervision.process import KILL_S, Child, LaunchPlan, start_child

log = logging.getLogger(__name__)

MakeArgv = Callable[[int], tuple[str, ...]]
"""The command line for a port."""
POLL_S = 0.1  # between looks at a server that is starting
HEALTH_S = 10.0  # for one answer of a server that serves
MISSES = 3
"""Looks in a row without an answer until a server that still runs counts as hung."""
PORT_TRIES = 4
TERM_S = 20.0  # for the server to free its devices after SIGTERM


class ForeignServer:
    """One server from launch to end. `start` once, then `run` beside the work, then `stop`."""

    def __init__(
        self,
        engine: str,
        make_argv: MakeArgv,
        env: Mapping[str, str],
        *,
        headers: Mapping[str, str] | None = None,
        health: str = "/health",
        health_every_s: float = 5.0,
    ) -> None:
        self._engine = engine
        self._make_argv, self._env = make_argv, env
        self._headers, self._health, self._health_every_s = headers, health, health_every_s
        self._child: Child | None = None
        self._watch = LogWatch(engine)
        self._client: HttpClient | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """Process id and group of the server; None when none runs."""
        return None if self._child is None else self._child.pid

    async def start(self, progress: ProgressReport) -> HttpClient:
        """Launch it and wait until it is healthy; a client for it. The wait has no deadline but the supervisor's.

        Raises what its last words mean when it ends before, `CannotStart` when it cannot be launched. Cancelling, and
        any error, leaves no process.
        """
        for left in reversed(range(PORT_TRIES)):
            try:
                return await self._try_start(progress)
            except PortTaken:
                if not left:
                    raise
        raise AssertionError("unreachable")

    async def run(self) -> None:
        """Read its output and ask for its health until it is stopped. Raises `EngineFailed` when it ends or hangs."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_output, _unheard)
            nursery.start_soon(self._watch_health)
            await self._watch_exit("while it served")
            nursery.cancel_scope.cancel()

    async def stop(self) -> None:
        """SIGTERM, a while, SIGKILL to the group. Safe to call twice. Cancelled, it kills at once and still reaps."""
        self._stopping = True
        if self._client is not None:
            await self._client.close()
        child = self._child
        if child is None:
            return
        try:
            child.terminate()
            with trio.move_on_after(TERM_S):
                await child.wait()
        finally:
            child.kill_group()
            with trio.move_on_after(KILL_S, shield=True):  # shield: a child must be reaped
                await child.wait()
            child.close()
            self._child = None

    async def _try_start(self, progress: ProgressReport) -> HttpClient:
        port = free_ports()
        self._watch = LogWatch(self._engine)
        self._stopping = False
        self._child = start_child(LaunchPlan(argv=self._make_argv(port), env=self._env, address=f"{LOOPBACK}:{port}"))
        log.info("engine server starts engine=%s pid=%s port=%s", self._engine, self._child.pid, port)
        client = HttpClient(ServerAddress(scheme="http", host=LOOPBACK, port=port), self._headers)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read_output, progress)
                nursery.start_soon(self._watch_exit, "while it loaded the model")
                await self._wait_healthy(client)
                nursery.cancel_scope.cancel()
        except BaseException as error:
            await self.stop()
            if (cause := _own_error(error)) is not None:
                raise cause from None
            raise
        self._client = client
        return client

    async def _wait_healthy(self, client: HttpClient) -> None:
        while True:
            try:
                answer = await client.request("GET", self._health, deadline_s=HEALTH_S)
                if answer.ok:
                    return
            except (WorkerLost, WorkerTimeout):
                pass  # it does not listen yet, or is too busy to answer
            await trio.sleep(POLL_S)

    async def _watch_health(self) -> None:
        misses = 0
        while True:
            await trio.sleep(self._health_every_s)
            assert self._client is not None  # `run` comes after `start`
            try:
                answer = await self._client.request("GET", self._health, deadline_s=HEALTH_S)
                misses = 0 if answer.ok else misses + 1
            except (WorkerLost, WorkerTimeout):
                misses += 1
            if misses >= MISSES and not self._stopping:
                raise EngineFailed(f"{self._engine} does not answer any more")

    async def _watch_exit(self, when: str) -> None:
        assert self._child is not None
        code = await self._child.wait()
        if self._stopping:
            return
        await trio.sleep(POLL_S)  # its last words may still be in the pipe
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        log.error("engine server %s engine=%s last_line=%r", how, self._engine, self._watch.last_line)
        raise self._watch.fault or EngineFailed(f"{self._engine} {how} {when}; `logs` shows its last lines")

    async def _read_output(self, progress: ProgressReport) -> None:
        assert self._child is not None
        told = None

        def take(data: bytes) -> None:
            nonlocal told
            for line in self._watch.push(data):
                log.info("%s: %s", self._engine, line)
            if self._watch.progress != told:
                told = self._watch.progress
                progress(told.fraction, told.text)

        await self._child.read_output(take)


def _unheard(fraction: float, text: str) -> None:
    """Progress of a server that is ready already."""


def _own_error(error: BaseException) -> ApplianceError | None:
    """The one error of ours in a group that a nursery made; None for anything else, such as a cancellation."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, ApplianceError) else None
