"""What the one who runs the machine meets: signals, full disks, taken places, backups."""

import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.appliance_process import Appliance, appliance, eventually
from tests.e2e.started_process import command


def one_line(done: "subprocess.CompletedProcess[str]") -> str:
    """The only line of a failed start."""
    assert done.returncode == 1, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


class TestReload:
    """SIGHUP, and what systemd hears of it."""

    @pytest.fixture
    def manager(self, tmp_path: Path) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(str(tmp_path / "notify"))
            sock.settimeout(30)
            yield sock

    def until(self, manager: socket.socket, word: str) -> None:
        while word not in manager.recv(4096).decode():
            pass

    def test_settings_keys_and_states(self, binary: str | None, tmp_path: Path, manager: socket.socket) -> None:
        config, keys = tmp_path / "a.toml", tmp_path / "keys"
        config.write_text(f"[http]\napi_key_file = '{keys}'\n")
        keys.write_text("first\n")
        notices = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        one = Appliance(binary, tmp_path / "state", notices)
        try:
            one.start("--engine", "mocker", "m", "--config", str(config))
            self.until(manager, "READY=1")
            self.until(manager, "WATCHDOG=1")
            assert (self.ask(one, "first"), self.ask(one, "second")) == (200, 401)
            keys.write_text("second\n")
            config.write_text(config.read_text() + "idle_s = 3\nfrontend_processes = 2\n[requests]\nhold_s = 7\n")
            os.kill(one.pid, signal.SIGHUP)
            self.until(manager, "RELOADING=1")
            self.until(manager, "READY=1")
            eventually(lambda: (self.ask(one, "first"), self.ask(one, "second")) == (401, 200))
            reason = json.loads(one.cli("why", "appliance", "--json"))[-1]["reason"]
            assert "changed http.idle_s, requests.hold_s; front ends are replaced one by one" in reason
            assert "needs a restart: http.frontend_processes" in reason
            config.write_text("[http]\nprot = 1\n")
            os.kill(one.pid, signal.SIGHUP)
            self.until(manager, "READY=1")
            assert "http.port" in json.loads(one.cli("why", "appliance", "--json"))[-1]["reason"]
            assert self.ask(one, "second") == 200
        finally:
            assert one.stop() == 0
        self.until(manager, "STOPPING=1")

    def ask(self, one: Appliance, key: str) -> int:
        request = urllib.request.Request(one.url + "/v1/models", headers={"Authorization": f"Bearer {key}"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code


def test_backup_of_a_running_appliance_and_restore(binary: str | None, tmp_path: Path) -> None:
    file = tmp_path / "saved.tar.zst"
    with appliance(binary, tmp_path / "state", "--engine", "mocker", "m") as one:
        one.cli("keys", "create", "laptop")
        facts = json.loads(one.cli("backup", str(file), "--json"))
        assert facts["bytes"] == file.stat().st_size
        assert file.stat().st_mode & 0o777 == 0o600
        running = one.run("restore", str(file), "--force")
        assert "pid" in one_line(running)
        assert "--force" in one_line(one.run("backup", str(file)))
    assert "holds a state" in one_line(one.run("restore", str(file)))
    other = Appliance(binary, tmp_path / "other")
    other.cli("restore", str(file))
    with appliance(binary, tmp_path / "other") as again:
        assert again.models == ["m"]
        assert [key["name"] for key in json.loads(again.cli("keys", "list", "--json"))] == ["laptop"]
    file.write_bytes(file.read_bytes()[:-10])
    assert "damaged" in one_line(other.run("restore", str(file), "--force"))


def test_doctor_sees_the_running_appliance_and_a_taken_port(demo: Appliance, tmp_path: Path) -> None:
    found = json.loads(demo.cli("doctor", "--json"))
    assert [one["text"] for one in found if one["level"] == "fail"] == []
    assert any(f"pid {demo.status()['pid']}" in one["text"] for one in found)
    broken = tmp_path / "bad.toml"
    broken.write_text("[http]\nprot = 1\n")
    failed = demo.run("doctor", "--config", str(broken))
    assert failed.returncode == 1
    assert "http.port" in failed.stdout


def test_top_shows_once_what_runs(demo: Appliance) -> None:
    facts = json.loads(demo.cli("top", "--json", "--interval", "0.1"))
    assert facts["state"] == "ready"
    assert all(one["memory_bytes"] > 1_000_000 for one in (*facts["workers"], *facts["frontends"]))
    assert "tiny-demo" in demo.cli("top", "--once", "--interval", "0.1")


def test_a_state_dir_that_cannot_be_made(binary: str | None, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "file" in one_line(Appliance(binary, tmp_path / "file" / "state").run("serve", "--port", "0"))


def test_an_unreadable_model(binary: str | None, tmp_path: Path) -> None:
    bad = tmp_path / "folder.gguf"
    bad.mkdir()
    done = Appliance(binary, tmp_path / "state").run("serve", "--port", "0", str(bad), timeout=60)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: cannot serve")
    assert "Traceback" not in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that can be filled, and made read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)], capture_output=True).returncode:
        pytest.skip("needs root that may mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.root
def test_a_full_disk_at_the_start_is_one_line(binary: str | None, small_disk: Path) -> None:
    fill(small_disk)
    line = one_line(run_there(binary, small_disk))
    assert "space" in line or "full" in line


@pytest.mark.root
def test_a_read_only_disk_is_one_line(binary: str | None, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert "ead-only" in one_line(run_there(binary, small_disk))


@pytest.mark.root
def test_a_disk_that_fills_up_costs_no_answer(binary: str | None, small_disk: Path, tmp_path: Path) -> None:
    one = Appliance(binary, small_disk / "state", {"TMPDIR": str(tmp_path)})
    one.log = tmp_path / "log"
    one.start("--engine", "mocker", "m")
    try:
        fill(small_disk)
        assert one.chat("m", "x", max_tokens=3)["usage"]["completion_tokens"] == 3
        refused = one.run("keys", "create", "x" * 90)
        assert refused.returncode in (0, 1)
        assert refused.returncode == 0 or "full" in one_line(refused)
        (small_disk / "ballast").unlink()
        one.cli("keys", "create", "laptop")
    finally:
        assert one.stop() == 0


def fill(disk: Path) -> None:
    with (disk / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return


def run_there(binary: str | None, disk: Path) -> "subprocess.CompletedProcess[str]":
    one = Appliance(binary, disk / "state", {"TMPDIR": str(disk.parent)})
    return one.run("serve", "--port", "0", "--engine", "mocker", "m", timeout=60)


def test_logs_follow_a_replica_that_starts_later(binary: str | None, tmp_path: Path) -> None:
    with appliance(binary, tmp_path / "state", "--engine", "mocker", "m") as one:
        argv = [*command(binary), "logs", "--state-dir", str(one.state_dir)]
        with subprocess.Popen([*argv, "-f", "worker"], env=one.env, stdout=subprocess.PIPE, text=True) as following:
            assert following.stdout is not None
            assert "serve-worker-0" in following.stdout.readline()
            one.cli("scale", "worker", "--replicas", "2")
            assert any("serve-worker-1" in line for line in following.stdout)
            following.send_signal(signal.SIGINT)
            assert following.wait(20) == 130
        assert "ready" in one.cli("logs", "supervisor")
