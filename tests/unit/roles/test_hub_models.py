"""What is a hub model, what it is pinned to, and how its download is reported and stopped."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from appliance.core.errors import ModelUnavailable, UsageError
from appliance.core.settings import HubSettings
from appliance.roles.hub_models import ModelSource, fetch_model, hub_reference, model_source, pin_model
from tests.fakes.hub import COMMIT, FakeHub, FakeRepo, serve_hub
from tests.helpers.pulling import tiny_files

GGUF = "tiny-q8_0.gguf"
NAME = "acme/tiny-GGUF"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    hub = FakeHub(repos={NAME: FakeRepo(tiny_files(GGUF))})
    with serve_hub(hub):
        yield hub


@pytest.fixture
def source(hub: FakeHub, tmp_path: Path) -> ModelSource:
    return model_source(HubSettings(endpoint=hub.url), tmp_path / "models", {"HOME": str(tmp_path)})


def read(path: str) -> bytes:
    return Path(path).read_bytes()


async def fetch(source: ModelSource, engine: str, model: str) -> tuple[str, list[tuple[float, str]], list[str]]:
    reports: list[tuple[float, str]] = []
    lines: list[str] = []
    path = await fetch_model(engine, model, source, lambda *report: reports.append(report), lines.append)
    await trio.lowlevel.checkpoint()  # what the thread said last is still in trio's queue
    return path, reports, lines


@pytest.mark.parametrize(
    ("engine", "model"), [("mocker", NAME), ("auto", "tiny-demo"), ("auto", "/data/x"), ("auto", "m")]
)
def test_what_is_no_hub_model(engine: str, model: str) -> None:
    assert hub_reference(engine, model) is None


def test_a_folder_wins_over_a_hub_model_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub_reference("auto", "acme/tiny") is not None
    (tmp_path / "acme" / "tiny").mkdir(parents=True)
    assert hub_reference("auto", "acme/tiny") is None


def test_pinning_asks_the_hub_once_and_then_no_more(hub: FakeHub, source: ModelSource) -> None:
    assert pin_model("auto", f"{NAME}:Q8_0", source) == f"{NAME}@{COMMIT}:Q8_0"
    assert pin_model("auto", "/data/m.gguf", source) == "/data/m.gguf"
    hub.requests.clear()
    assert pin_model("auto", f"{NAME}@{COMMIT}", source) == f"{NAME}@{COMMIT}"
    assert hub.requests == []


async def test_a_model_is_fetched_and_reported(hub: FakeHub, source: ModelSource) -> None:
    path, reports, lines = await fetch(source, "llamacpp", NAME)
    assert read(path) == hub.repos[NAME].files[GGUF]
    assert lines[0].startswith(f"pulling {NAME}@{COMMIT}: ")
    assert (reports[0][0], reports[1][1]) == (-1.0, f"downloading {NAME}")
    assert await fetch(source, "llamacpp", NAME) == (path, [], [])


async def test_cancelling_returns_at_once_and_ends_the_thread(hub: FakeHub, source: ModelSource) -> None:
    hub.hold_after = 300_000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetch, source, "auto", NAME)
        await trio.to_thread.run_sync(hub.held.wait, 20)
        cancelled_at = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - cancelled_at < 2
    hub.release.set()
    with trio.fail_after(10):  # the thread gives its lock back with the next bytes that come
        path, _, lines = await fetch(source, "auto", NAME)
    assert read(path) == hub.repos[NAME].files[GGUF]
    assert len(hub.asked("/cdn/")) == 2, lines


async def test_nothing_is_fetched_that_the_embedded_engine_cannot_run(hub: FakeHub, source: ModelSource) -> None:
    hub.repos["acme/tiny"] = FakeRepo(tiny_files())
    with pytest.raises(ModelUnavailable, match=r"acme/tiny holds no GGUF file, .*choose another --engine"):
        await fetch(source, "auto", "acme/tiny")
    assert hub.asked("/resolve/") == []
    assert (await fetch(source, "vllm", "acme/tiny"))[0].endswith(COMMIT)


async def test_wrong_references_and_refusals_are_ours(source: ModelSource) -> None:
    with pytest.raises(UsageError, match="cannot use the revision"):
        await fetch(source, "auto", "acme/x@")
    with pytest.raises(ModelUnavailable, match="has no model acme/x"):
        await fetch(source, "auto", "acme/x")


def test_the_token_is_not_in_what_is_printed(tmp_path: Path) -> None:
    found = model_source(HubSettings(), tmp_path, {"HF_TOKEN": "hf_secret"})
    assert found.access.token == "hf_secret"
    assert "hf_secret" not in repr(found)
