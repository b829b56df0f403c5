"""The API keys that hold now: those of the key file and those of the store, together."""

from collections.abc import Callable, Sequence

import trio

from appliance.core.ports import StateStore
from appliance.core.records import KeyRecord
from appliance.roles.node.keys import KIND, KeyStore


class KeyRing:
    """Gives out all keys whenever one of them comes or goes."""

    def __init__(
        self, store: StateStore, file_keys: Sequence[KeyRecord], give: Callable[[list[KeyRecord]], None]
    ) -> None:
        self._store, self._give = store, give
        self._file_keys, self._stored = list(file_keys), list[KeyRecord]()

    def use_file(self, keys: Sequence[KeyRecord]) -> None:
        """Replace the keys of the key file."""
        self._file_keys = list(keys)
        self._give_all()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the store for ever; `started` once its keys hold."""
        keys = KeyStore(self._store)
        while True:  # a watch that fell behind is closed; the next one starts with the whole picture
            async with self._store.watch(KIND) as changes:
                self._stored = await keys.records()
                self._give_all()
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                async for _ in changes:
                    self._stored = await keys.records()
                    self._give_all()

    def _give_all(self) -> None:
        self._give([*self._file_keys, *self._stored])
