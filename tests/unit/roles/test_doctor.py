"""The checks of `doctor`: well, odd and broken machines that tests make up."""

import resource
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.core.gpus import Gpu, GpuFault, GpuHealth, GpuScan
from appliance.core.paths import resolve_paths
from appliance.core.settings import HttpSettings, Settings
from appliance.roles.doctor import CHECKS, examine
from appliance.roles.doctor.finding import Finding, Scene, ok
from appliance.roles.doctor.gpu_checks import judge
from appliance.roles.doctor.host_checks import check_clock, check_shared_memory
from appliance.roles.doctor.instance_checks import check_instance, check_port, check_service
from appliance.roles.doctor.state_checks import check_database, check_settings, check_state_dir, file_system

Make = Callable[..., Scene]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a scene; members may be replaced."""

    def scene(**more: Any) -> Scene:
        paths = resolve_paths(str(tmp_path / "state"), {"TMPDIR": str(tmp_path)})
        facts: dict[str, Any] = {"paths": paths, "settings": Settings(http=HttpSettings(port=0))}
        return Scene(**(facts | {"root": tmp_path / "root"} | more))

    return scene


def levels(found: Iterable[Finding]) -> list[str]:
    return [finding.level for finding in found]


def running(**more: Any) -> dict[str, Any]:
    facts = {"url": "http://x", "ready": True, "draining": False, "workers": [], "frontends": [], "pid": 7}
    return facts | {"started_at": time.time() - 100, "uptime_s": 100.0} | more


def test_every_bad_finding_has_a_cure_and_none_breaks(make: Make) -> None:
    found = list(examine(make(root=Path("/"))))
    assert {name for name, _ in found} == set(CHECKS)
    assert [finding for _, finding in found if finding.level != "ok" and not finding.cure] == []
    assert [finding.text for _, finding in found if "could not be looked at" in finding.text] == []


def test_a_check_that_breaks_does_not_stop_the_others(make: Make) -> None:
    def broken(scene: Scene) -> Iterator[Finding]:
        raise RuntimeError("no idea")
        yield ok("")

    found = list(examine(make(), {"one": broken, "two": lambda scene: [ok("fine")]}))
    assert [(name, finding.level) for name, finding in found] == [("one", "fail"), ("two", "ok")]


def test_settings(make: Make) -> None:
    assert levels(check_settings(make(warnings=("odd",)))) == ["warn", "ok"]
    (finding,) = check_settings(make(settings=None, settings_error="unknown setting 'x'"))
    assert (finding.level, finding.text) == ("fail", "unknown setting 'x'")


def test_state_dir(make: Make, tmp_path: Path) -> None:
    first = next(iter(check_state_dir(make())))
    assert (first.level, "will be made" in first.text) == ("ok", True)
    (tmp_path / "state").mkdir(mode=0o755)
    assert next(iter(check_state_dir(make()))).level == "warn"
    (tmp_path / "state").chmod(0o700)
    assert next(iter(check_state_dir(make()))).level == "ok"


def test_file_systems(make: Make, tmp_path: Path) -> None:
    (tmp_path / "root/proc/self").mkdir(parents=True)
    mounts = tmp_path / "root/proc/self/mounts"
    for kind, level in (("ext4", "ok"), ("nfs4", "warn"), ("tmpfs", "warn")):
        mounts.write_text(f"none / overlay rw 0 0\nserver:/x {tmp_path} {kind} rw 0 0\n")
        assert file_system(tmp_path / "state", tmp_path / "root") == kind
        assert levels(check_state_dir(make()))[-1] == level
    mounts.unlink()
    assert "not known" in list(check_state_dir(make()))[-1].text


def test_database(make: Make, tmp_path: Path) -> None:
    assert levels(check_database(make())) == ["ok"]
    (tmp_path / "state").mkdir()
    database = tmp_path / "state/appliance.db"
    database.write_bytes(b"SQLite format 3\0 and more")
    (tmp_path / "state/appliance.db.m0001.copy").touch()
    (finding,) = check_database(make())
    assert (finding.level, "m0001" in finding.text) == ("ok", True)
    database.write_bytes(b"something else entirely")
    (finding,) = check_database(make())
    assert (finding.level, "restore" in finding.cure) == ("fail", True)


def test_port(make: Make) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = Settings(http=HttpSettings(port=port))
        (finding,) = check_port(make(settings=settings))
        assert finding.level == "fail"
        assert "--port" in finding.cure
        assert levels(check_port(make(settings=settings, status=running()))) == ["ok"]
    assert levels(check_port(make(settings=settings))) == ["ok"]
    (finding,) = check_port(make(settings=Settings(http=HttpSettings(host="192.0.2.1"))))
    assert (finding.level, "--host" in finding.cure) == ("fail", True)


def test_service(make: Make, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "run/systemd/system").mkdir(parents=True)
    unit = root / "usr/lib/systemd/system/dynamo-appliance.service"
    assert "not installed" in next(iter(check_service(make()))).text
    unit.parent.mkdir(parents=True)
    unit.touch()
    assert "not enabled, not active" in next(iter(check_service(make()))).text
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / unit.name).symlink_to(unit)
    assert levels(check_service(make())) == ["warn"]
    (root / "run/systemd/units").mkdir()
    (root / "run/systemd/units/invocation:dynamo-appliance.service").symlink_to("0123")
    assert levels(check_service(make())) == ["ok"]


def test_instance(make: Make) -> None:
    assert levels(check_instance(make(status_error="none"))) == ["ok"]
    assert levels(check_instance(make(status=running(ready=False)))) == ["warn"]
    workers = [{"id": "w", "phase": "failed", "reason": "no memory"}, {"id": "v", "phase": "backoff", "reason": "x"}]
    found = list(check_instance(make(status=running(workers=workers))))
    assert levels(found) == ["ok", "fail", "warn"]
    assert found[1].cure == "dynamo-appliance logs w"


def test_a_jump_of_the_clock_is_seen(make: Make) -> None:
    assert levels(check_clock(make())) == levels(check_clock(make(status=running()))) == ["ok"]
    (finding,) = check_clock(make(status=running(started_at=time.time() - 4000)))
    assert finding.level == "warn"
    assert "+3900 s" in finding.text


def test_shared_memory(make: Make, tmp_path: Path) -> None:
    assert levels(check_shared_memory(make())) == ["warn"]
    assert len(levels(check_shared_memory(make(root=Path("/"))))) == 1


def test_limits_name_what_to_raise(make: Make) -> None:
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = [finding for name, finding in examine(make(), {"limits": CHECKS["limits"]})]
    assert (found[0].level == "warn") == (files != resource.RLIM_INFINITY and files < 65_536)


def test_gpus() -> None:
    assert levels(judge(GpuScan(fault=GpuFault.NO_GPU, message="this machine has no NVIDIA GPU"))) == ["ok"]
    (finding,) = judge(GpuScan(fault=GpuFault.NO_DRIVER, message="no driver; install one"))
    assert (finding.level, finding.text, finding.cure) == ("fail", "no driver", "install one")
    gpu = Gpu(index=0, uuid="GPU-0", name="H100", memory_total=80_000_000_000)
    lost = Gpu(index=1, uuid="GPU-1", name="H100", memory_total=8, health=GpuHealth.LOST, reason="reset it")
    scan = GpuScan(gpus=(gpu, lost), driver_version="580.1", cuda_version=(13, 0))
    found = list(judge(scan))
    assert levels(found) == ["ok", "ok", "fail"]
    assert "80.0 GB" in found[1].text
