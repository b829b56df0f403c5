"""Models by hub id, from a hub on loopback: pulled by the command line and by workers, through kills and refusals."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.appliance_process import Appliance, eventually, refusal
from tests.e2e.started_process import command
from tests.fakes.hub import COMMIT, FakeHub, FakeRepo, serve_hub
from tests.helpers.pulling import tiny_files

GGUF = "tiny-q8_0.gguf"
NAME = "acme/tiny-GGUF"
TOKEN = "hf_of_the_test"
HELD_AT = 300_000
FEW_BYTES = 4096  # that may lie in buffers of a killed process
GRAPH = """
apiVersion: nvidia.com/v1beta1
kind: DynamoGraphDeployment
metadata: {name: lost}
spec:
  components:
  - name: worker
    type: worker
    podTemplate: {spec: {containers: [{name: main, args: [worker, --model, acme/nowhere]}]}}
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    hub = FakeHub(repos={NAME: FakeRepo(tiny_files(GGUF), token=TOKEN)})
    with serve_hub(hub):
        yield hub


@pytest.fixture
def box(hub: FakeHub, binary: str | None, tmp_path: Path) -> Iterator[Appliance]:
    """Not started; nothing of it is left when the test ends."""
    home = {"HOME": str(tmp_path), "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}
    box = Appliance(binary, tmp_path / "state", home)
    yield box
    for process in box.family() if box.process is not None else ():
        process.kill()


def start_pull(box: Appliance) -> subprocess.Popen[bytes]:
    argv = [*command(box.binary), "models", "--state-dir", str(box.state_dir), "pull", NAME]
    return subprocess.Popen(argv, env=box.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def resumed_at(hub: FakeHub) -> int:
    """Where the last download began."""
    return int(hub.asked("/cdn/")[-1].get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))


@pytest.mark.parametrize(("ending", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_pull_goes_on_after_its_end(hub: FakeHub, box: Appliance, ending: signal.Signals, code: int) -> None:
    hub.hold_after = HELD_AT
    pull = start_pull(box)
    assert hub.held.wait(30)
    part = box.state_dir / "models" / ".partial" / "acme--tiny-GGUF" / COMMIT / f"{GGUF}.part"
    eventually(lambda: part.exists() and part.stat().st_size >= HELD_AT - 2 * FEW_BYTES)
    pull.send_signal(ending)
    _, errors = pull.communicate(timeout=30)
    if ending is not signal.SIGKILL or box.binary is None:
        assert pull.returncode == code
    assert ending is signal.SIGKILL or b"the next pull goes on with it" in errors
    hub.release.set()
    hub.hold_after = None
    lines = [json.loads(line) for line in box.cli("models", "pull", NAME, "--json").splitlines()]
    assert resumed_at(hub) >= HELD_AT - 2 * FEW_BYTES
    assert lines[-1]["event"] == "done"
    assert lines[-1]["fetched_bytes"] == len(hub.repos[NAME].files[GGUF]) - resumed_at(hub)
    assert Path(lines[-1]["path"]).read_bytes() == hub.repos[NAME].files[GGUF]


def test_a_pull_goes_through_the_proxy_of_the_environment(hub: FakeHub, box: Appliance) -> None:
    box.extra_env |= {"HF_ENDPOINT": "http://hub.invalid", "HTTP_PROXY": hub.url}
    assert f"{NAME}@{COMMIT} is here" in box.cli("models", "pull", NAME)
    assert hub.requests[0][0] == f"http://hub.invalid/api/models/{NAME}?blobs=true"


def test_a_chat_without_an_appliance_keeps_what_it_fetched(hub: FakeHub, box: Appliance) -> None:
    answer = box.cli("chat", NAME, "--prompt", "hi", timeout=120)
    assert answer.strip()
    assert "acme" not in answer  # the download is told on stderr
    box.extra_env |= {"HF_HUB_OFFLINE": "1"}
    assert box.cli("chat", NAME, "--prompt", "hi", timeout=120) == answer


@pytest.mark.slow
def test_a_hub_model_is_served_and_kept(hub: FakeHub, box: Appliance, tmp_path: Path) -> None:
    hub.hold_after = HELD_AT
    box.start(NAME, "--hold-s", "1", wait=False)
    try:
        assert hub.held.wait(60)
        url = eventually(lambda: json.loads(box.run("status", "--json").stdout or "{}").get("url"))
        box.port = int(url.rpartition(":")[2].partition("/")[0])
        _check_waiting_client(box)
        _check_worker_dies_while_pulling(hub, box)
        box.wait_ready()
        assert box.models == [NAME]
        assert box.chat(NAME, "hi", max_tokens=4)["choices"][0]["message"]["content"]
        assert f"{NAME}@{COMMIT}" in box.cli("get", "dgd", "serve", "-o", "yaml")
        refused = box.run("models", "rm", NAME)
        assert (refused.returncode, f"cannot remove {NAME}@{COMMIT}: it is used by dgd/serve" in refused.stderr) == (
            1,
            True,
        )
        _check_missing_model_fails_once(box, tmp_path)
    finally:
        box.stop()
    assert TOKEN not in box.tail()
    _check_it_starts_again_without_a_hub(hub, box)


def _check_waiting_client(box: Appliance) -> None:
    status, body = eventually(lambda: refusal(lambda: box.chat(NAME, "hi")))
    assert status == 503
    assert f"downloading {NAME}" in body["error"]["message"]
    assert "% done" in body["error"]["message"]


def _check_worker_dies_while_pulling(hub: FakeHub, box: Appliance) -> None:
    for worker in box.workers():
        worker.kill()
    asked = len(hub.asked("/cdn/"))
    hub.release.set()
    eventually(lambda: len(hub.asked("/cdn/")) > asked)
    assert resumed_at(hub) >= HELD_AT - 2 * FEW_BYTES


def _check_missing_model_fails_once(box: Appliance, tmp_path: Path) -> None:
    file = tmp_path / "lost.yaml"
    file.write_text(GRAPH)
    box.cli("apply", "-f", str(file))

    def failed() -> list[dict[str, object]]:
        return [one for one in box.status()["workers"] if one["phase"] == "failed"]

    worker = eventually(failed, every=0.3)[0]
    assert "has no model acme/nowhere" in str(worker["reason"])
    assert worker["restarts"] == 0
    box.cli("delete", "dgd", "lost")


def _check_it_starts_again_without_a_hub(hub: FakeHub, box: Appliance) -> None:
    hub.requests.clear()
    again = Appliance(box.binary, box.state_dir, {**box.extra_env, "HF_HUB_OFFLINE": "1"})
    again.start()
    try:
        assert again.models == [NAME]
    finally:
        again.stop()
    assert hub.requests == []


@pytest.mark.parametrize(
    ("model", "extra", "line"),
    [
        ("acme/nowhere", {}, "has no model acme/nowhere"),
        (NAME, {"HF_HUB_OFFLINE": "1"}, f"{NAME} does not lie here, and the hub must not be asked"),
    ],
)
def test_serving_what_cannot_be_had_ends_with_one_line(
    hub: FakeHub, box: Appliance, model: str, extra: dict[str, str], line: str
) -> None:
    box.extra_env |= extra
    done = box.run("serve", "--port", "0", model, timeout=60)
    assert done.returncode == 1
    errors = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1
    assert line in errors[0]
    assert "Traceback" not in done.stderr
