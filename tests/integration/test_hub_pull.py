"""Pulling from a hub over real sockets: what arrives, what is refused, and what a fault leaves behind."""

import errno
import threading
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.core.errors import HubUnreachable, ModelUnavailable
from appliance.models.facts import describe_model
from appliance.models.hub.choice import Wish
from appliance.models.hub.pull import Pulled
from appliance.models.hub.reference import HubReference, parse_reference
from tests.fakes.hub import COMMIT, FakeHub, FakeRepo, Fault, serve_hub
from tests.helpers.pulling import Rig, tiny_files

GGUF = "tiny-q8_0.gguf"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    files = tiny_files(GGUF)
    hub = FakeHub(repos={"acme/tiny-GGUF": FakeRepo(files), "acme/tiny": FakeRepo(tiny_files())})
    with serve_hub(hub):
        yield hub


@pytest.fixture
def rig(hub: FakeHub, tmp_path: Path) -> Rig:
    (tmp_path / "models").mkdir()
    return Rig(tmp_path / "models", hub.url)


def reference(text: str) -> HubReference:
    found = parse_reference(text)
    assert found is not None
    return found


def pull(rig: Rig, text: str, *, refresh: bool = False, offline: bool = False, **wish: object) -> Pulled:
    return rig.puller(offline=offline).pull(reference(text), Wish(**wish), refresh=refresh)  # type: ignore[arg-type]  # fields of Wish


def leftovers(rig: Rig) -> list[Path]:
    """Files of any model, whole or not, but for locks."""
    return [path for path in rig.root.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_gguf_model_arrives_and_loads(hub: FakeHub, rig: Rig) -> None:
    pulled = pull(rig, "acme/tiny-GGUF")
    assert pulled.path.read_bytes() == hub.repos["acme/tiny-GGUF"].files[GGUF]
    assert pulled.path.relative_to(rig.root) == Path("acme--tiny-GGUF", COMMIT, GGUF)
    assert describe_model(pulled.path).architecture == "llama"
    assert rig.fractions[-1] == 1.0
    assert rig.store.partials() == {}


def test_a_folder_of_safetensors_arrives_without_anything_else(hub: FakeHub, rig: Rig) -> None:
    hub.repos["acme/tiny"].files |= {"modeling.py": b"print()", "pytorch_model.bin": b"x", "README.md": b"#"}
    pulled = pull(rig, "acme/tiny")
    assert describe_model(pulled.path).size_bytes > 0
    assert {path.name for path in pulled.path.iterdir()} == {*tiny_files(), ".manifest.json"}


def test_what_lies_here_needs_no_hub(hub: FakeHub, rig: Rig) -> None:
    first = pull(rig, "acme/tiny-GGUF")
    hub.requests.clear()
    for text in ("acme/tiny-GGUF", f"acme/tiny-GGUF@{COMMIT}", "acme/tiny-GGUF@main", "acme/tiny-GGUF:Q8_0"):
        assert pull(rig, text, offline=True).path == first.path
    assert pull(rig, "acme/tiny-GGUF").fetched_bytes == 0
    assert hub.requests == []


def test_offline_without_the_model_is_one_clear_line(rig: Rig) -> None:
    with pytest.raises(ModelUnavailable, match=r"^acme/other does not lie here, .*offline"):
        pull(rig, "acme/other", offline=True)


def test_a_branch_is_followed_only_when_asked(hub: FakeHub, rig: Rig) -> None:
    pull(rig, "acme/tiny-GGUF")
    hub.repos["acme/tiny-GGUF"].commit = "f" * 40
    assert pull(rig, "acme/tiny-GGUF").model.manifest.commit == COMMIT
    newer = pull(rig, "acme/tiny-GGUF", refresh=True)
    assert newer.model.manifest.commit == "f" * 40
    assert len(rig.store.models()) == 2


def test_cut_connections_are_resumed_with_ranges(hub: FakeHub, rig: Rig) -> None:
    size = len(hub.repos["acme/tiny-GGUF"].files[GGUF])
    third = size // 3
    hub.faults[GGUF] = Fault(cut_after=third, times=2)
    assert pull(rig, "acme/tiny-GGUF").path.stat().st_size == size
    assert [headers.get("range") for headers in hub.asked("/cdn/")] == [None, f"bytes={third}-", f"bytes={2 * third}-"]
    assert "trying again" in rig.lines[-1]


def test_a_hub_without_ranges_starts_again(hub: FakeHub, rig: Rig) -> None:
    hub.ranges = False
    hub.faults[GGUF] = Fault(cut_after=1000, times=1)
    pull(rig, "acme/tiny-GGUF")
    assert rig.fractions[-1] == 1.0


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_hub_is_asked_again(hub: FakeHub, rig: Rig, status: int) -> None:
    hub.faults[GGUF] = Fault(status=status, retry_after=7, times=2)
    pull(rig, "acme/tiny-GGUF")
    assert rig.pauses == [7.0, 7.0]


def test_a_hub_that_stays_broken_ends_the_pull(hub: FakeHub, rig: Rig) -> None:
    hub.faults[GGUF] = Fault(status=502, times=1000)
    with pytest.raises(HubUnreachable, match="HTTP 502"):
        pull(rig, "acme/tiny-GGUF")
    assert rig.pauses == [1, 2, 4, 8, 16]


def test_parts_of_a_killed_pull_are_used(hub: FakeHub, rig: Rig) -> None:
    data = hub.repos["acme/tiny-GGUF"].files[GGUF]
    part = rig.store.partial("acme/tiny-GGUF", COMMIT) / f"{GGUF}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(data[:5000])
    pulled = pull(rig, "acme/tiny-GGUF")
    assert pulled.fetched_bytes == len(data) - 5000
    assert hub.asked("/cdn/")[0]["range"] == "bytes=5000-"


def stop_in_the_middle_of_q8(hub: FakeHub, rig: Rig) -> None:
    """With two quantisations there, and room for both."""
    data = hub.repos["acme/tiny-GGUF"].files[GGUF]
    hub.repos["acme/tiny-GGUF"].files = {"m-Q8_0.gguf": data, "m-Q4_0.gguf": data[:1000]}
    hub.faults["m-Q8_0.gguf"] = Fault(cut_after=1000, times=1)
    rig.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        pull(rig, "acme/tiny-GGUF", room_bytes=10**9)
    rig.interrupt = False


def test_a_stopped_pull_goes_on_with_the_file_it_had_chosen(hub: FakeHub, rig: Rig) -> None:
    stop_in_the_middle_of_q8(hub, rig)
    assert pull(rig, "acme/tiny-GGUF", room_bytes=65 << 20).main == "m-Q8_0.gguf"
    assert pull(rig, "acme/tiny-GGUF", room_bytes=65 << 20, refresh=True).main == "m-Q8_0.gguf"


def test_parts_of_another_file_stay(hub: FakeHub, rig: Rig) -> None:
    stop_in_the_middle_of_q8(hub, rig)
    assert pull(rig, "acme/tiny-GGUF:Q4_0").main == "m-Q4_0.gguf"
    assert rig.store.partials() == {f"acme/tiny-GGUF@{COMMIT}": 1000}
    assert pull(rig, "acme/tiny-GGUF:Q8_0").main == "m-Q8_0.gguf"
    assert rig.store.partials() == {}
    assert sorted(rig.store.models()[0].manifest.models) == ["m-Q4_0.gguf", "m-Q8_0.gguf"]


@pytest.mark.parametrize("left", [b"wrong" * 100, b"x" * 10_000_000], ids=["wrong", "too-long"])
def test_wrong_parts_are_thrown_away(hub: FakeHub, rig: Rig, left: bytes) -> None:
    part = rig.store.partial("acme/tiny-GGUF", COMMIT) / f"{GGUF}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(left)
    assert pull(rig, "acme/tiny-GGUF").path.read_bytes() == hub.repos["acme/tiny-GGUF"].files[GGUF]


@pytest.mark.parametrize(("repo", "file"), [("acme/tiny-GGUF", GGUF), ("acme/tiny", "config.json")])
def test_wrong_bytes_are_refused_and_nothing_appears(hub: FakeHub, rig: Rig, repo: str, file: str) -> None:
    hub.corrupt.add(file)
    with pytest.raises(ModelUnavailable, match=f"{file} of {repo} came with other bytes"):
        pull(rig, repo)
    assert rig.store.models() == []
    assert [path for path in leftovers(rig) if path.suffix in (".gguf", ".part", ".json") and path.name[0] != "."] == []


def test_a_whole_file_that_no_manifest_lists_is_verified_and_kept(hub: FakeHub, rig: Rig) -> None:
    folder = rig.store.folder("acme/tiny-GGUF", COMMIT)
    folder.mkdir(parents=True)
    (folder / GGUF).write_bytes(hub.repos["acme/tiny-GGUF"].files[GGUF])
    assert pull(rig, "acme/tiny-GGUF").fetched_bytes == 0
    assert hub.asked("/resolve/") == []


def test_a_file_that_vanished_is_fetched_again(hub: FakeHub, rig: Rig) -> None:
    pull(rig, "acme/tiny-GGUF").path.unlink()
    assert pull(rig, "acme/tiny-GGUF").path.exists()


def test_the_token_goes_to_the_hub_and_nowhere_else(hub: FakeHub, rig: Rig) -> None:
    hub.repos["acme/tiny-GGUF"].token = "hf_secret"
    rig.token = "hf_secret"
    pull(rig, "acme/tiny-GGUF")
    assert {headers.get("authorization") for headers in hub.asked("/api/")} == {"Bearer hf_secret"}
    assert [headers.get("authorization") for headers in hub.asked("/cdn/")] == [None]


@pytest.mark.parametrize(
    ("token", "needed", "gated", "text"),
    [
        (None, "good", True, "is gated: accept its terms at .*acme/tiny-GGUF, then set HF_TOKEN"),
        ("bad", "good", True, "is gated: accept its terms .* with the account of your token"),
        (None, "good", False, "has no model acme/tiny-GGUF; if it is private, set HF_TOKEN"),
        ("bad", "good", False, "refuses the token"),
    ],
)
def test_closed_models_say_what_to_do(
    hub: FakeHub, rig: Rig, token: str | None, needed: str, gated: bool, text: str
) -> None:
    hub.repos["acme/tiny-GGUF"].token, hub.repos["acme/tiny-GGUF"].gated = needed, gated
    rig.token = token
    with pytest.raises(ModelUnavailable, match=text) as caught:
        pull(rig, "acme/tiny-GGUF")
    assert "\n" not in str(caught.value)
    assert "good" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("acme/nothing", "has no model acme/nothing"),
        ("acme/tiny-GGUF@v9", "has no revision v9"),
        ("acme/tiny-GGUF:Q2_K", f"has no GGUF file Q2_K; it has {GGUF}"),
    ],
)
def test_what_does_not_exist_is_named(rig: Rig, text: str, why: str) -> None:
    with pytest.raises(ModelUnavailable, match=why):
        pull(rig, text)


def test_no_hub_at_all_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    rig = Rig(tmp_path / "models", "http://127.0.0.1:9")
    with pytest.raises(HubUnreachable, match=r"cannot reach http://127.0.0.1:9 for acme/tiny: "):
        pull(rig, "acme/tiny")


def test_a_server_that_is_no_hub_is_said_in_one_line(hub: FakeHub, rig: Rig) -> None:
    hub.repos["acme/tiny"].commit = "no commit"
    with pytest.raises(ModelUnavailable, match="does not say which commit"):
        pull(rig, "acme/tiny")


def test_remote_code_is_refused_before_the_weights(hub: FakeHub, rig: Rig) -> None:
    config = hub.repos["acme/tiny"].files["config.json"]
    hub.repos["acme/tiny"].files["config.json"] = config.rstrip().removesuffix(b"}") + b', "auto_map": {"A": "m.A"}}'
    with pytest.raises(ModelUnavailable, match=r"wants to run Python code of its own \(auto_map in config.json\)"):
        pull(rig, "acme/tiny")
    assert hub.asked("safetensors") == []
    assert pull(rig, "acme/tiny", allow_remote_code=True).path.is_dir()
    with pytest.raises(ModelUnavailable, match="auto_map"):
        pull(rig, "acme/tiny", offline=True)


def test_paths_that_lead_out_of_the_folder_are_never_written(hub: FakeHub, rig: Rig) -> None:
    hub.repos["acme/tiny"].files |= {"../../evil.json": b"{}", "/abs.json": b"{}"}
    pull(rig, "acme/tiny")
    assert list(rig.root.parent.rglob("*evil*")) == []


def test_a_full_disk_is_seen_before_the_first_byte(hub: FakeHub, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**9, 10**9, 5000))
    with pytest.raises(ModelUnavailable, match=r"cannot fetch .* only 5.0 kB are free"):
        pull(rig, "acme/tiny-GGUF")
    assert hub.asked("/resolve/") == []


def test_a_disk_that_fills_up_keeps_what_came(hub: FakeHub, rig: Rig) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", _no_space)
        with pytest.raises(ModelUnavailable, match="the disk is full"):
            pull(rig, "acme/tiny-GGUF")
    assert rig.store.models() == []
    assert pull(rig, "acme/tiny-GGUF").fetched_bytes == 0


def _no_space(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_two_pulls_of_one_model_fetch_it_once(hub: FakeHub, rig: Rig) -> None:
    hub.hold_after = 1000
    second = Rig(rig.root, hub.url)
    results: list[Pulled] = []
    first_thread = threading.Thread(target=lambda: results.append(pull(rig, "acme/tiny-GGUF")))
    first_thread.start()
    assert hub.held.wait(20)
    waits = threading.Event()
    second_thread = threading.Thread(target=lambda: results.append(_pull_slowly(second, waits)))
    second_thread.start()
    assert waits.wait(20)
    hub.release.set()
    first_thread.join(20)
    second_thread.join(20)
    assert sorted(one.fetched_bytes > 0 for one in results) == [False, True]
    assert len(hub.asked("/cdn/")) == 1
    assert "another process is pulling acme/tiny-GGUF" in second.lines[0]


def _pull_slowly(rig: Rig, waits: threading.Event) -> Pulled:
    """Waiting for the lock really takes the time that it says."""
    never = threading.Event()

    def pause(seconds: float) -> None:
        waits.set()
        never.wait(seconds)

    rig._pause = pause  # type: ignore[method-assign]  # the rig's own pause does not sleep
    return pull(rig, "acme/tiny-GGUF")


def test_removing_and_pruning_free_the_space(hub: FakeHub, rig: Rig) -> None:
    pulled = pull(rig, "acme/tiny-GGUF")
    part = rig.store.partial("acme/tiny", COMMIT) / "model.safetensors.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 100)
    assert rig.store.partials() == {f"acme/tiny@{COMMIT}": 100}
    assert rig.store.prune() == 100
    size = pulled.path.stat().st_size
    assert rig.store.remove(pulled.model) == size
    assert rig.store.models() == []
    assert leftovers(rig) == []


def test_verify_finds_changed_bytes(hub: FakeHub, rig: Rig) -> None:
    pulled = pull(rig, "acme/tiny")
    assert pulled.model.wrong() == []
    config = pulled.path / "config.json"
    config.write_bytes(config.read_bytes().swapcase())
    (pulled.path / "tokenizer.json").unlink()
    assert set(pulled.model.wrong()) == {"config.json", "tokenizer.json"}
    assert pulled.model.missing() == ["tokenizer.json"]


def test_a_damaged_manifest_costs_a_verification_and_no_download(hub: FakeHub, rig: Rig) -> None:
    pulled = pull(rig, "acme/tiny-GGUF")
    (pulled.model.folder / ".manifest.json").write_text("{")
    assert rig.store.models() == []
    assert pull(rig, "acme/tiny-GGUF").fetched_bytes == 0
    assert len(rig.store.models()) == 1
