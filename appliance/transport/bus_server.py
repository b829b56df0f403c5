"""The bus, supervisor's side: accepts children, tells them what they need to know, asks them for facts."""

import logging
from pathlib import Path
from typing import Any

import trio

from appliance.core.errors import ApplianceError
from appliance.transport.bus_child import BusChild, BusHandler, ChildReport
from appliance.transport.limits import LinkLimits
from appliance.transport.nurseries import open_inner_nursery
from appliance.wire.bus_messages import Picture, ToChild
from appliance.wire.framing import encode
from appliance.wire.sockets import listen_unix
from appliance.wire.streams import ByteStream

LOG = logging.getLogger(__name__)

__all__ = ["BusChild", "BusHandler", "BusServer", "ChildReport"]


class BusServer:
    """All connected children, one per role and id: a new one replaces an old one whose end was not seen yet."""

    def __init__(self, path: Path, handler: BusHandler, limits: LinkLimits | None = None) -> None:
        self._path = path
        self._handler = handler
        self._limits = limits or LinkLimits()
        self._children: dict[tuple[str, str], BusChild] = {}

    async def run(self, *, task_status: trio.TaskStatus[Path] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled; `started` once children can connect. Raises `Conflict`, `UsageError`."""
        with listen_unix(self._path) as listener:
            task_status.started(self._path)
            async with trio.open_nursery() as nursery:
                while True:
                    nursery.start_soon(self.serve, await listener.accept())

    async def serve(self, stream: ByteStream) -> None:
        """Serve one child over a connected stream until its bus ends; raises nothing but `Cancelled`."""
        fault = await BusChild(stream, self._limits, self).run()
        LOG.debug("bus connection ended", extra={"reason": fault.message})

    def children(self, role: str | None = None) -> list[BusChild]:
        """The children that said hello, of one role or of all."""
        return [child for child in self._children.values() if role in (None, child.role)]

    def find(self, role: str, child_id: str) -> BusChild | None:
        """The child of that role and id, when it is connected."""
        return self._children.get((role, child_id))

    def push(self, child: BusChild, message: ToChild) -> None:
        """Send a message to one child; see `BusChild.push`."""
        child.push(message)

    def broadcast(self, role: str, message: ToChild) -> None:
        """Send a message to every child of a role; pictures are encoded once."""
        if isinstance(message, Picture):
            frame = encode(message)
            for child in self.children(role):
                child.push_picture(frame)
        else:
            for child in self.children(role):
                child.push(message)

    def relay(self, source: BusChild, message: ToChild) -> None:
        """Pass on what one child reported to all others of its role. See `BusChild.relay`."""
        frame = encode(message)
        for child in self.children(source.role):
            if child is not source:
                child.relay(source.id, frame)

    def relay_gone(self, source: BusChild, message: ToChild) -> None:
        """Tell all others of its role that one is gone. See `BusChild.relay_gone`."""
        frame = encode(message)
        for child in self.children(source.role):
            if child is not source:
                child.relay_gone(source.id, frame)

    async def pull(self, child: BusChild, what: str, deadline_s: float) -> Any:
        """See `BusChild.pull`."""
        return await child.pull(what, deadline_s)

    async def pull_all(self, role: str, what: str, deadline_s: float, about: str = "") -> dict[str, Any]:
        """Answers by child id; children that have none, are gone or too slow are left out. A checkpoint."""
        answers: dict[str, Any] = {}

        async def ask(child: BusChild) -> None:
            try:
                answer = await child.pull(what, deadline_s, about)
            except ApplianceError:
                return
            if answer is not None:
                answers[child.id] = answer

        async with open_inner_nursery() as nursery:
            for child in self.children(role):
                nursery.start_soon(ask, child)
        return answers

    def on_hello(self, child: BusChild) -> None:
        """A child said who it is; part of how `BusChild` reports."""
        key = (child.role, child.id)
        if twin := self._children.pop(key, None):
            twin.end("another child of the same id connected")
            self._tell_gone(twin)
        self._children[key] = child
        self._handler.on_hello(child)

    def on_message(self, child: BusChild, message: ChildReport) -> None:
        """A child reported; part of how `BusChild` reports."""
        if self._children.get((child.role, child.id)) is child:
            self._handler.on_message(child, message)

    def on_gone(self, child: BusChild) -> None:
        """The bus to a child ended; part of how `BusChild` reports."""
        if self._children.get((child.role, child.id)) is child:
            del self._children[child.role, child.id]
            self._tell_gone(child)

    def _tell_gone(self, child: BusChild) -> None:
        try:
            self._handler.on_gone(child)
        except Exception:
            LOG.exception("handler of a gone child failed")
