"""A worker's reports of its load: on change, now and then while busy, and at first."""

import trio
import trio.testing

from appliance.core.records import RankLoad
from appliance.roles.worker_reports import REPEAT_S, report_loads


class Source:
    """A `LoadSource` whose load a test sets."""

    def __init__(self) -> None:
        self.now = [RankLoad(0, 0, 0), RankLoad(1, 0, 0)]

    def loads(self) -> list[RankLoad]:
        return self.now


async def test_reports_come_with_changes(autojump_clock: trio.testing.MockClock) -> None:
    source, told = Source(), list[list[RankLoad]]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(report_loads, source, 4, told.append)
        await trio.sleep(10)
        assert told == [[RankLoad(4, 0, 0), RankLoad(5, 0, 0)]]
        source.now = [RankLoad(0, 3, 0), RankLoad(1, 0, 20)]
        await trio.sleep(0.5)
        assert told[1:] == [[RankLoad(4, 3, 0), RankLoad(5, 0, 20)]]
        await trio.sleep(3 * REPEAT_S)
        assert told[2:] == [told[1]] * 3
        source.now = [RankLoad(0, 0, 0), RankLoad(1, 0, 0)]
        await trio.sleep(10)
        assert told[5:] == [told[0]]
        nursery.cancel_scope.cancel()
