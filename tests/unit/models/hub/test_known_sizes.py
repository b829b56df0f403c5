"""What a hub said of a model's size is there before the model is."""

from pathlib import Path

from appliance.models.hub.choice import Wish
from appliance.models.hub.known_sizes import FOLDER, KnownSizes
from appliance.models.hub.reference import HubReference
from tests.fakes.hub import COMMIT, FakeHub, FakeRepo, serve_hub
from tests.helpers.pulling import Rig, tiny_files

TINY = HubReference(repo="acme/tiny")


def test_the_weights_of_a_model_that_is_only_looked_up_are_known(tmp_path: Path) -> None:
    hub = FakeHub(repos={"acme/tiny": FakeRepo(tiny_files())})
    with serve_hub(hub):
        pinned = Rig(tmp_path, hub.url).puller().resolve(TINY, Wish(form="folder"))
    assert KnownSizes(tmp_path).read(pinned) == len(hub.repos["acme/tiny"].files["model.safetensors"])
    assert KnownSizes(tmp_path).read(TINY.at("f" * 40)) == 0


def test_a_model_that_cannot_be_chosen_is_pinned_all_the_same(tmp_path: Path) -> None:
    hub = FakeHub(repos={"acme/tiny": FakeRepo({"readme.txt": b""})})
    with serve_hub(hub):
        pinned = Rig(tmp_path, hub.url).puller().resolve(TINY, Wish(form="folder"))
    assert pinned.revision == COMMIT
    assert KnownSizes(tmp_path).read(pinned) == 0


def test_a_damaged_note_is_none(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / f"acme--tiny@{COMMIT}.json").write_text('{"weights_bytes": "many"}')
    assert KnownSizes(tmp_path).read(TINY.at(COMMIT)) == 0
