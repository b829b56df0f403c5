"""What the processes of a component wrote: the lines of all its replicas as one text, in the order of their time."""

from collections.abc import AsyncGenerator, Sequence

import trio

from appliance.core.errors import NotFound
from appliance.supervision.log_ring import LogLine, LogRing, follow_all
from appliance.supervision.supervisor import Supervisor


class InstanceLogs:
    """The log rings of a supervisor by the names that users know."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def rings(self, name: str) -> list[LogRing]:
        """Logs of a key (`graph/component/index`), a worker id, a component with or without its graph, or a model.

        Raises `NotFound`, naming what there are logs of.
        """
        keys = self._supervisor.log_keys()
        views = self._supervisor.views()
        shown = {view.key for view in views if name in (view.id, view.card.name if view.card else None)}
        matches = [key for key in keys if key in shown or name in (key, key.split("/")[1], key.rpartition("/")[0])]
        found = [self._supervisor.logs(key) for key in matches]
        if not found:
            found = [ring for key in keys if name in (ring := self._supervisor.logs(key)).workers]
        if not found:
            raise NotFound(f"no logs of {name!r}; there are logs of {', '.join(keys) or 'nothing yet'}")
        return found

    async def lines(self, name: str, last: int, follow: bool) -> AsyncGenerator[str, None]:
        """The last lines, then, with `follow`, the new ones of the replicas there are. Raises `NotFound`."""
        rings = self.rings(name)
        if not follow:
            for line in last_lines(rings, last):
                yield _text(line)
            await trio.lowlevel.checkpoint()
            return
        with follow_all(rings) as fresh:
            for line in last_lines(rings, last):
                yield _text(line)
            async for line in fresh:
                yield _text(line)


def last_lines(rings: Sequence[LogRing], last: int) -> list[LogLine]:
    """The latest lines of several rings, oldest first."""
    found = sorted((line for ring in rings for line in ring.lines(last)), key=lambda line: line.at)
    return found[max(0, len(found) - last) :]


def _text(line: LogLine) -> str:
    return f"{line.worker} {line.text}"
