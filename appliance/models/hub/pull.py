"""Brings a model here: find out what is needed, fetch it, verify it, write down that it is here. Blocks.

Whatever ends a pull, also SIGKILL, leaves either the whole model or parts that the next pull goes on with.
"""

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance.core.errors import ModelUnavailable
from appliance.models.hub.choice import Wish, choose_files
from appliance.models.hub.digests import is_whole
from appliance.models.hub.download import Watch, fetch_file
from appliance.models.hub.files import RepoFile, Selection, Snapshot
from appliance.models.hub.gguf_choice import gguf_models
from appliance.models.hub.known_sizes import KnownSizes
from appliance.models.hub.progress import Meter, amount
from appliance.models.hub.reference import HubReference
from appliance.models.hub.remote import Hub, offline_refusal
from appliance.models.hub.remote_code import SETTINGS, asks_for_code, code_refusal, remote_code
from appliance.models.store import ModelStore, StoredModel

PLAN = ".plan.json"
PART = ".part"
SPARE_BYTES = 64 << 20  # left free on the disk, for the database and the logs beside the models


@dataclass(frozen=True, kw_only=True)
class PullWatch:
    """Who is told of a pull. `pause` and `on_progress` may raise to end it; what has come stays."""

    on_progress: Callable[[Meter], None]
    """After each piece of data."""
    say: Callable[[str], None]
    """One line for the user."""
    pause: Callable[[float], None]
    """Sleep for seconds."""
    clock: Callable[[], float]
    """Seconds that only grow."""
    now: Callable[[], float]
    """Unix time."""


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """A model that is here."""

    model: StoredModel
    main: str
    """The file to load; empty for the whole folder."""
    fetched_bytes: int
    """0 when all of it was here before."""

    @property
    def path(self) -> Path:
        """What an engine loads."""
        return self.model.path(self.main)


class _Plan(msgspec.Struct, frozen=True):
    """What an unfinished pull decided, so that the next one goes on with the same file whatever memory is free then."""

    main: str


class Puller:
    """Pulls models of one hub into one store. `hub` None: offline, only what lies here can be had."""

    def __init__(self, store: ModelStore, hub: Hub | None, source: str, watch: PullWatch) -> None:
        self._store, self._hub, self._source, self._watch = store, hub, source, watch

    def pull(self, reference: HubReference, wish: Wish, *, refresh: bool = False) -> Pulled:
        """The model of a reference, fetched as far as it does not lie here whole.

        `refresh` asks the hub even then, so that a branch is followed. Raises `ModelUnavailable`, `HubUnreachable`, and
        what the watch raises.
        """
        if not (refresh and self._hub) and (here := self._here(reference, wish)):
            return here
        if self._hub is None:
            raise offline_refusal(reference)
        self._make_root()
        snapshot = self._hub.snapshot(reference)
        waiting = f"another process is pulling {reference.repo}; waiting for it"
        with self._store.lock(snapshot.repo, self._watch.pause, lambda: self._watch.say(waiting)):
            return self._pull_locked(self._hub, reference, snapshot, wish)

    def resolve(self, reference: HubReference, wish: Wish) -> HubReference:
        """The reference at a commit: that of what lies here, else the one that the hub names. Fetches no file.

        What the hub says of the size is kept for whoever has to place the model before it is fetched.
        """
        if reference.is_pinned:
            return reference
        if here := self._here(reference, wish):
            return reference.at(here.model.manifest.commit)
        if self._hub is None:
            raise offline_refusal(reference)
        snapshot = self._hub.snapshot(reference)
        pinned = reference.at(snapshot.commit)
        with suppress(ModelUnavailable):  # the pull will say what is wrong with it
            KnownSizes(self._store.root).note(pinned, self._select(pinned, snapshot, wish))
        return pinned

    def holds_gguf(self, reference: HubReference) -> bool:
        """Whether the repository of a reference has GGUF models. Raises as `resolve` does."""
        if found := self._store.find_main(reference):
            return bool(found[1])
        if self._hub is None:
            raise offline_refusal(reference)
        return bool(gguf_models(self._hub.snapshot(reference).files))

    def _here(self, reference: HubReference, wish: Wish) -> Pulled | None:
        found = self._store.find_main(reference)
        if found is None or (not found[1] and wish.form == "gguf"):
            return None
        if found[1] and wish.form == "folder" and reference.file is None:
            return None
        if not found[1] and not wish.allow_remote_code and (asking := remote_code(found[0].folder)):
            raise code_refusal(found[0].name, asking)
        return Pulled(model=found[0], main=found[1], fetched_bytes=0)

    def _pull_locked(self, hub: Hub, reference: HubReference, snapshot: Snapshot, wish: Wish) -> Pulled:
        selection = self._select(reference, snapshot, wish)
        received = _Received(Meter(selection.size, self._watch.clock), self._watch)
        missing = [file for file in selection.files if not self._is_here(snapshot, file, received)]
        parts = self._store.partial(snapshot.repo, snapshot.commit)
        if missing:
            self._check_room(parts, missing)
            self._watch.say(f"pulling {reference.at(snapshot.commit)}: {selection.why}, {amount(selection.size)}")
            if reference.file is None:
                _write_plan(parts, selection)
        self._fetch(hub, snapshot, missing, wish, received)
        (parts / PLAN).unlink(missing_ok=True)
        model = self._store.record(
            snapshot,
            selection,
            revision=reference.revision or "main",
            source=self._source,
            chosen=reference.file is None,
            now=self._watch.now(),
        )
        return Pulled(model=model, main=selection.main, fetched_bytes=received.total)

    def _select(self, reference: HubReference, snapshot: Snapshot, wish: Wish) -> Selection:
        """What was chosen for this commit before, by a finished or a killed pull, stays chosen."""
        if reference.file is None and wish.form != "folder":
            earlier = self._store.find(reference.at(snapshot.commit))
            main = (
                earlier.manifest.default if earlier else _read_plan(self._store.partial(snapshot.repo, snapshot.commit))
            )
            if main and any(file.path == main for file in snapshot.files):
                return choose_files(snapshot, main, wish)
        return choose_files(snapshot, reference.file, wish)

    def _make_root(self) -> None:
        try:
            self._store.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ModelUnavailable(f"cannot create {self._store.root}: {error.strerror}") from None

    def _is_here(self, snapshot: Snapshot, file: RepoFile, received: "_Received") -> bool:
        """By the manifest and the size; a file that no manifest lists (a pull was killed) is read and verified."""
        path = self._store.folder(snapshot.repo, snapshot.commit) / file.path
        if _size(path) != file.size or not path.is_file():
            return False
        known = self._store.find(HubReference(repo=snapshot.repo, revision=snapshot.commit))
        if known is not None and file.path in known.manifest.files:
            received.on_kept(file.size)
            return True
        whole = is_whole(path, file, received.on_kept)
        if not whole:
            received.on_kept(-file.size)
        return whole

    def _check_room(self, parts: Path, missing: list[RepoFile]) -> None:
        there = sum(_size(parts / f"{file.path}{PART}") for file in missing)
        need = sum(file.size for file in missing) - there
        free = shutil.disk_usage(self._store.root).free
        if need + SPARE_BYTES > free:
            raise ModelUnavailable(
                f"cannot fetch {amount(need)} into {self._store.root}: only {amount(free)} are free on its disk"
            )

    def _fetch(self, hub: Hub, snapshot: Snapshot, missing: list[RepoFile], wish: Wish, received: "_Received") -> None:
        parts = self._store.partial(snapshot.repo, snapshot.commit)
        # Settings first: a model that will be refused for them must not cost its weights.
        for file in sorted(missing, key=lambda one: (not one.path.endswith(".json"), one.path)):
            part = parts / f"{file.path}{PART}"
            fetch_file(hub, snapshot, file, part, received.watch())
            if file.path in SETTINGS and not wish.allow_remote_code and asks_for_code(part):
                raise code_refusal(snapshot.repo, [file.path])
            self._store.publish(part, snapshot, file.path)


class _Received:
    """Counts what is here and what comes from the hub, and passes it on."""

    def __init__(self, meter: Meter, watch: PullWatch) -> None:
        self._meter, self._watch = meter, watch
        self.total = 0

    def watch(self) -> Watch:
        return Watch(on_kept=self.on_kept, on_bytes=self._on_bytes, pause=self._watch.pause, on_trouble=self._watch.say)

    def on_kept(self, count: int) -> None:
        self._meter.skip(count)
        self._watch.on_progress(self._meter)

    def _on_bytes(self, count: int) -> None:
        self.total += max(0, count)
        self._meter.add(count)
        self._watch.on_progress(self._meter)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _write_plan(parts: Path, selection: Selection) -> None:
    parts.mkdir(mode=0o700, parents=True, exist_ok=True)
    (parts / PLAN).write_bytes(msgspec.json.encode(_Plan(selection.main)))


def _read_plan(parts: Path) -> str | None:
    try:
        return msgspec.json.decode((parts / PLAN).read_bytes(), type=_Plan).main
    except (OSError, msgspec.MsgspecError):
        return None
