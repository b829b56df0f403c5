"""Looking for sockets in a real folder, with cards from a stand-in."""

import os
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from appliance.core.errors import UsageError, WorkerLost
from appliance.core.identity import ModelName
from appliance.core.records import ModelRecord, WorkerRecord
from appliance.core.requests import ModelCard
from appliance.discovery.roster import Roster
from appliance.discovery.socket_places import SocketPlaces, worker_of
from appliance.discovery.worker_sockets import FIRST_LOOK_S, LOOK_S, WorkerSockets, find_sockets

CARD = ModelCard(name=ModelName("m"), context_length=64, engine="mocker")


class Scene:
    """A folder, what answers in it, and what was told of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dead: set[str] = set()
        self.silent: set[str] = set()
        self.asked: list[str] = []
        self.told: list[dict[str, str]] = []
        self._sockets = ExitStack()
        self.watch = WorkerSockets(SocketPlaces(folder=folder), Roster(keep_s=1.0), self._read)

    def listen(self, name: str) -> Path:
        path = self.folder / f"{name}.sock"
        path.unlink(missing_ok=True)
        self._sockets.enter_context(socket.socket(socket.AF_UNIX)).bind(str(path))
        return path

    def close(self) -> None:
        self._sockets.close()

    def take(self, workers: list[WorkerRecord], models: list[ModelRecord]) -> None:
        self.told.append({worker.id: worker.phase for worker in workers})

    async def _read(self, path: Path) -> ModelCard:
        name = worker_of(path)
        self.asked.append(name)
        await trio.lowlevel.checkpoint()
        if name in self.silent:
            await trio.sleep_forever()
        if name in self.dead:
            raise WorkerLost("refused")
        return CARD


@asynccontextmanager
async def watching(scene: Scene) -> AsyncGenerator[None, None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(scene.watch.run, scene.take))
        yield
        nursery.cancel_scope.cancel()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    one = Scene(tmp_path)
    yield one
    one.close()


def test_only_sockets_with_the_right_name_count(scene: Scene) -> None:
    path = scene.listen("a")
    scene.listen("b").rename(scene.folder / "b.other")
    (scene.folder / "c.sock").touch()
    (scene.folder / "d.sock").symlink_to(scene.folder / "nowhere")
    found = find_sockets(SocketPlaces(folder=scene.folder))
    assert {name: (one.path, one.inode) for name, one in found.items()} == {"a": (path, path.stat().st_ino)}
    listed = (path, scene.folder / "later.sock")
    assert find_sockets(SocketPlaces(sockets=listed)) == found


async def test_what_is_there_is_known_at_the_start(scene: Scene, autojump_clock: trio.abc.Clock) -> None:
    scene.listen("a")
    async with watching(scene):
        assert scene.told == [{"a": "ready"}]
        await trio.sleep(10 * LOOK_S)
        assert (scene.told, scene.asked) == ([{"a": "ready"}], ["a"]), "nothing changed, and nobody was asked again"


async def test_workers_come_go_and_start_anew(scene: Scene, autojump_clock: trio.abc.Clock) -> None:
    async with watching(scene):
        scene.listen("a")
        await trio.sleep(2 * LOOK_S)
        path = scene.listen("b")
        await trio.sleep(2 * LOOK_S)
        scene.listen("a")
        await trio.sleep(2 * LOOK_S)
        path.unlink()
        await trio.sleep(2 * LOOK_S)
    full = {"a": "ready", "b": "ready"}
    assert scene.told[:3] == [{}, {"a": "ready"}, full]
    assert [list(picture) for picture in scene.told[3:]] == [["b"], ["b", "a"], ["a"]]


async def test_a_lost_worker_is_looked_at_at_once(scene: Scene, autojump_clock: trio.abc.Clock) -> None:
    scene.listen("a")
    async with watching(scene):
        scene.dead = {"a"}
        scene.watch.lose(worker_of(Path("a.sock")))
        await trio.testing.wait_all_tasks_blocked()
        assert scene.told[-1] == {"a": "backoff"}
        scene.dead = set()
        await trio.sleep(2 * LOOK_S)
        assert scene.told[-1] == {"a": "ready"}
        scene.watch.drain(worker_of(Path("a.sock")))
        await trio.testing.wait_all_tasks_blocked()
        assert scene.told[-1] == {"a": "draining"}


async def test_a_socket_that_says_nothing_holds_nobody_up(scene: Scene, autojump_clock: trio.abc.Clock) -> None:
    for name in ("a", "mute"):
        scene.listen(name)
    scene.silent = {"mute"}
    began = trio.current_time()
    async with watching(scene):
        assert trio.current_time() - began == pytest.approx(FIRST_LOOK_S)
        assert scene.told == [{"a": "ready"}]
        scene.listen("b")
        await trio.sleep(2 * LOOK_S)
        assert scene.told[-1] == {"a": "ready", "b": "ready"}
        assert scene.asked.count("mute") == 2, "once at the start and once since: the question is still open"


async def test_a_folder_that_is_not_there_is_refused_at_the_start_only(
    scene: Scene, autojump_clock: trio.abc.Clock
) -> None:
    path = scene.listen("a")
    async with watching(scene):
        away = scene.folder.with_name("away")
        os.rename(scene.folder, away)
        await trio.sleep(5 * LOOK_S)
        assert scene.told == [{"a": "ready"}], "links tell of workers that end; a folder out of sight does not"
        os.rename(away, scene.folder)
        path.unlink()
        await trio.sleep(2 * LOOK_S)
        assert scene.told[-1] == {}
    gone = WorkerSockets(SocketPlaces(folder=scene.folder / "no"), Roster(keep_s=1.0), scene._read)
    with pytest.RaisesGroup(UsageError, allow_unwrapped=True, flatten_subgroups=True):
        await gone.run(scene.take)
