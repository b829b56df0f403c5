"""What a front end tells the others of its placements, and how little of it."""

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.errors import LinkBroken
from appliance.core.identity import ModelName, RequestId, WorkerId
from appliance.events import placement_reports
from appliance.events.placement_reports import GATHER_S, PlacementReporter, read_reports
from appliance.routing.replica_sync import BookingAdded, BookingFreed, PrefillCompleted, ReplicaEvent

M = ModelName("m")


def added(key: int) -> BookingAdded:
    return BookingAdded("me", key, M, False, RequestId(f"r{key}"), WorkerId("w"), 0, 32, hashes=[key, 1 << 63])


def in_output(key: int) -> PrefillCompleted:
    return PrefillCompleted("me", key, M, False)


def freed(key: int) -> BookingFreed:
    return BookingFreed("me", key, M, False)


class Line:
    """Takes messages, or none while it is blocked."""

    def __init__(self) -> None:
        self.messages: list[list[ReplicaEvent]] = []
        self.blocked = False

    def send(self, data: bytes) -> bool:
        if not self.blocked:
            self.messages.append(read_reports(data))
        return not self.blocked


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
async def reporter(line: Line, nursery: trio.Nursery) -> PlacementReporter:
    made = PlacementReporter()
    nursery.start_soon(made.run, line.send)
    await trio.testing.wait_all_tasks_blocked()
    return made


async def test_many_reports_make_one_message(
    autojump_clock: trio.testing.MockClock, reporter: PlacementReporter, line: Line
) -> None:
    for key in range(50):
        reporter.report(added(key))
    reporter.report(in_output(3))
    await trio.sleep(5 * GATHER_S)
    assert line.messages == [[*map(added, range(50)), in_output(3)]]
    reporter.report(freed(3))
    await trio.sleep(5 * GATHER_S)
    assert line.messages[1:] == [[freed(3)]]


async def test_a_stream_that_was_over_at_once_is_never_told(
    autojump_clock: trio.testing.MockClock, reporter: PlacementReporter, line: Line
) -> None:
    reporter.report(added(1))
    reporter.report(in_output(1))
    reporter.report(freed(1))
    await trio.sleep(5 * GATHER_S)
    assert line.messages == []
    reporter.report(added(2))
    await trio.sleep(5 * GATHER_S)
    assert line.messages == [[added(2)]]


async def test_reports_wait_for_a_slow_supervisor_and_the_oldest_are_lost(
    autojump_clock: trio.testing.MockClock, reporter: PlacementReporter, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement_reports, "MOST", 10)
    line.blocked = True
    for key in range(8):
        reporter.report(added(key))
    await trio.sleep(1)
    for key in range(8, 15):
        reporter.report(added(key))
    await trio.sleep(1)
    line.blocked = False
    await trio.sleep(1)
    assert line.messages == [[*map(added, range(5, 15))]]
    assert reporter.lost == 5


@given(st.lists(st.integers(0, 6)))
def test_whoever_hears_all_messages_knows_what_runs(steps: list[int]) -> None:
    """Steps 0 to 5 take that stream one on (placed, in output, ended, a new one placed), 6 sends what was gathered."""
    reporter, heard = PlacementReporter(), set[int]()
    moves = dict.fromkeys(range(6), 0)
    running: set[int] = set()

    def hear() -> None:
        for event in read_reports(reporter.take()):
            if isinstance(event, BookingAdded):
                assert event.key not in heard
                heard.add(event.key)
            elif isinstance(event, BookingFreed):
                heard.remove(event.key)
            else:
                assert event.key in heard
        assert heard == running

    for step in steps:
        if step == 6:
            hear()
            continue
        life, at = divmod(moves[step], 3)
        key = step + 6 * life
        reporter.report((added, in_output, freed)[at](key))
        running = running - {key} if at == 2 else running | {key}
        moves[step] += 1
    hear()


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x91\x91\xa3add", b"\x91" * 5000])
def test_unreadable_reports_are_a_broken_link(data: bytes) -> None:
    with pytest.raises(LinkBroken, match="cannot read reports"):
        read_reports(data)
