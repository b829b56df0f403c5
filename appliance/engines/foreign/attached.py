"""A foreign server that somebody else started: reached by its URL, watched, and never ended by us."""

from collections.abc import Mapping

import trio

from appliance.core.errors import EngineFailed, WorkerLost, WorkerTimeout
from appliance.core.ports import ProgressReport
from appliance.engines.http.address import ServerAddress
from appliance.engines.http.client import HttpClient

HEALTH_S = 10.0
MISSES = 3


class AttachedServer:
    """Has the same methods as `ForeignServer`."""

    def __init__(
        self, engine: str, address: ServerAddress, headers: Mapping[str, str], *, health_every_s: float = 5.0
    ) -> None:
        self._engine = engine
        self._health_every_s = health_every_s
        self._client = HttpClient(address, headers)

    async def start(self, progress: ProgressReport) -> HttpClient:
        """A client, once the server is healthy. Raises `ServerLost` or `EngineFailed` when it is not."""
        progress(-1.0, f"reaching {self._client.address.url}")
        answer = await self._client.request("GET", "/health", deadline_s=HEALTH_S)
        if not answer.ok:
            raise EngineFailed(f"{self._engine} at {self._client.address.url} is not ready (status {answer.status})")
        return self._client

    async def run(self) -> None:
        """Ask for its health until cancelled. Raises `EngineFailed` when it stays away."""
        misses = 0
        while True:
            await trio.sleep(self._health_every_s)
            try:
                answer = await self._client.request("GET", "/health", deadline_s=HEALTH_S)
                misses = 0 if answer.ok else misses + 1
            except (WorkerLost, WorkerTimeout):
                misses += 1
            if misses >= MISSES:
                raise EngineFailed(f"{self._engine} at {self._client.address.url} does not answer any more")

    async def stop(self) -> None:
        """Let go of the connections."""
        await self._client.close()
