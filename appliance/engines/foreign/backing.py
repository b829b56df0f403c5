"""The server behind one engine, launched here or reached at its URL, and what is held for it while it runs."""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from appliance.core.errors import EngineFailed
from appliance.core.ports import ProgressReport
from appliance.engines.foreign.attached import AttachedServer
from appliance.engines.foreign.command import find_command, held_environment
from appliance.engines.foreign.options import ForeignOptions
from appliance.engines.foreign.server import ForeignServer
from appliance.engines.foreign.surroundings import Surroundings
from appliance.engines.http.client import HttpClient

FOLDER_PREFIX = "dyn-kv-"  # its sockets carry cache events; short, as the path of a socket may have 100 bytes


class BackingServer:
    """`choose` what it is, then `start` it once, `run` beside the work, `stop`."""

    def __init__(self, engine: str, given: ForeignOptions) -> None:
        self._engine, self._given = engine, given
        self._server: ForeignServer | AttachedServer | None = None
        self._client: HttpClient | None = None
        self._held = ExitStack()
        self.folder: Path | None = None
        """For sockets of a server of ours, while it runs."""
        self.runs_module = False
        """Whether its command is a Python with a module, not the program that an installation brings."""

    @property
    def client(self) -> HttpClient:
        """For its routes. Raises `EngineFailed` before the start."""
        if self._client is None:
            raise EngineFailed("the engine has not been started")
        return self._client

    def choose(
        self,
        around: Surroundings,
        *,
        module: Sequence[str],
        program: Sequence[str],
        flags: Callable[[int], Sequence[str]],
        variables: Callable[[], Mapping[str, str]],
    ) -> None:
        """The server at the given URL, else one of ours. Raises `UsageError` when there is nothing to start.

        `module` and `program` are those of `find_command`; `flags` are asked for with each port that is tried.
        """
        given = self._given
        if given.url is not None:
            self._server = AttachedServer(self._engine, given.url, given.headers, health_every_s=given.health_every_s)
            return
        command = find_command(self._engine, given, around, module=module, program=program)
        self.runs_module = command[-1] == module[-1]
        self._held.enter_context(held_environment(command[0]))
        self.folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
        self._server = ForeignServer(
            self._engine,
            lambda port: (*command, *flags(port)),
            {**around.env, **variables()},
            headers=given.headers,
            health_every_s=given.health_every_s,
        )

    @property
    def pid(self) -> int | None:
        """Process id and group of a server of ours; None when none runs."""
        return self._server.pid if isinstance(self._server, ForeignServer) else None

    async def start(self, progress: ProgressReport) -> HttpClient:
        """Wait until it is healthy; a client for it. Raises what its end means, or that it cannot be reached."""
        assert self._server is not None
        self._client = await self._server.start(progress)
        return self._client

    async def run(self) -> None:
        """Watch it until it is stopped. Raises `EngineFailed` when it ends, hangs or stays away."""
        assert self._server is not None
        await self._server.run()

    async def stop(self) -> None:
        """End it if it is ours, and let go of what was held. Safe to call twice; cancelled, it still lets go."""
        server, self._server = self._server, None
        try:
            if server is not None:
                await server.stop()
        finally:
            self._held.close()
            if self.folder is not None:
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder = None
