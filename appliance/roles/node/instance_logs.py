"""What the processes of a component wrote: the lines of all its replicas as one text, in the order of their time."""

from collections.abc import AsyncGenerator, Sequence

import trio

from appliance.core.errors import NotFound
from appliance.core.instances import ComponentInstance
from appliance.core.requests import ModelCard
from appliance.roles.model_names import served_name
from appliance.supervision.log_ring import LogLine, LogRing, follow_all
from appliance.supervision.supervisor import OWN_LOG, Supervisor

ALL = "*"
APPLIANCE = "appliance"


class InstanceLogs:
    """The log rings of a supervisor by the names that users know."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def rings(self, name: str) -> list[LogRing]:
        """Logs of a key (`graph/component/index`), a worker id, a component with or without its graph, or a model.

        `supervisor` and `appliance` mean the supervisor itself, `*` everything. Raises `NotFound`, naming what there
        are logs of.
        """
        keys = self._supervisor.log_keys()
        shown = {view.key for view in self._supervisor.views() if name in (view.id, *_names(view.instance, view.card))}
        matches = [key for key in keys if key in shown or _means(name, key)]
        found = [self._supervisor.logs(key) for key in matches]
        if not found:
            found = [ring for key in keys if name in (ring := self._supervisor.logs(key)).workers]
        if not found:
            raise NotFound(f"no logs of {name!r}; there are logs of {', '.join(keys) or 'nothing yet'}")
        return found

    async def lines(self, name: str, last: int, follow: bool) -> AsyncGenerator[str, None]:
        """The last lines, then, with `follow`, the new ones, also of replicas that start later. Raises `NotFound`."""
        rings = self.rings(name)
        if not follow:
            for line in last_lines(rings, last):
                yield _text(line)
            await trio.lowlevel.checkpoint()
            return
        with follow_all(rings) as tail:

            def on_log(instance: ComponentInstance, ring: LogRing) -> None:
                if _means(name, instance.key) or name in _names(instance, None):
                    tail.add(ring)

            with self._supervisor.watch_logs(on_log):
                for line in last_lines(rings, last):
                    yield _text(line)
                async for line in tail.lines:
                    yield _text(line)


def _means(name: str, key: str) -> bool:
    """Whether a user who says `name` wants the log of this key."""
    if name in (ALL, key, key.split("/")[1], key.rpartition("/")[0]):
        return True
    return name == APPLIANCE and key == OWN_LOG


def _names(instance: ComponentInstance, card: ModelCard | None) -> list[str]:
    """Names of the model that an instance serves: as it was started, and as it said itself."""
    return [name for name in (served_name(instance.argv), card and card.name) if name]


def last_lines(rings: Sequence[LogRing], last: int) -> list[LogLine]:
    """The latest lines of several rings, oldest first."""
    found = sorted((line for ring in rings for line in ring.lines(last)), key=lambda line: line.at)
    return found[max(0, len(found) - last) :]


def _text(line: LogLine) -> str:
    return f"{line.worker} {line.text}"
