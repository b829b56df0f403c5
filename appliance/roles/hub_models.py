"""Models by hub id, for every role: what is one, what it is pinned to, and how it gets here while a worker starts."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import trio

from appliance.core.config import read_hub_token
from appliance.core.ports import ProgressReport
from appliance.core.settings import HubSettings
from appliance.models.demo import DEMO_NAME
from appliance.models.hub.choice import Wish, form_for
from appliance.models.hub.progress import Meter
from appliance.models.hub.pull import Pulled, Puller, PullWatch
from appliance.models.hub.reference import HubReference, parse_reference
from appliance.models.hub.remote import HubAccess, HuggingFaceHub
from appliance.models.store import ModelStore

REPORT_S = 1.0  # between two reports of one download
WITHOUT_FILES = ("mocker", "remote")
"""Engines for which a model is only a name."""


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Where models lie, where they come from, and what is accepted of them."""

    root: Path
    access: HubAccess
    allow_remote_code: bool = False
    allow_pickle: bool = False

    @property
    def store(self) -> ModelStore:
        """What lies here."""
        return ModelStore(self.root)

    def puller(self, watch: PullWatch) -> Puller:
        """Pulls from the hub, or only finds what lies here when offline."""
        hub = None if self.access.offline else HuggingFaceHub(self.access)
        return Puller(self.store, hub, self.access.endpoint, watch)

    def wish(self, engine: str, *, to_serve: bool) -> Wish:
        """What an engine wants of a repository. Memory is what is available now.

        `to_serve`: `auto` then means the embedded engine, so that nothing is fetched that it cannot run.
        """
        return Wish(
            form=form_for("llamacpp" if to_serve and engine == "auto" else engine),
            room_bytes=psutil.virtual_memory().available,
            allow_remote_code=self.allow_remote_code,
            allow_pickle=self.allow_pickle,
        )


def model_source(settings: HubSettings, models: Path, environ: Mapping[str, str]) -> ModelSource:
    """The source that settings and environment name. Raises `UsageError` for a token file that cannot be read."""
    token = None if settings.offline else read_hub_token(environ, settings.token_file)
    return ModelSource(
        root=models,
        access=HubAccess(endpoint=settings.endpoint, token=token, offline=settings.offline),
        allow_remote_code=settings.allow_remote_code,
        allow_pickle=settings.allow_pickle,
    )


def hub_reference(engine: str, model: str) -> HubReference | None:
    """The hub model that an engine is to load; None for a path, a built-in model, or an engine that loads none.

    Raises `UsageError` for a text that can only be a reference and is a wrong one.
    """
    if engine in WITHOUT_FILES or model == DEMO_NAME or Path(model).expanduser().exists():
        return None
    return parse_reference(model)


def pin_model(engine: str, model: str, source: ModelSource) -> str:
    """A hub model with its commit, so that a stored graph always means the same files; anything else as it is. Blocks.

    Asks the hub only when the model does not lie here. Raises `ModelUnavailable`, `HubUnreachable`.
    """
    reference = hub_reference(engine, model)
    if reference is None:
        return model
    return str(source.puller(_unheard()).resolve(reference, source.wish(engine, to_serve=True)))


def hub_holds_gguf(reference: HubReference, source: ModelSource) -> bool:
    """Whether a repository has GGUF models. Asks the hub only when the model does not lie here. Blocks.

    Raises `ModelUnavailable`, `HubUnreachable`.
    """
    return source.puller(_unheard()).holds_gguf(reference)


def _unheard() -> PullWatch:
    return PullWatch(
        on_progress=lambda _: None, say=lambda _: None, pause=time.sleep, clock=time.monotonic, now=time.time
    )


async def fetch_model(
    engine: str, model: str, source: ModelSource, report: ProgressReport, say: Callable[[str], None]
) -> str:
    """The local path of a hub model, pulled first if needed; anything else as it is.

    `report` hears of the download about once a second, `say` gets lines for the log. Cancelled, it returns at once; the
    thread behind it ends with its next piece of data, and what has come stays for the next pull.
    """
    reference = hub_reference(engine, model)
    if reference is None:
        return model
    limiter = trio.CapacityLimiter(1)  # of its own: a pull takes minutes, and the default threads are for short work
    link = _TrioLink(f"downloading {reference.repo}", report, say)
    puller = source.puller(link.watch())

    def pull() -> Pulled:
        return puller.pull(reference, source.wish(engine, to_serve=True))

    try:
        return str((await trio.to_thread.run_sync(pull, abandon_on_cancel=True, limiter=limiter)).path)
    finally:
        link.stopped.set()


class _Stopped(Exception):
    """Ends a pull whose result nobody waits for."""


class _TrioLink:
    """Carries what a pulling thread says into trio, and trio's wish to stop into the thread."""

    def __init__(self, what: str, report: ProgressReport, say: Callable[[str], None]) -> None:
        self.stopped = threading.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._what, self._report, self._say = what, report, say
        self._reported_at = 0.0

    def watch(self) -> PullWatch:
        return PullWatch(
            on_progress=self._on_progress,
            say=self._on_line,
            pause=self._pause,
            clock=time.monotonic,
            now=time.time,
        )

    def _on_progress(self, meter: Meter) -> None:
        if self.stopped.is_set():
            raise _Stopped
        now = time.monotonic()
        if now - self._reported_at >= REPORT_S:
            self._reported_at = now
            left = meter.left()
            self._tell(self._report, meter.fraction, f"{self._what}, {left}" if left else self._what)

    def _on_line(self, line: str) -> None:
        self._tell(self._say, line)
        self._tell(self._report, -1.0, line)

    def _pause(self, seconds: float) -> None:
        if self.stopped.wait(seconds):
            raise _Stopped

    def _tell(self, function: Callable[..., None], *args: object) -> None:
        try:
            self._token.run_sync_soon(function, *args)
        except trio.RunFinishedError:
            raise _Stopped from None
