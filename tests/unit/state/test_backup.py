"""Backups: consistent while others write, refused when damaged or newer, restored whole or not at all."""

import hashlib
import io
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.errors import Conflict, StateUnavailable
from appliance.core.ports import StateReader, StateWriter
from appliance.core.records import StoredObject
from appliance.state.archive import BadBackup, Manifest, remove_leftovers, safe_link, safe_name
from appliance.state.backup import write_backup
from appliance.state.restore import check_backup, restore_backup
from appliance.state.sqlite import open_store


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """A state dir with one object and two models, one of them a link."""
    folder = tmp_path / "state"
    async with open_store(folder / "appliance.db") as store:
        await store.write(put("one"))
    (folder / "models/hub").mkdir(parents=True)
    (folder / "models/hub/m.gguf").write_bytes(b"weights" * 1000)
    (folder / "models/hub/new.gguf.part").write_bytes(b"half")
    (folder / "models/link").symlink_to("hub/m.gguf")
    return folder


def put(name: str) -> Callable[[StateWriter], object]:
    return lambda writer: writer.put(StoredObject(kind="Thing", name=name, spec={}))


def names(reader: StateReader) -> list[str]:
    return [obj.name for obj in reader.list_all("Thing")]


async def stored(folder: Path) -> list[str]:
    async with open_store(folder / "appliance.db") as store:
        return await store.read(names)


def leftovers(folder: Path) -> list[Path]:
    return list(folder.glob(".*"))


def pack(state: Path, *, models: bool = False) -> Path:
    archive = state.with_name("backup.tar.zst")
    with archive.open("wb") as target:
        write_backup(state, target, with_models=models, version="1.0")
    return archive


def repack(archive: Path, change: Callable[[dict[str, tarfile.TarInfo], dict[str, bytes]], None]) -> None:
    """Write an archive again after a change to its members and their contents."""
    with zstandard.open(archive, "rb") as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
        infos: dict[str, tarfile.TarInfo] = {}
        contents: dict[str, bytes] = {}
        for info in tar:
            source = tar.extractfile(info) if info.isreg() else None
            infos[info.name], contents[info.name] = info, source.read() if source else b""
    change(infos, contents)
    with zstandard.open(archive, "wb") as plain, tarfile.open(fileobj=plain, mode="w|") as tar:
        for name, info in infos.items():
            info.size = len(contents[name])
            tar.addfile(info, io.BytesIO(contents[name]))


async def test_a_backup_of_a_store_in_use_holds_what_was_committed(state: Path) -> None:
    async with open_store(state / "appliance.db") as store:
        await store.write(put("two"))
        archive = pack(state)
        await store.write(put("three"))
    assert [one.name for one in check_backup(archive).files] == ["appliance.db"]
    other = state.with_name("other")
    other.mkdir()
    restore_backup(archive, other, force=False)
    assert await stored(other) == ["one", "two"]
    assert (other / "appliance.db").stat().st_mode & 0o777 == 0o600
    assert leftovers(state) == []


async def test_models_come_along_when_asked_for(state: Path) -> None:
    archive = pack(state, models=True)
    other = state.with_name("other")
    other.mkdir()
    manifest = restore_backup(archive, other, force=False)
    assert {one.name for one in manifest.files} == {"appliance.db", "models/hub/m.gguf", "models/link"}
    assert (other / "models/link").read_bytes() == b"weights" * 1000
    assert leftovers(other) == []


async def test_a_state_is_replaced_only_by_force_and_kept_aside(state: Path) -> None:
    archive = pack(state)
    async with open_store(state / "appliance.db") as store:
        await store.write(put("later"))
    with pytest.raises(Conflict, match="--force"):
        restore_backup(archive, state, force=False)
    restore_backup(archive, state, force=True)
    assert await stored(state) == ["one"]
    kept = state.with_name("kept")
    kept.mkdir()
    (state / "appliance.db.before-restore").rename(kept / "appliance.db")
    assert await stored(kept) == ["later", "one"]
    assert (state / "models/hub/m.gguf").exists()


async def test_a_damaged_state_can_be_replaced(state: Path) -> None:
    archive = pack(state)
    (state / "appliance.db").write_bytes(b"no database at all" * 500)
    (state / "appliance.db-wal").write_bytes(b"rest of an old log")
    restore_backup(archive, state, force=True)
    assert await stored(state) == ["one"]
    assert (state / "appliance.db.before-restore").read_bytes().startswith(b"no database")


def change_content(infos: dict[str, tarfile.TarInfo], contents: dict[str, bytes]) -> None:
    contents["models/hub/m.gguf"] = b"other" * 1000


def drop_member(infos: dict[str, tarfile.TarInfo], contents: dict[str, bytes]) -> None:
    del infos["models/hub/m.gguf"]


def drop_manifest(infos: dict[str, tarfile.TarInfo], contents: dict[str, bytes]) -> None:
    del infos["manifest.json"]


def add_member(name: str) -> Callable[[dict[str, tarfile.TarInfo], dict[str, bytes]], None]:
    def change(infos: dict[str, tarfile.TarInfo], contents: dict[str, bytes]) -> None:
        manifest = infos.pop("manifest.json")
        infos[name] = tarfile.TarInfo(name)
        contents[name] = b"x"
        infos["manifest.json"] = manifest

    return change


def lead_outside(infos: dict[str, tarfile.TarInfo], contents: dict[str, bytes]) -> None:
    infos["models/link"].linkname = "../../outside"


def hide_below_a_link(infos: dict[str, tarfile.TarInfo], contents: dict[str, bytes]) -> None:
    add_member("models/link/x")(infos, contents)
    infos["models/link"].linkname = "hub"


def make_newer(infos: dict[str, tarfile.TarInfo], contents: dict[str, bytes]) -> None:
    manifest = msgspec.json.decode(contents["manifest.json"], type=Manifest)
    newer = msgspec.structs.replace(manifest, version="9.0", schema=[*manifest.schema, "m9999_later"])
    contents["manifest.json"] = msgspec.json.encode(newer)


def make_unknown_format(infos: dict[str, tarfile.TarInfo], contents: dict[str, bytes]) -> None:
    contents["manifest.json"] = contents["manifest.json"].replace(b'"format":1', b'"format":2')


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (change_content, "models/hub/m.gguf is missing or not what was packed"),
        (drop_member, "models/hub/m.gguf is missing"),
        (drop_manifest, "incomplete"),
        (add_member("../evil"), "no backup of ours"),
        (add_member("/etc/evil"), "no backup of ours"),
        (add_member("models/../appliance.lock"), "no backup of ours"),
        (lead_outside, "leads out of the models"),
        (hide_below_a_link, "below a link"),
        (make_newer, "newer than this one .it has m9999_later"),
        (make_unknown_format, "format 2"),
    ],
)
async def test_a_bad_backup_changes_nothing(
    state: Path, change: Callable[[dict[str, tarfile.TarInfo], dict[str, bytes]], None], text: str
) -> None:
    archive = pack(state, models=True)
    repack(archive, change)
    other = state.with_name("other")
    other.mkdir()
    with pytest.raises(BadBackup, match=text):
        restore_backup(archive, other, force=True)
    assert list(other.iterdir()) == []


async def test_a_cut_or_foreign_file_is_refused(state: Path) -> None:
    archive = pack(state, models=True)
    whole = archive.read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], b"", b"hello", zstandard.compress(b"hello" * 1000)):
        archive.write_bytes(content)
        with pytest.raises(BadBackup):
            check_backup(archive)


async def test_a_damaged_database_inside_is_refused(state: Path) -> None:
    with closing(sqlite3.connect(state / "appliance.db")) as db:
        page = db.execute("PRAGMA page_size").fetchone()[0]
    archive = pack(state)

    def spoil(infos: dict[str, tarfile.TarInfo], contents: dict[str, bytes]) -> None:
        whole = contents["appliance.db"]
        spoilt = whole[:page] + b"\xff" * (len(whole) - page)
        old = msgspec.json.decode(contents["manifest.json"], type=Manifest)
        digest = hashlib.sha256(spoilt).hexdigest()
        files = [msgspec.structs.replace(one, sha256=digest) for one in old.files]
        contents["appliance.db"] = spoilt
        contents["manifest.json"] = msgspec.json.encode(msgspec.structs.replace(old, files=files))

    repack(archive, spoil)
    with pytest.raises(BadBackup, match="damaged"):
        restore_backup(archive, state, force=True)
    assert await stored(state) == ["one"]


def test_nothing_to_back_up(tmp_path: Path) -> None:
    with pytest.raises(StateUnavailable, match=r"holds no appliance\.db"):
        write_backup(tmp_path, io.BytesIO(), with_models=False, version="1")


def test_leftovers_go(tmp_path: Path) -> None:
    for name in (".backup-x", ".restore-y", "models"):
        (tmp_path / name).mkdir()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


@given(st.lists(st.sampled_from(["..", ".", "a", "models", "", "appliance.db"]), max_size=5).map("/".join))
def test_safe_names_stay_inside(name: str) -> None:
    if safe_name(name) and name != "appliance.db":
        assert Path("/unpacked", name).resolve().is_relative_to("/unpacked/models")


@given(
    st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=4).map("/".join),
    st.lists(st.sampled_from(["..", ".", "a", "", "b"]), max_size=6).map("/".join),
)
def test_safe_links_stay_inside(name: str, target: str) -> None:
    if safe_link(f"models/{name}", target):
        assert (Path("/unpacked/models", name).parent / target).resolve().is_relative_to("/unpacked/models")
