"""Real child processes: exit, output, kill, parent death."""

import os
import signal
import sys
import threading
from collections.abc import AsyncIterator

import pytest
import trio

from appliance.core.errors import CannotStart, InternalError
from appliance.supervision.process import Child, LaunchPlan, start_child
from tests.helpers.scripted import (
    ROOT,
    Reports,
    is_alive,
    open_parent,
    open_reports,
    read_numbers,
    scripted_plan,
    wait_dead,
    wait_until,
)


@pytest.fixture
async def reports() -> AsyncIterator[Reports]:
    async with open_reports() as found:
        yield found


async def finish(child: Child, within_s: float = 5.0) -> int:
    """Wait for the exit and let go."""
    with trio.fail_after(within_s):
        code = await child.wait()
    child.close()
    return code


async def read_pids(reports: Reports, count: int) -> list[int]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reports.read, lambda _: None)
        await wait_until(lambda: len(reports.all_pids) >= count, 5)
        nursery.cancel_scope.cancel()
    return reports.all_pids


async def test_exit_code_and_output_in_order() -> None:
    child = start_child(scripted_plan("--print", "to stderr", "--lines", "2", "--crash-after", "0", "--exit-code", "7"))
    received: list[bytes] = []
    with trio.fail_after(5):
        await child.read_output(received.append)
    assert b"".join(received) == b"to stderr\nline 0\nline 1\n"
    assert await finish(child) == 7
    assert await child.wait() == 7, "a second wait gives the same"


async def test_ten_thousand_lines_in_a_burst_arrive_whole() -> None:
    child = start_child(scripted_plan("--lines", "10000", "--crash-after", "0"))
    received = bytearray()
    with trio.fail_after(10):
        await child.read_output(received.extend)
    await finish(child)
    assert received.decode().split("\n") == [*(f"line {number}" for number in range(10_000)), ""]


async def test_two_tasks_may_wait() -> None:
    child = start_child(scripted_plan("--crash-after", "0.1", "--exit-code", "3"))
    codes: list[int] = []

    async def wait() -> None:
        codes.append(await child.wait())

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(wait)
    child.close()
    assert codes == [3, 3]


async def test_cancelling_a_wait_leaves_the_process_running() -> None:
    child = start_child(scripted_plan())
    with trio.move_on_after(0.05):
        await child.wait()
    assert is_alive(child.pid)
    child.kill_group()
    assert await finish(child) == -signal.SIGKILL


async def test_terminate_and_kill_after_the_end_do_nothing() -> None:
    child = start_child(scripted_plan())
    child.terminate()
    assert await finish(child) == -signal.SIGTERM
    child.terminate()
    child.kill_group()


async def test_the_exit_takes_the_rest_of_the_group_with_it(reports: Reports) -> None:
    plan = scripted_plan("--report-fd", str(reports.fd), "--hold-pipe", pass_fds=(reports.fd,))
    child = start_child(plan)
    pids = await read_pids(reports, 2)
    child.terminate()
    assert await finish(child) == -signal.SIGTERM
    await wait_dead(pids, 1)


async def test_a_child_leads_its_own_session_and_reads_nothing() -> None:
    code = "import os, sys; print(os.getsid(0) == os.getpid(), repr(sys.stdin.read()))"
    child = start_child(LaunchPlan(argv=(sys.executable, "-c", code), env={}))
    received = bytearray()
    await child.read_output(received.extend)
    assert received == b"True ''\n"
    await finish(child)


async def test_no_other_descriptor_is_inherited() -> None:
    read_end, write_end = os.pipe()
    os.set_inheritable(read_end, True)
    child = start_child(
        LaunchPlan(argv=("/bin/sh", "-c", "ls /proc/self/fd | wc -l"), env=dict(os.environ), pass_fds=(write_end,))
    )
    received = bytearray()
    await child.read_output(received.extend)
    await finish(child)
    os.close(read_end)
    os.close(write_end)
    assert int(received) == 5, "three standard ones, the passed one, and that of ls itself"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("/no/such/program",), "No such file"),
        ((str(ROOT / "pyproject.toml"),), "Permission denied"),
        ((sys.executable, "a\0b"), "null byte"),
    ],
)
async def test_what_cannot_be_started_says_why_and_leaks_nothing(argv: tuple[str, ...], words: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(CannotStart, match=words):
        start_child(LaunchPlan(argv=argv, env={}))
    assert len(os.listdir("/proc/self/fd")) == before


async def test_starting_outside_the_main_thread_is_refused() -> None:
    with pytest.raises(InternalError, match="main thread"):
        await trio.to_thread.run_sync(start_child, scripted_plan())


PARENT = """
import subprocess, sys, os
child = subprocess.Popen([*sys.argv[1:], "--parent", str(os.getpid())], start_new_session=True)
print(child.pid, flush=True)
child.wait()
"""


async def test_a_child_dies_with_its_killed_parent() -> None:
    with open_parent("-c", PARENT, *scripted_plan("--lines", "1").argv) as parent:
        (pid,) = read_numbers(parent)
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"line 0\n", "it has bound itself to its parent before"
        assert is_alive(pid)
    await wait_dead([pid], 1)


async def test_a_child_whose_parent_is_gone_already_ends_at_once() -> None:
    child = start_child(scripted_plan("--parent", "1"))
    assert await finish(child) == -signal.SIGKILL


@pytest.mark.slow
async def test_a_child_outlives_the_threads_of_its_parent() -> None:
    """Trio lets an idle thread end after 10 s; a child forked in one would get its parent-death signal then."""
    plan = scripted_plan("--parent", str(os.getpid()))
    await trio.to_thread.run_sync(threading.get_ident)
    child = start_child(plan)
    await trio.sleep(12)
    assert is_alive(child.pid)
    child.kill_group()
    await finish(child)
