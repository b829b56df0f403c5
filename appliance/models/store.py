"""The hub models that lie under `models/`: folders with a manifest each, found and removed without any network.

models/org--name/<commit>/            the files, and `.manifest.json` about them
models/.partial/org--name/<commit>/   files on their way
models/.partial/org--name.lock        held by the process that writes either
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance.core.errors import ApplianceError, ModelUnavailable
from appliance.models.hub.digests import is_whole
from appliance.models.hub.files import RepoFile, Selection, Snapshot
from appliance.models.hub.gguf_choice import choose_gguf, gguf_models
from appliance.models.hub.reference import COMMIT, HubReference

MANIFEST = ".manifest.json"
PARTIAL = ".partial"
LOCK_POLL_S = 0.2


class FileEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file in a manifest."""

    size: int
    sha256: str | None = None
    git_sha1: str | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What lies in a model's folder, and where it came from."""

    format: int = 1
    repo: str
    commit: str
    source: str
    """The hub's address."""
    revisions: list[str] = []
    """Branches and tags that were asked for when this commit was found; `main` stands for none."""
    pulled_at: float
    """Unix time of the last pull."""
    files: dict[str, FileEntry] = {}
    models: dict[str, list[str]] = {}
    """Paths of each model that is complete, by its main file; that of a whole folder is empty."""
    default: str | None = None
    """The main file that was chosen when nobody named one."""


@dataclass(frozen=True)
class StoredModel:
    """One repository at one commit, as it lies here."""

    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """`org/name@commit`."""
        return f"{self.manifest.repo}@{self.manifest.commit}"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.manifest.files.values())

    def path(self, main: str) -> Path:
        """What an engine loads: the main file, or the folder."""
        return self.folder / main if main else self.folder

    def missing(self) -> list[str]:
        """Files of the manifest that are gone or have another size; hashes are not looked at."""
        return [path for path, entry in self.manifest.files.items() if not _has_size(self.folder / path, entry.size)]

    def wrong(self) -> list[str]:
        """Files of the manifest that are gone or hold other bytes than the hub lists. Reads everything."""
        listed = (repo_file(path, entry) for path, entry in self.manifest.files.items())
        return [file.path for file in listed if not is_whole(self.folder / file.path, file)]


class ModelStore:
    """All hub models under one folder. Every method blocks on the disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def models(self) -> list[StoredModel]:
        """Everything that has a readable manifest, the newest of each repository first."""
        found = [_read(manifest.parent) for manifest in sorted(self.root.glob(f"*--*/*/{MANIFEST}"))]
        return sorted(filter(None, found), key=lambda one: (one.manifest.repo, -one.manifest.pulled_at))

    def find(self, reference: HubReference) -> StoredModel | None:
        """What a reference means by what lies here: a commit or its beginning, else the last of a revision."""
        revision = reference.revision or "main"
        for model in self.models():
            same = revision in model.manifest.revisions or (
                len(revision) >= 7 and model.manifest.commit.startswith(revision)
            )
            if model.manifest.repo == reference.repo and same:
                return model
        return None

    def find_main(self, reference: HubReference) -> tuple[StoredModel, str] | None:
        """The stored model of a reference and its main file; None when it does not lie here whole."""
        model = self.find(reference)
        if model is None:
            return None
        main = _main_file(model.manifest, reference.file)
        if main is None or not all(
            _has_size(model.folder / path, model.manifest.files[path].size)
            for path in model.manifest.models[main]
            if path in model.manifest.files
        ):
            return None
        return model, main

    def partial(self, repo: str, commit: str) -> Path:
        """Where files of a commit are while they are fetched."""
        return self.root / PARTIAL / _folder_name(repo) / commit

    def folder(self, repo: str, commit: str) -> Path:
        """Where they lie when they are whole."""
        return self.root / _folder_name(repo) / commit

    def publish(self, part: Path, snapshot: Snapshot, path: str) -> None:
        """Move a verified file to its place, in one step."""
        target = self.folder(snapshot.repo, snapshot.commit) / path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.replace(target)

    def record(
        self, snapshot: Snapshot, selection: Selection, *, revision: str, source: str, chosen: bool, now: float
    ) -> StoredModel:
        """Write down that the files of a selection are here; what the folder held before stays listed."""
        folder = self.folder(snapshot.repo, snapshot.commit)
        known = _read(folder)
        old = known.manifest if known else None
        entries = {file.path: FileEntry(file.size, file.sha256, file.git_sha1) for file in selection.files}
        default = selection.main if chosen else None
        manifest = Manifest(
            repo=snapshot.repo,
            commit=snapshot.commit,
            source=source,
            revisions=sorted({*(old.revisions if old else ()), *([] if COMMIT.fullmatch(revision) else [revision])}),
            pulled_at=now,
            files={**(old.files if old else {}), **entries},
            models={**(old.models if old else {}), selection.main: [file.path for file in selection.files]},
            default=default if default is not None else old.default if old else None,
        )
        self._write(folder, manifest)
        self._forget_partial(snapshot)
        return StoredModel(folder, manifest)

    def remove(self, model: StoredModel) -> int:
        """Delete a model with all its files; the bytes that were freed."""
        size = model.size
        (model.folder / MANIFEST).unlink(missing_ok=True)  # first: a half-deleted model must not be found
        shutil.rmtree(model.folder)
        _remove_if_empty(model.folder.parent)
        return size

    def partials(self) -> dict[str, int]:
        """Bytes of unfinished downloads by `org/name@commit`."""
        folders = sorted(path for path in (self.root / PARTIAL).glob("*--*/*") if path.is_dir())
        return {f"{_repo_name(path.parent.name)}@{path.name}": _tree_bytes(path) for path in folders}

    def prune(self) -> int:
        """Delete unfinished downloads that no process is working on; the bytes that were freed."""
        freed = 0
        for folder in (path for path in (self.root / PARTIAL).glob("*--*") if path.is_dir()):
            with self._try_lock(folder.name) as mine:
                if mine:
                    freed += _tree_bytes(folder)
                    shutil.rmtree(folder)
        return freed

    @contextmanager
    def lock(self, repo: str, pause: Callable[[float], None], on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold the right to change a repository's folders; the kernel frees it when the process dies.

        Waits for another holder with `pause`, which may raise to end the waiting; `on_wait` is called once before.
        """
        waited = False
        while True:
            with self._try_lock(_folder_name(repo)) as mine:
                if mine:
                    yield
                    return
            if not waited:
                on_wait()
                waited = True
            pause(LOCK_POLL_S)

    @contextmanager
    def _try_lock(self, name: str) -> Iterator[bool]:
        path = self.root / PARTIAL / f"{name}.lock"
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ModelUnavailable(f"cannot write {self.root}: {error.strerror}") from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)

    def _write(self, folder: Path, manifest: Manifest) -> None:
        draft = folder / f"{MANIFEST}.new"
        with draft.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(manifest)))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder / MANIFEST)

    def _forget_partial(self, snapshot: Snapshot) -> None:
        """Remove empty folders; parts of another file of the repository may still be wanted."""
        folder = self.partial(snapshot.repo, snapshot.commit)
        below = [path for path in folder.rglob("*") if path.is_dir()]
        for path in (*sorted(below, reverse=True), folder, folder.parent):
            _remove_if_empty(path)


def repo_file(path: str, entry: FileEntry) -> RepoFile:
    """A manifest's entry as the hub listed it."""
    return RepoFile(path=path, size=entry.size, sha256=entry.sha256, git_sha1=entry.git_sha1)


def _main_file(manifest: Manifest, file: str | None) -> str | None:
    if file is None:
        candidates = (manifest.default, *sorted(manifest.models))
        return next((main for main in candidates if main is not None and main in manifest.models), None)
    listed = [
        repo_file(path, manifest.files[path]) for main, paths in manifest.models.items() if main for path in paths
    ]
    try:
        chosen = choose_gguf(manifest.repo, gguf_models(listed), file, None).main if listed else None
    except ApplianceError:
        return None
    return chosen if chosen in manifest.models else None


def _read(folder: Path) -> StoredModel | None:
    """None when there is no manifest, or one that cannot be read: the files are then verified by the next pull."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError):
        return None
    matches = folder.name == manifest.commit and folder.parent.name == _folder_name(manifest.repo)
    return StoredModel(folder, manifest) if matches else None


def _folder_name(repo: str) -> str:
    return repo.replace("/", "--")


def _repo_name(folder: str) -> str:
    return folder.replace("--", "/", 1)


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _tree_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
