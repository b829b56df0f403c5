"""Servers of other projects on a box with GPUs: stand-ins for the driver's library, for vLLM and for the hub."""

import json
import shutil
import signal
import struct
import sys
import urllib.error
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.e2e.appliance_process import Appliance, eventually
from tests.fakes.hub import FakeHub, FakeRepo, serve_hub
from tests.helpers.fake_nvml import TABLE, GpuTable, h100_sxm, l4
from tests.helpers.pulling import TINY, tiny_files

SERVER = "tests.fakes.engines.fake_vllm"
GONE_S = 5.0
GIB = 1 << 30


@pytest.fixture
def table(tmp_path: Path) -> GpuTable:
    return GpuTable(tmp_path / "table")


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    hub = FakeHub(repos={"big/model": FakeRepo(tiny_files())})
    with serve_hub(hub):
        yield hub


@pytest.fixture
def box(binary: str | None, tmp_path: Path, nvml_library: Path, table: GpuTable, hub: FakeHub) -> Iterator[Appliance]:
    """Not started yet; nothing of it is left when the test ends."""
    env = {
        "LD_LIBRARY_PATH": str(nvml_library.parent),
        TABLE: str(table.path),
        "HF_ENDPOINT": hub.url,
        "HOME": str(tmp_path),
        "APPLIANCE_HARDWARE_SCAN_S": "0.1",
        "APPLIANCE_DRAIN_REQUEST_S": "2",
    }
    one = Appliance(binary, tmp_path / "state", env)
    yield one
    family = [*one.family(), *servers(one)] if one.process is not None else []
    if one.process is not None:
        one.stop()
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def flags(one: Appliance, *more: str) -> list[str]:
    """The stand-in in place of an installed vLLM; it carries the state dir, so that it can be found."""
    command = f"command={sys.executable} -m {SERVER} serve"
    args = ["--engine", "vllm", "--engine-arg", command, "--engine-arg", f"fake_mark={one.state_dir}"]
    return [*args, "--context-length", "512", *more]


def servers(one: Appliance) -> list[psutil.Process]:
    """The stand-in servers of this appliance that run."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if SERVER in words and str(one.state_dir) in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def gpus_of(one: Appliance) -> dict[int, str]:
    """By pid of a server, the GPUs that it can see."""
    found = {}
    for process in servers(one):
        with suppress(psutil.Error):
            found[process.pid] = process.environ()["CUDA_VISIBLE_DEVICES"]
    return found


def promised(one: Appliance) -> dict[str, int]:
    """By UUID, how many workers hold memory of a GPU."""
    return {gpu["uuid"]: len(gpu["workers"]) for gpu in one.status()["gpus"] if gpu["workers"]}


def make_model(folder: Path, size: int) -> Path:
    """A model folder whose weights claim a size and take no room on the disk."""
    shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns("*.gguf", "*.safetensors"))
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)
    return folder


@pytest.mark.slow
def test_four_replicas_of_a_hub_model(box: Appliance, table: GpuTable) -> None:
    h100_sxm(table).write()
    box.start(*flags(box, "--replicas", "4", "big/model"))
    assert box.models == ["big/model"]
    before = gpus_of(box)
    assert sorted(before.values()) == ["GPU-0", "GPU-1", "GPU-2", "GPU-3"]
    assert promised(box) == dict.fromkeys(before.values(), 1)
    assert box.chat("big/model", "hello", max_tokens=5)["usage"]["completion_tokens"] == 5

    targets = json.loads(box.get("/metrics/workers"))
    assert len({target["labels"]["worker"] for target in targets}) == 4
    assert "vllm:num_requests_running{" in box.get(targets[0]["labels"]["__metrics_path__"]).decode()

    victim, uuid = next(iter(before.items()))
    table.change(int(uuid[-1]), lost=15)
    eventually(lambda: victim not in gpus_of(box))
    assert box.chat("big/model", "others serve", max_tokens=5)["usage"]["completion_tokens"] == 5
    eventually(lambda: len(gpus_of(box)) == 4 and len(promised(box)) == 4)
    after = gpus_of(box)
    assert before.items() - after.items() == {(victim, uuid)}
    assert uuid not in after.values()
    assert uuid not in promised(box)

    box.cli("scale", "worker", "--replicas", "1")
    eventually(lambda: len(gpus_of(box)) == 1 and len(promised(box)) == 1)

    left = servers(box)
    box.stop(signal.SIGKILL)
    eventually(lambda: not servers(box), timeout=GONE_S)
    assert left


def test_a_model_larger_than_a_gpu_is_split_and_takes_adapters(box: Appliance, table: GpuTable, tmp_path: Path) -> None:
    h100_sxm(table).write()
    folder = make_model(tmp_path / "wide", 130 * GIB)
    box.start(*flags(box, "--engine-arg", "enable_lora=true", str(folder)))
    (server,) = servers(box)
    words = server.cmdline()
    assert words[words.index("--tensor-parallel-size") + 1] == "2"
    assert server.environ()["CUDA_VISIBLE_DEVICES"] == "GPU-0,GPU-1"
    assert set(promised(box)) == {"GPU-0", "GPU-1"}
    assert box.chat("wide", "hello", max_tokens=5)["usage"]["completion_tokens"] == 5
    check_adapters(box, server, tmp_path)


def check_adapters(box: Appliance, server: psutil.Process, folder: Path) -> None:
    """An adapter is a model name of its own, on workers that start later, too."""
    (folder / "poet").mkdir()
    assert "is loaded on 1 workers" in box.cli("lora", "load", "wide", "poet", str(folder / "poet"))
    assert "was loaded already" in box.cli("lora", "load", "wide", "poet", str(folder / "poet"))
    eventually(lambda: {one["id"] for one in json.loads(box.get("/v1/models"))["data"]} == {"wide", "poet"})
    assert box.chat("poet", "hello", max_tokens=5)["model"] == "poet"
    unknown = box.run("lora", "unload", "critic")
    assert (unknown.returncode, unknown.stderr) == (1, "error: no adapter 'critic' is loaded; loaded: poet\n")

    server.kill()
    eventually(lambda: [new for new in servers(box) if new.pid != server.pid])
    eventually(lambda: "wide ready" in " ".join(f"{m['name']} {m['phase']}" for m in box.status()["models"]))
    eventually(lambda: answers(box, "poet"))
    box.cli("lora", "unload", "poet")
    eventually(lambda: not answers(box, "poet"))
    assert answers(box, "wide")


def answers(box: Appliance, model: str) -> bool:
    try:
        return bool(box.chat(model, "hello", max_tokens=5)["choices"])
    except urllib.error.HTTPError:
        return False


def test_a_model_that_fits_nowhere_is_refused_with_the_figures(box: Appliance, table: GpuTable, tmp_path: Path) -> None:
    l4(l4(table)).write()
    folder = make_model(tmp_path / "wide", 130 * GIB)
    done = box.run("serve", "--port", "0", *flags(box, str(folder)))
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "error: cannot serve worker: needs 145.0 GiB on one or more GPUs that nobody else uses of compute "
        "capability 7.0 or newer; free: GPU 0 22.5 of 22.5, GPU 1 22.5 of 22.5"
    )
    assert not servers(box)


def test_a_hub_model_that_fits_nowhere_is_refused_before_it_is_fetched(
    box: Appliance, table: GpuTable, hub: FakeHub
) -> None:
    table.add(name="NVIDIA GeForce GT", total=2000).write()
    done = box.run("serve", "--port", "0", *flags(box, "big/model"))
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "error: cannot serve worker: needs 2.0 GiB on one or more GPUs that nobody else uses of compute "
        "capability 7.0 or newer; free: GPU 0 2.0 of 2.0"
    )
    assert not [path for path, _ in hub.requests if "/resolve/" in path]
