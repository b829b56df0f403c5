"""The lines of all replicas of a component as one text."""

import logging
from contextlib import aclosing
from dataclasses import replace

import pytest
import trio
import trio.testing

from appliance.core.errors import NotFound
from appliance.core.settings import LogSettings
from appliance.roles.node.instance_logs import InstanceLogs
from appliance.roles.node.own_log import keep_own_lines
from appliance.supervision.supervisor import Supervisor
from tests.helpers.instances import FakeWorld, make_instance


@pytest.fixture
async def supervisor(nursery: trio.Nursery) -> Supervisor:
    """Three replicas of `worker` and one of `other`."""
    made = Supervisor(replace(FakeWorld().make(), clock=trio.current_time))
    await nursery.start(made.run)
    made.set_wanted([make_instance(0), make_instance(1), make_instance(2), make_instance(0, component="other")])
    await trio.testing.wait_all_tasks_blocked()
    return made


def write(supervisor: Supervisor, key: str, text: str) -> None:
    ring = supervisor.logs(key)
    ring.feed(ring.workers[-1], f"{text}\n".encode())


async def read(supervisor: Supervisor, name: str, last: int = 100) -> list[str]:
    return [line.split(" ", 1)[1] async for line in InstanceLogs(supervisor).lines(name, last, follow=False)]


async def test_lines_of_all_replicas_come_in_order_of_time(
    autojump_clock: trio.testing.MockClock, supervisor: Supervisor
) -> None:
    for at, key in enumerate(["serve/worker/1", "serve/worker/0", "serve/other/0", "serve/worker/2", "serve/worker/0"]):
        await trio.sleep(1)
        write(supervisor, key, str(at))
    assert await read(supervisor, "worker") == ["0", "1", "3", "4"]
    assert await read(supervisor, "serve/worker", last=2) == ["3", "4"]
    assert await read(supervisor, "serve/worker/0") == ["1", "4"]
    assert await read(supervisor, supervisor.logs("serve/other/0").workers[0]) == ["2"]
    assert await read(supervisor, "worker", last=0) == []


async def test_all_replicas_are_followed(autojump_clock: trio.testing.MockClock, supervisor: Supervisor) -> None:
    write(supervisor, "serve/worker/0", "old")
    async with aclosing(InstanceLogs(supervisor).lines("worker", 10, follow=True)) as lines:
        assert (await anext(lines)).endswith("old")
        for key in ("serve/worker/2", "serve/other/0", "serve/worker/1"):
            write(supervisor, key, key)
        assert (await anext(lines)).endswith("worker/2")
        assert (await anext(lines)).endswith("worker/1")


async def test_replicas_that_start_later_are_followed_too(
    autojump_clock: trio.testing.MockClock, supervisor: Supervisor
) -> None:
    async with (
        aclosing(InstanceLogs(supervisor).lines("worker", 10, follow=True)) as some,
        aclosing(InstanceLogs(supervisor).lines("*", 10, follow=True)) as everything,
    ):
        write(supervisor, "serve/worker/0", "old")
        assert [(await anext(lines)).split()[-1] for lines in (some, everything)] == ["old", "old"]
        supervisor.set_wanted([make_instance(0), make_instance(7), make_instance(1, component="other")])
        await trio.testing.wait_all_tasks_blocked()
        write(supervisor, "serve/other/1", "other")
        write(supervisor, "serve/worker/7", "new")
        assert (await anext(everything)).endswith("other")
        assert [(await anext(lines)).split()[-1] for lines in (some, everything)] == ["new", "new"]


async def test_the_supervisor_has_lines_of_its_own(supervisor: Supervisor) -> None:
    root = logging.getLogger()
    with keep_own_lines(supervisor.own_log(), LogSettings()):
        logging.getLogger("appliance.test").error("from %s", "here")
        await trio.to_thread.run_sync(logging.getLogger("appliance.test").error, "from a thread")
        await trio.testing.wait_all_tasks_blocked()
    logging.getLogger("appliance.test").error("too late")
    for name in ("supervisor", "appliance", "appliance/supervisor/0"):
        lines = await read(supervisor, name)
        assert ["from here" in lines[0], "from a thread" in lines[1], len(lines)] == [True, True, 2]
    assert not any(type(handler).__name__ == "LineHandler" for handler in root.handlers)


async def test_an_unknown_name_is_told_what_there_is(supervisor: Supervisor) -> None:
    with pytest.raises(NotFound, match="serve/other/0"):
        await read(supervisor, "nobody")
