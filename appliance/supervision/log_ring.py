"""The last lines that an instance's processes wrote, also the dead ones; bounded in lines, bytes and lives."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import trio

from appliance.core.identity import WorkerId
from appliance.supervision.log_file import LogFile

KEPT_LINES = 2000
KEPT_BYTES = 512 * 1024
LINE_BYTES = 8192
KEPT_LIVES = 4
FOLLOW_LINES = 10_000
CUT = " [cut]"


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of one process. `at`: Unix time in seconds when it was read."""

    at: float
    worker: WorkerId
    text: str


@dataclass
class _Life:
    """The kept lines of one incarnation and the line that has not ended yet."""

    lines: deque[LogLine] = field(default_factory=deque)
    size: int = 0
    open_line: bytearray = field(default_factory=bytearray)
    overlong: bool = False

    def extend(self, part: bytes) -> None:
        """Go on with the open line, up to its limit."""
        room = LINE_BYTES - len(self.open_line)
        self.overlong = self.overlong or len(part) > room
        self.open_line += part[:room]

    def close_line(self) -> str:
        """The open line as text; of a progress bar, what a terminal would show in the end."""
        text = self.open_line.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
        if self.overlong:
            text += CUT
        self.open_line.clear()
        self.overlong = False
        return text

    def keep(self, line: LogLine) -> None:
        """Add a line and drop the oldest ones over the bounds."""
        self.lines.append(line)
        self.size += len(line.text)
        while len(self.lines) > KEPT_LINES or self.size > KEPT_BYTES:
            self.size -= len(self.lines.popleft().text)


class _Follower:
    """A reader that lines are sent to; when it falls behind, lines are skipped and counted."""

    def __init__(self, channel: trio.MemorySendChannel[LogLine]) -> None:
        self.channel = channel
        self._skipped = 0

    def send(self, line: LogLine) -> None:
        try:
            if self._skipped:
                self.channel.send_nowait(LogLine(line.at, line.worker, f"[{self._skipped} lines skipped]"))
                self._skipped = 0
            self.channel.send_nowait(line)
        except trio.WouldBlock:
            self._skipped += 1
        except trio.BrokenResourceError:
            return  # it closed its end and will leave the block


class LogRing:
    """The log of one instance over its last `KEPT_LIVES` incarnations; one writer, any number of readers."""

    def __init__(self, file: LogFile | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self._lives: dict[WorkerId, _Life] = {}
        self._followers: set[_Follower] = set()

    @property
    def workers(self) -> list[WorkerId]:
        """The incarnations that lines are kept of, oldest first."""
        return list(self._lives)

    def begin(self, worker: WorkerId) -> None:
        """A new incarnation starts; the oldest one is dropped when there are too many."""
        self._lives.setdefault(worker, _Life())
        while len(self._lives) > KEPT_LIVES:
            del self._lives[next(iter(self._lives))]

    def feed(self, worker: WorkerId, data: bytes) -> None:
        """Take output as it was read, at any split."""
        life = self._lives.get(worker)
        if life is None:
            return  # so old that it was dropped
        *ended, rest = data.split(b"\n")
        lines = []
        for part in ended:
            life.extend(part)
            lines.append(LogLine(self._clock(), worker, life.close_line()))
        life.extend(rest)
        if lines:
            self._keep(life, lines)

    def note(self, worker: WorkerId, text: str) -> None:
        """Add a line of our own about the process."""
        if (life := self._lives.get(worker)) is not None:
            self._keep(life, [LogLine(self._clock(), worker, text)])

    def end(self, worker: WorkerId) -> None:
        """The incarnation has ended: its last line counts even without a line end."""
        life = self._lives.get(worker)
        if life is not None and life.open_line:
            self._keep(life, [LogLine(self._clock(), worker, life.close_line())])

    def lines(self, last: int | None = None, *, worker: WorkerId | None = None) -> list[LogLine]:
        """The kept lines in order, of one incarnation or of all; `last` bounds how many."""
        lives = self._lives.items() if worker is None else [(worker, self._lives.get(worker, _Life()))]
        found = [line for _, life in lives for line in life.lines]
        return found if last is None else found[max(0, len(found) - last) :]

    @contextmanager
    def follow(self) -> Iterator[trio.MemoryReceiveChannel[LogLine]]:
        """Every line from now on. `lines()` right before it, without a checkpoint between, makes a gapless whole."""
        with follow_all([self]) as tail:
            yield tail.lines

    def add_follower(self, follower: _Follower) -> None:
        """Send it every line from now on; `follow_all` calls it."""
        self._followers.add(follower)

    def drop_follower(self, follower: _Follower) -> None:
        """Send it nothing more."""
        self._followers.discard(follower)

    def _keep(self, life: _Life, lines: list[LogLine]) -> None:
        for line in lines:
            life.keep(line)
            for follower in self._followers:
                follower.send(line)
        if self._file is not None:
            self._write(self._file, life, lines)

    def _write(self, file: LogFile, life: _Life, lines: list[LogLine]) -> None:
        before = file.failure
        file.write("".join(f"{_stamp(line.at)} {line.worker} {line.text}\n" for line in lines))
        if file.failure and file.failure != before:
            life.keep(LogLine(self._clock(), lines[-1].worker, file.failure))


class Tail:
    """The lines of several rings as they are written; more rings may be added meanwhile. Made by `follow_all`."""

    def __init__(self, send: trio.MemorySendChannel[LogLine], receive: trio.MemoryReceiveChannel[LogLine]) -> None:
        self.lines = receive
        self._follower = _Follower(send)
        self._rings: list[LogRing] = []

    def add(self, ring: LogRing) -> None:
        """Also every line of this ring from now on."""
        if ring not in self._rings:
            self._rings.append(ring)
            ring.add_follower(self._follower)

    def leave(self) -> None:
        """No line of any ring any more."""
        for ring in self._rings:
            ring.drop_follower(self._follower)


@contextmanager
def follow_all(rings: Sequence[LogRing]) -> Iterator[Tail]:
    """Every line of several rings from now on, in the order in which they are written."""
    send, receive = trio.open_memory_channel[LogLine](FOLLOW_LINES)
    tail = Tail(send, receive)
    for ring in rings:
        tail.add(ring)
    with send, receive:
        try:
            yield tail
        finally:
            tail.leave()


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
