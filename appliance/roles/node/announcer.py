"""What the world hears of a node: that it is ready, and for the service manager one line about what it does."""

from appliance.core.errors import EngineFailed
from appliance.roles.node.board import Board
from appliance.roles.node.readiness import announce, ready_line
from appliance.roles.node.service_notices import ServiceNotices
from appliance.roles.options import NodeOptions
from appliance.supervision.supervisor import Supervisor


class Announcer:
    """Follows a node from its start on, and says each thing once."""

    def __init__(
        self, options: NodeOptions, board: Board, supervisor: Supervisor, port: int, notices: ServiceNotices
    ) -> None:
        self._options, self._board, self._supervisor = options, board, supervisor
        self._port, self._notices = port, notices

    async def run(self) -> None:
        """Print the ready line once everything serves, then keep the line of `systemctl status` true, for ever.

        Raises `EngineFailed` when nothing of what was asked for on the command line can be served.
        """
        while not self._board.is_ready():
            self._give_up_if_hopeless()
            self._notices.status(f"starting: {self._summary()}")
            # No deadline: supervision has one for each worker, after which it is failed or starts again.
            await self._supervisor.wait_changed(self._supervisor.version)
        self._board.was_ready = True
        line = ready_line(self._options.settings.http, self._port, self._board.models(), self._board.started_at)
        announce(line, self._options.ready_fd)
        self._notices.ready(self._summary())
        await self._follow_summary()

    def begin_reload(self) -> None:
        """Settings are being read anew."""
        if self._board.was_ready:
            self._notices.reloading()

    def end_reload(self) -> None:
        """They have been read, or could not be."""
        if self._board.was_ready:
            self._notices.ready(self._summary())

    def say_stopping(self, drain_s: float) -> None:
        """An orderly stop has begun; requests have so many seconds."""
        self._notices.stopping(f"finishing requests, up to {drain_s:g} s")

    async def _follow_summary(self) -> None:
        told = self._summary()
        while True:
            # No deadline: there is nothing to tell until something changes.
            await self._supervisor.wait_changed(self._supervisor.version)
            if (line := self._summary()) != told:
                self._notices.status(told := line)

    def _summary(self) -> str:
        models = [f"{model.name} {model.phase}" for model in self._board.models()]
        return f"port {self._port}; {', '.join(models) or 'no model'}"

    def _give_up_if_hopeless(self) -> None:
        """Models that were asked for on the command line and cannot be served at all end the start."""
        failed = self._board.failures()
        if self._options.models and failed and len(failed) == len(self._board.workers()):
            raise EngineFailed(f"cannot serve {failed[0].instance.component}: {failed[0].reason}")
