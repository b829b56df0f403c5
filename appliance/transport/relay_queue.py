"""What one front end has still to be told of the others' placements: bounded, as it may be slow and they go on."""

from collections import deque


class RelayQueue:
    """Frames by the front end that they come from. Over the limit the oldest ones are lost, never word of an end."""

    def __init__(self, limit_bytes: int) -> None:
        self.lost = 0
        """Frames dropped so far."""
        self._limit_bytes = limit_bytes
        self._frames: deque[tuple[str, bytes]] = deque()
        self._gone: list[bytes] = []
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._frames or self._gone)

    def add(self, source: str, frame: bytes) -> bool:
        """Add reports of a front end; False when older ones had to go for them."""
        self._frames.append((source, frame))
        self._bytes += len(frame)
        before = self.lost
        while self._bytes > self._limit_bytes:
            self._bytes -= len(self._frames.popleft()[1])
            self.lost += 1
        return self.lost == before

    def add_gone(self, source: str, frame: bytes) -> None:
        """A front end has left: what it reported is of no use now, only that it is gone."""
        self._frames = deque(one for one in self._frames if one[0] != source)
        self._bytes = sum(len(one) for _, one in self._frames)
        self._gone.append(frame)

    def take(self) -> bytes:
        """All frames as one piece of the stream; the queue is empty then."""
        taken = b"".join([*self._gone, *(frame for _, frame in self._frames)])
        self._frames.clear()
        self._gone.clear()
        self._bytes = 0
        return taken
