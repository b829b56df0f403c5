"""One appliance per state dir."""

import os
import select
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from appliance.core.errors import StateUnavailable
from appliance.state.lock import hold_lock

ROOT = Path(__file__).parent.parent.parent.parent
HOLDER = """
import sys
from pathlib import Path
from appliance.state.lock import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
HOLDER_WITH_CHILD = """
import subprocess, sys
from pathlib import Path
from appliance.state.lock import hold_lock
with hold_lock(Path(sys.argv[1])):
    child = "print('child runs', flush=True); input()"
    subprocess.run([sys.executable, "-c", child], close_fds=False)
"""


def test_second_holder_is_refused_and_told_the_pid_until_the_first_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / "state" / "appliance.lock"
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StateUnavailable) as caught, hold_lock(lock):
            pass
        assert f"another appliance with pid {holder.pid} is using it" in str(caught.value)
        holder.kill()
        holder.wait()
        with hold_lock(lock):
            pass


def test_lock_is_free_after_the_block_and_after_an_error(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with pytest.raises(KeyError), hold_lock(lock):
        raise KeyError
    with hold_lock(lock), pytest.raises(StateUnavailable, match="another appliance"), hold_lock(lock):
        pass
    assert lock.read_text() == ""


def test_lock_is_free_although_a_child_has_not_yet_closed_its_copy(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with ExitStack() as leaving:
        with hold_lock(lock):
            leaving.callback(os.close, os.dup(descriptor_of(lock)))  # what a fork does
        with hold_lock(lock):
            pass


def descriptor_of(path: Path) -> int:
    """The number under which this process has the file open."""
    links = {int(link.name): os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    return next(number for number, target in links.items() if target == str(path))


def test_child_of_a_killed_holder_does_not_keep_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER_WITH_CHILD, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "child runs\n"
        holder.kill()
        holder.wait()
        with hold_lock(lock):
            assert not select.select([holder.stdout], [], [], 0)[0], "the child has gone, this test proves nothing"


def test_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = pytest.raises(StateUnavailable, match=r"^cannot use the state folder .*file/state: ")
    with refused as caught, hold_lock(tmp_path / "file" / "state" / "lock"):
        pass
    assert "\n" not in str(caught.value)
