"""CPU, memory and disk."""

from pathlib import Path

from appliance.hardware.machine import read_machine


def test_this_machine(tmp_path: Path) -> None:
    found = read_machine(tmp_path)
    assert found.cpus >= 1
    assert 0 < found.memory_available <= found.memory_total
    assert 0 < found.disk_free <= found.disk_total
    assert read_machine(tmp_path / "none").disk_total == 0
