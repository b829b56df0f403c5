"""Publishers and subscribers of KV events on real sockets."""

from dataclasses import dataclass, field
from pathlib import Path

import trio

from appliance.core.kv_events import KvEvent, StoredBlocks
from appliance.events.zmq_convert import EventConverter
from appliance.events.zmq_sockets import ZmqContext
from appliance.events.zmq_subscriber import Source, ZmqSubscriber
from appliance.events.zmq_wire import BlockStored

BLOCK_SIZE = 4


@dataclass
class Recorder:
    """A feed that keeps what it is told; `None` stands for `forget`."""

    told: list[KvEvent | None] = field(default_factory=list)

    @property
    def names(self) -> list[int | None]:
        """The first block of each event; None where all was forgotten, or is."""
        return [event.block_ids[0] if isinstance(event, StoredBlocks) else None for event in self.told]

    def take(self, events: list[KvEvent]) -> None:
        """Keep."""
        self.told.extend(events)

    def forget(self) -> None:
        """Keep too."""
        self.told.append(None)


def stored(first: int, count: int = 1, parent: int | None = None) -> BlockStored:
    """Blocks named `first`, `first + 1`, ... whose tokens are told by their names."""
    names = range(first, first + count)
    tokens = [name * BLOCK_SIZE + at for name in names for at in range(BLOCK_SIZE)]
    return BlockStored(list(names), parent, tokens, BLOCK_SIZE)


def ipc(folder: Path, name: str) -> str:
    """An endpoint on a socket file."""
    return f"ipc://{folder}/{name}"


async def follow(
    nursery: trio.Nursery, context: ZmqContext, source: Source, quiet_s: float = 5.0
) -> tuple[ZmqSubscriber, Recorder]:
    """A running subscriber and what it tells."""
    recorder = Recorder()
    subscriber = ZmqSubscriber(context, source, EventConverter(BLOCK_SIZE), recorder, quiet_s=quiet_s)
    await nursery.start(subscriber.run)
    return subscriber, recorder
