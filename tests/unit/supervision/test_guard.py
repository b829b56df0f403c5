"""What the guard takes for a worker's own, and what it leaves alone."""

import os
import subprocess
import sys

from appliance.supervision.guard import Guard, Process, Ward, descend, read_process


def process(pid: int, *, parent: int = 1, group: int = 0, session: int = 0, start: int = 100) -> Process:
    return Process(pid, parent, group or pid, session or pid, start, zombie=False)


def test_the_group_and_the_session_belong_to_the_worker() -> None:
    ward = Ward(50, 100, "t.1")
    leader = process(50)
    assert ward.claims(leader, leader)
    assert ward.claims(process(51, group=50), leader)
    assert ward.claims(process(52, session=50), leader)
    assert ward.claims(process(52, session=50), None), "its leader is gone already"
    assert not ward.claims(process(53), leader)


def test_a_reused_number_is_left_alone() -> None:
    ward = Ward(50, 100, "t.1")
    stranger = process(50, start=999)
    assert not ward.claims(stranger, stranger)
    assert not ward.claims(process(51, group=50, start=1000), stranger)


def test_a_descendant_seen_before_is_known_by_its_start_time() -> None:
    ward = Ward(50, 100, "t.1")
    ward.kin = {70: 105}
    assert ward.claims(process(70, start=105), None)
    assert not ward.claims(process(70, start=106), None)


def test_descendants() -> None:
    processes = {p.pid: p for p in (process(2), process(3, parent=2), process(4, parent=3), process(5))}
    assert descend(processes, {2}) == {2, 3, 4}


def test_broken_lines_are_ignored() -> None:
    guard = Guard()
    for line in ("", "add", "add x 1 m", "add 5 y m", "end 77", "end x", "nonsense 1 2 3", "add 5 1 m extra"):
        guard.obey(line)
    assert guard.wards == {}
    guard.obey("add 999999 1 m")
    assert list(guard.wards) == [999999]


def test_a_process_is_read() -> None:
    own = read_process(os.getpid())
    assert own is not None
    assert (own.parent, own.session) == (os.getppid(), os.getsid(0))
    assert read_process(2**22 + 1) is None


def test_the_guard_module_loads_nothing_heavy() -> None:
    code = "import sys; import appliance.supervision.guard; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    ours = {name for name in loaded if name.startswith("appliance")}
    assert ours == {"appliance", "appliance.supervision", "appliance.supervision.guard"}
    assert not {"trio", "msgspec", "subprocess", "asyncio"} & set(loaded)
