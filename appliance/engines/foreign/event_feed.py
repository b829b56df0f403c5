"""Cache events of a server on their way to whoever asks for them."""

from collections.abc import Iterable

import trio

from appliance.core.kv_events import TakeKvEvents
from appliance.core.kv_publishers import FollowKvEvents, KvPublisher


class EventFeed:
    """Follows a server's publishers once somebody has asked. `follow` None: there is nothing to follow them with."""

    def __init__(self, follow: FollowKvEvents | None) -> None:
        self._follow = follow
        self._take: TakeKvEvents | None = None
        self._is_wanted = trio.Event()

    @property
    def can_follow(self) -> bool:
        """Whether events of a server that publishes them would come."""
        return self._follow is not None

    def publish(self, take: TakeKvEvents) -> None:
        """Give every batch to `take` from now on."""
        self._take = take
        self._is_wanted.set()

    async def run(self, publishers: Iterable[KvPublisher]) -> None:
        """Follow them for as long as `FollowKvEvents` does; return at once where there is nothing to follow."""
        publishers = list(publishers)
        if self._follow is None or not publishers:
            return
        await self._is_wanted.wait()  # no deadline: nobody may ever ask for them
        assert self._take is not None
        async with trio.open_nursery() as nursery:
            for publisher in publishers:
                nursery.start_soon(self._follow, publisher, self._take)
