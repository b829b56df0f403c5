"""What `--engine auto` means on a box with an installed engine, and without."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.engines.managed.catalogue import write_note
from appliance.models.demo import DEMO_NAME
from appliance.models.hub.remote import HubAccess
from appliance.roles.auto_engine import chosen_engine
from appliance.roles.hub_models import ModelSource
from tests.fakes.hub import FakeHub, FakeRepo, serve_hub
from tests.helpers.pulling import TINY, tiny_files

FILES = {"acme/safe": tiny_files(), "acme/gguf": tiny_files("tiny-q8_0.gguf")}


@pytest.fixture
def source(tmp_path: Path) -> Iterator[ModelSource]:
    hub = FakeHub(repos={name: FakeRepo(files) for name, files in FILES.items()})
    with serve_hub(hub):
        yield ModelSource(root=tmp_path / "models", access=HubAccess(endpoint=hub.url))


def install(engines: Path, engine: str) -> None:
    (engines / f"{engine}-1.0").mkdir(parents=True)
    write_note(engines / f"{engine}-1.0", engine, "1.0")


def make_folder(folder: Path) -> str:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return str(folder)


def test_safetensors_go_to_an_installed_engine(tmp_path: Path, source: ModelSource) -> None:
    folder = make_folder(tmp_path / "safe")
    assert chosen_engine("auto", folder, source, tmp_path / "engines") == "auto"
    install(tmp_path / "engines", "sglang")
    assert chosen_engine("auto", folder, source, tmp_path / "engines") == "sglang"
    install(tmp_path / "engines", "vllm")
    assert chosen_engine("auto", folder, source, tmp_path / "engines") == "vllm"
    assert chosen_engine("auto", "acme/safe", source, tmp_path / "engines") == "vllm"


@pytest.mark.parametrize("model", [str(TINY / "tiny-q8_0.gguf"), "acme/gguf", DEMO_NAME])
def test_gguf_stays_with_the_embedded_engine(model: str, tmp_path: Path, source: ModelSource) -> None:
    install(tmp_path / "engines", "vllm")
    assert chosen_engine("auto", model, source, tmp_path / "engines") == "auto"


def test_what_was_asked_for_stays(tmp_path: Path, source: ModelSource) -> None:
    install(tmp_path / "engines", "vllm")
    assert chosen_engine("sglang", make_folder(tmp_path / "safe"), source, tmp_path / "engines") == "sglang"
