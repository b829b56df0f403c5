"""Reads server-sent events out of bytes that come in any pieces. Pure."""

from appliance.core.errors import EngineFailed

LONGEST_EVENT = 16 * 1024 * 1024
"""Bytes; a server that sends more without the end of an event speaks another protocol."""


class SseReader:
    """Takes bytes, gives the data of each event that is complete. Names, ids and comments of events are dropped."""

    __slots__ = ("_data", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def push(self, piece: bytes) -> list[bytes]:
        """The data of the events that this piece completes. Raises `EngineFailed` for one that is too long."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        events = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                events.append(b"\n".join(self._data))
                self._data = []
        if len(self._rest) + sum(map(len, self._data)) > LONGEST_EVENT:
            raise EngineFailed("the engine sent an event that is too long")
        return events
